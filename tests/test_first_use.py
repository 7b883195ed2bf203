"""What a first user meets: logs that are cut off, wrong arguments, counts that are not exact."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import samples

import pylog
from pylog import LossRecord
from pylog.cli import main
from pylog.cli._sources import lost_text
from pylog.formats import Dropped
from pylog.ipmon.printer import Printer
from pylog.losses import Losses
from pylog.table import splits

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
CUTS = {
    "ipl": FILTER,
    "ipl of NAT": samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin",
    "ipl without a magic": samples.FIXTURES / "ipl/v31-lp64be-ipf.bin",
    "netlink": samples.FIXTURES / "nflog/seq.bin",
    "pcap": samples.FIXTURES / "nflog/tcpdump.pcap",
    "pcapng": samples.FIXTURES / "nflog/tshark.pcapng",
}
Captured = pytest.CaptureFixture[bytes]


def cut(name: str, path: Path) -> int:
    """Write a log that ends 20 bytes into its fifth record; where that begins."""
    data = CUTS[name].read_bytes()
    with pylog.open(io.BytesIO(data)) as reader:
        offsets = [record.offset or 0 for record in reader]
    at = offsets[4] - {"pcap": 16, "pcapng": 28}.get(name, 0)  # the head of the packet
    path.write_bytes(data[: at + 20])
    return at


@pytest.mark.parametrize("name", CUTS)
def test_the_end_of_a_growing_log_is_a_cut_and_no_loss(
    name: str, tmp_path: Path, capfdbinary: Captured
) -> None:
    path = tmp_path / "grow"
    at = cut(name, path)
    with pylog.open(path) as reader:
        *records, end = reader
    assert isinstance(end, LossRecord) and end.cut_off and end.size == 20
    assert reader.cut_off == at and not reader.dropped and reader.uncounted == 0
    assert len(records) == 4 and not any(isinstance(r, LossRecord) for r in records)
    says = f"cut off at offset {at}, within its last record; if the file grows, pylog read --follow"
    for command in (["read"], ["read", "--to", "json"], ["replay", "--speed", "max"]):
        assert main([*command, str(path)]) == 0
        out, err = capfdbinary.readouterr()
        assert says in err.decode() and b"LOST" not in out
        if len(command) == 1:
            assert out.splitlines()[-1].startswith(b"- CUT OFF at offset %d (message cut" % at)
    for out_name in ("o.parquet", "o.jsonl", "o.csv"):
        assert main(["convert", str(path), str(tmp_path / out_name)]) == 0
        assert says in capfdbinary.readouterr().err.decode()
    assert main(["info", str(path)]) == 0
    text = capfdbinary.readouterr().out.decode()
    assert f"end:            {says}" in text and "lost records:   at least" not in text
    assert main(["info", "--json", str(path)]) == 0
    assert json.loads(capfdbinary.readouterr().out)["cut_off"] == at


def test_splits_know_of_the_cut(tmp_path: Path, capfdbinary: Captured) -> None:
    path = tmp_path / "grow"
    path.write_bytes(CUTS["netlink"].read_bytes()[:-30])
    ends = [splits.scan(split) for split in splits.confirm(splits.plan(path, 3))]
    assert [end.tally.ending is None for end in ends] == [True, True, False]
    assert main(["convert", "--jobs", "2", str(path), str(tmp_path / "o.csv")]) == 0
    assert b"within its last record; if the file grows" in capfdbinary.readouterr().err


def test_a_complete_log_has_no_such_end(capfdbinary: Captured) -> None:
    assert main(["read", str(FILTER)]) == 0
    assert capfdbinary.readouterr().err == b""


def test_a_cut_compressed_log_is_a_cut_too(tmp_path: Path, capfdbinary: Captured) -> None:
    packed = gzip.compress(CUTS["netlink"].read_bytes())
    (tmp_path / "x.gz").write_bytes(packed[: len(packed) // 2])
    assert main(["read", str(tmp_path / "x.gz")]) == 0
    out, err = capfdbinary.readouterr()
    assert b"the gzip file is not complete: copy it again" in err and b"LOST" not in out
    assert out.splitlines()[-1].startswith(b"- CUT OFF at offset ")
    (tmp_path / "y.gz").write_bytes(gzip.compress(FILTER.read_bytes()[:-30]))  # packed when cut
    assert main(["read", str(tmp_path / "y.gz")]) == 0
    err = capfdbinary.readouterr().err
    assert err.endswith(b"within its last record\n"), err


def test_a_pipe_that_is_cut_off_cannot_be_followed() -> None:
    with pylog.open(io.BytesIO(FILTER.read_bytes()[:-30])) as reader:
        list(reader)
    assert str(reader.ending).endswith("within its last record")


def test_a_capture_cut_within_its_first_packet_says_so(
    tmp_path: Path, capfdbinary: Captured
) -> None:
    (tmp_path / "x.pcap").write_bytes(CUTS["pcap"].read_bytes()[:60])
    assert main(["read", str(tmp_path / "x.pcap")]) == 1
    assert b"cut off at offset 24, within its first record" in capfdbinary.readouterr().err


def test_a_cut_is_not_among_what_a_layout_cannot_hold(
    tmp_path: Path, capfdbinary: Captured
) -> None:
    cut("ipl", tmp_path / "grow")
    assert main(["read", "--to", "ipl", "-w", str(tmp_path / "o"), str(tmp_path / "grow")]) == 0
    assert b"not held" not in capfdbinary.readouterr().err


NOTHING: list[Any] = [
    b"secret",
    bytearray(b"secret"),
    memoryview(b"secret"),
    5,
    None,
    1.5,
    object(),
]
TAKERS: dict[str, Callable[[Any], Any]] = {
    "open": pylog.open,
    "merge": lambda source: pylog.merge(FILTER, source),
    "replay": pylog.replay,
    "read_table": lambda source: pylog.read_table(source),
    "read_table of several": lambda source: pylog.read_table([FILTER, source]),
    "read_table by processes": lambda source: pylog.read_table(source, jobs=2),
    "iter_batches": lambda source: list(pylog.iter_batches(source)),
    "plan": lambda source: splits.plan(source, 2),
    "plan of several": lambda source: splits.plan([FILTER, source], 2),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("source", NOTHING, ids=lambda source: type(source).__name__)
def test_what_can_be_no_log_is_named_by_its_type(taker: str, source: Any) -> None:
    with pytest.raises(TypeError) as caught:
        TAKERS[taker](source)
    message = str(caught.value)
    assert f"not {type(source).__name__}" in message and "secret" not in message
    assert "path (str or os.PathLike)" in message
    assert ("io.BytesIO" in message) == isinstance(source, bytes | bytearray | memoryview)


def test_a_list_is_for_merge_and_tables() -> None:
    with pytest.raises(TypeError, match="not list"):
        pylog.open([FILTER])  # type: ignore[arg-type]


def test_an_unknown_loss_makes_the_count_a_minimum() -> None:
    assert lost_text(None, 0) == "cannot be known" and lost_text(7, 0) == "7"
    assert lost_text(7, 1) == "at least 7"
    assert lost_text(0, 1) == lost_text(None, 2) == "at least 1"


def test_losses_of_unknown_size_are_counted_separately() -> None:
    losses = Losses({"5": 0}, numbered=True)
    assert (losses.dropped, losses.uncounted) == (0, 0)
    losses.announce(Dropped(0, None, "NLMSG_OVERRUN"))
    assert losses.uncounted == 0  # as long as it is not given
    loss = losses.at_end("nflog", "nfulnl-le", True)
    assert loss is not None and (losses.dropped, losses.uncounted) == (0, 1)
    again = pickle.loads(pickle.dumps(losses))
    assert again.uncounted == 1 and again.resumed().uncounted == 0


def test_an_overrun_that_numbers_have_replaced_is_no_unknown_loss_at_the_end() -> None:
    (record, following), *_ = zip(*[iter(pylog.open(CUTS["netlink"]))] * 2, strict=False)
    losses = Losses({"30": 0})
    losses.received()
    losses.overrun("receive buffer overran", ["30"])
    losses.received()
    for one in (record, following):
        while losses.before(one) is not None:
            pass
    log = getattr(record, "group", "")
    assert (losses.has_announced, losses.uncounted) == (log != "30", 0)


def test_the_summary_and_info_say_at_least(tmp_path: Path, capfdbinary: Captured) -> None:
    other = b"\x1f\x8b\x08" + b"\xff" * 50  # a second member that is damaged
    (tmp_path / "x.gz").write_bytes(gzip.compress(CUTS["netlink"].read_bytes()) + other)
    assert main(["read", "-v", str(tmp_path / "x.gz")]) == 0
    assert b"lost records: at least " in capfdbinary.readouterr().err
    assert main(["info", str(tmp_path / "x.gz")]) == 0
    assert b"lost records:   at least " in capfdbinary.readouterr().out
    assert main(["info", "--json", str(tmp_path / "x.gz")]) == 0
    assert json.loads(capfdbinary.readouterr().out)["uncounted"] == 1
    assert main(["convert", "-v", str(tmp_path / "x.gz"), str(tmp_path / "o.csv")]) == 0
    assert b"lost records: at least " in capfdbinary.readouterr().err
    assert main(["capture", str(tmp_path / "x.gz"), "-w", str(tmp_path / "o.pcapng")]) == 0
    err = capfdbinary.readouterr().err
    assert b"lost records: at least " in err and err.rstrip().endswith(b"o.pcapng")


def test_converted_records_begin_without_a_claim_of_missed_ones() -> None:
    def missed(path: Path, skip: int = 0) -> list[str]:
        printer = Printer()
        with pylog.open(path, raw=True) as reader:
            entries = [printer.entry(record) for record in list(reader)[skip:]]
        return [entry.missed for entry in entries if entry is not None and entry.missed]

    assert missed(samples.FIXTURES / "nflog/tshark.pcapng") == []
    assert missed(FILTER)[:1] == ["missed 1 ipf log entries: 0 1"]  # as the real ipmon
    overrun = missed(samples.FIXTURES / "nflog/overrun.bin")
    assert overrun == ["missed 2520 ipf log entries: 581 3101"]


def test_flush_says_what_it_did(tmp_path: Path, capfdbinary: Captured) -> None:
    assert main(["flush", str(FILTER)]) == 0
    says = f"{FILTER}: nothing flushed: a file keeps its records (10865 bytes of them)\n"
    assert capfdbinary.readouterr().out.decode() == says
