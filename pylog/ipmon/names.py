"""The words of ipmon for protocols, ICMP types, hosts and ports.

The words for protocols and ICMP are in formats.ipmon_words, the same on every machine. Hosts
and ports are numbers. With -n they are names: of the system's resolver, which may be slow, of
services(5) and of networks(5).
"""

from __future__ import annotations

import socket

from pylog.formats.addresses import addresses
from pylog.formats.ipmon_words import ICMP, ICMP6, Words
from pylog.formats.ipmon_words import PROTOCOLS as PROTOCOLS
from pylog.memo import Memo


def protocol(number: int) -> str:
    """The protocol's name, or its number."""
    return PROTOCOLS.get(number) or str(number)


def icmp(kind: int, code: int) -> str:
    """An ICMP type and code in words: "unreach/port", "icmptype(40)/7"."""
    return _named(ICMP, "icmptype", kind, code)


def icmp6(kind: int, code: int) -> str:
    """An ICMPv6 type in words, and its code."""
    return _named(ICMP6, "icmpv6type", kind, code)


def _named(table: Words, unknown: str, kind: int, code: int) -> str:
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
