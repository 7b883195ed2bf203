"""What was lost stays lost, and what was damaged damage, through every way out and back."""

from __future__ import annotations

import csv
import io
import json
import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import builders
import effort
import inprocess
import msgspec
import pytest
import samples

import pylog
from pylog import LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.formats import nfulnl, pcap_blocks
from pylog.record import LossRow, row_of
from pylog.scrub import Scrubbing

START = 1_700_000_000 * 10**9
SEQ = samples.FIXTURES / "nflog/seq.bin"
FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
LATE = 2**64 + 1_290_448_384  # 2554-07-21T23:34:35
SHAPES = [
    LossRecord("nflog", "nfulnl-le", count=5, log="10"),
    LossRecord("nflog", "nfulnl-le", count=1, log="99", reason="no buffer space"),
    LossRecord("nflog", "nfulnl-le", count=2**40, reason="told by a counter"),
    LossRecord("nflog", "nfulnl-le", size=1000, reason="nla_len 3"),
    LossRecord("nflog", "nfulnl-le", observed_ns=START, size=7, raw=b"\xee" * 7, reason="bad"),
    LossRecord("nflog", "nfulnl-le", reason="NLMSG_OVERRUN"),
    LossRecord("nflog", "nfulnl-le"),
    LossRecord("nflog", "nfulnl-le", count=3, size=400, log="10", timestamp_ns=START + 1),
    LossRecord("nflog", "nfulnl-le", count=9, seq=2**32 - 2, log="10", reason="a gap"),
    LossRecord("nflog", "nfulnl-be", observed_ns=LATE, timestamp_ns=-1, count=2, reason="late"),
    LossRecord("ipl", "ipl-5.1.2-lp64le", count=4, log="nat", seq=7, timestamp_ns=START),
    LossRecord("ipl", "ipl-3.4-ilp32be", size=12, log="state", reason="ipl_dsize 0"),
    LossRecord("capture", "pcap", size=76, reason="message cut off after 76 bytes"),
    LossRecord("capture", "pcapng", count=12, reason='told by "the" file\n\x1b[31m\u202e\u00e9'),
    LossRecord("nflog", "nfulnl-le", size=70_000, raw=bytes(range(256)) * 273, reason="much"),
]


def read(source: Any, **options: Any) -> list[pylog.Record]:
    with pylog.open(io.BytesIO(source) if isinstance(source, bytes) else source, raw=True,
                    **options) as reader:  # fmt: skip
        return list(reader)


def write(records: Iterable[pylog.Record], name: str = "pcapng", **options: Any) -> bytes:
    stream = io.BytesIO()
    output = outputs.open(name, outputs.Target(stream), options)
    output.write(Batch(list(records)))
    output.close()
    return stream.getvalue()


def placeless(records: Iterable[pylog.Record]) -> list[pylog.Record]:
    """Records without their places, which are those in the file that they were read from."""
    return [msgspec.structs.replace(record, offset=None) for record in records]


def losses(records: Iterable[pylog.Record]) -> list[LossRecord]:
    return [record for record in placeless(records) if isinstance(record, LossRecord)]


def mixed(seed: int) -> list[pylog.Record]:
    """Packets with losses of any shape at any places, also several at one."""
    choose = random.Random(seed)
    packets = read(choose.choice([SEQ, FILTER]))[:40]
    rows: list[pylog.Record] = [r for r in packets if not isinstance(r, LossRecord)]
    for _ in range(choose.randrange(1, 30)):
        rows.insert(choose.randrange(len(rows) + 1), choose.choice(SHAPES))
    return rows


# A capture


@pytest.mark.parametrize("seed", effort.sample(range(12), least=3))
def test_losses_of_any_shape_come_back_from_a_capture_in_their_places(seed: int) -> None:
    records = mixed(seed)
    data = write(records)
    assert placeless(read(data)) == placeless(records)
    assert placeless(read(write(read(data)))) == placeless(records)
    with pylog.open(io.BytesIO(data)) as reader:
        found = list(reader)
    assert reader.dropped == sum(loss.count or 0 for loss in losses(records))
    assert reader.malformed == sum(loss.size is not None for loss in losses(records))
    assert not any(loss.raw for loss in losses(found))


@pytest.mark.parametrize("loss", SHAPES)
def test_a_capture_of_nothing_but_a_loss_has_it(loss: LossRecord) -> None:
    assert placeless(read(write([loss]))) == [loss]


def test_losses_are_kept_although_no_packet_comes_for_long() -> None:
    many = SHAPES * 300
    first, *rest = read(SEQ)[:3]
    assert placeless(read(write([first, *many, *rest]))) == placeless([first, *many, *rest])
    assert placeless(read(write(many))) == many


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_and_a_merge_of_a_capture_give_its_losses(seed: int, tmp_path: Path) -> None:
    records, path = mixed(seed), tmp_path / "a.pcapng"
    path.write_bytes(write(records))
    with pylog.replay(path, speed=None, raw=True) as reader:
        assert losses(reader) == losses(records)
    other = tmp_path / "b.pcapng"
    other.write_bytes(write([SHAPES[0], SHAPES[5]]))
    with pylog.merge(path, other, raw=True, origin=False) as merged:
        found = losses(merged)
    for loss in (*losses(records), SHAPES[0], SHAPES[5]):
        found.remove(loss)
    assert not found


def test_scrubbing_keeps_losses_but_not_their_bytes() -> None:
    scrubbing = Scrubbing()
    records = [scrubbing.record(record) for record in mixed(5)]
    assert losses(read(write(records))) == losses(records) and losses(records)
    assert not any(loss.raw for loss in losses(records))


@pytest.mark.parametrize("first", [0x40, 0x4F, 0x60, 0x6F])
@pytest.mark.parametrize("name", ["v5-1-2-lp64le-filter.ipf.bin", "v34-lp64be-ipf.bin"])
def test_scrubbing_keeps_a_record_whose_ip_header_is_bad(name: str, first: int) -> None:
    path = samples.FIXTURES / "ipl" / name
    record = read(path)[0]
    assert isinstance(record, PacketRecord) and record.raw and record.payload
    at = len(record.raw) - len(record.payload)
    damaged = record.raw[:at] + bytes([first]) + record.raw[at + 1 :]
    (before,) = read(damaged, layout=record.layout)
    after = Scrubbing().record(before)
    assert isinstance(before, PacketRecord) and isinstance(after, PacketRecord)
    assert (after.family, after.extra, after.caplen) == (before.family, before.extra, before.caplen)
    assert after.payload and before.payload and after.payload[1:] != before.payload[1:]


def test_a_report_cannot_hide_a_gap_in_the_numbers() -> None:
    first, *_, last = [r for r in read(SEQ) if isinstance(r, PacketRecord) and r.group == "10"][:9]
    assert isinstance(first, PacketRecord) and first.seq is not None
    after = LossRecord("nflog", "nfulnl-le", seq=first.seq + 1, count=2, log="10")
    wrong = LossRecord("nflog", "nfulnl-le", seq=first.seq + 3, count=7, log="10")
    start = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    for reported, counts in ((after, [2, 5]), (wrong, [7, 7])):
        notes = [note.comment() for note in pcap_blocks.loss_notes(reported, 0)]
        data = start
        for record, comments in ((first, []), (last, notes)):
            assert isinstance(record, PacketRecord) and record.raw is not None
            packet, *_ = nfulnl.capture(record.raw, record.layout)
            data += pcap_blocks.packet_block(packet, START, comments=comments)
        assert [loss.count for loss in losses(read(data))] == counts


def test_losses_in_a_capture_of_an_older_release_are_read() -> None:
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    comment = pcap_blocks.Note(lost="no buffer space").comment()
    packet = builders.log("<", 7, [(1, {"hw_protocol": 0x800, "hook": 1})], family=2)[16:]
    for comments, dropped in (([], 0), ([comment], 3)):
        data += pcap_blocks.packet_block(packet, START, comments=comments, dropped=dropped)
    last = pcap_blocks.Note(lost="reported by the capture file", count=5).comment()
    data += pcap_blocks.statistics_block(0, START, received=2, dropped=8, comments=[last])
    assert [(r.count, r.reason) for r in losses(read(data))] == [
        (3, "reported by the capture file"),
        (None, "no buffer space"),
        (5, "reported by the capture file"),
    ]


def test_another_programs_count_of_losses_is_added_to_what_notes_say() -> None:
    note = next(iter(pcap_blocks.loss_notes(SHAPES[0], 0))).comment()
    packet = builders.log("<", 10, [(1, {"hw_protocol": 0x800, "hook": 1})], family=2)[16:]
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239, name="nflog:10")
    data += pcap_blocks.packet_block(packet, START, comments=[note], dropped=5)
    data += pcap_blocks.packet_block(packet, START, comments=[note], dropped=8)
    data += pcap_blocks.packet_block(packet, START, dropped=1)
    assert [loss.count for loss in losses(read(data))] == [5, 5, 3, 1]


# Claims that cannot be true


def claiming(*comments: bytes, dropped: int = 0) -> bytes:
    """Two packets with a gap of 499 in their numbers, and what a file claims after it."""
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    attributes: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1})]
    for seq in (0, 500):
        packet = builders.log("<", 5, [*attributes, (12, seq)], family=2)[16:]
        data += pcap_blocks.packet_block(packet, START)
    packet = builders.log("<", 5, [*attributes, (12, 501)], family=2)[16:]
    block = pcap_blocks.packet_block(packet, START, comments=comments, dropped=1)
    count = pcap_blocks.EPB_DROPCOUNT.to_bytes(2, "little") + b"\x08\0"
    data += block.replace(count + (1).to_bytes(8, "little"), count + dropped.to_bytes(8, "little"))
    return data + pcap_blocks.statistics_block(0, START, received=3, dropped=0, comments=comments)


CLAIMS = [
    b'{"lost":"x","count":-499}',
    b'{"lost":"x","source":"nflog","layout":"nfulnl-le","log":"5","count":-499}',
    b'{"lost":"x","source":"nflog","count":9223372036854775808}',
    b'{"lost":"x","source":"nflog","size":-1}',
    b'{"lost":"x","source":"nflog","log":"5","seq":4294967296,"count":1}',
    b'{"lost":"x","source":"nflog","observed":999999999999999999999}',
    b'{"observed":-99999999999999999999}',
    b'{"interfaces":{"-1":"eth0"}}',
    b'{"interfaces":{"4294967296":"eth0"}}',
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.decode())
def test_an_impossible_claim_is_damage_and_cancels_nothing(claim: bytes) -> None:
    data = claiming(b"pylog " + claim)
    with pylog.open(io.BytesIO(data)) as reader:
        found = list(reader)
    assert reader.received == 3
    assert [loss.count for loss in losses(found) if loss.count is not None] == [499]
    assert reader.dropped == 499 and reader.malformed == 2
    assert all("in a comment" in str(loss.reason) for loss in losses(found) if loss.size)
    assert losses(read(write(read(data)))) == losses(read(data))


@pytest.mark.parametrize("count", [2**63, 2**64 - 1, 2**64 - 499])
def test_an_impossible_epb_dropcount_is_damage(count: int) -> None:
    with pylog.open(io.BytesIO(claiming(dropped=count))) as reader:
        found = list(reader)
    assert reader.received == 3 and reader.dropped == 499
    assert [(loss.count, loss.size) for loss in losses(found)] == [(499, None), (None, 8)]
    assert str(losses(found)[1].reason).startswith(f"epb_dropcount {count}, but expected")


def test_claims_at_the_limit_add_up_to_what_the_columns_hold() -> None:
    pytest.importorskip("pyarrow")
    claim = b'pylog {"lost":"x","count":9223372036854775807}'
    data = claiming(*[claim] * 5, dropped=2**63 - 1)
    table = pylog.read_table(io.BytesIO(data), kind="loss")
    assert max(n for n in table["count"].to_pylist() if n is not None) == 2**63 - 1


def test_notes_of_any_length_are_written_within_an_options_64_kib() -> None:
    records = []
    for mark, name in enumerate(("a" * 60_000, "\x01" * 60_000, "\u20ac" * 300, "eth0")):
        stream = nfulnl.NfulnlStream("<")
        stream.live, stream.observed_ns = True, START + mark
        stream.interface_name = lambda index, name=name: f"{index}{name}"  # type: ignore[misc]
        devices: list[tuple[int, Any]] = [(n, n) for n in (4, 5, 6, 7)]
        data = builders.log("<", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), *devices], family=2)
        (item,) = stream.split(data, True)
        records.append(stream.decode(data, item, raw=True))  # type: ignore[arg-type]
    long = [LossRecord("nflog", "nfulnl-le", reason="\x02" * 70_000, log="q" * 70_000, count=1),
            LossRecord("nflog", "x" * 70_000, reason="\ud800", size=2**80, count=-3)]  # fmt: skip
    found = read(write([*long, *records]))
    assert [loss.count for loss in losses(found)] == [1, None]
    assert losses(found)[0].reason == "\x02" * 5997 + "..."
    assert losses(found)[1].reason == f"\\ud800; count -3; size {2**80}"
    names = [r.indev for r in found if isinstance(r, PacketRecord)]
    assert [len(str(name)) for name in names] == [255, 255, 255, 5]
    assert str(names[0]).endswith("a...") and names[3] == "4eth0"
    assert placeless(read(write(found))) == placeless(found)


# Times that a block cannot hold


@pytest.mark.parametrize("time_ns", [LATE, 250_000_000_000 * 10**9, -1, -2_000_000_000 * 10**9])
def test_a_time_that_a_block_cannot_hold_comes_back(time_ns: int) -> None:
    first, second, third = read(SEQ)[:3]
    records: list[pylog.Record] = [
        msgspec.structs.replace(first, observed_ns=START),
        msgspec.structs.replace(second, observed_ns=time_ns),
        msgspec.structs.replace(third, observed_ns=START),
        LossRecord("nflog", "nfulnl-le", observed_ns=time_ns, timestamp_ns=time_ns, count=1),
    ]
    assert placeless(read(write(records))) == placeless(records)


def test_a_kernels_time_after_2554_is_kept_and_noted() -> None:
    attributes: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1})]
    stamp = (3, {"sec": 18446744075, "usec": 999_999})
    records = read(builders.log("<", 5, [*attributes, stamp], family=2))
    data = write(records)
    assert placeless(read(data)) == placeless(records)
    assert b'pylog {"timestamp":18446744075999999000}' in data


# Damage


def damaged_ipl() -> bytes:
    """Records with 1000 bytes between them that are none."""
    data = FILTER.read_bytes()
    with pylog.open(FILTER) as reader:
        at = [record.offset or 0 for record in reader][30]
    return data[:at] + b"\xee" * 1000 + data[at:]


def cut_nflog() -> bytes:
    """A message and the beginning of another."""
    return SEQ.read_bytes()[:260]


def cut_pcap() -> bytes:
    """Packets, the last cut within what could be a packet of 4 bytes."""
    data = builders.pcap_header(239)
    inner = builders.pcap_packet(b"\x02\0\0\x06", START)
    for body in (b"a" * 8, inner * 4 + b"b" * 200):
        message = builders.log(
            "<", 12, [(1, {"hw_protocol": 0x800, "hook": 1}), (9, body)], family=2
        )
        data += builders.pcap_packet(message[16:], START)
    return data[:-200]


@pytest.mark.parametrize("make", [damaged_ipl, cut_nflog, cut_pcap])
@pytest.mark.parametrize(
    "command", ["read", "read --scrub", "convert", "capture", "replay --speed max"]
)
def test_no_way_into_a_capture_makes_a_record_of_damage(
    make: Any, command: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out.pcapng"
    source.write_bytes(make())
    name, *options = command.split()
    more: dict[str, list[Any]] = {"convert": [source, out], "capture": [source, "-w", out]}
    arguments = more.get(name, [source, "--to", "pcapng", "-w", out])
    run(name, *options, *map(str, arguments))
    records, found = read(source), read(out)
    kinds = [(type(r), r.seq, getattr(r, "size", None)) for r in records]
    assert [(type(r), r.seq, getattr(r, "size", None)) for r in found] == kinds
    scrubbed = "--scrub" in options
    for before, after in zip(losses(records), losses(found), strict=True):
        assert after == (msgspec.structs.replace(before, raw=None) if scrubbed else before)
    assert losses(found)


# Other outputs


def run(*arguments: str) -> str:
    """What a command writes to standard error."""
    done = inprocess.run(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A capture with losses of all shapes among its packets."""
    found = tmp_path / "losses.pcapng"
    packets = read(FILTER)[:4]
    found.write_bytes(write([*packets[:2], *SHAPES, *packets[2:]]))
    return found


def as_json(loss: LossRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pylog.to_json(loss))
    return found


def test_json_lines_and_csv_hold_losses_of_any_shape(path: Path, tmp_path: Path) -> None:
    wanted = [as_json(loss) for loss in read(path) if isinstance(loss, LossRecord)]
    run("convert", str(path), str(tmp_path / "o.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["kind"] == "loss"] == wanted
    run("convert", str(path), str(tmp_path / "o.csv"))
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "loss"]
    assert [row["reason"] for row in rows].count("late") == 1
    for row, loss in zip(rows, wanted, strict=True):
        names = [name for name in loss if name != "reason"]
        assert {name: row[name] for name in names} == {name: str(loss[name]) for name in names}


def test_text_shows_count_and_size_of_a_loss(path: Path) -> None:
    lines = write(read(path), "text").decode().splitlines()
    assert len(lines) == 4 + len(SHAPES)
    (both,) = [line for line in lines if "3 records" in line]
    assert "LOST 3 records, 400 bytes at offset " in both and both.endswith(" of group 10")
    assert "- LOST an unknown number of records" in lines
    assert any(line.endswith("LOST 5 records of group 10") for line in lines)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "sqlite"])
def test_tables_hold_losses_of_any_shape(ending: str, path: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    wanted = [as_json(loss) for loss in read(path) if isinstance(loss, LossRecord)]
    out = tmp_path / f"o.{ending}"
    stderr = run("convert", "--kind", "loss", str(path), str(out))
    assert "4 packet records left out" in stderr
    if ending == "sqlite":
        database = sqlite3.connect(out)
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM loss")]
        database.close()
    elif ending == "parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(out).to_pylist()
    else:
        rows = pa.ipc.open_file(out).read_all().to_pylist()
    assert len(rows) == len(wanted)
    for row, loss in zip(rows, wanted, strict=True):
        for name in ("source", "layout", "offset", "log", "reason", "seq", "size"):
            assert row[name] == loss.get(name)
        assert row["count"] == (None if "count" not in loss else int(loss["count"]))
        late = json.loads(row["extra"] or "{}")
        for name in ("timestamp", "observed"):
            assert (row[name] is None) == (name not in loss or name in late)
            assert late.get(name, loss.get(name)) == loss.get(name)
    assert [json.loads(r["extra"]) for r in rows if r["extra"]] == [
        {"observed": "2554-07-21T23:34:35.000000Z"}
    ]


def test_a_table_of_packets_says_how_many_losses_it_leaves_out(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    stderr = run("convert", str(path), str(tmp_path / "o.parquet"))
    assert f"{len(SHAPES)} loss records left out: --kind loss writes those" in stderr


@pytest.mark.parametrize("scrub", [[], ["--scrub"]])
def test_ipl_says_at_the_end_how_many_losses_it_does_not_hold(
    scrub: list[str], path: Path, tmp_path: Path
) -> None:
    """All but the one that says that the log is cut off, which is none."""
    stderr = run("read", *scrub, "--to", "ipl", "-w", str(tmp_path / "o"), str(path))
    assert f"not held: losses ({len(SHAPES) - 1})" in stderr.splitlines()[-1]


def test_ipl_holds_the_losses_that_its_numbers_show() -> None:
    first, *_, last = [r for r in read(SEQ) if isinstance(r, PacketRecord) and r.family == "ipv4"]
    gap = LossRecord("nflog", "nfulnl-le", count=7, log="10")
    found = read(write([first, gap, last, gap], "ipl"))
    assert [(loss.count, loss.seq) for loss in losses(found)] == [(7, 2)]


@pytest.mark.parametrize("scrub", [[], ["--scrub"]])
def test_ipmons_text_says_at_the_end_how_many_losses_it_does_not_tell(
    scrub: list[str], path: Path, tmp_path: Path
) -> None:
    stderr = run("read", *scrub, "--to", "ipmon", "-w", str(tmp_path / "o"), str(path))
    assert "losses that are not in the text: 1" in stderr.splitlines()[-1]
    assert f"not held: losses ({len(SHAPES) - 3})" in stderr


def test_a_number_above_2_to_the_53_is_text_in_the_json_of_a_loss() -> None:
    row = row_of(LossRecord("nflog", "nfulnl-le", count=2**60, size=2**61, offset=2**62))
    assert isinstance(row, LossRow)
    assert (row.count, row.size, row.offset) == (str(2**60), str(2**61), str(2**62))
