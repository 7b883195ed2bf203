"""The fields on request, made from the headers in the payload: ttl, tos, TCP options and so on.

Records do not have these fields; `requested` makes them when a filter or an output asks for them.
It reads the packet's own IPv4 or IPv6 header and the TCP or UDP header behind it, never those of a
packet that an ICMP error quotes. Of a header that is cut, the fields that are there are given. TCP
options are written as tcpdump writes them.

Sources: RFC 9293, 7323, 2018, 2385, 7413, IANA "TCP Option Kind Numbers".
"""

from __future__ import annotations

from collections.abc import Callable

from pylog.formats import ip_numbers
from pylog.formats.packet import ipv6_chain
from pylog.formats.packet_schemas import IPV4, IPV6, TCP, UDP
from pylog.formats.plan import Plan
from pylog.record import PacketHeaders, PacketRecord

_ipv4, _ipv6, _tcp, _udp = Plan(IPV4), Plan(IPV6), Plan(TCP), Plan(UDP)
_NONE = PacketHeaders()


def requested(payload: bytes | None, family: str | int | None) -> PacketHeaders:
    """The fields on request of a packet, by the payload and family of its record."""
    if payload and family == "ipv4":
        return _of_ipv4(payload, len(payload))
    if payload and family == "ipv6":
        return _of_ipv6(payload, len(payload))
    return _NONE


def of_record(record: PacketRecord) -> PacketHeaders:
    """The fields on request of a packet: by its payload, or what the line of a text log says of
    them, which is in `extra` under their names.
    """
    if record.payload or not record.extra:
        return requested(record.payload, record.family)
    extra = record.extra
    return PacketHeaders(**{name: extra[name] for name in _FIELDS if name in extra})


_FIELDS = PacketHeaders.__struct_fields__


def echo_id(payload: bytes | None, family: str | int | None) -> int | None:
    """The identifier of an ICMP or ICMPv6 message with a query, by the payload and family of its
    record; what other ICMP messages have at its place is given as well. None: it is cut off.
    """
    at = 0
    if payload and family == "ipv4":
        at = (payload[0] & 15) * 4
    elif payload and family == "ipv6" and len(payload) > 40:
        at = ipv6_chain(payload, 40, len(payload), payload[6])[1]
    if not payload or not at or at + 6 > len(payload):
        return None
    return int.from_bytes(payload[at + 4 : at + 6])


def _of_ipv4(data: bytes, end: int) -> PacketHeaders:
    version, tos, _, ident, bits, ttl, protocol, *_ = _ipv4.cut(data, 0, end)
    if not 0x45 <= version <= 0x4F:
        return _NONE
    upper = None if bits is None or bits & 0x1FFF else protocol  # a later fragment has no header
    seq, ack, window, options, length = _upper(data, (version & 15) * 4, end, upper)
    return PacketHeaders(ttl, tos, ident, None, seq, ack, window, options, length)


def _of_ipv6(data: bytes, end: int) -> PacketHeaders:
    first, _, protocol, ttl, *_ = _ipv6.cut(data, 0, end)
    if first is None or first >> 28 != 6:
        return _NONE
    upper, at = None, 40
    if end > 40:
        upper, at, bits, _, cut = ipv6_chain(data, at, end, protocol)
        if cut or (bits is not None and bits & 0xFFF8):
            upper = None
    seq, ack, window, options, length = _upper(data, at, end, upper)
    tos, label = first >> 20 & 0xFF, first & 0xFFFFF
    return PacketHeaders(ttl, tos, None, label, seq, ack, window, options, length)


def _upper(
    data: bytes, at: int, end: int, protocol: int | None
) -> tuple[int | None, int | None, int | None, str | None, int | None]:
    """tcp_seq, tcp_ack, tcp_window, tcp_options and udp_length of the header at `at`."""
    if at < end and protocol == ip_numbers.TCP:
        _, _, seq, ack, offset, _, window, *_ = _tcp.cut(data, at, end)
        after = at if offset is None else at + (offset >> 4) * 4
        return seq, ack, window, tcp_options(data[at + _tcp.size : min(after, end)]) or None, None
    if at < end and protocol == ip_numbers.UDP:
        return None, None, None, None, _udp.cut(data, at, end)[2]
    return None, None, None, None, None


def tcp_options(data: bytes) -> str:
    """TCP options as text: "mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7".

    The text ends before an option that is cut or has an impossible length, and after "eol".
    """
    words: list[str] = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind in _SINGLE:
            words.append(_SINGLE[kind])
            at += 1
            if kind == _EOL:
                break
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            break
        words.append(_option(kind, data[at + 2 : at + size]))
        at += size
    return ",".join(words)


def _option(kind: int, value: bytes) -> str:
    """The text of an option that has a length."""
    name, size, show = _OPTIONS.get(kind, (f"unknown-{kind}", None, _hex))
    if size is not None and len(value) != size:
        name, show = f"{name}-bad", _hex
    return f"{name} {text}" if (text := show(value)) else name


def _hex(value: bytes) -> str:
    return f"0x{value.hex()}" if value else ""


def _number(value: bytes) -> str:
    return str(int.from_bytes(value))


def _times(value: bytes) -> str:
    return f"val {_number(value[:4])} ecr {_number(value[4:])}"


def _blocks(value: bytes) -> str:
    """The blocks of a SACK option: their number, and the left and right edge of each."""
    if not value or len(value) % 8:
        return _hex(value)
    edges = [_number(value[i : i + 4]) for i in range(0, len(value), 4)]
    pairs = [f"{{{left}:{right}}}" for left, right in zip(edges[::2], edges[1::2], strict=True)]
    return f"{len(pairs)} {''.join(pairs)}"


_EOL = 0
_SINGLE = {_EOL: "eol", 1: "nop"}
_OPTIONS: dict[int, tuple[str, int | None, Callable[[bytes], str]]] = {
    2: ("mss", 2, _number),
    3: ("wscale", 1, _number),
    4: ("sackOK", 0, _hex),
    5: ("sack", None, _blocks),
    8: ("TS", 8, _times),
    19: ("md5", 16, bytes.hex),
    34: ("tfo", None, _hex),
}
"""By option kind: its name, the size of its value (None: any), and what writes the value."""
