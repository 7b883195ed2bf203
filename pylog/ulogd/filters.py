"""The filters that add names, texts of addresses and link headers, and MARK.

Source: filter/ulogd_filter_*.c, measured.
"""

from __future__ import annotations

import socket

from pylog.errors import BackendError
from pylog.memo import Memo
from pylog.ulogd.keys import Value
from pylog.ulogd.views import Message, Packet
from pylog.ulogd.worker import Filter, Stop, Values, View

ARPHRD_ETHER, ARPHRD_VOID = 1, 0xFFFF


def family_of(family: Value, protocol: Value) -> int:
    """The family of the addresses of a packet or flow, 0 for one without addresses; of a bridge by
    the EtherType.
    """
    if family == 7:
        return {0x0800: 2, 0x86DD: 10, 0x0806: 2}.get(
            protocol if isinstance(protocol, int) else 0, 0
        )
    return family if isinstance(family, int) and family in (2, 10) else 0


class Ifindex(Filter):
    """The filter IFINDEX: names of interfaces, "" for an unknown or absent one."""

    def interpret(self, values: Values, view: View) -> None:
        first, known = self.instance.first, self.surroundings.interfaces
        record = view if isinstance(view, Packet | Message) else None
        for place, at in enumerate(self.instance.inputs):
            number = None if at is None else values[at]
            if known is not None:
                name = known.get(number, b"") if isinstance(number, int) else b""
            else:
                name = b""
            if not name and record is not None and (known is None or number is None):
                name = (record.out_name if place else record.in_name) or b""
            values[first + place] = name


class _Addresses(Filter):
    """Converts the addresses among its inputs, which begin at the third, as far as plugins read
    what they become.
    """

    _pairs: list[tuple[int, int]]
    """Cells of addresses, and of what they become."""

    def prepare(self, needed: frozenset[int]) -> None:
        first = self.instance.first
        self._pairs = [
            (at, first + place)
            for place, at in enumerate(self.instance.inputs[2:])
            if at is not None and first + place in needed
        ]

    def start(self) -> None:
        self._converted = Memo(self.converted)

    def interpret(self, values: Values, view: View) -> None:
        for at, to in self._pairs:
            address = values[at]
            if address is not None:
                assert isinstance(address, bytes)
                values[to] = self._converted[address]

    def converted(self, address: bytes) -> bytes:
        raise NotImplementedError


class Ip2str(_Addresses):
    """The filter IP2STR."""

    def converted(self, address: bytes) -> bytes:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        return socket.inet_ntop(family, address).encode()


class Ip2bin(_Addresses):
    """The filter IP2BIN: 16 bytes as an SQL literal, IPv4 mapped into IPv6."""

    def converted(self, address: bytes) -> bytes:
        full = address if len(address) == 16 else bytes(10) + b"\xff\xff" + address
        return b"0x" + full.hex().encode()


class Ip2hbin(_Addresses):
    """The filter IP2HBIN: an IPv4 address with its bytes in host order, which is little endian.

    If the output is to be exact it stops records of families without IP addresses, as ulogd does
    by an error. Otherwise they go on without these keys.
    """

    def interpret(self, values: Values, view: View) -> None:
        family, protocol = (None if at is None else values[at] for at in self.instance.inputs[:2])
        if not family_of(family, protocol):
            if self.surroundings.exact:
                raise BackendError(
                    f"IP2HBIN: a packet of family {family!r} has no IP addresses; ulogd loses it"
                )
            return
        super().interpret(values, view)

    def converted(self, address: bytes) -> bytes:
        return address[::-1] if len(address) == 4 else address


class Hwhdr(Filter):
    """The filter HWHDR: link addresses and the link header as text."""

    def start(self) -> None:
        self._link = Memo(_link)

    def interpret(self, values: Values, view: View) -> None:
        first = self.instance.first
        kind, protocol, header, _, address, _ = self.instance.cells(values)
        values[first : first + 5] = self._link[kind, protocol, header, address]


def _link(link: tuple[int | None, int | None, bytes | None, bytes | None]) -> Values:
    """The keys of HWHDR for raw.type, oob.protocol, raw.mac and raw.mac.saddr."""
    kind, protocol, header, address = link
    source = address[:6].hex(":").encode() if address else None
    if header is None:
        return [None if address is None else ARPHRD_VOID, protocol, source, None, None]
    destination = None
    if kind == ARPHRD_ETHER:
        source = header[6:12].hex(":").encode() if source is None else source
        destination = header[:6].hex(":").encode()
        if len(header) >= 14 and protocol is None:
            protocol = int.from_bytes(header[12:14])
    return [kind, protocol, source, destination, header.hex(":").encode()]


class Mark(Filter):
    """The filter MARK: passes records whose mark, as far as the mask goes, is the given one."""

    def interpret(self, values: Values, view: View) -> None:
        for at in self.instance.inputs:
            mark = None if at is None else values[at]
            if isinstance(mark, int):
                if mark & self.options["mask"] != self.options["mark"]:
                    raise Stop
                return
