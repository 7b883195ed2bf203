"""The output PCAP: a capture of IP packets without link headers (linktype 101).

thiszone is the local zone's seconds west of UTC, as ulogd writes it, although the times are UTC.
Source: output/pcap/ulogd_output_PCAP.c, measured.
"""

from __future__ import annotations

import struct
import time

from pylog.ulogd.text import FileSink
from pylog.ulogd.worker import Values, View

_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")
MAGIC, SNAPLEN, LINKTYPE_RAW = 0xA1B2C3D4, 65536, 101


class Pcap(FileSink):
    """The output PCAP."""

    def start(self) -> None:
        super().start()
        self._begin()

    def reopen(self) -> None:
        super().reopen()
        self._begin()

    def _begin(self) -> None:
        """Write the header of a file that has none."""
        if self.file.is_empty:
            self.file.write(_HEADER.pack(MAGIC, 2, 4, time.timezone, 0, SNAPLEN, LINKTYPE_RAW))
            self.file.flush()

    def write(self, values: Values, view: View) -> None:
        data, _, total, second, micro, family, payload = self.instance.cells(values)
        data = data if isinstance(data, bytes) else b""
        size: int = len(data)
        if family == 2:
            size = total if isinstance(total, int) else 0
        elif family == 10:
            size = (payload if isinstance(payload, int) else 0) + 40
        if not isinstance(second, int) or not isinstance(micro, int):
            second, micro = divmod(self.surroundings.clock_us(), 1_000_000)
        self.file.write(_RECORD.pack(second & 0xFFFFFFFF, micro, len(data), size) + data)
