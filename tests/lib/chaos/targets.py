"""The outputs that a scenario has, each with the stack that writes to it and what reads it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import databases

from chaos.receivers import Brokers, Receiver
from chaos.seen import Figures, Seen, compared
from pylog.record import rfc3339
from pylog.transports.packing import unpacked

ONCE, LEAST = "exactly once", "at least once"


class Target(NamedTuple):
    """An output.

    stack    its table in the configuration, without `from`
    promise  what pylog promises
    read     reads it back
    """

    name: str
    stack: str
    promise: str
    read: Callable[[], Seen]

    def check(self, true: Seen) -> Figures:
        return compared(self.name, self.promise, self.read(), true)


def stack(name: str, target: object, *more: str) -> str:
    return "\n".join([f'name = "{name}"', f'target = "{target}"', *more])


def file(folder: Path, name: str = "file", *more: str) -> Target:
    """A file of JSON lines, which grows."""
    path = folder / f"{name}.jsonl"
    return Target(name, stack(name, path, *more), LEAST, lambda: Seen().files(_there([path])))


def packed(folder: Path, name: str = "gz") -> Target:
    """Compressed files of JSON lines, which follow each other."""
    path = folder / f"{name}.jsonl.gz"

    def read() -> Seen:
        seen = Seen()
        for each in sorted(folder.glob(f"{name}-*.jsonl.gz")):
            with unpacked(str(each)) as lines:
                seen.lines(lines)
        return seen

    return Target(name, stack(name, path, 'rotate_size = "300k"'), LEAST, read)


def parts(folder: Path, name: str = "parts") -> Target:
    """A data set of JSON lines."""
    made = stack(name, folder / name, 'to = "json"', 'partition = "hour"', "rotate_time = 0.7")
    return Target(name, made, ONCE,
                  lambda: Seen().files((folder / name).rglob("[!.]*.jsonl")))  # fmt: skip


def packed_parts(folder: Path, name: str = "packed") -> Target:
    """A data set of compressed JSON lines."""
    made = stack(name, folder / name, 'to = "json.zst"', 'partition = "hour"', "rotate_time = 0.7")

    def read() -> Seen:
        seen = Seen()
        for path in (folder / name).rglob("[!.]*.jsonl.zst"):
            with unpacked(str(path)) as lines:
                seen.lines(lines)
        return seen

    return Target(name, made, ONCE, read)


def parquet(folder: Path, name: str = "parquet") -> Target:
    """A data set of Parquet, which has packets and no losses."""

    def read() -> Seen:
        import pyarrow.parquet as pq

        seen = Seen()
        for path in (folder / name).rglob("[!.]*.parquet"):
            table = pq.read_table(path, columns=["observed", "seq"], partitioning=None)
            times = table.column("observed").cast("int64").to_pylist()
            seen.packets.update(zip(map(rfc3339, times), table.column("seq").to_pylist(),
                                    strict=True))  # fmt: skip
        return seen

    made = stack(name, folder / name, 'to = "parquet"', 'partition = "day"', 'rotate_time = "2s"',
                 'where = "kind == packet"')  # fmt: skip
    return Target(name, made, ONCE, read)


def database(lab: databases.Lab) -> Target:
    """A database."""
    exact = lab.name != "sqlite"

    def read() -> Seen:
        seen = Seen()
        column = "observed_ns" if exact else "observed"
        _, rows = lab.query(f"SELECT {column}, seq FROM {lab.quoted('packet')}")
        seen.packets.update((rfc3339(int(t)) if exact else t, int(seq)) for t, seq in rows)
        _, rows = lab.query(f"SELECT reason, count FROM {lab.quoted('loss')}")
        for reason, count in rows:
            seen.losses[reason, None if count is None else int(count)] += 1
        return seen

    made = stack(lab.name, lab.address, f'to = "{lab.name}"',
                 *(["nanoseconds = true"] if exact else []))  # fmt: skip
    return Target(lab.name, made, ONCE, read)


def lines(receiver: Receiver, name: str = "tcp", *more: str) -> Target:
    """JSON lines over TCP or TLS."""
    scheme = "tls" if more else "tcp"
    made = stack(name, f"{scheme}://127.0.0.1:{receiver.port}", 'to = "tcp"', *more)
    return Target(name, made, LEAST, lambda: receiver.seen)


def syslog(receiver: Receiver, name: str = "syslog", *more: str) -> Target:
    """Messages of syslog over TCP or TLS."""
    scheme = "tls" if more else "tcp"
    made = stack(name, f"{scheme}://127.0.0.1:{receiver.port}", 'to = "syslog"',
                 'format = "json"', *more)  # fmt: skip
    return Target(name, made, LEAST, lambda: receiver.seen)


def kafka(brokers: Brokers, name: str = "kafka") -> Target:
    """A topic of Kafka."""
    made = stack(name, f"kafka://{brokers.address}/{brokers.topic}", 'to = "kafka"')
    return Target(name, made, LEAST, brokers.stop)


def without_losses(true: Seen) -> Seen:
    """The packets alone."""
    return Seen(true.packets)


def check_all(targets: Sequence[Target], true: Seen) -> list[Figures]:
    """Check all targets."""
    return [t.check(without_losses(true) if "kind == packet" in t.stack else true)
            for t in targets]  # fmt: skip


def _there(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]
