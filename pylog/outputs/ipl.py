"""IPFilter's binary log, in any layout: what /dev/ipl gives and ipmon reads.

Records of that very layout keep their bytes, others are made anew; what the layout cannot hold is
told at the end. How a Linux packet is logged is said in formats.ipl_encode.
"""

from __future__ import annotations

import logging
from typing import BinaryIO

from pylog.formats.ipl_encode import BODY, GROUPS, TAGS, Encoder
from pylog.options import Option
from pylog.record import Record

RAW = BINARY = True
LAYOUT = "ipl-5.1.2-lp64le"
OPTIONS = (
    Option("layout", str, LAYOUT, "the layout to write", flag="--layout"),
    Option("actions", dict, None, "what a prefix of NFLOG means, the first that fits: PATTERN=pass,"
           " =block or =log, as 'drop*=block'", flag="--action", absent="log for all"),
    Option("group", GROUPS, "prefix", "what of NFLOG becomes fl_group", flag="--fl-group"),
    Option("tag", TAGS, "mark", "what of NFLOG becomes fl_logtag", flag="--fl-logtag"),
    Option("body", int, BODY, "bytes of an NFLOG packet to keep after its headers", 0, 65535),
    Option("af_inet6", int, None, "AF_INET6 of the system that is to read it", 1, 255,
           absent="28, and 24 for layouts without fl_unit"),
)  # fmt: skip

_log = logging.getLogger("pylog")


class Output:
    """Writes records that were read with raw=True as records of one layout."""

    def __init__(
        self,
        stream: BinaryIO,
        colour: bool = False,
        *,
        layout: str = LAYOUT,
        actions: dict[str, str] | None = None,
        group: str = "prefix",
        tag: str = "mark",
        body: int = BODY,
        af_inet6: int | None = None,
    ) -> None:
        self._stream = stream
        self._encoder = Encoder(
            layout, actions=actions, group=group, tag=tag, body=body, af_inet6=af_inet6
        )

    def write(self, record: Record) -> None:
        self._stream.write(self._encoder.encode(record))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for line in self._encoder.report():
            _log.warning("%s", line)
