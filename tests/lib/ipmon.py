"""What the real ipmon said of a dump, and what a pylog record would have to say to agree.

`said(line)` takes a line of ipmon's plain text apart; `says(record, ...)` makes the same mapping of
a record. The two are compared by the truth tests, so nothing here may come from pylog's outputs.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from pylog import FlowRecord, PacketRecord, Record
from pylog.formats.packet_dissect import dissect

PROTOCOLS = {
    "ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "ipv6": 41,
    "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103,
    "vrrp": 112, "l2tp": 115, "sctp": 132,
}  # fmt: skip
_ICMP = {
    "echoreply": 0, "unreach": 3, "sourcequench": 4, "redirect": 5, "echo": 8, "routeradvert": 9,
    "routersolicit": 10, "timxceed": 11, "paramprob": 12, "timestamp": 13, "timestampreply": 14,
    "maskreq": 17, "maskreply": 18,
}  # fmt: skip
_ICMP6 = {"unreach": 1, "toobig": 2, "timxceed": 3, "paramprob": 4, "echo": 128, "echoreply": 129}
_CODES = {
    ("unreach", "net"): 0, ("unreach", "host"): 1, ("unreach", "protocol"): 2,
    ("unreach", "port"): 3, ("unreach", "needfrag"): 4, ("unreach", "srcfail"): 5,
    ("unreach", "net_unknown"): 6, ("unreach", "host_unknown"): 7, ("unreach", "isolated"): 8,
    ("unreach", "net_prohib"): 9, ("unreach", "host_prohib"): 10, ("unreach", "net_tos"): 11,
    ("unreach", "host_tos"): 12, ("unreach", "admin_prohibit"): 13,
    ("redirect", "net"): 0, ("redirect", "host"): 1, ("redirect", "tosnet"): 2,
    ("redirect", "toshost"): 3, ("timxceed", "transit"): 0, ("timxceed", "reassem"): 1,
    ("timxceed", "intransit"): 0, ("paramprob", "errata_pointer"): 0, ("paramprob", "optabsent"): 1,
    ("paramprob", "length"): 2,
}  # fmt: skip

_TIME = r"(?P<time>\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{6}) "
_PACKET = re.compile(
    _TIME + r"(?:(?P<count>\d+)x )?(?P<interface>\S+) @(?P<group>\S+):(?P<rule>-?\d+)"
    r" (?P<action>S?[pPbBnL?]|S) (?P<src>\S+) -> (?P<dst>\S+) PR (?P<protocol>\S+)"
    r" len (?P<hlen>\d+) (?P<rest>.*)$"
)
_REST = re.compile(
    r"\(?(?P<length>\d+)\)?"
    r"(?: ?\(?frag (?P<frag_id>\d+):(?P<frag_len>\d+)@(?P<frag_off>\d+)(?P<frag_more>\+)?-?\)"
    r"| frag \+?(?P<old_len>\d+)@(?P<old_off>\d+))?"
    r"(?: -(?P<flags>[ARSFUPEC]*)(?= |$))?"
    r"(?: icmp(?:v6)? (?P<icmp>\S+?)/(?P<code>\S+)(?: for (?P<inner>.*?))?)?"
    r"(?P<tail>(?: (?:K-S|K-F|IN|OUT|log-tag -?\d+|nat-tag \S*|low-ttl|OOW|NEG_OOW|bad|NAT|bad-NAT"
    r"|bad-src|multicast|broadcast|mbcast|reason:\S+))*)\s*$"
)
_INNER = re.compile(r"(\S+) - (\S+) PR (\S+) len (\d+) \(?(\d+)\)?")
_NAT = re.compile(
    _TIME + r"@(?P<rule>-?\d+) (?:NAT:(?P<word>\S+)|Type: (?P<type>\d+)) (?P<rest>.*)$"
)
_STATE = re.compile(
    _TIME + r"(?:STATE:(?P<word>\S+)|Type: (?P<type>\d+))(?P<ends> .*?)?(?: PR (?P<protocol>\S+))?"
    r"(?: (?P<icmp>\d+))?(?: tag \d+)?(?P<counters> (?:Forward|Pkts).*)?$"
)
MISSED = re.compile(r"missed (\d+) (\S+) log entries: (\d+) (\d+)$")


def _end(text: str) -> tuple[str, int | None]:
    address, _, port = text.partition(",")
    return address, int(port) if port else None


def said(line: str) -> dict[str, Any]:
    """A line of ipmon's text as a mapping; `log` is ipf, nat or state."""
    if " PR " in line:
        line = re.sub("  +", " ", line)
    if match := _PACKET.match(line):
        return _said_packet(match)
    if match := _NAT.match(line):
        return _said_nat(match)
    if match := _STATE.match(line):
        return _said_state(match)
    raise ValueError(f"not understood: {line!r}")


def _said_packet(match: re.Match[str]) -> dict[str, Any]:
    rest = _REST.match(match["rest"])
    if rest is None:
        raise ValueError(f"not understood: {match['rest']!r}")
    protocol = match["protocol"]
    (saddr, sport), (daddr, dport) = _end(match["src"]), _end(match["dst"])
    found: dict[str, Any] = {
        "log": "ipf", "time": match["time"], "count": int(match["count"] or 1),
        "interface": match["interface"], "group": match["group"], "rule": int(match["rule"]),
        "action": match["action"], "saddr": saddr, "daddr": daddr,
        "sport": sport, "dport": dport, "protocol": _protocol(protocol),
        "hlen": int(match["hlen"]), "length": int(rest["length"]), "flags": rest["flags"],
        "frag_off": None,
    }  # fmt: skip
    for name in ("frag", "old"):
        if rest[f"{name}_off"]:
            found["frag_off"] = int(rest[f"{name}_off"])
    if rest["frag_id"]:
        found["frag_id"], found["frag_more"] = int(rest["frag_id"]), bool(rest["frag_more"])
    words = rest["tail"].split()
    found["direction"] = "in" if "IN" in words else "out" if "OUT" in words else None
    found["keep"] = [word for word in ("K-S", "K-F") if word in words]
    if rest["icmp"]:
        found["icmp"] = _icmp(rest["icmp"], rest["code"], protocol == "icmpv6")
    if rest["inner"]:
        inner = _INNER.match(rest["inner"])
        assert inner, rest["inner"]
        found["inner"] = (*_end(inner[1]), *_end(inner[2]), _protocol(inner[3]), int(inner[5]))
    return found


def _protocol(name: str) -> int:
    return int(name) if name.isdigit() else PROTOCOLS[name]


def _icmp(kind: str, code: str, v6: bool) -> tuple[int, int]:
    names = _ICMP6 if v6 else _ICMP
    number = re.search(r"\d+", kind)
    of_kind = names[kind] if kind in names else int(number[0]) if number else -1
    return of_kind, int(code) if code.isdigit() else _CODES[kind, code]


def _said_nat(match: re.Match[str]) -> dict[str, Any]:
    word = match["word"] or match["type"]
    rest = re.sub(r"(\d)255$", r"\1 255", match["rest"])  # 5.0 puts no blank before the protocol
    addresses = re.findall(r"([0-9a-f.:]*[.:][0-9a-f.:]+),(\d+)", rest)
    counters = [int(n) for n in re.findall(r"(?<=Pkts )(\d+)|(?<=Bytes )(\d+)|/(\d+)",
                                           match["rest"]) for n in n if n]  # fmt: skip
    return {"log": "nat", "time": match["time"], "rule": int(match["rule"]), "word": word,
            "ends": [(a, int(p)) for a, p in addresses], "counters": counters}  # fmt: skip


def _said_state(match: re.Match[str]) -> dict[str, Any]:
    ends_text, counters_text = match["ends"] or "", match["counters"] or ""
    if not match["protocol"]:  # 3.x says nothing of other protocols
        ends_text, counters_text = "", ends_text + counters_text
    ends = [_end(e) for e in ends_text.split(" -> ") if e.strip()]
    counters = [int(n) for n in re.findall(r" (-?\d+)", counters_text)]
    return {"log": "state", "time": match["time"], "word": match["word"] or match["type"],
            "ends": [(a.strip(), p) for a, p in ends],
            "protocol": _protocol(match["protocol"]) if match["protocol"] else None,
            "icmp": int(match["icmp"]) if match["icmp"] else None,
            "counters": counters}  # fmt: skip


def time_text(record: Record) -> str:
    """The time as ipmon writes it, in UTC."""
    assert record.timestamp_ns is not None
    moment = datetime.fromtimestamp(record.timestamp_ns // 10**9, UTC)
    return f"{moment:%d/%m/%Y %H:%M:%S}.{record.timestamp_ns // 1000 % 10**6:06d}"


def _header_length(record: PacketRecord, version: str) -> int:
    """What ipmon prints after len: the IPv4 header, or 40 and the IPv6 extension headers."""
    payload = record.payload or b""
    if record.family == "ipv4":
        return (payload[0] & 15) * 4
    total = 40
    for name, fields in dissect(payload)[1:]:
        if name == "ipv6 extension":
            total += 8 + 8 * int(fields["length"])
        elif name == "ipv6 fragment":
            total += 8
        else:
            break
    return total


def says(record: Record, version: str, line: dict[str, Any]) -> dict[str, Any]:
    """The record as the mapping that `said` would give; `line` tells what ipmon left out.

    version   of the ipmon, as "3.4.35": it decides what is printed, not what is so
    """
    if isinstance(record, PacketRecord):
        return _says_packet(record, version, line)
    assert isinstance(record, FlowRecord)
    if record.flow_type == "state":
        return _says_state(record, version, line)
    return _says_nat(record, version)


def _says_packet(record: PacketRecord, version: str, line: dict[str, Any]) -> dict[str, Any]:
    old, oldest = version < "4", version < "3.4.1"
    flags = (record.extra or {})["fl_flags"]
    letter = {"pass": "p", "block": "b", "log": "L", "nomatch": "n"}.get(str(record.action), "?")
    if old and record.action in ("pass", "block") and "FR_LOG" not in flags:
        letter = letter.upper()  # logged by a global flag, not by the rule
    if record.short:
        letter = "S" if old else f"S{letter}"
    device = str(record.indev or record.outdev or "")
    if old:  # ipmon prints four letters of the name, and the unit
        name = device.rstrip("0123456789")
        device = name[:4] + device[len(name) :] if version_has_unit(record) else device
    rule = record.rule if record.rule is not None else -1
    group = record.group if record.group is not None else "-1"
    if oldest:  # printed as 16 bits, none as 0
        rule, group = (record.rule or 0) & 0xFFFF, str(int(record.group or 0xFFFFFFFF) & 0xFFFF)
    fragment = record.fragment
    is_tcp_udp = record.protocol in (6, 17)
    ports = is_tcp_udp and not (record.short and not oldest) and not (fragment and fragment.offset)
    length = record.length
    swapped = oldest and "le" in record.layout.split("-")[-1]  # ntohs of what was in host order
    if oldest and length is not None:
        length = length - 40 if record.family == "ipv6" else _swap(length) if swapped else length
    found: dict[str, Any] = {
        "log": "ipf", "time": time_text(record), "count": record.count, "interface": device,
        "group": group, "rule": rule, "action": letter,
        "saddr": record.saddr, "daddr": record.daddr,
        "sport": record.sport if ports else None, "dport": record.dport if ports else None,
        "protocol": record.protocol, "hlen": _header_length(record, version), "length": length,
        "flags": None, "frag_off": None, "direction": record.direction,
        "keep": [w for w, f in (("K-S", "FR_KEEPSTATE"), ("K-F", "FR_KEEPFRAG")) if f in flags],
    }  # fmt: skip
    if ports and record.protocol == 6:
        found["flags"] = (record.tcp_flags or "").strip("-")
        if oldest:  # it knows six
            found["flags"] = found["flags"].translate({ord("E"): "", ord("C"): ""})
    if fragment and fragment.offset:
        found["frag_off"] = fragment.offset
        if "frag_id" in line:
            found["frag_id"], found["frag_more"] = fragment.id, fragment.more
    if "icmp" in line:
        found["icmp"] = (record.icmp_type, record.icmp_code)
    if "inner" in line:
        inner = (record.extra or {}).get("inner", {})
        with_ports = inner.get("protocol") in (6, 17)
        if oldest:  # it takes whatever comes first for ports
            inner |= {"sport": line["inner"][1], "dport": line["inner"][3]}
            with_ports = True
        found["inner"] = (
            inner.get("saddr"), inner.get("sport") if with_ports else None,
            inner.get("daddr"), inner.get("dport") if with_ports else None,
            inner.get("protocol"), _swap(inner.get("length")) if swapped else inner.get("length"),
        )  # fmt: skip
    return found


def _swap(value: int) -> int:
    return (value & 0xFF) << 8 | value >> 8


def version_has_unit(record: Record) -> bool:
    """Whether the record's layout has the interface as name and unit."""
    return "-nounit" not in record.layout


def _says_nat(record: FlowRecord, version: str) -> dict[str, Any]:
    event, kind = str(record.event).upper(), str(record.flow_type).upper()
    inside = (record.saddr, record.sport or 0)
    outside = (record.nat_saddr, record.nat_sport or 0)
    peer = (record.daddr, record.dport or 0)
    counters: list[int] = []
    if version >= "5":
        word = f"{event}-{'NAT' if kind == 'MAP' and version < '5.1.1' else kind}"
        ends = [inside, outside, peer]
        if "_" in kind:
            ends = [inside, peer, outside, (record.nat_daddr, record.nat_dport or 0)]
        printed = record.event in ("expire", "flush")
    else:
        word = kind if record.event == "new" else event
        if version < "3.4.1":  # it knows no others
            word = {"BIMAP": "3", "MAPBLOCK": "4", "FLUSH": str(0xFFFE)}.get(word, word)
        ends = [inside, outside, peer]
        printed = record.event == "expire"
    if printed:
        counters = [*(record.packets or {}).values(), *(record.bytes or {}).values()]
    rule = record.rule if record.rule is not None else 0
    rule = (rule + 0x8000) % 0x10000 - 0x8000  # printed as a signed short
    return {"log": "nat", "time": time_text(record), "rule": rule, "word": word, "ends": ends,
            "counters": counters}  # fmt: skip


def _says_state(record: FlowRecord, version: str, line: dict[str, Any]) -> dict[str, Any]:
    words = {"statechange": "2", "orphan": str(0xFFFA), "clone": "CLONED"}
    if version < "4":
        words |= {"clone": "1", "unload": "65529", "killed": "65531", "intermediate": "65532"}
    word = words.get(str(record.event), str(record.event).upper())
    states = (record.extra or {}).get("isl_state", [])
    closed_last = version >= "4" and "illumos" not in record.layout
    if record.event == "expire" and _closing(states, closed_last):
        word = "CLOSE"
    packets = list((record.packets or {}).values())
    octets = list((record.bytes or {}).values())
    counters = [n for pair in zip(packets, octets, strict=True) for n in pair]
    counters = [n - 2**64 if n >= 2**63 else n for n in counters]  # printed as signed
    if not line["counters"]:
        counters = []
    ends: list[Any] = [(record.saddr, record.sport), (record.daddr, record.dport)]
    if version < "4" and record.protocol not in (1, 6, 17, 58):
        ends = []  # not printed
    return {"log": "state", "time": time_text(record), "word": word, "ends": ends,
            "protocol": record.protocol if ends else None, "icmp": record.icmp_type,
            "counters": counters}  # fmt: skip


def _closing(states: list[Any], closed_last: bool) -> bool:
    """Whether ipmon calls the end of a TCP state CLOSE: either side is past ESTABLISHED.

    closed_last   CLOSED is 11, as since 4.1.20; else 0
    """
    late = ["CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "LAST_ACK", "FIN_WAIT_2", "TIME_WAIT"]
    late += ["CLOSED"] if closed_last else []
    return any(isinstance(s, int) or s in late for s in states)
