"""Statements of nftables rules that use registers: set, nat, reject, dup, dynamic sets and more.

Each function gives the text of one statement, after the Context has found the header fields in the
values that it uses. Raises Unclear, or what a missing field raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats import nft_headers as h
from pylog.formats import nft_types as t
from pylog.formats.nft_compare import resolve
from pylog.formats.nft_context import Context
from pylog.formats.nft_loads import Bits, ct_words, extension, payload_of
from pylog.formats.nft_statements import object_words, quoted, stateless
from pylog.formats.nft_types import Type, Unclear, interval, show
from pylog.formats.nft_values import Binop, Constant, Loaded, Lookup, Payload, Swapped, Writer

Fields = dict[str, Any]
Effect = Callable[[Context, Fields, Fields, Writer], str]

_NAT_FLAGS = ((4, "random"), (16, "fully-random"), (8, "persistent"))
"""NF_NAT_RANGE_PROTO_RANDOM, ..._RANDOM_FULLY and NF_NAT_RANGE_PERSISTENT."""
_NAT_PREFIX = 64  # NF_NAT_RANGE_NETMAP
_NAT_ALL = 1 | 2 | 4 | 8 | 16 | 64
_ADDRESSES = {"ip": t.IPADDR, "ip6": t.IP6ADDR}


def _value(context: Context, value: Any, kind: Type, bits: int, writer: Writer) -> str:
    """What a statement sets something of a type to."""
    if isinstance(value, Constant):
        return writer.constant(value.data, kind)
    inner = value
    while isinstance(inner, Binop):
        inner = inner.left
    if isinstance(inner, Payload | Swapped):
        raise Unclear  # nft shifts and swaps these in ways of its own
    value = resolve(context, value, writer)
    return writer.text(value, [kind])


def _meta(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    key = h.META[fields["key"]]
    text = key.text if key.text.startswith("meta ") else f"meta {key.text}"
    return f"{text} set {_value(context, values['sreg'], key.type, key.bits, writer)}"


def _ct(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    key, value = h.CT[fields["key"]], values["sreg"]
    text = ct_words(key.text, fields.get("direction"))
    if isinstance(value, Constant) and key.type in (t.CT_EVENT, t.CT_LABEL):
        bits = t.number(value.data, key.type, writer.order)
        if key.type is t.CT_EVENT:
            return f"{text} set {','.join(t.bit_words(key.type, bits))}"
        if bits & (bits - 1) or not bits or writer.order != "<":
            raise Unclear
        return f"{text} set {bits.bit_length() - 1}"
    return f"{text} set {_value(context, value, key.type, key.bits, writer)}"


def _payload(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    target = payload_of(fields)
    value = values["sreg"]
    context.complete(target)
    if target.field is None or isinstance(value, Binop):
        if context.headers.get("transport") in ("icmp", "icmpv6", "igmp"):
            raise Unclear
        target, number = _masked_target(context, target, value)
        context.complete(target)
        if target.field is None:
            raise Unclear
        context.kill(target)
        return f"{target.text} set {show(target.type, number, target.bits)}"
    context.kill(target)
    if isinstance(value, Constant):
        return f"{target.text} set {writer.constant(value.data, target.type)}"
    if not isinstance(value, Lookup):
        raise Unclear
    return f"{target.text} set {writer.text(resolve(context, value, writer), [target.type])}"


def _masked_target(context: Context, target: Payload, value: Any) -> tuple[Payload, int]:
    """The part of a byte that a statement sets, by the bits that it clears; and its value."""
    full, bits = (1 << target.bits) - 1, 0
    if isinstance(value, Binop) and value.op == "or" and isinstance(value.right, Constant):
        bits = int.from_bytes(value.right.data, "big")
        value = value.left
    mask = full
    if isinstance(value, Binop) and value.op == "and" and isinstance(value.right, Constant):
        mask = int.from_bytes(value.right.data, "big")
        value = value.left
    same = isinstance(value, Payload) and (value.base, value.offset, value.bits) == (
        target.base, target.offset, target.bits,
    )  # fmt: skip
    if not same:
        raise Unclear
    cleared = mask ^ full | bits
    shift = context.trim(target, cleared)
    if shift is None or bits & ((1 << shift) - 1):
        raise Unclear
    return target, bits >> shift


def _exthdr(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    if "sreg" not in fields:
        name = h.TCP_OPTIONS.get(fields["type"])
        if fields["op"] != "tcp_option" or name is None:
            raise Unclear
        return f"reset tcp option {name}"
    target, value = extension(fields), values["sreg"]
    if isinstance(target, Bits):
        raise Unclear
    if isinstance(value, Constant):
        return f"{target.text} set {writer.constant(value.data, target.type)}"
    if isinstance(value, Swapped) and isinstance(value.argument, Loaded):
        return f"{target.text} set {value.argument.text}"
    raise Unclear


def _address(data: bytes, kind: Type, bracketed: bool, writer: Writer) -> str:
    text = writer.constant(data, kind)
    return f"[{text}]" if bracketed and kind is t.IP6ADDR else text


def _endpoint(context: Context, values: Fields, low: str, high: str, kind: Type, bracketed: bool,
              writer: Writer) -> str:  # fmt: skip
    """An address or port, or a range of them, from two registers."""
    value = values[low]
    other = values.get(high, value)
    if not isinstance(value, Constant):
        if other is not value and other != value:
            raise Unclear
        if isinstance(value, Payload):
            raise Unclear
        return writer.text(resolve(context, value, writer), [kind])
    text = _address(value.data, kind, bracketed, writer)
    if isinstance(other, Constant) and other.data != value.data:
        low_number, high_number = (int.from_bytes(end.data, "big") for end in (value, other))
        span = high_number - low_number + 1
        if kind.prefix and span > 1 and not span & (span - 1) and low_number % span == 0:
            size = len(value.data) * 8
            return f"{writer.constant(value.data, kind)}/{size - span.bit_length() + 1}"
        return f"{text}-{_address(other.data, kind, bracketed, writer)}"
    return text


def _nat_flags(flags: int) -> str:
    if flags & ~_NAT_ALL:
        raise Unclear
    words = [word for bit, word in _NAT_FLAGS if flags & bit]
    return f" {','.join(words)}" if words else ""


def _nat(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    kind = _ADDRESSES[fields["family"]]
    flags = fields.get("flags", 0)
    address = values.get("sreg_addr_min")
    family = f" {fields['family']}" if context.family == "inet" else ""
    text = str(fields["type"])
    if isinstance(address, Lookup):
        types = [kind]
        if flags & _NAT_PREFIX:
            text, types = f"{text} {fields['family']} prefix", [kind]
        elif writer.elements.data_size(address.set) > (4 if kind is t.IPADDR else 16):
            # two addresses as a range, or an address and its port
            is_range = (
                fields.get("sreg_addr_max", fields["sreg_addr_min"]) != fields["sreg_addr_min"]
            )
            types = [kind] if is_range else [kind, t.INET_SERVICE]
            text += f" {fields['family']}"
        else:
            text += family
        to = writer.text(resolve(context, address, writer), types)
        if len(types) == 1 and "sreg_proto_min" in fields:
            raise Unclear
        return f"{text} to {to}{_nat_flags(flags)}"
    if flags & _NAT_PREFIX:
        raise Unclear
    text += family
    has_port = "sreg_proto_min" in values
    to = ""
    if address is not None:
        to = _endpoint(context, values, "sreg_addr_min", "sreg_addr_max", kind, has_port, writer)
    if has_port:
        if isinstance(values["sreg_proto_min"], Lookup) and address is not None:
            context.reset()
        port = _endpoint(context, values, "sreg_proto_min", "sreg_proto_max", t.INET_SERVICE,
                         False, writer)  # fmt: skip
        to += f":{port}"
    return f"{text} to {to}{_nat_flags(flags)}"


def _ports(word: str) -> Effect:
    """masquerade and redirect, which have ports only."""

    def made(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
        to = ""
        if "sreg_proto_min" in values:
            port = _endpoint(context, values, "sreg_proto_min", "sreg_proto_max", t.INET_SERVICE,
                             False, writer)  # fmt: skip
            to = f" to :{port}"
        return f"{word}{to}{_nat_flags(fields.get('flags', 0))}"

    return made


def _tproxy(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    family = fields.get("family", "unspec")
    text = f"tproxy {family}" if context.family == "inet" and family != "unspec" else "tproxy"
    to = ""
    address, port = values.get("sreg_addr"), values.get("sreg_port")
    if address is not None:
        to = _address(address.data, _ADDRESSES[family], True, writer)
    if port is not None:
        to += f":{writer.constant(port.data, t.INET_SERVICE)}"
    return f"{text} to {to}"


def _dup(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    device = values.get("sreg_dev")
    if context.family in ("ip", "ip6"):
        text = f"dup to {writer.constant(values['sreg_addr'].data, _ADDRESSES[context.family])}"
        return text + (f" device {writer.constant(device.data, t.IFINDEX)}" if device else "")
    if device is None:
        raise Unclear
    return f"dup to {writer.constant(device.data, t.IFINDEX)}"


def _fwd(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    device = writer.constant(values["sreg_dev"].data, t.IFINDEX)
    if "sreg_addr" not in values:
        return f"fwd to {device}"
    family = fields["nfproto"]
    address = writer.constant(values["sreg_addr"].data, _ADDRESSES[family])
    return f"fwd {family} to {address} device {device}"


_REJECT_DEFAULTS = {"ip": 3, "ip6": 4}
_REJECT_CODES = {"ip": ("icmp", t.REJECT_ICMP), "ip6": ("icmpv6", t.REJECT_ICMPV6)}
_ICMPX_PORT_UNREACHABLE = 1


def _reject(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    kind, code = fields["type"], fields.get("code", 0)
    family = context.reject(kind)
    if kind == "tcp_reset":
        return "reject with tcp reset"
    if kind == "icmpx":
        if code == _ICMPX_PORT_UNREACHABLE:
            return "reject"
        return f"reject with icmpx {t.REJECT_ICMPX[code]}"
    if kind != "icmp" or family is None:
        raise Unclear
    if code == _REJECT_DEFAULTS[family] and context.family in ("ip", "ip6"):
        return "reject"
    word, codes = _REJECT_CODES[family]
    return f"reject with {word} {codes[code]}"


def _dynset(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    name, op = fields["set"], fields["op"]
    if name.startswith("__") or op not in ("add", "update", "delete"):
        raise Unclear
    text = writer.text(resolve(context, values["sreg_key"], writer))
    if fields.get("timeout"):
        text += f" timeout {interval(int(fields['timeout']))}"
    for inner in fields.get("expressions", ()):
        text += f" {stateless(inner)}"
    if "sreg_data" in values:
        data = values["sreg_data"]
        if isinstance(data, Constant):
            (part,) = writer.elements.data_parts(name)
            text += f" : {part._replace(size=len(data.data)).text(data.data, writer.order)}"
        elif isinstance(data, Payload):
            raise Unclear
        else:
            text += f" : {writer.text(resolve(context, data, writer))}"
    words = writer.elements.meter(name) if fields.get("expressions") else None
    return f"{words or f'{op} @{name}'} {{ {text} }}"


def _objref(context: Context, fields: Fields, values: Fields, writer: Writer) -> str:
    if "object" in fields:
        return f"{object_words(fields['type'])} {quoted(fields['object'])}"
    key = resolve(context, values["sreg"], writer)
    words = object_words(writer.elements.object_type(fields["set"]))
    return f"{words} {writer.text(key)} map {writer.elements(fields['set'], key, [])}"


EFFECTS: dict[str, Effect] = {
    "meta": _meta, "ct": _ct, "payload": _payload, "exthdr": _exthdr, "nat": _nat,
    "masq": _ports("masquerade"), "redir": _ports("redirect"), "tproxy": _tproxy, "dup": _dup,
    "fwd": _fwd, "reject": _reject, "dynset": _dynset, "objref": _objref,
}  # fmt: skip
