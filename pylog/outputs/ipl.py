"""Writes IPFilter's binary log, in any layout: what /dev/ipl gives and ipmon reads.

Records of the chosen layout keep their bytes, others are encoded anew. What the layout cannot hold
is reported at the end. See formats.ipl_encode for how a Linux packet is logged.

Each record is a separate write into a pipe, and the pipe is limited to what ipmon reads at a time:
ipmon loses a record that is cut by the end of its read.
"""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO

from pylog import outputs
from pylog.batch import Batch
from pylog.formats import ipl_layouts
from pylog.formats.ipl_encode import BODY, GROUPS, LAYOUT, TAGS, Encoder, ipfilter_log
from pylog.formats.ipl_layouts import Layout
from pylog.notes import notes
from pylog.options import Option
from pylog.record import LossRecord, Record

NAME = "ipl"
ENDINGS = (".ipl",)
RAW = BINARY = True
OPTIONS = (
    Option("layout", str, LAYOUT, "the layout to write, before 4.0 also with :nat or :state",
           flag="--layout"),
    Option("group", GROUPS, "prefix", "what of NFLOG becomes fl_group", flag="--fl-group"),
    Option("tag", TAGS, "mark", "what of NFLOG becomes fl_logtag", flag="--fl-logtag"),
    Option("body", int, BODY, "bytes of an NFLOG packet to keep after its headers", 0, 65535),
    Option("af_inet6", int, None, "AF_INET6 of the system that is to read it", 1, 255,
           absent="28, and 24 for layouts without fl_unit; what a record of that layout has"),
)  # fmt: skip


def check(*, layout: str, **settings: Any) -> None:
    """ValueError for a layout that no system wrote, and for `af_inet6` where the layout has no
    field for it.
    """
    _encoder(layout, settings)


def _encoder(layout: str, settings: dict[str, Any]) -> Encoder:
    name, _, log = layout.partition(":")
    chosen = _written(name)
    if log and log not in chosen.logs:
        raise ValueError(f"{name} has no log {log!r}; it has {', '.join(chosen.logs)}")
    if settings.get("af_inet6") is not None and "fl_family" not in chosen.plan("ipf").places:
        raise ValueError(
            f"{name} has no fl_family, which --af-inet6 is for: only 5.0.5 and later have it"
        )
    return Encoder(chosen, **settings)


class Output(outputs.Output):
    """Writes records in one layout; they must be read with raw=True."""

    def __init__(self, target: outputs.Target, *, layout: str = LAYOUT, **settings: Any) -> None:
        self._stream = target.stream
        self._log = layout.partition(":")[2] or None
        self._pipe = _is_pipe(self._stream)
        self._encoder = _encoder(layout, settings)
        if self._pipe:
            numbered = self._encoder.layout.version.iplog == "5.0.6"
            _limit(self._stream, 32768 if numbered else 8192)

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            self._write(record)

    def _write(self, record: Record) -> None:
        log = ipfilter_log(record)
        mixed = self._encoder.layout.version.magic_tells_log and self._log is None
        if isinstance(record, LossRecord):
            if record.count is None:
                notes.warning("%s", record.describe())
        elif not mixed:  # records do not say their log, so a file holds a single log
            self._log = self._log or log
            if log != self._log:
                self._encoder.refused[f"{log} records in a file of the {self._log} log"] += 1
                return
        data = self._encoder.encode(record)
        self._stream.write(data)
        if data and self._pipe:
            self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for line in self._encoder.report():
            notes.warning("%s", line)


def _written(name: str) -> Layout:
    """The layout of a name, if a system writes it: detection recognizes no others."""
    layout = ipl_layouts.named(name)
    structure = layout.version.structure
    abis = [other.abi for other in ipl_layouts.layouts() if other.version.structure == structure]
    if layout.abi not in abis:
        names = [Layout(layout.version, abi).name for abi in abis if abi.base == layout.abi.base]
        raise ValueError(f"no system writes {name}; there are {', '.join(dict.fromkeys(names))}")
    return layout


def _is_pipe(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def _limit(stream: BinaryIO, size: int) -> None:
    """Limit a pipe to `size` bytes, where the system can do that."""
    try:
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, size)
    except (ImportError, AttributeError, OSError):
        notes.info("the pipe keeps its size")
