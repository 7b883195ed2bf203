"""The filters that add names, texts of addresses and link headers, and MARK.

Source: filter/ulogd_filter_*.c, measured.
"""

from __future__ import annotations

import socket

from pylog.ulogd.keys import Value
from pylog.ulogd.views import Packet
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
        record = view if isinstance(view, Packet) else None
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
    """Converts the addresses among its inputs, which begin at the third."""

    def interpret(self, values: Values, view: View) -> None:
        first = self.instance.first
        for place, at in enumerate(self.instance.inputs[2:]):
            address = None if at is None else values[at]
            if isinstance(address, bytes):
                values[first + place] = self.converted(address)

    def converted(self, address: bytes) -> bytes:
        raise NotImplementedError


class Ip2str(_Addresses):
    """The filter IP2STR."""

    def start(self) -> None:
        self._texts: dict[bytes, bytes] = {}

    def converted(self, address: bytes) -> bytes:
        text = self._texts.get(address)
        if text is None:
            kind = socket.AF_INET if len(address) == 4 else socket.AF_INET6
            text = socket.inet_ntop(kind, address).encode()
            if len(self._texts) >= 4096:
                self._texts.clear()
            self._texts[address] = text
        return text


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
                raise Stop
            return
        super().interpret(values, view)

    def converted(self, address: bytes) -> bytes:
        return address[::-1] if len(address) == 4 else address


class Hwhdr(Filter):
    """The filter HWHDR: link addresses and the link header as text."""

    def interpret(self, values: Values, view: View) -> None:
        first = self.instance.first
        kind, protocol, header, _, address, _ = self.instance.cells(values)
        values[first + 1] = protocol
        if isinstance(address, bytes) and address:
            values[first + 2] = address[:6].hex(":").encode()
        if not isinstance(header, bytes):
            if isinstance(address, bytes):
                values[first] = ARPHRD_VOID
            return
        values[first] = kind
        if kind == ARPHRD_ETHER:
            if values[first + 2] is None:
                values[first + 2] = header[6:12].hex(":").encode()
            values[first + 3] = header[:6].hex(":").encode()
            if len(header) >= 14 and protocol is None:
                values[first + 1] = int.from_bytes(header[12:14])
        values[first + 4] = header.hex(":").encode()


class Mark(Filter):
    """The filter MARK: passes records whose mark, as far as the mask goes, is the given one."""

    def interpret(self, values: Values, view: View) -> None:
        for at in self.instance.inputs:
            mark = None if at is None else values[at]
            if isinstance(mark, int):
                if mark & self.options["mask"] != self.options["mark"]:
                    raise Stop
                return
