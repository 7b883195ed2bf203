"""What the values in a rule are, as far as its expressions show it: numbers or names of interfaces.

A message gives values as bytes, and only the expression that loads a register says what they stand
for. `kinds` follows the registers through a rule: what `meta`, `ct` and other expressions load, and
what a constant is stored in. Scrubbing keeps these values as it keeps the same fields of packets.
Addresses, users and everything that is not certain have no kind here.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.nft_words import CT_KEYS, META_KEYS

NUMBER, INTERFACE = "number", "interface"

_NO_META = frozenset(("skuid", "skgid", "cgroup", "ibrhwaddr", "iifkind", "oifkind"))
_NO_CT = frozenset(("helper", "src", "dst", "src_ip", "dst_ip", "src_ip6", "dst_ip6", "id"))
_META = {number: INTERFACE if word.endswith("name") else NUMBER
         for number, word in enumerate(META_KEYS) if word not in _NO_META}  # fmt: skip
_CT = {number: NUMBER for number, word in enumerate(CT_KEYS) if word not in _NO_CT}
_FIB = {1: NUMBER, 2: INTERFACE, 3: NUMBER}  # NFT_FIB_RESULT_OIF, OIFNAME, ADDRTYPE
_SOCKET = {0: NUMBER, 1: NUMBER, 2: NUMBER}  # NFT_SOCKET_TRANSPARENT, MARK, WILDCARD
_RT = {0: NUMBER, 3: NUMBER}  # NFT_RT_CLASSID, TCPMSS
_BY_KEY = {"meta": _META, "ct": _CT, "socket": _SOCKET, "rt": _RT}
_HEADERS = (1, 2)  # NFT_PAYLOAD_NETWORK_HEADER, TRANSPORT_HEADER
_COMMON = 8
"""So many bytes of a network or transport header hold neither an address nor content."""


def _place(register: Any) -> int:
    """The place of a register in bytes: NFT_REG_1 to 4 have 16, NFT_REG32_00 to 15 have 4."""
    if not isinstance(register, int):
        return -1
    return register * 16 if register < 8 else 16 + (register - 8) * 4


def _loaded(name: str, fields: dict[str, Any], registers: dict[int, str]) -> str | None:
    """The kind of what an expression puts into its register."""
    if name in _BY_KEY:
        return _BY_KEY[name].get(fields.get("key", -1))
    if name == "fib":
        return _FIB.get(fields.get("result", -1))
    if name in ("numgen", "hash"):
        return NUMBER
    if name in ("bitwise", "byteorder"):
        return registers.get(_place(fields.get("sreg")))
    if name == "payload":
        end = fields.get("offset", _COMMON) + fields.get("len", 0)
        return NUMBER if fields.get("base") in _HEADERS and end <= _COMMON else None
    return None


def _stored(register: Any, later: list[tuple[str, dict[str, Any]]]) -> str | None:
    """The kind of a constant in a register, by the first expression that uses it."""
    for name, fields in later:
        if fields.get("sreg") == register and name in ("meta", "ct"):
            return _BY_KEY[name].get(fields.get("key", -1))
        if any(field.startswith("sreg") and value == register for field, value in fields.items()):
            return None
        if fields.get("dreg") == register:
            return None
    return None


_AHEAD = 8
"""A constant is used by one of the next expressions."""


def kinds(rule: list[tuple[str, dict[str, Any]]]) -> list[str | None]:
    """The kind of the values in each expression of a rule; None where it is not certain.

    rule   the kernel's name of each expression, and its attributes as netlink.to_dict gives them
    """
    registers: dict[int, str] = {}
    found: list[str | None] = []
    for place, (name, fields) in enumerate(rule):
        target = fields.get("dreg")
        if name == "immediate":
            loaded = kind = _stored(target, rule[place + 1 : place + 1 + _AHEAD])
        else:
            kind = registers.get(_place(fields.get("sreg")))
            loaded = _loaded(name, fields, registers)
        found.append(kind)
        if isinstance(target, int):
            # a concatenation fills several narrow registers of a wide one
            for other in [key for key in registers if key // 16 == _place(target) // 16]:
                del registers[other]
            if loaded is not None:
                registers[_place(target)] = loaded
    return found
