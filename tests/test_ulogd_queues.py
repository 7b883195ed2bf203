"""The stacks of a live daemon: each has a queue and a thread, so that none stops another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pylog.backends import nflog
from pylog.backends.base import Backend
from pylog.options import resolve
from pylog.testing import Nflog, packet
from pylog.ulogd.build import Stack
from pylog.ulogd.conffile import Conffile
from pylog.ulogd.daemon import Daemon
from pylog.ulogd.files import File
from pylog.ulogd.live import Live
from pylog.ulogd.log import DaemonLog
from pylog.ulogd.worker import Surroundings

CONF = """[global]
logfile={0}/own
stack=in:NFLOG,base:BASE,ip:IP2STR,slow:GPRINT
stack=in:NFLOG,base:BASE,ip:IP2STR,fast:GPRINT
[in]
group=5
[slow]
file={0}/slow
[fast]
file={0}/fast
"""


def has(stack: Stack, count: int) -> bool:
    """Whether a stack has had so many records."""
    return stack.records == count


class Held(File):
    """A file whose disk takes nothing until it is `released`."""

    released = threading.Event()

    def write(self, data: bytes) -> None:
        if self._file.path.endswith("slow"):  # type: ignore[union-attr]
            self.released.wait(30)
        super().write(data)


class At:
    """A daemon with its kernel.

    stacks   the slow one and the fast one
    """

    def __init__(self, kernel: Nflog, live: Live, daemon: Daemon) -> None:
        self.kernel, self.live, self.daemon = kernel, live, daemon

    @property
    def stacks(self) -> tuple[Stack, Stack]:
        slow, fast = self.daemon.stacks
        return slow, fast

    def until(self, holds: Callable[[], bool]) -> None:
        """Let the daemon work until something holds."""
        deadline = time.monotonic() + 20
        while not holds() and time.monotonic() < deadline:
            self.live.turn(0.02)
        assert holds()

    def stop(self, within_s: float = 20) -> list[Stack]:
        hung = self.live.stop(within_s, lambda: False)
        self.daemon.stop(hung)
        return hung


@contextmanager
def at_work(folder: Path, file: type[File], queue_size: int = 1 << 17) -> Iterator[At]:
    with Nflog() as kernel:

        def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
            values = resolve(nflog.NAME, nflog.OPTIONS, options)
            return [nflog.Nflog(nflog.groups_of(address.partition(":")[2]), values, kernel.system)]

        live = Live(queue_size, connect)
        own = DaemonLog(print, None, verbose=False)
        live.log = own.write
        surroundings = Surroundings(log=own.write, open_file=file)
        daemon = Daemon(Conffile(CONF.format(folder).encode()), surroundings, own, live.open)
        try:
            daemon.start()
            live.begin(daemon)
            live.start(daemon)
            yield At(kernel, live, daemon)
        finally:
            live.close()


def test_a_slow_output_loses_its_own_records_alone_and_they_are_counted(tmp_path: Path) -> None:
    Held.released.clear()
    with at_work(tmp_path, Held) as at:
        slow, fast = at.stacks
        count = 0
        while at.live.threads[0].queue.dropped < 50_000:
            for _ in range(50):
                at.kernel.log(packet(payload=bytes(600)))
            count += 50
            at.until(partial(has, fast, count))
        Held.released.set()
        at.until(lambda: not at.live.threads[0].queue.waiting)
        at.kernel.log(packet())
        at.until(lambda: fast.records == count + 1)
        assert at.stop() == []
        assert (fast.records, fast.missed, fast.lost) == (count + 1, 0, 0)
        assert slow.missed > 0 and slow.records + slow.missed == count + 1
        assert (tmp_path / "fast").read_bytes().count(b"\n") == count + 1
        assert (tmp_path / "slow").read_bytes().count(b"\n") == slow.records
    own = (tmp_path / "own").read_text()
    assert "the queue of the stack was full" in own
    assert f"{slow.missed} records were lost before they were read" in own


def test_an_output_that_never_goes_on_does_not_keep_the_daemon_from_its_end(tmp_path: Path) -> None:
    Held.released.clear()
    try:
        with at_work(tmp_path, Held) as at:
            slow, fast = at.stacks
            at.kernel.log(packet())
            at.until(lambda: fast.records == 1)
            assert at.stop(0.3) == [slow]
            assert at.daemon.failed
            assert (tmp_path / "fast").read_bytes().count(b"\n") == 1
        assert "its output takes no more records" in (tmp_path / "own").read_text()
    finally:
        Held.released.set()


def test_files_are_opened_again_and_what_ends_a_thread_ends_the_daemon(tmp_path: Path) -> None:
    with at_work(tmp_path, File) as at:
        slow, fast = at.stacks
        at.kernel.log(packet())
        at.until(lambda: slow.records == fast.records == 1)
        for name in ("slow", "fast"):
            (tmp_path / name).rename(tmp_path / f"{name}.1")
        at.live.reopen()
        at.until(lambda: (tmp_path / "slow").exists() and (tmp_path / "fast").exists())
        at.kernel.log(packet())
        at.until(lambda: slow.records == fast.records == 2)
        slow.steps[:] = [_closed]
        at.kernel.log(packet())
        at.until(lambda: at.live.failure is not None and fast.records == 3)
        assert isinstance(at.live.failure, BrokenPipeError)
        at.stop()
    counts = [(tmp_path / name).read_bytes().count(b"\n") for name in ("slow.1", "fast.1", "fast")]
    assert counts == [1, 1, 2]


def _closed(values: object, view: object) -> None:
    raise BrokenPipeError


def test_sequence_numbers_show_only_where_they_are_asked_for(tmp_path: Path) -> None:
    with at_work(tmp_path, File) as at:
        source = at.daemon.routes["in"].source
        assert source.hidden == {"oob.seq.local"}
        at.kernel.log(packet())
        at.until(lambda: at.stacks[1].records == 1)
        at.stop()
    assert b"oob.seq.local" not in (tmp_path / "fast").read_bytes()
