"""Makes lines of the kernel's LOG from packets of any source, which `textlog_kernel` reads back.

The words are those of nf_log_syslog.c, in its order. What a record does not say is left out, so a
line of a text log may lack words that the kernel always writes. LOG has no word for the verdict,
the rule and the group of a packet; what is not held is counted.

Source: dump_ipv4_packet, dump_ipv6_packet and dump_mac_header in nf_log_syslog.c.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pylog.formats.addresses import octets
from pylog.formats.ip_numbers import (
    AH,
    ESP,
    ICMP,
    ICMP6_ERRORS,
    ICMP_ERRORS,
    ICMPV6,
    TCP,
    UDP,
    UDPLITE,
)
from pylog.formats.packet_dissect import dissect
from pylog.formats.packet_headers import of_record
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6, IPV4
from pylog.formats.plan import Plan
from pylog.record import Fragment, PacketHeaders, PacketRecord

_NAMES = {TCP: "TCP", UDP: "UDP", UDPLITE: "UDPLITE", ICMP: "ICMP", ICMPV6: "ICMPv6", AH: "AH",
          ESP: "ESP"}  # fmt: skip
_FLAGS = (("C", "CWR"), ("E", "ECE"), ("U", "URG"), ("A", "ACK"), ("P", "PSH"), ("R", "RST"),
          ("S", "SYN"), ("F", "FIN"))  # fmt: skip
_NOT_HELD = ("action", "reason", "rule", "short", "hook", "seq")
_EXTRA_NOT_HELD = ("subrulenr", "ridentifier", "label", "rewritten")
_UPTIME = re.compile(r"\d+\.\d{6}$")
_BSD = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d$")
_PRINTABLE = re.compile(r"[^ -\[\]-~]")
_ipv4_bits = Plan(IPV4).reader(("flags_offset",))


class LineEncoder:
    """Makes lines.

    lost   what they could not hold, by field
    """

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()

    def line(self, record: PacketRecord, stamp: str | None) -> str:
        """The line of a packet, without its end.

        stamp   the time as RFC 3339 text with an offset; None: as the record has it written
        """
        return _envelope(record, stamp) + self.content(record)

    def content(self, record: PacketRecord) -> str:
        """The line of a packet without its time and host, as the kernel gives it to syslog."""
        for name in _NOT_HELD:
            if getattr(record, name) is not None:
                self.lost[name] += 1
        if record.group is not None and record.source != "nflog":
            self.lost["group"] += 1
        if record.count is not None and record.count > 1:
            self.lost["count"] += record.count - 1
        for name in _EXTRA_NOT_HELD:
            self.lost[name] += name in (record.extra or {})
        words = "".join(f"{word} " for word in self._words(record))
        return f"{_escaped(record.prefix or '')}{words}"

    def _words(self, record: PacketRecord) -> Iterator[str]:
        extra: dict[str, Any] = record.extra or {}
        yield f"IN={_device(record.indev)}"
        yield f"OUT={_device(record.outdev)}"
        if record.physindev is not None:
            yield f"PHYSIN={_device(record.physindev)}"
        if record.physoutdev is not None:
            yield f"PHYSOUT={_device(record.physoutdev)}"
        yield from self._link(record)
        if "tunnel" in extra:
            yield f"TUNNEL={extra['tunnel']}"
        if record.family == "arp":
            yield from _arp(record, extra)
        elif record.saddr is not None or record.daddr is not None:
            yield from _packet(record, extra)
        if record.uid is not None:
            yield f"UID={record.uid}"
            if record.gid is not None:
                yield f"GID={record.gid}"
        if record.mark:
            yield f"MARK={record.mark:#x}"

    def _link(self, record: PacketRecord) -> Iterator[str]:
        """The link header, as with MACDECODE if there is a VLAN tag."""
        header = record.hwheader or ""
        if record.indev is None or (not header and not record.vlan):
            return
        pairs = [header[at : at + 2] for at in range(0, len(header), 2)]
        if record.vlan and len(pairs) == 14:
            destination, source = ":".join(pairs[:6]), ":".join(pairs[6:12])
            yield f"MACSRC={source}"
            yield f"MACDST={destination}"
            tag = record.vlan[0]
            yield f"VPROTO={tag.protocol or 0x8100:04x}"
            yield f"VID={tag.id | tag.dei << 12 | tag.priority << 13}"
            yield f"MACPROTO={header[24:]}"
            self.lost["vlan"] += len(record.vlan) > 1
            return
        self.lost["vlan"] += bool(record.vlan)
        yield f"MAC={':'.join(pairs)}"


def _envelope(record: PacketRecord, stamp: str | None) -> str:
    """What stands before the prefix: as rsyslog, syslogd or dmesg writes it."""
    name = record.host
    host = f"{name} " if name is not None and name.isprintable() and " " not in name else ""
    if stamp is not None:
        return f"{stamp} {host}kernel: "
    written = record.timestamp_local or ""
    if _UPTIME.match(written):
        return f"[{written:>12}] "
    if _BSD.match(written):
        return f"{written} {host}kernel: "
    return ""


def _escaped(prefix: str) -> str:
    """A prefix in which bytes that are not printable ASCII are \\xHH, as in /dev/kmsg."""
    if not _PRINTABLE.search(prefix):
        return prefix
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte != 0x5C else f"\\x{byte:02x}"
        for byte in prefix.encode("utf-8", "surrogatepass")
    )


def _device(device: str | int | None) -> str:
    if device is None:
        return ""
    text = f"if{device}" if isinstance(device, int) else device
    return "".join(c if c.isprintable() and c != " " else "_" for c in text)


def _arp(record: PacketRecord, extra: dict[str, Any]) -> Iterator[str]:
    yield "ARP"
    yield "HTYPE=1"
    yield "PTYPE=0x0800"
    if "arp_oper" in extra:
        yield f"OPCODE={extra['arp_oper']}"
    if "arp_sha" in extra:
        yield f"MACSRC={extra['arp_sha']}"
    if record.saddr is not None:
        yield f"IPSRC={record.saddr}"
    if "arp_tha" in extra:
        yield f"MACDST={extra['arp_tha']}"
    if record.daddr is not None:
        yield f"IPDST={record.daddr}"
    if record.cut:
        yield "INCOMPLETE [0 bytes]"


def _packet(record: PacketRecord, extra: dict[str, Any]) -> Iterator[str]:
    """The words of an IP packet."""
    headers = of_record(record)
    four = record.family == "ipv4"
    yield from _network(
        four, record.saddr, record.daddr, record.length, headers, record.fragment,
        extra.get("ip_options"), record.payload,
    )  # fmt: skip
    if record.protocol is None:
        if record.cut:
            yield "TRUNCATED"
        return
    yield f"PROTO={_NAMES.get(record.protocol, record.protocol)}"
    if record.fragment is not None and record.fragment.offset:
        return
    more = _more(record, extra)
    yield from _transport(
        record.protocol, (record.sport, record.dport), record.tcp_flags,
        (record.icmp_type, record.icmp_code), headers, more,
    )  # fmt: skip
    inner = extra.get("inner")
    errors = ICMP_ERRORS if four else ICMP6_ERRORS
    if inner and record.icmp_type in errors and record.protocol in (ICMP, ICMPV6):
        yield "[" + " ".join([*_inner(inner), "]"])
        if "mtu" in more:
            yield f"MTU={more['mtu']}"
    if record.cut and record.cut not in ("ipv4 options",):
        yield "INCOMPLETE [0 bytes]"
    if "tcp_option_bytes" in extra:
        yield f"OPT ({extra['tcp_option_bytes'].upper()})"


def _network(
    four: bool, saddr: str | None, daddr: str | None, length: int | None,
    headers: PacketHeaders, fragment: Fragment | None, options: str | None,
    payload: bytes | None,
) -> Iterator[str]:  # fmt: skip
    """The words of an IPv4 or IPv6 header."""
    for name, address in (("SRC", saddr), ("DST", daddr)):
        if address is not None:
            yield f"{name}={address if four else _groups(address)}"
    if length is not None:
        yield f"LEN={length}"
    tos = headers.tos
    if not four:
        for name, value in (("TC", tos), ("HOPLIMIT", headers.ttl),
                            ("FLOWLBL", headers.flow_label)):  # fmt: skip
            if value is not None:
                yield f"{name}={value}"
        if fragment is not None:
            yield f"FRAG:{fragment.offset or 0}"
            if fragment.more:
                yield "INCOMPLETE"
            if fragment.id is not None:
                yield f"ID:{fragment.id:08x}"
        return
    if tos is not None:
        yield f"TOS={_hex(tos & 0x1F)}"
        yield f"PREC={_hex(tos & 0xE0)}"
    if headers.ttl is not None:
        yield f"TTL={headers.ttl}"
    ident = headers.ip_id if headers.ip_id is not None or fragment is None else fragment.id
    if ident is not None:
        yield f"ID={ident}"
    bits = _ipv4_bits(payload, 0)[0] if payload and len(payload) >= 20 else 0
    if bits & 0x4000 or (fragment is not None and fragment.dont):
        yield "DF"
    if fragment is not None:
        if fragment.more:
            yield "MF"
        if fragment.offset:
            yield f"FRAG:{fragment.offset // 8}"
    if options:
        yield f"OPT ({options.upper()})"


def _hex(value: int) -> str:
    return f"0x{value:02X}"


def _groups(address: str) -> str:
    """An IPv6 address in eight groups of four digits."""
    text = octets[address].hex()
    return ":".join(text[at : at + 4] for at in range(0, 32, 4))


def _transport(
    protocol: int, ports: tuple[int | None, int | None], flags: str | None,
    kind: tuple[int | None, int | None], headers: PacketHeaders, more: dict[str, int],
) -> Iterator[str]:  # fmt: skip
    """The words of TCP, UDP, ICMP, AH and ESP."""
    if protocol in (TCP, UDP, UDPLITE):
        for name, number in zip(("SPT", "DPT"), ports, strict=True):
            if number is not None:
                yield f"{name}={number}"
    if protocol == TCP and flags is not None:
        if headers.tcp_seq is not None:
            yield f"SEQ={headers.tcp_seq}"
        if headers.tcp_ack is not None:
            yield f"ACK={headers.tcp_ack}"
        if headers.tcp_window is not None:
            yield f"WINDOW={headers.tcp_window}"
        yield f"RES=0x{more.get('tcp_reserved', 0):02x}"
        yield from (word for letter, word in _FLAGS if letter in flags)
        yield f"URGP={more.get('tcp_urgent', 0)}"
    elif protocol in (UDP, UDPLITE) and headers.udp_length is not None:
        yield f"LEN={headers.udp_length}"
    elif protocol in (ICMP, ICMPV6):
        for name, number in zip(("TYPE", "CODE"), kind, strict=True):
            if number is not None:
                yield f"{name}={number}"
        for name, word in (("icmp_id", "ID"), ("icmp_seq", "SEQ"), ("parameter", "PARAMETER")):
            if name in more:
                yield f"{word}={more[name]}"
        if "pointer" in more:
            yield f"POINTER={more['pointer']:08x}"
        if "gateway" in more:
            yield f"GATEWAY={more['gateway']}"
    elif protocol in (AH, ESP) and "spi" in more:
        yield f"SPI={more['spi']:#x}"


def _more(record: PacketRecord, extra: dict[str, Any]) -> dict[str, Any]:
    """Numbers of the headers that no field has: of the line that was read, or of the payload."""
    if not record.payload:
        return extra
    more: dict[str, Any] = {name: extra[name] for name in ("spi",) if name in extra}
    ethertype = ETH_P_IP if record.family == "ipv4" else ETH_P_IPV6
    for name, fields in dissect(record.payload, ethertype):
        if name == "tcp":
            more["tcp_reserved"] = (fields["offset"] & 0x0F) << 2
            more["tcp_urgent"] = fields["urgent"]
        elif name in ("icmp", "icmpv6"):
            rest, kind = fields["rest"], fields["type"]
            if kind in ((0, 8) if name == "icmp" else (128, 129)):
                more["icmp_id"], more["icmp_seq"] = rest >> 16, rest & 0xFFFF
            elif (name, kind) == ("icmp", 12):
                more["parameter"] = rest >> 24
            elif (name, kind, fields["code"]) == ("icmp", 3, 4):
                more["mtu"] = rest & 0xFFFF
            elif (name, kind) == ("icmpv6", 4):
                more["pointer"] = rest
            elif (name, kind) == ("icmpv6", 2):
                more["mtu"] = rest
            break
    return more


def _inner(inner: dict[str, Any]) -> Iterator[str]:
    """The words of the packet that an ICMP error quotes."""
    get = inner.get
    four = get("family") == "ipv4"
    yield from _network(
        four, get("saddr"), get("daddr"), get("length"), PacketHeaders(), get("fragment"), None,
        None,
    )  # fmt: skip
    protocol = get("protocol")
    if protocol is None:
        return
    yield f"PROTO={_NAMES.get(protocol, protocol)}"
    fragment = get("fragment")
    if fragment is not None and fragment.offset:
        return
    yield from _transport(
        protocol, (get("sport"), get("dport")), get("tcp_flags"),
        (get("icmp_type"), get("icmp_code")), PacketHeaders(), inner,
    )  # fmt: skip
    if get("cut"):
        yield "INCOMPLETE [0 bytes]"
