"""The words of ipmon for protocols, ICMP types, hosts and ports.

The words for protocols and ICMP are in tables here, so they are the same on every machine. Hosts
and ports are numbers. With -n they are names: of the system's resolver, which may be slow, of
services(5) and of networks(5).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from pylog.formats.addresses import addresses
from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.memo import Memo

PROTOCOLS = PROTOCOL_NAMES | {
    0: "ip", 3: "ggp", 4: "ipencap", 5: "st", 8: "egp", 9: "igp", 12: "pup", 20: "hmp",
    22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp",
    45: "idrp", 57: "skip", 58: "ipv6-icmp", 73: "rspf", 81: "vmtp", 93: "ax.25", 97: "etherip",
    98: "encap", 124: "isis", 133: "fc", 135: "mobility-header", 138: "manet", 139: "hip",
    140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
}  # fmt: skip
"""The names of protocols(5); any other protocol is shown as its number."""

_Words = Mapping[int, tuple[str, Mapping[int, str]]]
"""ICMP types: the word, and the words for codes."""


def _codes(*words: str) -> Mapping[int, str]:
    return {code: word for code, word in enumerate(words) if word}


_ICMP: _Words = {
    0: ("echoreply", {}),
    3: ("unreach", _codes(
        "net", "host", "protocol", "port", "needfrag", "srcfail", "net_unknown", "host_unknown",
        "", "net_prohib", "", "tosnet", "toshost", "admin_prohibit",
    )),
    4: ("sourcequench", {}),
    5: ("redirect", _codes("net", "host", "tosnet", "toshost")),
    8: ("echo", {}), 9: ("routeradvert", {}), 10: ("routersolicit", {}),
    11: ("timxceed", _codes("transit", "reassem")),
    12: ("paramprob", _codes("errata_pointer", "optmissing", "length")),
    13: ("timestamp", {}), 14: ("timestampreply", {}), 15: ("inforeq", {}), 16: ("inforeply", {}),
    17: ("maskreq", {}), 18: ("maskreply", {}),
}  # fmt: skip
_ICMP6: _Words = {
    1: ("unreach", _codes("noroute", "admin", "neighbour", "address", "noport")),
    2: ("toobig", {}),
    3: ("timxceed", _codes("intransit", "reassem")),
    4: ("paramprob", _codes("header", "nextheader", "option")),
    128: ("echo", {}), 129: ("echoreply", {}),
    130: ("groupmemberquery", _codes("ipv6", "fqdn", "ipv4")),
    131: ("groupmemberreport", {}), 132: ("groupmemberterm", {}),
    133: ("routersolicit", {}), 134: ("routeradvert", {}), 135: ("neighborsolicit", {}),
    136: ("neighboradvert", {}), 137: ("redirect", {}),
    138: ("routerrenumber", {0: "command", 1: "result", 255: "seqnum_reset"}),
    139: ("whoareyourequest", {}), 140: ("whoareyoureply", {}),
    200: ("mtraceresponse", {}), 201: ("mtracerequest", {}),
}  # fmt: skip


def protocol(number: int) -> str:
    """The protocol's name, or its number."""
    return PROTOCOLS.get(number) or str(number)


def icmp(kind: int, code: int) -> str:
    """An ICMP type and code in words: "unreach/port", "icmptype(40)/7"."""
    return _named(_ICMP, "icmptype", kind, code)


def icmp6(kind: int, code: int) -> str:
    """An ICMPv6 type in words, and its code."""
    return _named(_ICMP6, "icmpv6type", kind, code)


def _named(table: _Words, unknown: str, kind: int, code: int) -> str:
    word, codes = table.get(kind, (f"{unknown}({kind})", {}))
    return f"{word}/{codes.get(code, code)}"


class Names:
    """How hosts and ports are shown.

    hosts      by name: the resolver is asked once for each, which may take long
    ports      by name of the service
    networks   hosts without a name by name of the network
    """

    def __init__(self, hosts: bool, ports: bool, networks: bool) -> None:
        self._ports = ports
        self._hosts: Memo[bytes, str] = Memo(self._find_host) if hosts else addresses
        self._services: Memo[tuple[int, str], str] = Memo(_service)
        self._networks = _networks() if hosts and networks else {}

    def host(self, address: bytes) -> str:
        """A host, of its address in 4 or 16 bytes."""
        return self._hosts[address]

    def port(self, number: int, protocol: str) -> str:
        """A port of the protocol of that name."""
        return self._services[number, protocol] if self._ports else str(number)

    def _find_host(self, address: bytes) -> str:
        text = addresses[address]
        try:
            return socket.gethostbyaddr(text)[0]
        except OSError:
            return self._networks.get(text, text)


def _service(key: tuple[int, str]) -> str:
    number, protocol = key
    try:
        return socket.getservbyport(number, protocol)
    except OSError:
        return str(number)


def _networks(path: str = "/etc/networks") -> dict[str, str]:
    """The names of networks(5), by address."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            rows = [line.partition("#")[0].split() for line in lines]
    except OSError:
        return {}
    return {row[1]: row[0] for row in rows if len(row) > 1}
