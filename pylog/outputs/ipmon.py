"""The text of ipmon(8), as the ipmon prints it that came with the IPFilter which wrote the records.

Records of Linux are printed as IPFilter would have logged them (formats.ipl_encode), in the newest
form. Damaged bytes, of which ipmon says nothing, are told to the logger "pylog".
"""

from __future__ import annotations

from datetime import UTC, tzinfo

from pylog import outputs
from pylog.batch import Batch
from pylog.ipmon.printer import Printer
from pylog.ipmon.release import release_named
from pylog.notes import notes
from pylog.options import Option

NAME = "ipmon"
ENDINGS = (".ipmon",)
RAW = True
OPTIONS = (
    Option("tz", str, "UTC", "time zone of the times, as Europe/Oslo, or local"),
    Option("ipmon_version", str, None, "print as that release of ipmon, as 4.1.20; other outputs"
           " take from it the names of 4.1's TCP states", absent="the one of each record's layout"),
)  # fmt: skip


def check(*, tz: str, ipmon_version: str | None) -> None:
    """ValueError for a zone or release that does not exist."""
    zone_of(tz)
    if ipmon_version:
        release_named(ipmon_version)


class Output(outputs.Output):
    """Writes records that were read with raw=True as ipmon's lines."""

    def __init__(
        self, target: outputs.Target, *, tz: str = "UTC", ipmon_version: str | None = None
    ) -> None:
        self._stream = target.stream
        self._printer = Printer(
            release=release_named(ipmon_version) if ipmon_version else None,
            zone=zone_of(tz),
            safe=target.is_terminal,
        )

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            entry = self._printer.entry(record)
            if entry is not None:
                self._stream.write(entry.text())

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for line in self._printer.report():
            notes.warning("%s", line)


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name, None for the machine's ("local"); ValueError where there is none."""
    if name == "local":
        return None
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {name!r} here (local, UTC, Europe/Oslo...)") from error
