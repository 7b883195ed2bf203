"""Firewall packet logs of BSD IPFilter and Linux NFLOG as one kind of record, on any machine.

    import pylog

    with pylog.open("ipl.dump") as reader:
        for record in reader:
            if record.kind == "packet":
                print(record.timestamp, record.action, record.saddr, record.daddr)
            elif record.kind == "loss":
                print(record.describe())

dir(pylog) is the public API. The modules below pylog that are public are imported by their own
names: pylog.outputs, pylog.table, pylog.testing and others, see the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

from pylog import backends
from pylog.arrow import iter_batches, read_table
from pylog.backends.base import Backend
from pylog.errors import BackendError, BackendUnavailable, DecodeError
from pylog.merge import WINDOW_S, Merged
from pylog.open_log import OnError
from pylog.origins import Origin, origin_of, origins_of
from pylog.reader import Reader
from pylog.record import (
    CounterRecord,
    FlowRecord,
    Fragment,
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    Vlan,
    json_lines,
    rfc3339,
    to_json,
)
from pylog.replay import Replay
from pylog.source_options import SourceOptions

__version__: str

if not TYPE_CHECKING:  # type checkers would take any name for one that this gives

    def __getattr__(name: str) -> Any:
        """`__version__`, whose import takes longer than that of pylog."""
        if name != "__version__":
            raise AttributeError(f"module 'pylog' has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("pylog-ipl")
        except PackageNotFoundError:  # run from a checkout that is not installed
            return "0+checkout"


def __dir__() -> list[str]:
    """The public API, without the modules and names that it is made of."""
    return sorted([*__all__, "__version__"])


def open(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    layout: str | None = None,
    on_error: OnError = "resync",
    raw: bool = False,
    origin: bool | str = False,
    **options: Unpack[SourceOptions],
) -> Reader:
    """A Reader of one log: NAME:ADDRESS, a path, "-" (standard input), or a binary file object.

    Live sources are "nflog:GROUP[,GROUP...]", "nftables:[+trace][+nflog:GROUP]" and "nfct:"
    (Linux), and "ipl:DEVICE" (BSD, Solaris, illumos; "ipl:" is the system's default device);
    "./nflog:5" is a file of that name. A file may hold raw IPFilter records, netlink messages of
    NFLOG, nftables and conntrack, pcap or pcapng, or lines of a text log, each also compressed
    with gzip, xz, bzip2 or zstd; its format is detected from its first bytes.

    layout     "ipl-5.1.2-lp64le" and the like, in place of detection
    on_error   "resync": damage becomes a LossRecord and reading goes on; "strict": DecodeError
    raw        keep the bytes of each message in `record.raw`
    origin     True: set `record.origin` to the source, and `record.host` to the machine that logged
               the record; a text: use that label in place of the source
    options    of the source, such as netns="fw" or qthresh=1; see pylog.SourceOptions

    Raises BackendError when the source cannot be opened or read, DecodeError when it is no log or
    its layout cannot be determined, ValueError for a layout, address or option that is not valid.
    """
    where = origin_of(source, origin)
    logs = backends.connect(source, options)
    if len(logs) > 1:
        for backend in logs:
            backend.close()
        raise ValueError(f"{source} names {len(logs)} logs: pylog.merge reads them as one")
    return _readers(logs, layout, on_error, raw, where)[0]


def merge(
    *sources: str | os.PathLike[str] | BinaryIO,
    window_s: float = WINDOW_S,
    layout: str | None = None,
    on_error: OnError = "resync",
    raw: bool = False,
    origin: bool | None = None,
    labels: Mapping[str, str] | None = None,
    **options: Unpack[SourceOptions],
) -> Merged:
    """A reader of several sources, whose records come in the order of time.

    window_s   how many seconds a record may be held back for an older one of another source
    origin     whether to set the source and the machine in each record, as for `open`; None: if
               there are several sources, or labels
    labels     the label to use in place of a source, by the source as it is given

    Everything else is as for `open`; each option goes to the sources that have it.
    """
    readers: list[Reader] = []
    try:
        shared = backends.shared(sources, options)
        for source, own, where in zip(
            sources, shared, origins_of(sources, origin, labels), strict=True
        ):
            logs = backends.connect(source, own)
            # of several sources, those with a fixed layout keep it
            named = layout if len(sources) == 1 or all(b.layout is None for b in logs) else None
            readers += _readers(logs, named, on_error, raw, where)
        return Merged(readers, window_s)
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def replay(
    path: str | os.PathLike[str],
    *,
    speed: float | None = 1.0,
    max_gap: float | None = Replay.MAX_GAP_S,
    loop: bool = False,
    layout: str | None = None,
    on_error: OnError = "resync",
    raw: bool = False,
    log_tz: str | None = None,
    year: int | None = None,
) -> Replay:
    """A Reader that gives a recording's records as if they were live, at the recording's pace.

    speed     how many times faster than the recording; None: without waiting
    max_gap   how many seconds to wait for a record at most, however long the recording paused or
              its clock was set forward; 0: none, None: without a limit
    loop      begin again at the end, without end

    Everything else is as for `open`.
    """
    return Replay(
        path, speed=speed, max_gap=max_gap, loop=loop, layout=layout, on_error=on_error, raw=raw,
        log_tz=log_tz, year=year,
    )  # fmt: skip


def _readers(
    logs: list[Backend],
    layout: str | None,
    on_error: OnError,
    raw: bool,
    origin: Origin,
) -> list[Reader]:
    """A reader of each backend; all backends are closed when one cannot be read."""
    try:
        return [Reader(b, layout=layout, on_error=on_error, raw=raw, origin=origin) for b in logs]
    except BaseException:
        for backend in logs:
            backend.close()
        raise


__all__ = [
    "BackendError",
    "BackendUnavailable",
    "CounterRecord",
    "DecodeError",
    "FlowRecord",
    "Fragment",
    "LossRecord",
    "Merged",
    "PacketRecord",
    "Reader",
    "Record",
    "Replay",
    "RulesetRecord",
    "SourceOptions",
    "TraceRecord",
    "Vlan",
    "iter_batches",
    "json_lines",
    "merge",
    "open",
    "read_table",
    "replay",
    "rfc3339",
    "to_json",
]
