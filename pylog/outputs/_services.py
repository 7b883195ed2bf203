"""Names of services beside port numbers: 443/https.

They come from the database of this system (getservbyport: /etc/services), which is asked once for
each port. A port that it has no name for stays a number.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from pylog.memo import Memo
from pylog.record import Flow, Packet

_DATABASES = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_PORTS = ("sport", "dport", "nat_sport", "nat_dport")


def _named(key: tuple[int, int]) -> str:
    """The text of a port of a protocol."""
    port, protocol = key
    try:
        return f"{port}/{socket.getservbyport(port, _DATABASES[protocol])}"
    except (KeyError, OSError, OverflowError):
        return str(port)


_texts = Memo(_named)


def with_services(record: Any) -> Any:
    """A record or row whose ports are text, with the names of their services."""
    if not isinstance(record, Packet | Flow) or record.protocol is None:
        return record
    changes: dict[str, Any] = _texts_of(record.protocol, record, getattr)
    inner = (record.extra or {}).get("inner")
    if inner and inner.get("protocol") is not None:  # the packet that an ICMP error quotes
        named = _texts_of(inner["protocol"], inner, dict.get)
        changes["extra"] = {**(record.extra or {}), "inner": {**inner, **named}}
    return msgspec.structs.replace(record, **changes) if changes else record


def _texts_of(protocol: int, holder: Any, get: Any) -> dict[str, str]:
    """The texts of the ports that a record, or a quoted packet, has."""
    ports = {name: get(holder, name, None) for name in _PORTS}
    return {name: _texts[port, protocol] for name, port in ports.items() if port is not None}
