"""The messages that make rules which turn on tracing of packets, in a table of their own.

The table has the flag `owner`: the kernel removes it when the socket that made it is closed. Its
chains come before connection tracking (conntrack is at -200) and before most other chains, so that
the trace of a packet begins early. Messages and expressions are built with the tables that read
them.

Sources: linux/netfilter/nf_tables.h, linux/netfilter_ipv4.h; what nft sends for the same rules.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from pylog.formats import nft_attributes as nft
from pylog.formats.ip_numbers import PROTOCOL_NAMES, SCTP, TCP, UDP, UDPLITE
from pylog.formats.netlink import OCTETS, TEXT, Table, attributes, build
from pylog.formats.nft_expressions import EXPRESSIONS

PRIORITY = -350
"""After the raw table's fragments are defragmented (-400), before `raw` (-300)."""
NFPROTO_INET, NFT_TABLE_F_OWNER = 1, 2
_HOOKS = {"prerouting": 0, "output": 3}
_NETWORK, _TRANSPORT, _EQUAL, _REGISTER = 1, 2, 0, 1
_IIFNAME, _NFTRACE, _NFPROTO, _L4PROTO = 6, 12, 15, 16
"""enum nft_meta_keys."""
_IFNAMSIZ = 16

_PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items()}
WITH_PORTS = (TCP, UDP)
"""The protocols whose packets a port selects, if no protocol is named."""
_DCCP = 33
HAVE_PORTS = (*WITH_PORTS, _DCCP, SCTP, UDPLITE)
"""The protocols whose headers begin with ports."""

_ELEMENT: Table = {1: ("NFTA_EXPR_NAME", TEXT), 2: ("NFTA_EXPR_DATA", OCTETS)}
_LIST: Table = {1: ("NFTA_LIST_ELEM", _ELEMENT)}


class Match(NamedTuple):
    """Which packets to trace: those that have all that is given.

    saddr, daddr   addresses or prefixes, as 192.0.2.0/24
    proto          a protocol's name, as tcp, or its number
    dport          the destination port
    iif            the interface that they come in by
    """

    saddr: str | None = None
    daddr: str | None = None
    proto: str | int | None = None
    dport: int | None = None
    iif: str | None = None


def messages(table: str, match: Match, order: str) -> list[bytes]:
    """The messages of a transaction that makes the table; ValueError for an impossible match.

    The first creates the table, and fails if there is one of that name and another owner.
    """
    rules = _rules(match, order)
    name = table.encode()
    made = [_entity(nft.TABLE, order, nft.NFT_MSG_NEWTABLE, NFTA_TABLE_NAME=name,
                    NFTA_TABLE_FLAGS=NFT_TABLE_F_OWNER)]  # fmt: skip
    for hook, number in _HOOKS.items():
        if hook == "output" and match.iif is not None:
            continue
        place = [(1, number), (2, PRIORITY)]
        made.append(_entity(
            nft.CHAIN, order, nft.NFT_MSG_NEWCHAIN, NFTA_CHAIN_TABLE=name,
            NFTA_CHAIN_NAME=hook.encode(), NFTA_CHAIN_HOOK=_values(place),
            NFTA_CHAIN_TYPE=b"filter",
        ))  # fmt: skip
        made += [
            _entity(nft.RULE, order, nft.NFT_MSG_NEWRULE, NFTA_RULE_TABLE=name,
                    NFTA_RULE_CHAIN=hook.encode(), NFTA_RULE_EXPRESSIONS=rule)
            for rule in rules
        ]  # fmt: skip
    return made


def _entity(table: Table, order: str, kind: int, **values: Any) -> bytes:
    numbers = {name: number for number, (name, _) in table.items()}
    attrs = [(numbers[name], value) for name, value in values.items()]
    return build(table, order, kind, 0, attrs, family=NFPROTO_INET)


def _values(pairs: list[tuple[int, Any]]) -> list[dict[str, Any]]:
    return [{"nla_type": number, "value": value} for number, value in pairs]


def _expression(order: str, name: str, **values: Any) -> bytes:
    """NFTA_EXPR_DATA of an expression; a value of bytes is that of a register."""
    table = EXPRESSIONS[name]
    numbers = {field: number for number, (field, _) in table.items()}
    pairs = [(numbers[field], _values([(1, value)]) if isinstance(value, bytes) else value)
             for field, value in values.items()]  # fmt: skip
    return attributes(table, order).build(_values(pairs))


# Rules


def _rules(match: Match, order: str) -> list[bytes]:
    """The expressions of each rule that it takes."""
    protocols: list[int | None] = [_protocol(match.proto)]
    if match.dport is not None:
        if not 1 <= match.dport <= 65535:
            raise ValueError(f"dport is {match.dport}, but must be 1 to 65535")
        if protocols[0] is not None and protocols[0] not in HAVE_PORTS:
            raise ValueError(f"dport is {match.dport}, but {match.proto} has no ports")
        protocols = list(WITH_PORTS) if protocols == [None] else protocols
    common: list[tuple[str, dict[str, Any]]] = []
    if match.iif is not None:
        device = match.iif.encode()
        if not 0 < len(device) < _IFNAMSIZ:
            raise ValueError(f"iif is {match.iif!r}, but must be the name of an interface")
        common += _meta(_IIFNAME, device.ljust(_IFNAMSIZ, b"\0"))
    common += _addresses(match)
    rules = []
    for protocol in protocols:
        parts = [*common]
        if protocol is not None:
            parts += _meta(_L4PROTO, bytes([protocol]))
        if match.dport is not None:
            parts += _payload(_TRANSPORT, 2, match.dport.to_bytes(2))
        parts += [("immediate", {"dreg": _REGISTER, "data": b"\1"}),
                  ("meta", {"key": _NFTRACE, "sreg": _REGISTER})]  # fmt: skip
        elements = [
            (1, _values([(1, name.encode()), (2, _expression(order, name, **values))]))
            for name, values in parts
        ]
        rules.append(attributes(_LIST, order).build(_values(elements)))
    return rules


def _protocol(proto: str | int | None) -> int | None:
    if proto is None:
        return None
    number = _PROTOCOLS.get(str(proto).lower())
    if number is None and str(proto).isdecimal():
        number = int(proto)
    if number is None or number > 255:
        names = ", ".join(sorted(_PROTOCOLS))
        raise ValueError(f"proto is {proto!r}, but must be a number up to 255 or one of {names}")
    return number


def _addresses(match: Match) -> list[tuple[str, dict[str, Any]]]:
    parts: list[tuple[str, dict[str, Any]]] = []
    families: dict[int, str] = {}
    for name, text, at4, at6 in (("saddr", match.saddr, 12, 8), ("daddr", match.daddr, 16, 24)):
        if text is None:
            continue
        network = _network(name, text)
        families[network.version] = f"{name} {text}"
        offset = at4 if network.version == 4 else at6
        value, mask = network.network_address.packed, network.netmask.packed
        part = _payload(_NETWORK, offset, value)
        if network.prefixlen < network.max_prefixlen:
            part.insert(1, ("bitwise", {"sreg": _REGISTER, "dreg": _REGISTER, "len": len(mask),
                                        "mask": mask, "xor": bytes(len(mask))}))  # fmt: skip
        parts += part
    if len(families) > 1:
        raise ValueError(f"{' and '.join(families.values())} are of different families")
    for version in families:
        return [*_meta(_NFPROTO, bytes([2 if version == 4 else 10])), *parts]
    return parts


def _network(name: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, but must be an address or a prefix") from None


def _meta(key: int, value: bytes) -> list[tuple[str, dict[str, Any]]]:
    return [("meta", {"key": key, "dreg": _REGISTER}), _equal(value)]


def _payload(base: int, offset: int, value: bytes) -> list[tuple[str, dict[str, Any]]]:
    load = {"dreg": _REGISTER, "base": base, "offset": offset, "len": len(value)}
    return [("payload", load), _equal(value)]


def _equal(value: bytes) -> tuple[str, dict[str, Any]]:
    return "cmp", {"sreg": _REGISTER, "op": _EQUAL, "data": value}
