"""Splits give what one process gives: the same rows in the same order, wherever the cuts are."""

from __future__ import annotations

import gzip
import itertools
import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import builders
import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

from pylog.record import KINDS

pytest.importorskip("pyarrow")

import parts
import tables

import pylog
from pylog.backends.files import files
from pylog.errors import BackendError, DecodeError
from pylog.formats import HEAD, ipl, netlink
from pylog.table.splits import End, Split, confirm, in_order, plan, scan

IPL = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NFLOG = samples.FIXTURES / "nflog/seq.bin"
NAMED = {name: row["layout"] for name, row in samples.origins().items()}


@pytest.mark.parametrize("dump", effort.sample(samples.dumps()), ids=samples.name)
def test_splits_give_the_rows_of_one_process(dump: Path) -> None:
    rows = {kind: parts.whole(dump, kind) for kind in KINDS}
    for n in (2, 7, 40):
        splits = plan(dump, n)
        assert [split.stop for split in splits[:-1]] == [split.start for split in splits[1:]]
        for kind in ("loss", *(kind for kind in ("packet", "flow") if rows[kind])):
            assert parts.decoded(splits, kind).rows == rows[kind], (n, kind)


@pytest.mark.parametrize("dump", effort.sample(samples.dumps()), ids=samples.name)
def test_splits_give_the_records_of_one_process(dump: Path) -> None:
    expected = tables.streamed(dump.read_bytes())
    for n in (2, 7, 40):
        assert parts.records(plan(dump, n)) == expected


def test_a_dump_is_cut_into_as_many_splits_as_it_should_be() -> None:
    for n in range(1, 9):
        splits = plan(NFLOG, n)
        assert len(splits) == n
        assert (splits[0].start, splits[-1].stop) == (0, NFLOG.stat().st_size)
        assert max(s.stop - s.start for s in splits) < 2 * min(s.stop - s.start for s in splits)
        assert [s.last for s in splits] == [False] * (n - 1) + [True]


def test_what_is_read_from_its_start_is_one_split(tmp_path: Path) -> None:
    packed = tmp_path / "seq.bin.gz"
    packed.write_bytes(gzip.compress(NFLOG.read_bytes()))
    (capture,) = [dump for dump in samples.dumps("nflog/*.pcapng")][:1]
    for path in (packed, capture):
        (split,) = plan(path, 8)
        assert (split.start, split.layouts, split.last) == (0, (), True)
        assert parts.decoded([split], "packet").rows == parts.whole(path, "packet")


def test_splits_are_shared_out_by_the_size_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(NFLOG.read_bytes() * 6)
    (tmp_path / "b").write_bytes(NFLOG.read_bytes() * 2)
    (tmp_path / "c").write_bytes(parts.numbered([1, 2, 3]))
    found = Counter(Path(split.path).name for split in plan(tmp_path, 8))
    assert found == {"a": 6, "b": 2, "c": 1}


def test_a_payload_that_holds_a_dump_is_not_cut(tmp_path: Path) -> None:
    """A cut there looks right to whoever sees only what is near it; the split before knows."""
    path = tmp_path / "dumps.bin"
    path.write_bytes(parts.netlink_with_dumps_inside())
    rows = parts.whole(path, "packet")
    assert len(rows) == 12
    splits = plan(path, 9)
    assert len(parts.alone(splits, "packet")) > 100  # the cuts are wrong
    found = parts.decoded(splits, "packet")
    assert found.rows == rows
    assert len(found.again) >= 5
    exact = confirm(splits)
    assert parts.alone(exact, "packet") == rows


def test_a_record_that_holds_a_dump_is_not_cut(tmp_path: Path) -> None:
    (first, *rest) = parts.messages(IPL.read_bytes(), ipl.stream("ipl-5.1.2-lp64le"))
    layout = ipl.stream("ipl-5.1.2-lp64le").layout_value
    plan_of = layout.plan("ipf")
    fields = dict(zip(plan_of.names, plan_of.unpack(first, 0), strict=True))
    packet = first[plan_of.size :][:20]
    body = b"".join(rest)[: 60_000 - 20 - (-4 % 8)]
    packet = packet[:2] + (20 + len(body)).to_bytes(2, "big") + packet[4:20] + body
    fields |= {"ipl_dsize": plan_of.size + len(packet), "fl_hlen": 20}
    fields["fl_plen"] = len(body) & 0xFF
    path = tmp_path / "dumps.bin"
    path.write_bytes((plan_of.pack(fields) + packet) * 4 + IPL.read_bytes())
    rows = parts.whole(path, "packet")
    assert len(rows) == 4 + 61
    splits = plan(path, 7)
    assert len(parts.alone(splits, "packet")) > len(rows)
    assert parts.decoded(splits, "packet").rows == rows


def test_what_is_lost_at_a_cut_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "gaps.bin"
    path.write_bytes(parts.numbered(list(range(0, 4000, 2))))
    losses = parts.whole(path, "loss")
    assert len(losses) == 1999
    splits = plan(path, 10)
    assert len(parts.alone(splits, "loss")) == 1999 - 9
    found = parts.decoded(splits, "loss")
    assert (found.rows, found.again) == (losses, list(range(1, 10)))
    exact = confirm(splits)
    assert parts.alone(exact, "loss") == losses


def test_a_log_that_has_nothing_in_a_split_goes_on_in_the_next(tmp_path: Path) -> None:
    def log(group: int, seq: int) -> bytes:
        return builders.log("<", group, [(parts.NFULA_SEQ, seq), (parts.NFULA_PAYLOAD, b"E")])

    path = tmp_path / "groups.bin"
    often = [log(1, n) for n in range(3000)]
    path.write_bytes(log(2, 0) + b"".join(often) + log(2, 5))
    (loss,) = parts.whole(path, "loss")
    assert loss["count"] == 4
    assert parts.decoded(plan(path, 5), "loss").rows == [loss]


def test_splits_without_a_loss_between_them_are_not_decoded_again() -> None:
    assert parts.decoded(plan(NFLOG, 20), "packet").again == []


@pytest.mark.parametrize("size", [HEAD - 1, HEAD, HEAD + 1])
def test_a_dump_as_long_as_what_is_looked_at_is_told_alike(tmp_path: Path, size: int) -> None:
    path = tmp_path / "dump.bin"
    path.write_bytes((IPL.read_bytes() * 9)[:size])
    for kind in ("packet", "loss"):
        assert parts.decoded(plan(path, 3), kind).rows == parts.whole(path, kind)


@pytest.mark.parametrize("at", [0.31, 0.5, 0.499])
def test_damage_that_reaches_over_cuts_is_told_once(tmp_path: Path, at: float) -> None:
    data = NFLOG.read_bytes()
    middle = int(len(data) * at)
    path = tmp_path / "damaged.bin"
    path.write_bytes(data[:middle] + b"\xff" * 90_000 + data[middle:])
    losses = parts.whole(path, "loss")
    assert max(row["size"] or 0 for row in losses) >= 90_000
    for n, kind in effort.sample(itertools.product((2, 3, 8, 30), ("loss", "packet")), least=3):
        assert parts.decoded(plan(path, n), kind).rows == parts.whole(path, kind)


def test_a_loss_that_the_kernel_told_before_a_cut_is_told_after_it(tmp_path: Path) -> None:
    overrun = netlink.nlmsghdr("<").build({"nlmsg_len": 16, "nlmsg_type": netlink.NLMSG_OVERRUN})
    path = tmp_path / "overrun.bin"
    path.write_bytes((parts.numbered([1, 2, 3]) + overrun) * 500)
    losses = parts.whole(path, "loss")
    assert len(losses) == 500
    for n in (2, 7, 100):
        assert parts.decoded(plan(path, n), "loss").rows == losses


def test_a_layout_that_stops_to_fit_is_given_up_in_all_splits_that_follow(tmp_path: Path) -> None:
    data = IPL.read_bytes()
    odd = bytearray(data)
    odd[28] = 1  # of tv_usec where time has 64 bits, and else in no field
    path = tmp_path / "time64.bin"
    path.write_bytes(data * 8 + bytes(odd) + data * 8)
    rows = parts.whole(path, "packet")
    assert [rows[i]["layout"] for i in (0, -1)] == ["ipl-5.1.2-lp64le", "ipl-5.1.2-lp64le-time64"]
    splits = plan(path, 9)
    assert parts.alone(splits, "packet") != rows
    assert parts.decoded(splits, "packet").rows == rows
    exact = confirm(splits)
    assert parts.alone(exact, "packet") == rows


@pytest.mark.parametrize("name", [n for n in NAMED if "v31-" in n and n.endswith(".bin")])
def test_a_named_layout_holds_for_all_splits(name: str) -> None:
    path = samples.FIXTURES / name
    layout = NAMED[name].partition(":")[0]  # the log is told by the first bytes
    for kind in KINDS:
        rows = parts.whole(path, kind, layout=layout)
        assert parts.decoded(plan(path, 4, layout=layout), kind).rows == rows


def test_strict_reading_ends_at_the_first_damage_whichever_split_has_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.bin"
    data = NFLOG.read_bytes()
    path.write_bytes(data[:100_000] + b"\xff" * 200 + data[100_000:])
    with pytest.raises(DecodeError) as expected:
        pylog.read_table(path, on_error="strict")
    for n in (2, 9, 60):
        with pytest.raises(DecodeError) as error:
            parts.decoded(plan(path, n, on_error="strict"), "packet")
        assert str(error.value) == str(expected.value)


def test_a_wrong_cut_is_no_damage_for_strict_reading(tmp_path: Path) -> None:
    path = tmp_path / "dumps.bin"
    broken = parts.numbered(list(range(400))) + b"\xff" * 20_000
    path.write_bytes(parts.carrying(broken) + parts.carrying(broken) + parts.numbered([1]))
    splits = plan(path, 8, on_error="strict")
    with pytest.raises(DecodeError):
        parts.alone(splits, "packet")
    assert len(parts.decoded(splits, "packet").rows) == 3


def test_what_is_added_after_the_plan_was_made_is_read(tmp_path: Path) -> None:
    path = tmp_path / "growing.bin"
    path.write_bytes(parts.numbered(list(range(100))))
    splits = plan(path, 3)
    path.write_bytes(parts.numbered(list(range(150))))
    assert len(parts.decoded(splits, "packet").rows) == 150


def test_a_split_travels() -> None:
    for split in confirm(plan(NFLOG, 3)):
        other = pickle.loads(pickle.dumps(split))
        assert parts.alone([other], "packet") == parts.alone([split], "packet")


def test_no_more_splits_are_begun_ahead_than_wanted() -> None:
    started: list[int] = []

    def submit(number: int, split: Split) -> Future[End]:
        started.append(number)
        return parts.at_once(scan, split)

    for number, _, _ in in_order(plan(NFLOG, 10), submit, 3):
        assert len(started) <= number + 3


def pieces() -> st.SearchStrategy[bytes]:
    """What dumps may be made of: messages, gaps, damage, dumps within packets."""
    data = NFLOG.read_bytes()
    plain = st.integers(0, 800).map(lambda n: data[n * 200 : n * 200 + 4000])
    numbers = st.lists(st.integers(0, 9), max_size=20).map(parts.numbered)
    noise = st.binary(max_size=300)
    within = st.lists(st.one_of(numbers, plain), max_size=4).map(b"".join)
    return st.one_of(plain, numbers, noise, within.map(lambda dump: parts.carrying(dump[:65000])))


@effort.examples(60)
@given(st.lists(pieces(), min_size=1, max_size=12), st.integers(2, 30), st.integers(1, 9))
def test_whatever_the_bytes_splits_give_the_rows_of_one_process(
    tmp_path_factory: pytest.TempPathFactory, several: list[bytes], n: int, ahead: int
) -> None:
    path = tmp_path_factory.mktemp("splits") / "dump.bin"
    path.write_bytes(parts.numbered([1, 2, 3]) + b"".join(several))
    splits = plan(path, n)
    exact = confirm(splits)
    for kind in ("packet", "loss"):
        rows = parts.whole(path, kind)
        assert parts.decoded(splits, kind, ahead).rows == rows
        assert parts.alone(exact, kind) == rows
    assert parts.records(splits) == tables.streamed(path.read_bytes())


def test_a_part_that_begins_soon_after_damage_treats_a_cut_end_as_one_process_does(
    tmp_path: Path,
) -> None:
    last = (
        bytes.fromhex("210000000004") + bytes(14) + bytes.fromhex("050000000000000005") + bytes(4)
    )
    dump = tmp_path / "dump.bin"
    dump.write_bytes(parts.numbered([1, 2, 3]) + NFLOG.read_bytes()[25200:29200] + last)
    splits = plan(dump, 2)
    assert len(splits) == 2
    for kind in ("packet", "loss"):
        rows = parts.whole(dump, kind)
        assert parts.decoded(splits, kind, 1).rows == rows
        assert parts.alone(confirm(splits), kind) == rows


# Files


def test_a_directory_is_its_files_by_name_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.bin", "a/z.bin", "a/.b", ".c", ".d/e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert files(tmp_path) == [str(tmp_path / "a/z.bin"), str(tmp_path / "b.bin")]
    assert files([tmp_path / "b.bin", f"{tmp_path}/*/*"]) == [
        str(tmp_path / "b.bin"), str(tmp_path / "a/z.bin"),
    ]  # fmt: skip


@pytest.fixture
def memory() -> Iterator[str]:
    """A place in fsspec's memory with a set of dumps."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name, path in (("b.bin", NFLOG), ("a.bin", IPL), (".hidden", IPL)):
        system.pipe(f"/splits/{name}", path.read_bytes())
    yield "memory://splits"
    system.rm("/splits", recursive=True)


def test_urls_are_files_like_any_other(memory: str) -> None:
    for paths in (memory, f"{memory}/*.bin", [f"{memory}/a.bin", f"{memory}/b.bin"]):
        splits = plan(paths, 12, origin=False)
        assert len(splits) > 10
        rows = parts.decoded(splits, "packet").rows
        assert rows == parts.whole(IPL, "packet") + parts.whole(NFLOG, "packet")


@pytest.mark.parametrize("path", ["nothing.bin", "nothing*", "memory://nothing/x"])
def test_what_is_not_there_is_told(path: str) -> None:
    if "://" in path:
        pytest.importorskip("fsspec")
    with pytest.raises(BackendError, match=path.replace("*", r"\*")):
        plan(path, 2)


def test_an_input_that_is_no_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no log" * 100)
    with pytest.raises(DecodeError, match="text: this is text; "):
        plan(tmp_path, 4)
