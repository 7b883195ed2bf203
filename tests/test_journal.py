"""The journal: what is written is what is read, from any place, whatever happens to the files."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import effort
import pytest

import pylog
from pylog.errors import BackendError
from pylog.origins import NOWHERE
from pylog.pipeline import journal as journal_module
from pylog.pipeline.blocks import Packer, SourceInfo, info_of, loss_block, name_comments, section
from pylog.pipeline.decoding import Decoding, Wanted
from pylog.pipeline.feeds import JournalFeed
from pylog.pipeline.journal import Journal
from pylog.pipeline.journal_reader import REMOVED, Gap, JournalReader
from pylog.pipeline.parsing import Piece
from pylog.pipeline.segments import FOLDER, segment_at, segments
from pylog.record import LossRecord, Record
from pylog.testing import Nflog, packet

INFO = SourceInfo("fw", "nflog:5", 1, ["nfulnl-le"], logs={"5": 0}, numbered=True)
TIME_NS = 1_700_000_000 * 10**9


def messages(count: int, first: int = 0) -> list[bytes]:
    """Messages of NFLOG, numbered from `first` on, with that number as source port too."""
    with Nflog() as kernel, kernel.open("5", raw=True) as reader:
        kernel._bound[5].seq = first
        for number in range(first, first + count):
            kernel.log(packet(sport=number + 1))
        made: list[bytes] = []
        while len(made) < count:
            made += [r.raw or b"" for r in reader.read_batch(5) if not isinstance(r, LossRecord)]
        return made


@pytest.fixture(scope="module")
def lot() -> list[bytes]:
    return messages(60)


def opened(folder: Path, size: int | None = None, segment: int = 1500, **limits: Any) -> Journal:
    return Journal(folder, segment_size=segment, size=size, age_s=limits.get("age_s"),
                   header=lambda: section([INFO]))  # fmt: skip


def fill(journal: Journal, lot: Sequence[bytes], each: int = 3) -> list[int]:
    """Append messages, a few at a time; the places after each receipt."""
    packer, places = Packer(0, INFO), []
    for at in range(0, len(lot), each):
        new = journal.ready()
        data, ends = b"".join(lot[at : at + each]), list[int]()
        for message in lot[at : at + each]:
            ends.append((ends[-1] if ends else 0) + len(message))
        comments = name_comments({1: "lo", 2: "eth0", 3: 3}) if new else ()
        assert not journal.append(packer.packed(data, ends, TIME_NS + at * 10**9, comments))
        places.append(journal.end)
    return places


def decoded(folder: Path, place: int = 0) -> list[Record]:
    """The records after a place."""
    feed = JournalFeed(folder, Decoding({"fw": Wanted(NOWHERE)}), ["fw"])
    feed.seek(place)
    records: list[Record] = []
    while (lot := feed.read()) is not None:
        records += lot.records
    feed.close()
    return records


def numbers(records: Sequence[Record]) -> list[Any]:
    """Their numbers; losses as text."""
    return [r.describe() if isinstance(r, LossRecord) else r.seq for r in records]


def test_a_journal_gives_what_it_got_from_any_place(tmp_path: Path, lot: list[bytes]) -> None:
    journal = opened(tmp_path)
    places = fill(journal, lot)
    assert len(segments(tmp_path)) > 3 and oct(segments(tmp_path)[0].path.stat().st_mode)[-3:] == (
        "600"
    )
    every = decoded(tmp_path)
    assert numbers(every) == list(range(60))
    assert {record.indev for record in every} == {"eth0"}  # type: ignore[union-attr]
    assert every[3].observed_ns == TIME_NS + 3 * 10**9
    for number, place in enumerate(places):
        assert numbers(decoded(tmp_path, place)) == list(range(3 * number + 3, 60))
    journal.close()
    # pylog reads the segments as files
    read: list[int] = []
    for segment in segments(tmp_path):
        with pylog.open(segment.path) as reader:
            records = list(reader)
            assert reader.layout == "nfulnl-le" and not reader.malformed and not reader.dropped
            read += numbers(records)
    assert read == list(range(60))


def test_a_gap_in_the_numbers_is_seen_across_segments_and_positions(
    tmp_path: Path, lot: list[bytes]
) -> None:
    journal = opened(tmp_path, segment=10**6)
    fill(journal, lot[:9])
    place = journal.end
    journal.rotate()
    fill(journal, lot[12:15])
    journal.close()
    lost = "lost 3 records: sequence number 12, but expected 9"
    assert numbers(decoded(tmp_path)) == [*range(9), lost, 12, 13, 14]
    assert numbers(decoded(tmp_path, place)) == [lost, 12, 13, 14]


def test_wireshark_reads_a_segment(tmp_path: Path, lot: list[bytes]) -> None:
    tshark = next((p for p in ("/usr/bin/tshark",) if os.path.exists(p)), None)
    if tshark is None:
        pytest.skip("needs tshark")
    journal = opened(tmp_path, segment=10**6)
    fill(journal, lot[:4], 2)
    journal.close()
    path = segments(tmp_path)[0].path
    done = subprocess.run([tshark, "-r", path, "-T", "fields", "-e", "tcp.srcport"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stdout.split() == ["1", "2", "3", "4"]


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(BackendError, match=f"is in use by process {os.getpid()}"):
        opened(tmp_path)
    journal.close()
    again = opened(tmp_path)
    assert (again.end, again.last_ns) == (0, None)
    again.close()


def test_a_journal_cut_at_any_byte_goes_on_behind_its_last_complete_block(
    tmp_path: Path, lot: list[bytes]
) -> None:
    journal = opened(tmp_path, segment=10**6)
    places = fill(journal, lot[:6], 2)
    journal.close()
    path = segments(tmp_path)[0].path
    data = path.read_bytes()
    for size in effort.sample(range(len(data))):
        for segment in segments(tmp_path)[1:]:
            segment.path.unlink()
        path.write_bytes(data[:size])
        again = opened(tmp_path)
        complete = max((p for p in places if p <= size), default=0)
        assert again.end <= size and again.end >= min(complete, size)
        fill(again, lot[6:8])
        again.close()
        complete_ones = sum(place <= size for place in places) * 2
        got = [p for p in numbers(decoded(tmp_path)) if isinstance(p, int)]
        # a datagram of a receipt may be complete without the others
        assert got[-2:] == [6, 7] and got[:-2] in (
            list(range(complete_ones)),
            list(range(complete_ones + 1)),
        )
        for segment in segments(tmp_path):
            if segment.path != path:
                segment.path.unlink()
        path.write_bytes(data)


def test_any_changed_byte_costs_little_and_is_reported(tmp_path: Path, lot: list[bytes]) -> None:
    journal = opened(tmp_path, segment=10**6)
    fill(journal, lot[:12], 2)
    journal.rotate()
    journal.close()
    path = segments(tmp_path)[0].path
    data = path.read_bytes()
    for at in effort.sample(range(len(data))):
        path.write_bytes(data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :])
        records = decoded(tmp_path)
        got = [p for p in numbers(records) if isinstance(p, int)]
        lost = [record for record in records if isinstance(record, LossRecord)]
        header = at < len(section([INFO]))
        assert header or len(got) >= 10, at
        assert header or len(got) >= 11 or lost, at


def test_limits_remove_the_oldest_segments_and_a_stack_learns_of_it(
    tmp_path: Path, lot: list[bytes]
) -> None:
    journal = opened(tmp_path, size=6000, segment=1500)
    reader = JournalReader(tmp_path)
    places = fill(journal, lot)
    assert journal.removed > 0 and journal.end - reader.first() <= 6000 + 1500
    records = decoded(tmp_path, places[0])
    loss = records[0]
    assert isinstance(loss, LossRecord)
    assert loss.size == reader.first() - places[0] and loss.count is None
    assert loss.reason == f"{loss.size} bytes {REMOVED}"
    left = numbers(records[1:])
    assert left == list(range(left[0], 60)) and left[0] > 3
    journal.close()
    old = opened(tmp_path, age_s=60.0)
    fill(old, lot[:30])
    assert not old.removed
    os.utime(segments(tmp_path)[0].path, (1, 1))
    old.trim()
    assert old.removed
    old.close()


def test_a_full_disk_costs_the_oldest_segments_then_what_is_received(
    tmp_path: Path, lot: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path, segment=1500)
    places = fill(journal, lot[:30])

    def used() -> int:
        return sum(segment.size() for segment in segments(tmp_path))

    limit = used() + 700

    def write(file: int, data: Any) -> int:
        left = limit - used()
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os_write(file, bytes(data)[:left])

    os_write = os.write
    monkeypatch.setattr("pylog.pipeline.journal.os.write", write)
    monkeypatch.setattr("pylog.pipeline.journal.os.writev",
                        lambda file, parts: write(file, b"".join(parts)))  # fmt: skip
    fill(journal, lot[30:])
    assert journal.removed > 0 and not journal.unwritten and not journal.is_full
    limit = 0
    packer = Packer(0, INFO)
    parts = packer.packed(b"".join(lot[:3]), [], TIME_NS)
    end = journal.end
    while journal.append(parts) == 0:
        end = journal.end
    assert journal.is_full and journal.unwritten == sum(map(len, parts)) and journal.end == end
    limit = 10**9
    journal.append([loss_block(0, INFO, "the disk was full", 5)])
    fill(journal, messages(3, 60))
    journal.close()
    assert not journal.is_full
    records = decoded(tmp_path, places[-1])
    assert [r.reason for r in records if isinstance(r, LossRecord)][-1] == "the disk was full"
    assert numbers(records)[-3:] == [60, 61, 62]


def test_a_start_in_the_past_is_found(tmp_path: Path, lot: list[bytes]) -> None:
    journal = opened(tmp_path, segment=1500)
    fill(journal, lot)
    journal.close()
    reader = JournalReader(tmp_path)
    for at in (0, 3, 30, 57):
        place = reader.place_of(TIME_NS + at * 10**9 - 5)
        assert [p for p in numbers(decoded(tmp_path, place)) if isinstance(p, int)] == (
            list(range(at, 60))
        )
    assert reader.place_of(TIME_NS + 10**15) == reader.last()
    assert reader.place_of(0) <= reader.first() + 1000


def test_hostile_bytes_give_pieces_or_gaps(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    random = effort.chance("journal")
    for _ in range(effort.number(400, 10)):
        for segment in segments(tmp_path):
            segment.path.unlink()
        data = section([INFO])[: random.randrange(400)] + random.randbytes(random.randrange(3000))
        (tmp_path / FOLDER / f"{0:020}.pcapng").write_bytes(data)
        (tmp_path / FOLDER / f"{len(data):020}.pcapng").write_bytes(section([INFO]))
        reader, rounds = JournalReader(tmp_path), 0
        while (placed := reader.read()) is not None:
            rounds += 1
            assert rounds < 5000
            assert all(isinstance(each.content, Piece | Gap) for each in placed)
        assert reader.place == len(data) + len(section([INFO]))
        reader.close()
    assert info_of(b"pylog-source {") is None and info_of(b"pylog-source []") is None


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal_module, "NOTE_S", 0.0)
    yield


def test_a_reader_goes_on_when_the_segments_it_reads_are_removed(
    tmp_path: Path, lot: list[bytes]
) -> None:
    journal = opened(tmp_path, segment=1500)
    fill(journal, lot[:30])
    reader = JournalReader(tmp_path)
    first = reader.read(600)
    assert first and reader.place < segments(tmp_path)[1].start
    gone = segments(tmp_path)[:3]
    for segment in gone:
        segment.path.unlink()
    placed = [*first]
    while (more := reader.read(600)) is not None:
        placed += more
    gaps = [each.content for each in placed if isinstance(each.content, Gap)]
    size = segments(tmp_path)[0].start - gone[1].start
    assert gaps == [Gap(size, REMOVED)] and reader.place == journal.end
    fill(journal, lot[30:33])
    assert [each for each in reader.read() or [] if isinstance(each.content, Piece)]
    reader.close()
    journal.close()


def test_a_segment_that_the_writer_takes_back_is_no_gap(tmp_path: Path, lot: list[bytes]) -> None:
    journal = opened(tmp_path, segment=10**6)
    fill(journal, lot[:3])
    reader = JournalReader(tmp_path)
    while reader.read() is not None:
        pass
    begun = segment_at(tmp_path, journal.end)
    for taken_back in (b"", section([INFO])[:-4]):
        begun.path.write_bytes(taken_back)
        assert not reader.read()
        begun.path.unlink()
        assert reader.read() is None
    journal.rotate()
    fill(journal, lot[3:9])
    contents = []
    while (placed := reader.read()) is not None:
        contents += [each.content for each in placed]
    assert not [content for content in contents if isinstance(content, Gap)]
    assert reader.place == journal.end and any(c.data for c in contents if isinstance(c, Piece))
    reader.close()
    journal.close()


def test_a_segment_that_cannot_be_made_is_a_full_disk(
    tmp_path: Path, lot: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    fill(journal, lot[:3])

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("pylog.pipeline.journal.os.open", full)
        assert not journal.rotate() and journal.is_full
        assert journal.append([b"1234"]) == 4 and journal.unwritten == 4
    fill(journal, lot[3:6])
    assert not journal.is_full and numbers(decoded(tmp_path)) == list(range(6))
    journal.close()
