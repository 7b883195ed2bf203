"""What every source is turned into: packet, flow and loss records, and their one JSON shape.

Records are immutable. None means that the source did not say; it is never 0 and never "".
Times are integer nanoseconds since 1970 UTC in Python and RFC 3339 text in JSON; packet bytes are
bytes in Python and hex in JSON; a number above 2^53 is text in JSON. A name that is None is left
out of the JSON. Every name is explained under "The JSON" in README.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pylog.memo import Memo

Octets = bytes
"""FlowRecord has a field named bytes, which hides the type in its body."""

MAX_SECONDS = 253402300799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can write."""


JSON_NAMES = {"timestamp_ns": "timestamp", "observed_ns": "observed"}
"""Where the JSON has another name: there a time is text."""


class Fragment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The place of an IP fragment: `id` of the datagram, `offset` in bytes, `more` to follow.

    `dont` is the don't-fragment bit, which a fragment of a tunnel may carry.
    """

    id: int | None = None
    offset: int | None = None
    more: bool = False
    dont: bool = False


class Vlan(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One VLAN tag: `id` 0..4095, `priority` (PCP), `dei`, `protocol` (the tag's EtherType)."""

    id: int
    priority: int = 0
    dei: bool = False
    protocol: int | None = None


class PacketRecord(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    tag="packet",
    rename=JSON_NAMES,
):
    """A packet that a firewall rule logged (or `count` equal ones, where the kernel folded them).

    payload   the logged bytes from the network header on, as they were on the wire
    extra     whatever else the source said, under the kernel's names; JSON-ready values
    raw       the whole message as the kernel wrote it, when the reader was asked for it
    """

    source: str
    layout: str
    offset: int | None = None
    timestamp_ns: int | None = None
    observed_ns: int | None = None
    seq: int | None = None
    count: int | None = None
    action: str | int | None = None
    short: bool | None = None
    direction: str | None = None
    hook: str | int | None = None
    rule: int | None = None
    group: str | None = None
    prefix: str | None = None
    reason: str | int | None = None
    indev: str | int | None = None
    outdev: str | int | None = None
    physindev: str | int | None = None
    physoutdev: str | int | None = None
    mark: int | None = None
    uid: int | None = None
    gid: int | None = None
    hwaddr: str | None = None
    hwtype: int | None = None
    hwheader: str | None = None
    vlan: tuple[Vlan, ...] | None = None
    family: str | int | None = None
    protocol: int | None = None
    saddr: str | None = None
    daddr: str | None = None
    sport: int | None = None
    dport: int | None = None
    tcp_flags: str | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: Fragment | None = None
    length: int | None = None
    caplen: int | None = None
    cut: str | None = None
    extra: dict[str, Any] | None = None
    payload: bytes | None = None
    raw: bytes | None = None


class FlowRecord(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    tag="flow",
    rename=JSON_NAMES,
):
    """An event of a state, NAT or conntrack entry.

    saddr, daddr, sport, dport      the flow as its first packet had it
    nat_saddr, nat_daddr, ...       the translated ones
    packets, bytes                  counters by direction, under the source's names for them
    """

    source: str
    layout: str
    offset: int | None = None
    timestamp_ns: int | None = None
    observed_ns: int | None = None
    seq: int | None = None
    count: int | None = None
    event: str | int | None = None
    flow_type: str | int | None = None
    rule: int | None = None
    group: str | None = None
    indev: str | int | None = None
    outdev: str | int | None = None
    family: str | int | None = None
    protocol: int | None = None
    saddr: str | None = None
    daddr: str | None = None
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | None = None
    nat_saddr: str | None = None
    nat_daddr: str | None = None
    nat_sport: int | None = None
    nat_dport: int | None = None
    packets: dict[str, int] | None = None
    bytes: dict[str, int] | None = None
    extra: dict[str, Any] | None = None
    raw: Octets | None = None


class LossRecord(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    tag_field="kind",
    tag="loss",
    rename=JSON_NAMES,
):
    """Something was lost here: `count` records (None: unknown), or `size` bytes at `offset`.

    queue     the log that lost them: an NFLOG group, or ipf, nat or state of IPFilter
    reason    how the loss was seen
    """

    source: str
    layout: str
    offset: int | None = None
    timestamp_ns: int | None = None
    observed_ns: int | None = None
    seq: int | None = None
    count: int | None = None
    size: int | None = None
    queue: str | None = None
    reason: str | None = None
    raw: bytes | None = None

    @property
    def cut_off(self) -> bool:
        """Whether it stands for an input that ends within a record, or before its compression
        does: nothing is lost, the rest is not there yet or was not copied.
        """
        return " cut off" in (self.reason or "").partition(",")[0]

    def told(self) -> str:
        """What was lost, where and why, for people."""
        if self.cut_off:
            return f"{'' if self.offset is None else f'at offset {self.offset}: '}{self.reason}"
        where = "" if self.offset is None else f" at offset {self.offset}"
        why = "" if self.reason is None else f": {self.reason}"
        return f"lost {self.amount()}{where}{why}"

    def amount(self) -> str:
        """How much was lost, for people."""
        found = []
        if self.count is not None:
            found.append("1 record" if self.count == 1 else f"{self.count} records")
        if self.size is not None:
            found.append(f"{self.size} bytes")
        return ", ".join(found) or "an unknown number of records"


Record = PacketRecord | FlowRecord | LossRecord


def queue_of(record: Record) -> str:
    """The log within the source that numbers the record: an NFLOG group, or ipf, nat or state."""
    if isinstance(record, PacketRecord):
        return "ipf" if record.source == "ipl" else record.group or ""
    if isinstance(record, FlowRecord):
        return "state" if record.flow_type == "state" else "nat"
    return record.queue or ""


def escape(text: str) -> str:
    """Text that is safe on a terminal: what is not printable becomes \\n, \\x1b, \\u202e..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_json(text: str) -> str:
    """JSON text that is safe on a terminal: the same JSON, with \\u escapes for what is not
    printable, which JSON has in strings only. It may be one line, without its end.
    """
    if text.isprintable():
        return text
    units = [c if c.isprintable() else c.encode("utf-16-be", "surrogatepass") for c in text]
    return "".join(
        u
        if isinstance(u, str)
        else "".join(f"\\u{u[i : i + 2].hex()}" for i in range(0, len(u), 2))
        for u in units
    )


# The JSON shape: the same fields, with times as text, packet bytes as hex, and no raw bytes.

_put = msgspec.structs.force_setattr
_encoder = msgspec.json.Encoder()
_EPOCH = datetime(1970, 1, 1)
_THOUSAND = [f"{n:03}" for n in range(1000)]


def _second_text(second: int) -> str:
    """A second since 1970 as "2023-11-14T22:14:21", in UTC."""
    return (_EPOCH + timedelta(seconds=second)).isoformat()


_seconds = Memo(_second_text)


def rfc3339(timestamp_ns: int) -> str:
    """A time in nanoseconds since 1970 as RFC 3339 UTC text, with 6 or, if needed, 9 decimals."""
    second, part = divmod(timestamp_ns, 1_000_000_000)
    text = f"{_seconds[second]}.{_THOUSAND[part // 1_000_000]}{_THOUSAND[part // 1000 % 1000]}"
    return f"{text}{_THOUSAND[part % 1000]}Z" if part % 1000 else f"{text}Z"


def rfc3339_us(second: int, microsecond: int) -> str:
    """As `rfc3339`, for a second since 1970 and the microsecond in it."""
    return f"{_seconds[second]}.{_THOUSAND[microsecond // 1000]}{_THOUSAND[microsecond % 1000]}Z"


EXACT = 2**53
"""The largest number that every JSON reader holds exactly: many have no integers but doubles."""


def json_ready(value: Any) -> Any:
    """A value as JSON can hold it, down to its last part: numbers beyond 2^53 become text, bytes
    hex. Everything that becomes JSON passes here, when it is decoded or when it is written.
    What has nothing to change is given back as it is.
    """
    if isinstance(value, int):
        return value if -EXACT <= value <= EXACT else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            kind = type(part)  # nearly always one of these
            if kind is str or (kind is int and -EXACT <= part <= EXACT):
                continue
            if json_ready(part) is not part:
                break
        else:
            return value
        if isinstance(value, dict):
            return {name: json_ready(part) for name, part in value.items()}
        return [json_ready(part) for part in value]
    return value


def json_shape(record: Record) -> Any:
    """A copy of the record in which every value is as msgspec is to encode it."""
    whole: Any = record  # msgspec's stubs know no __copy__
    shape = whole.__copy__()
    if type(record.timestamp_ns) is int:
        _put(shape, "timestamp_ns", rfc3339(record.timestamp_ns))
    if type(record.observed_ns) is int:
        _put(shape, "observed_ns", rfc3339(record.observed_ns))
    if record.raw is not None:
        _put(shape, "raw", None)
    if type(record) is PacketRecord:
        if type(record.payload) is bytes:
            _put(shape, "payload", record.payload.hex())
        if record.extra:
            _put(shape, "extra", json_ready(record.extra))
    elif type(record) is FlowRecord:
        for name in ("packets", "bytes", "extra"):
            _put(shape, name, json_ready(getattr(record, name)))
    elif type(record) is LossRecord:
        for name in ("count", "size", "offset"):
            _put(shape, name, json_ready(getattr(record, name)))
    return shape


def to_json(record: Record) -> bytes:
    """The record as one JSON object, without a newline."""
    return _encoder.encode(json_shape(record))


def json_lines(records: Iterable[Record], shaped: bool = False) -> bytes:
    """The records as JSON objects, each followed by a newline; `shaped`: by json_shape, already."""
    if shaped:
        return _encoder.encode_lines(records)
    return _encoder.encode_lines([json_shape(record) for record in records])
