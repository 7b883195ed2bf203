"""PRINTFLOW: the line of a flow, as ulogd prints it, ICMP type and code swapped.

Source: util/printflow.c, measured.
"""

from __future__ import annotations

from typing import Any

from pylog.ulogd.plugins import PLUGINS
from pylog.ulogd.worker import Filter, Values, View

NAMES = tuple(name.rstrip("?") for name in PLUGINS["PRINTFLOW"].needs)
EVENTS = {1: b"[NEW] ", 2: b"[UPDATE] ", 4: b"[DESTROY] "}
PROTOCOLS = {6: b"TCP", 17: b"UDP", 1: b"ICMP", 50: b"ESP", 51: b"AH"}


def line(f: dict[str, Any]) -> bytes:
    """The line of a flow, with its newline.

    f   the values of the keys in NAMES
    """
    event = f["ct.event"]
    text = EVENTS.get(event, b"") if isinstance(event, int) else b""
    return text + b"ORIG: %s, REPLY: %s\n" % (_end(f, "orig"), _end(f, "reply"))


def _end(f: dict[str, Any], end: str) -> bytes:
    text = b""
    for word, key in ((b"SRC", "ip.saddr.str"), (b"DST", "ip.daddr.str")):
        if f[f"{end}.{key}"] is not None:
            text += b"%s=%s " % (word, f[f"{end}.{key}"])
    protocol = f[f"{end}.ip.protocol"]
    if protocol is not None:
        name = PROTOCOLS.get(protocol)
        text += b"PROTO=%s " % name if name else b"PROTO=%d " % protocol
        if protocol in (6, 17):
            text += b"SPT=%d DPT=%d " % (f[f"{end}.l4.sport"] or 0, f[f"{end}.l4.dport"] or 0)
        elif protocol == 1:
            text += b"TYPE=%d CODE=%d " % (f["icmp.code"] or 0, f["icmp.type"] or 0)
    packets, octets = f[f"{end}.raw.pktcount"], f[f"{end}.raw.pktlen"]
    return text + b"PKTS=%d BYTES=%d " % (packets or 0, octets or 0)


class Printflow(Filter):
    """The filter PRINTFLOW."""

    def interpret(self, values: Values, view: View) -> None:
        fields = dict(zip(NAMES, self.instance.cells(values), strict=True))
        values[self.instance.first] = line(fields)
