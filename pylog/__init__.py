"""Firewall packet logs of BSD IPFilter and Linux NFLOG as one kind of record, on any machine.

import pylog

with pylog.open("ipl.dump") as reader:
    for record in reader:
        print(record.timestamp_ns, record.action, record.saddr, record.daddr)
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO

from pylog.backends.capture import Capture
from pylog.errors import BackendError, BackendUnavailable, DecodeError
from pylog.reader import OnError, Reader
from pylog.record import (
    FlowRecord,
    Fragment,
    LossRecord,
    PacketRecord,
    Record,
    Vlan,
    json_lines,
    rfc3339,
    to_json,
)

try:
    __version__ = version("pylog-ipl")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+checkout"


def open(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    layout: str | None = None,
    on_error: OnError = "resync",
    raw: bool = False,
) -> Reader:
    """A Reader of a log: a path, "-" for standard input, or a binary file object.

    The source may be raw IPFilter records, netlink messages of NFLOG, pcap or pcapng, each also
    compressed with gzip, xz or zstd; what it is is found out from its first bytes.

    layout     "ipl-5.1.2-lp64le" and the like, in place of detection
    on_error   "resync": damage becomes a LossRecord and reading goes on; "strict": DecodeError
    raw        keep the bytes of each message in `record.raw`

    Raises BackendError when the source cannot be opened or read, DecodeError when it is no log or
    its layout cannot be told, ValueError for a layout or option that does not exist.
    """
    backend = Capture(source)
    try:
        return Reader(backend, layout=layout, on_error=on_error, raw=raw)
    except BaseException:
        backend.close()
        raise


__all__ = [
    "BackendError",
    "BackendUnavailable",
    "DecodeError",
    "FlowRecord",
    "Fragment",
    "LossRecord",
    "PacketRecord",
    "Reader",
    "Record",
    "Vlan",
    "json_lines",
    "open",
    "rfc3339",
    "to_json",
]
