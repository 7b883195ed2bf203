"""Writes the text of ipmon(8): each record as the ipmon of the release that logged it prints it.

Records of Linux are printed as IPFilter would have logged them (formats.ipl_encode), in the newest
form. Damaged bytes, which ipmon does not report, are noted to the logger "pylog".
"""

from __future__ import annotations

from pylog import outputs
from pylog.batch import Batch
from pylog.ipmon.printer import Printer
from pylog.ipmon.release import release_named
from pylog.notes import notes
from pylog.options import Option
from pylog.outputs._lines import Lines
from pylog.record import Record
from pylog.zones import TZ, zone_of

NAME = "ipmon"
ENDINGS = (".ipmon",)
RAW = True
OPTIONS = (
    TZ,
    Option("ipmon_version", str, None, "print as that release of ipmon, as 4.1.20; other outputs"
           " take from it the names of 4.1's TCP states", absent="the one of each record's layout"),
)  # fmt: skip


def check(*, tz: str, ipmon_version: str | None) -> None:
    """ValueError for a zone or release that does not exist."""
    zone_of(tz)
    if ipmon_version:
        release_named(ipmon_version)


def lines(*, tz: str = "UTC", ipmon_version: str | None = None) -> Lines:
    """The lines of records, which must be read with raw=True; all control characters escaped."""
    printer = _printer(tz, ipmon_version, safe=True)

    def line(record: Record) -> str:
        entry = printer.entry(record)
        return "" if entry is None else f"{entry.missed}\n{entry.line}".lstrip("\n")

    return Lines(line, printer.report)


def _printer(tz: str, ipmon_version: str | None, safe: bool) -> Printer:
    release = release_named(ipmon_version) if ipmon_version else None
    return Printer(release=release, zone=zone_of(tz), safe=safe)


class Output(outputs.Output):
    """Writes records as ipmon's lines; they must be read with raw=True."""

    def __init__(
        self, target: outputs.Target, *, tz: str = "UTC", ipmon_version: str | None = None
    ) -> None:
        self._stream = target.stream
        self._printer = _printer(tz, ipmon_version, target.is_terminal)

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
