"""How the fields of a log become the fields of packet records: one table for each layout.

A format states its layout as a construct schema (a `Plan`) and the meaning of the fields as rows:
`Count`, `Seq`, `Time`, `Number`, `Words` and `Packet`. Three readers use the same table.
`reference` loops over the rows: it is slow and obviously right. `packets` makes the function that
decodes a stream. `columns.mapped` reads many records at once with NumPy. Property tests check that
the three agree, so a format adds no code of its own for speed.

An example of a new format (tests/test_mapping.py runs it):

    HEADER = Struct("len" / Int16ub, "action" / Int8ub, "pad" / Int8ub, "rule" / Int32ub,
                    "uid" / Int32ub, "ifname" / Bytes(8))

    def explain(action, ifname):
        return ("block" if action else "pass"), ifname.rstrip(b"\\0").decode()

    MAPPING = Mapping("toy", "toy", Plan(HEADER), (
        Number(AT_RULE, "rule", add=1, none=ALL_ONES, of_rule=True),
        Number(AT_UID, "uid", none=ALL_ONES),
        Words((AT_ACTION, AT_INDEV), ("action", "ifname"), explain),
        Packet(),
    ))

A row whose field is not in the layout leaves the record's field None, so the versions of a format
share one table. What no row can express (where a record ends, its log) is left to the Stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Fields
from typing import Any, Final, NamedTuple

from pylog.formats import BESIDE_PACKETS, LEFT_OUT, Message, NextSeq, Stream
from pylog.formats.addresses import addresses
from pylog.formats.ip_numbers import ICMP_ERRORS
from pylog.formats.packet import IPV4_TCP_SIZE, TCP_FLAGS, ipv4_tcp_fields, put_headers, swapped
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6
from pylog.formats.plan import Plan, Unpack
from pylog.formats.stream import Test
from pylog.memo import Memo
from pylog.record import (
    MAX_SECONDS,
    PacketRecord,
    PacketRow,
    Record,
    Row,
    json_ready,
    rfc3339,
    rfc3339_us,
)
from pylog.record.places import (
    AT_CAPLEN,
    AT_COUNT,
    AT_DADDR,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_LAYOUT,
    AT_LENGTH,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PAYLOAD,
    AT_PROTOCOL,
    AT_RAW,
    AT_SADDR,
    AT_SEQ,
    AT_SOURCE,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_TIMESTAMP,
    Values,
    no_values,
)

DecodeMany = Callable[
    [bytes, Iterable[Message], bool, list[Record | Row], NextSeq | None, bool], None
]
"""(data, messages, whether to keep their bytes, list for the records, expected numbers, whether
rows are wanted), as Stream.records."""

ALL_ONES: Final = -1
"""As `none` of a Number: the value with every bit set, whatever the size of the field."""

_OWN: Final = 4
"""The number of values that come first from `Mapping.read`: count, seq, seconds, microseconds."""


class Count(NamedTuple):
    """How many packets the record stands for; 0 is a flaw."""

    field: str


class Seq(NamedTuple):
    """The sequence number of the record in its log."""

    field: str


class Time(NamedTuple):
    """The kernel's time, in seconds and microseconds; a time that no kernel writes is a flaw."""

    seconds: str
    micros: str


class Number(NamedTuple):
    """A number of at most 4 bytes: `add` is added to it, and the value `none` becomes None.

    of_rule   it has few distinct values, as a rule has: they are remembered with the words
    """

    place: int
    field: str
    add: int = 0
    none: int | None = None
    of_rule: bool = False


class Words(NamedTuple):
    """What the values of several fields mean, worked out once for all records that agree in them.

    places    of the record's fields: AT_ACTION, AT_EXTRA and so on
    fields    of the layout
    explain   (*the values of the fields, None where the layout has no such field) -> the values of
              the record's fields

    AT_FAMILY among the places is the family of packets whose own header does not show it.
    """

    places: tuple[int, ...]
    fields: tuple[str, ...]
    explain: Callable[..., Sequence[Any]]


class Packet(NamedTuple):
    """The packet from its IP header on, which is all that follows the fields.

    host_order   the kernel keeps ip_len and ip_off in little-endian order
    """

    host_order: bool = False


RowType = Count | Seq | Time | Number | Words | Packet


class Mapping:
    """A table of rows for one layout.

    source, layout   of the records
    log         the log of the source that numbers the records
    magic       begins each record, where records of other logs lie between them
    *_field     the fields of count, seq, seconds and microseconds; "" where there is none
    numbers     the Number rows of fields that the layout has, with `none` as the field stores it
    words       the Words rows
    read        (data, offset) -> count, seq, seconds, microseconds, `own_numbers`, then runs of
                bytes, see Plan.keyed
    explained   by the runs of bytes, the record's values that they determine; the others are None
    decided     the attributes of a record that these runs decide
    """

    def __init__(
        self, source: str, layout: str, plan: Plan, rows: Sequence[RowType], log: str = "",
        magic: bytes = b"",
    ) -> None:  # fmt: skip
        self.source, self.layout = source, layout
        self.plan, self.rows, self.log, self.magic = plan, tuple(rows), log, magic
        self.host_order = any(isinstance(row, Packet) and row.host_order for row in rows)
        self.count_field = self.seq_field = self.seconds_field = self.micros_field = ""
        self.numbers: list[Number] = []
        self.words: list[Words] = []
        for row in rows:
            if isinstance(row, Words):
                self.words.append(row)
            elif isinstance(row, Time):
                self.seconds_field, self.micros_field = row.seconds, row.micros
            elif isinstance(row, Packet) or row.field not in plan.places:
                continue
            elif isinstance(row, Count):
                self.count_field = row.field
            elif isinstance(row, Seq):
                self.seq_field = row.field
            elif isinstance(row, Number):
                self.numbers.append(row._replace(none=_none(plan, row)))
        self.own_numbers = [row for row in self.numbers if not row.of_rule]
        self._rule_numbers = [row for row in self.numbers if row.of_rule]
        singly = [self.count_field, self.seq_field, self.seconds_field, self.micros_field]
        singly += [row.field for row in self.own_numbers]
        self.runs_at = len(singly)
        together = [row.field for row in self._rule_numbers]
        for words in self.words:
            together += words.fields
        read, self._values_of = plan.keyed(singly, together)
        self.read: Unpack = read
        self.explained: Memo[tuple[bytes, ...], Values] = Memo(self._explain)
        names = PacketRecord.__struct_fields__
        self.decided = BESIDE_PACKETS - {names[row.place] for row in self.own_numbers}

    def _explain(self, runs: tuple[bytes, ...]) -> Values:
        given, values = self._values_of(runs), no_values()
        values[AT_SOURCE], values[AT_LAYOUT] = self.source, self.layout
        at = len(self._rule_numbers)
        for row, number in zip(self._rule_numbers, given[:at], strict=True):
            values[row.place] = None if number == row.none else number + row.add
        for words in self.words:
            end = at + len(words.fields)
            meanings = words.explain(*given[at:end])
            for place, meaning in zip(words.places, meanings, strict=True):
                values[place] = meaning
            at = end
        return values


def _none(plan: Plan, row: Number) -> int | None:
    """The number that means None in a field."""
    leaf = plan.places[row.field]
    if leaf.size > 4:
        raise ValueError(f"{row.field} has {leaf.size} bytes, but a Number at most 4")
    return 2 ** (8 * leaf.size) - 1 if row.none == ALL_ONES and leaf.code.isupper() else row.none


def reference(mapping: Mapping, fields: Fields[str, Any], packet: bytes) -> PacketRecord:
    """The record of a message by the table alone, to check `packets` with.

    fields   the layout's fields by name, as construct parses them
    packet   what follows them

    The record has no offset, raw bytes and time of receipt: only the stream has these.
    """
    values = no_values()
    values[AT_SOURCE], values[AT_LAYOUT] = mapping.source, mapping.layout
    flaws: dict[str, Any] = {}
    ethertype = 0
    for row in mapping.rows:
        if isinstance(row, Words):
            meanings = row.explain(*[fields.get(name) for name in row.fields])
            for place, meaning in zip(row.places, meanings, strict=True):
                values[place] = meaning
        elif isinstance(row, Time):
            seconds, micros = fields[row.seconds], fields[row.micros]
            if micros < 1_000_000 and seconds <= MAX_SECONDS:
                values[AT_TIMESTAMP] = seconds * 1_000_000_000 + micros * 1000
            else:
                flaws |= {row.seconds: json_ready(seconds), row.micros: json_ready(micros)}
        elif isinstance(row, Packet):
            version = packet[0] >> 4 if packet else 0
            ethertype = {4: ETH_P_IP, 6: ETH_P_IPV6}.get(version, 0)
            if not ethertype:
                flaws["bad_header"] = f"version {version}"
            if ethertype == ETH_P_IP and row.host_order:
                packet = swapped(packet)
        elif fields.get(row.field) is None:
            continue
        elif isinstance(row, Seq):
            values[AT_SEQ] = fields[row.field]
        elif isinstance(row, Count):
            values[AT_COUNT] = fields[row.field] or None
            if not fields[row.field]:
                flaws[row.field] = 0
        else:
            number = fields[row.field]
            none = _none(mapping.plan, row)
            values[row.place] = None if number == none else number + row.add
    values[AT_EXTRA] = (values[AT_EXTRA] or {}) | flaws or None
    values[AT_PAYLOAD] = packet
    put_headers(values, packet, 0, len(packet), ethertype)
    return PacketRecord(*values)


def flawed_time(
    stream: Stream, pos: int, time: Time, sec: int, usec: int, extra: dict[str, Any]
) -> bool:
    """Whether no kernel writes such a time. It is a flaw of the record, and kept in `extra`."""
    if usec >= 1_000_000:
        stream.flawed(pos, time.micros, usec, "0 to 999999")
    elif sec > MAX_SECONDS:
        stream.flawed(pos, time.seconds, sec, f"at most {MAX_SECONDS} (year 9999)")
    else:
        return False
    extra |= {time.seconds: json_ready(sec), time.micros: json_ready(usec)}
    return True


def checked_count(
    stream: Stream, pos: int, field: str, count: int, extra: dict[str, Any]
) -> int | None:
    """The count of the record at `pos`; 0 is a flaw, kept in `extra`."""
    if count == 0:
        stream.flawed(pos, field, 0, "1 or more")
        extra[field] = 0
    return count or None


def packets(stream: Stream, mapping: Mapping) -> DecodeMany:
    """The function that decodes packet records; those of other logs go to `stream.decode`."""
    read, rules, fixed = mapping.read, mapping.explained, mapping.plan.size
    magic, log, host_order = mapping.magic, mapping.log, mapping.host_order
    count_field, runs_at = mapping.count_field, mapping.runs_at
    counted, numbered = bool(count_field), bool(mapping.seq_field)
    time = Time(mapping.seconds_field, mapping.micros_field)
    timed = bool(time.seconds)
    decided = mapping.decided
    asked: Test | None = None
    answers: Memo[tuple[bytes, ...], bool] | None = None
    """What the test that was asked says of runs."""

    def answers_of(test: Test | None) -> Memo[tuple[bytes, ...], bool] | None:
        nonlocal asked, answers
        if test is not asked:
            asked = test
            answers = None if test is None else Memo(lambda runs: test(PacketRecord(*rules[runs])))
        return answers

    own_numbers = [
        (i, row.place, row.add, row.none) for i, row in enumerate(mapping.own_numbers, _OWN)
    ]

    def decode(
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None,
        rows: bool,
    ) -> None:
        add, wants_payload = found.append, stream.wants_payload
        test, fits = (None, None) if numbers is None else stream.tests(decided)
        wanted_runs = answers_of(test)
        make: Any = PacketRow if rows else PacketRecord
        base: int | None = None if stream.live else stream.base
        received: Any = stream.observed_ns
        if rows and received is not None:
            received = rfc3339(received)
        for message in messages:
            start: int = message.start
            end: int = message.end
            origin = message.origin
            if not data.startswith(magic, start):
                record = stream.decode(data, message, raw)
                if numbers is not None and not numbers.pass_on(record):
                    return
                add(stream.given(record))
                continue
            given = read(data, start)
            count, seq, sec, usec = given[:_OWN]
            flaws: dict[str, Any] | None = None
            lasting = timed
            if count == 0 or (timed and (usec >= 1_000_000 or sec > MAX_SECONDS)):
                flaws = {}
                if count == 0:
                    count = checked_count(stream, start, count_field, count, flaws)
                lasting = timed and not flawed_time(stream, start, time, sec, usec, flaws)
            at = start + fixed
            size = end - at
            packet: Any = data[at:end]
            version = packet[0] >> 4 if packet else 0
            if version == 4:
                ethertype = ETH_P_IP
                if host_order:
                    packet = swapped(packet)
            elif version == 6:
                ethertype = ETH_P_IPV6
            else:
                stream.flawed(at, "ip_v", version, "4 or 6")
                ethertype = 0
                flaws = (flaws or {}) | {"bad_header": f"version {version}"}
            if not numbered:
                if numbers is not None and not numbers.unnumbered:
                    return
            elif numbers is not None:
                if numbers.get(log) != seq:
                    return
                numbers[log] = (seq + (count or 1 if counted else 1)) & 0xFFFFFFFF
            runs = given[runs_at:]
            if wanted_runs is not None and not wanted_runs[runs]:
                add(LEFT_OUT)
                continue
            values: Values = rules[runs].copy()
            if base is not None:
                values[AT_OFFSET] = base + start
            if numbered:
                values[AT_SEQ] = seq
            if counted:
                values[AT_COUNT] = count
            for i, place, plus, none in own_numbers:
                number = given[i]
                values[place] = None if number == none else number + plus
            observed: Any = received if origin is None else origin.observed_ns
            if rows:
                if lasting:
                    values[AT_TIMESTAMP] = rfc3339_us(sec, usec)
                if origin is not None and observed is not None:
                    observed = rfc3339(observed)
                if wants_payload:
                    values[AT_PAYLOAD] = packet.hex()
            else:
                if lasting:
                    values[AT_TIMESTAMP] = sec * 1_000_000_000 + usec * 1000
                extra = values[AT_EXTRA]
                if extra:
                    values[AT_EXTRA] = (
                        extra.copy()
                    )  # the dict is shared, and the caller may change it
                values[AT_PAYLOAD] = packet
                if raw:
                    values[AT_RAW] = data[start:end]
            values[AT_OBSERVED] = observed
            if flaws is not None:
                values[AT_EXTRA] = (values[AT_EXTRA] or {}) | flaws
            if ethertype == ETH_P_IP and size >= IPV4_TCP_SIZE:
                (
                    version, length, bits, protocol, src, dst, sport, dport, flags,
                ) = ipv4_tcp_fields(packet, 0)  # fmt: skip
                regular = version == 0x45 and not bits & 0x3FFF
                if regular and protocol == 6:
                    values[AT_SPORT], values[AT_DPORT] = sport, dport
                    values[AT_TCP_FLAGS] = TCP_FLAGS[flags]
                elif regular and protocol == 17:
                    values[AT_SPORT], values[AT_DPORT] = sport, dport
                elif (
                    regular and protocol == 1 and sport >> 8 not in ICMP_ERRORS
                ):  # in the same bytes
                    values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = sport >> 8, sport & 0xFF
                else:
                    regular = False
                if regular:
                    values[AT_FAMILY], values[AT_PROTOCOL] = "ipv4", protocol
                    values[AT_SADDR], values[AT_DADDR] = addresses[src], addresses[dst]
                    if length >= size:  # as packet.believed
                        values[AT_LENGTH] = length
                    values[AT_CAPLEN] = size
                    add(make(*values) if fits is None or fits(values) else LEFT_OUT)
                    continue
            put_headers(values, packet, 0, size, ethertype)
            add(make(*values) if fits is None or fits(values) else LEFT_OUT)

    return decode
