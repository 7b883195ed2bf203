"""--follow: a growing file is read on by its name, as tail -F does, whatever a rotation does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import samples

import pylog
from pylog.backends.capture import Growing
from pylog.record import LossRecord, Record

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
IPL = "ipl-5.1.2-lp64le"


def messages(path: Path, layout: str | None = None) -> list[bytes]:
    """The raw records of a log."""
    with pylog.open(path, layout=layout, raw=True) as reader:
        return [record.raw for record in reader if record.raw is not None]


ITEMS = messages(FILTER, IPL)


class Following:
    """A reader of a growing file, in a thread."""

    def __init__(self, path: Path, layout: str | None = IPL) -> None:
        self.records: list[Record] = []
        self.error: Exception | None = None
        self.reader = pylog.open(path, layout=layout, raw=True, follow=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.records.extend(self.reader)
        except Exception as error:
            self.error = error

    def raw(self) -> list[bytes]:
        return [r.raw for r in self.records if r.raw is not None and not isinstance(r, LossRecord)]

    def reads(self, items: list[bytes]) -> None:
        """Wait until these are all that was read."""
        until(lambda: self.raw() == items)

    def end(self) -> None:
        self.reader.stop()
        self._thread.join(20)
        self.reader.close()
        assert not self._thread.is_alive()


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not there() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert there()


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Following]]:
    monkeypatch.setattr(Growing, "tick_s", 0.01)
    opened: list[Following] = []

    def start(path: Path, layout: str | None = IPL) -> Following:
        opened.append(Following(path, layout))
        return opened[-1]

    yield start
    for following in opened:
        following.end()


def add(path: Path, *items: bytes) -> None:
    with path.open("ab", buffering=0) as log:
        log.write(b"".join(items))


def test_the_file_that_takes_the_name_is_read_next(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    log = tmp_path / "log"
    add(log, *ITEMS[:5])
    following = follow(log)
    following.reads(ITEMS[:5])
    for turn in range(1, 4):
        log.rename(tmp_path / f"log.{turn}")
        add(log, *ITEMS[5 * turn : 5 * turn + 5])
        following.reads(ITEMS[: 5 * turn + 5])
    assert not any(isinstance(record, LossRecord) for record in following.records)
    assert [r.offset for r in following.records[5:10]] == [r.offset for r in following.records[:5]]


def test_a_capture_of_pflogd_is_read_on_after_newsyslog_has_rotated_it(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    log, capture = tmp_path / "pflog", samples.FIXTURES / "pf/openbsd.pcap"
    content, items = capture.read_bytes(), messages(capture)
    add(log, content[:100])  # the header of the file, and a part of a record
    following = follow(log, None)
    add(log, content[100:])
    following.reads(items)
    log.rename(tmp_path / "pflog.0")
    add(log, content)  # with a header of its own
    following.reads(2 * items)
    assert len(items) == 5 and not any(isinstance(r, LossRecord) for r in following.records)


def test_what_is_written_to_the_renamed_file_is_read_before_the_new_one(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    add(log, *ITEMS[:3])
    following = follow(log)
    following.reads(ITEMS[:3])
    log.rename(old)
    log.touch()  # as logrotate does with `create`, before it tells the writer
    time.sleep(0.05)
    add(old, *ITEMS[3:6])
    following.reads(ITEMS[:6])
    add(log, *ITEMS[6:9])
    following.reads(ITEMS[:9])


def test_a_file_that_is_removed_is_awaited(
    tmp_path: Path, follow: Callable[..., Following]
) -> None:
    log = tmp_path / "log"
    add(log, *ITEMS[:3])
    following = follow(log)
    following.reads(ITEMS[:3])
    log.unlink()
    time.sleep(0.05)
    add(log, *ITEMS[3:4])
    following.reads(ITEMS[:4])


@pytest.mark.parametrize("rotate", ["truncate", "rename"])
def test_part_of_a_record_waits_for_the_rest_and_is_reported_without_it(
    rotate: str, tmp_path: Path, follow: Callable[..., Following]
) -> None:
    log = tmp_path / "log"
    add(log, *ITEMS[:3], ITEMS[3][:40])
    following = follow(log)
    following.reads(ITEMS[:3])
    time.sleep(0.05)
    add(log, ITEMS[3][40:], ITEMS[4][:40])
    following.reads(ITEMS[:4])
    if rotate == "truncate":
        os.truncate(log, 0)
    else:
        log.rename(tmp_path / "log.1")
    add(log, *ITEMS[5:7])
    following.reads([*ITEMS[:4], *ITEMS[5:7]])
    (loss,) = [r for r in following.records if isinstance(r, LossRecord)]
    assert loss.cut_off and loss.size == 40


def test_what_was_no_record_yet_is_given_up_with_its_file(
    tmp_path: Path, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    add(log, ITEMS[0][:30])
    following = follow(log, None)
    log.rename(tmp_path / "log.1")
    add(log, *ITEMS)
    following.reads(ITEMS)
    assert "another file has its name now" in caplog.text


@pytest.mark.parametrize("ending", ["ipl", "netlink", "pcapng", "pcap"])
def test_files_of_every_form_may_take_the_name(
    ending: str, tmp_path: Path, follow: Callable[..., Following]
) -> None:
    from pylog.cli import main

    log, captured = tmp_path / "log", tmp_path / "captured.pcapng"
    if ending == "pcapng":
        assert main(["capture", str(SEQ), "-w", str(captured)]) == 0
        data = captured.read_bytes()
    elif ending == "pcap":
        data = next(iter(sorted((samples.FIXTURES).rglob("*.pcap")))).read_bytes()
    else:
        data = (SEQ if ending == "netlink" else FILTER).read_bytes()
    log.write_bytes(data)
    once = messages(log)
    following = follow(log, None)
    following.reads(once)
    log.rename(tmp_path / "log.1")
    add(log, data[:100], data[100:])
    following.reads(once * 2)


def test_many_rotations_lose_nothing(tmp_path: Path, follow: Callable[..., Following]) -> None:
    """The writer opens the file again only some time after the rename, as a service does."""
    log = tmp_path / "log"
    items = ITEMS * 3
    add(log, *items[:5])
    following = follow(log)
    for at in range(5, len(items), 10):
        with log.open("ab", buffering=0) as writer:
            following.reads(items[:at])  # so that no file comes and goes between two looks
            log.rename(tmp_path / f"log.{at}")
            for item in items[at : at + 5]:
                writer.write(item[:30])
                writer.write(item[30:])
        add(log, *items[at + 5 : at + 10])
    following.reads(items)
