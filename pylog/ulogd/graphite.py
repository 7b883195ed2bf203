"""The output GRAPHITE: the counters of NFACCT to Carbon, as lines over TCP.

Names go out raw, spaces included, as with ulogd with --compat=exact; otherwise white space and
control bytes become `_`, since Carbon would read another line. Source:
output/ulogd_output_GRAPHITE.c, measured.
"""

from __future__ import annotations

import os
import re

from pylog.transports.sender import Sender
from pylog.transports.sockets import Place
from pylog.ulogd.worker import Sink, Values, View

_BREAKS = re.compile(rb"[\x00-\x20\x7f]")


class Graphite(Sink):
    """The output GRAPHITE."""

    _sender: Sender

    def start(self) -> None:
        host, port = self.options["host"], self.options["port"]
        name = f"[{host}]" if ":" in host else host
        place = Place(f"tcp:{name}:{port}", "Carbon", 2003)
        live = not self.surroundings.replayed
        self._sender = Sender(place, f"Carbon at {place.name}", lambda text: b"", live)
        self._prefix = os.fsencode(self.options["prefix"])

    def write(self, values: Values, view: View) -> None:
        name, packets, octets, second = (
            None if at is None else values[at] for at in self.instance.inputs
        )
        assert isinstance(name, bytes)
        assert isinstance(packets, int) and isinstance(octets, int)
        second = second if isinstance(second, int) else self.surroundings.clock_us() // 1_000_000
        if not self.surroundings.exact:
            name = _BREAKS.sub(b"_", name)
        self._sender.put(b"%s.%s.pkts %d %d\n%s.%s.bytes %d %d\n" % (
            self._prefix, name, packets, second, self._prefix, name, octets, second,
        ))  # fmt: skip

    def stop(self) -> None:
        self._sender.close()

    @property
    def lost(self) -> int:
        return self._sender.dropped
