"""How fields of records become values of information elements: what packets and flows share.

A part takes a record and gives the bytes of a value, or None where the record does not say: IPFIX
has no empty value, so a template lists only what its records have. Numbers and times that the
element cannot hold are left out, and texts are cut to MOST_TEXT bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from pylog.formats.addresses import octets as address_octets
from pylog.memo import Memo
from pylog.outputs import _ipfix_elements as ie
from pylog.outputs._ipfix_elements import VARIABLE, Element

MOST_TEXT = 254
"""The most bytes of a text: longer ones would need a longer length (RFC 7011, 7)."""

Octets = Callable[[Any], bytes | None]
Number = Callable[[str | int], int | None]
"""Gives the number that stands for an interface; None: there are too many."""


class Part(NamedTuple):
    """A value that records of a kind may have.

    fields     of the record that it is made of
    elements   that it is a value of: of several, the one with the value's length
    octets     gives the value of a record; one of variable length begins with its length
    note       how the value is made, where the element does not say it
    always     whether there may be a value although the record lacks the first of the fields
    """

    fields: tuple[str, ...]
    elements: tuple[Element, ...]
    octets: Octets
    note: str = ""
    always: bool = False

    def lengths(self) -> dict[int, Element]:
        """The element for each length of a value."""
        return {element.size: element for element in self.elements}

    @property
    def is_variable(self) -> bool:
        return self.elements[0].size == VARIABLE


def number_part(field: str, element: Element, note: str = "") -> Part:
    """The part that is a number of the record as it is."""
    get, size = attrgetter(field), element.size

    def octets(record: Any) -> bytes | None:
        value = get(record)
        return None if value is None else fitting(value, size)

    return Part((field,), (element,), octets, note)


def fitting(value: int, size: int) -> bytes | None:
    """A number as bytes; None for one that does not fit."""
    try:
        return value.to_bytes(size)
    except OverflowError:
        return None


def choice_part(
    field: str, element: Element, numbers: dict[Any, int], note: str = ""
) -> Part:  # fmt: skip
    """The part that is a number for some values of the field."""
    get = attrgetter(field)
    values = {value: number.to_bytes(element.size) for value, number in numbers.items()}
    return Part((field,), (element,), lambda record: values.get(get(record)), note)


def address_part(field: str, *elements: Element) -> Part:
    """The part that is an IPv4 or IPv6 address."""
    get = attrgetter(field)

    def octets(record: Any) -> bytes | None:
        text = get(record)
        if text is None:
            return None
        try:
            return address_octets[text]
        except ValueError:
            return None

    return Part((field,), elements, octets)


def _text(text: str) -> bytes:
    octets = text.encode("utf-8", "backslashreplace")
    if len(octets) > MOST_TEXT:
        octets = octets[:MOST_TEXT].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets


texts = Memo(_text)
"""A text as a value of variable length."""


def text_part(field: str, element: Element) -> Part:
    """The part that is a text, or a number as text."""
    get = attrgetter(field)

    def octets(record: Any) -> bytes | None:
        value = get(record)
        return None if value is None else texts[str(value)]

    return Part((field,), (element,), octets)


def interface_part(field: str, element: Element, number: Number) -> Part:
    """The part that is the number of an interface."""
    get = attrgetter(field)

    def octets(record: Any) -> bytes | None:
        name = get(record)
        value = None if name is None else number(name)
        return None if value is None else fitting(value, 4)

    return Part((field,), (element,), octets, "of a name: a number from 2^31, see below")


# Times

_NTP = 2_208_988_800
"""Seconds from 1900, where NTP's time begins, to 1970."""
_FIRST, _LAST = -61_505_152, 4_233_462_144
"""Seconds since 1970 of the times that NTP's 32 bits can tell apart: 1968-01-20 to 2104-02-26 (RFC
4330, 3)."""


def ntp(time_ns: int) -> bytes | None:
    """A time as dateTimeNanoseconds (RFC 7011, 6.1.10): seconds and 2^-32 seconds since 1900."""
    second, part = divmod(time_ns, 1_000_000_000)
    if not _FIRST <= second < _LAST:
        return None
    fraction = ((part << 32) + 999_999_999) // 1_000_000_000  # up, so that readers can cut off
    return ((((second + _NTP) & 0xFFFFFFFF) << 32) | fraction).to_bytes(8)


def milliseconds(time_ns: int) -> bytes | None:
    """A time as dateTimeMilliseconds, since 1970; cut off."""
    return fitting(time_ns // 1_000_000, 8)


def time_of(record: Any) -> int | None:
    """The kernel's time of a record, else when it was received."""
    time_ns: int | None = record.timestamp_ns
    return record.observed_ns if time_ns is None else time_ns


def time_parts() -> list[Part]:
    """When a record was made, exactly, and when it was received if that is all that is there."""

    def kernel(record: Any) -> bytes | None:
        return None if record.timestamp_ns is None else ntp(record.timestamp_ns)

    def received(record: Any) -> bytes | None:
        if record.timestamp_ns is not None or record.observed_ns is None:
            return None
        return milliseconds(record.observed_ns)

    return [
        Part(("timestamp_ns",), (ie.observationTimeNanoseconds,), kernel),
        Part(("observed_ns",), (ie.collectionTimeMilliseconds,), received,
             "if there is no `timestamp`"),
    ]  # fmt: skip


def range_parts(
    times: str, fields: tuple[tuple[str, ...], tuple[str, ...]],
    start: Callable[[Any], int | None], end: Callable[[Any], int | None], notes: tuple[str, str],
) -> list[Part]:  # fmt: skip
    """When the first packet passed, and the last.

    times   milliseconds or nanoseconds
    """
    exact = times == "nanoseconds"
    convert = ntp if exact else milliseconds
    elements = ((ie.flowStartNanoseconds, ie.flowEndNanoseconds) if exact else
                (ie.flowStartMilliseconds, ie.flowEndMilliseconds))  # fmt: skip

    def converted(get: Callable[[Any], int | None]) -> Octets:
        def octets(record: Any) -> bytes | None:
            time_ns = get(record)
            return None if time_ns is None else convert(time_ns)

        return octets

    return [
        Part(fields[i], (elements[i],), converted(get), notes[i], always=True)
        for i, get in enumerate((start, end))
    ]


# Ends

ADDRESSES = (
    address_part("saddr", ie.sourceIPv4Address, ie.sourceIPv6Address),
    address_part("daddr", ie.destinationIPv4Address, ie.destinationIPv6Address),
    number_part("sport", ie.sourceTransportPort, "of ICMP flows their id, of GRE flows a key"),
    number_part("dport", ie.destinationTransportPort),
    number_part("protocol", ie.protocolIdentifier),
)
TRANSLATED = (
    address_part("nat_saddr", ie.postNATSourceIPv4Address, ie.postNATSourceIPv6Address),
    address_part("nat_daddr", ie.postNATDestinationIPv4Address, ie.postNATDestinationIPv6Address),
    number_part("nat_sport", ie.postNAPTSourceTransportPort),
    number_part("nat_dport", ie.postNAPTDestinationTransportPort),
)


def _version(family: Any) -> bytes | None:
    return {"ipv4": b"\4", "ipv6": b"\6"}.get(family)


def _ethertype(record: Any) -> bytes | None:
    family = record.family
    if family == "arp":
        return b"\x08\x06"
    return fitting(family, 2) if isinstance(family, int) else None


FAMILY = (
    Part(("family",), (ie.ipVersion,), lambda record: _version(record.family)),
    Part(("family",), (ie.ethernetType,), _ethertype, "of ARP and other protocols"),
)


def _icmp(family: str) -> Octets:
    """Type and code of a message."""

    def octets(record: Any) -> bytes | None:
        if record.icmp_type is None or record.icmp_code is None or record.family != family:
            return None
        return fitting(record.icmp_type << 8 | record.icmp_code, 2)

    return octets


def _icmp_type(family: str) -> Octets:
    """The type of a message whose code is missing."""

    def octets(record: Any) -> bytes | None:
        if record.icmp_type is None or record.icmp_code is not None or record.family != family:
            return None
        return fitting(record.icmp_type, 1)

    return octets


_TYPE, _TYPE_CODE = ("icmp_type",), ("icmp_type", "icmp_code")
ICMP = (
    Part(_TYPE_CODE, (ie.icmpTypeCodeIPv4,), _icmp("ipv4")),
    Part(_TYPE_CODE, (ie.icmpTypeCodeIPv6,), _icmp("ipv6")),
    Part(_TYPE, (ie.icmpTypeIPv4,), _icmp_type("ipv4"), "if the code is missing"),
    Part(_TYPE, (ie.icmpTypeIPv6,), _icmp_type("ipv6"), "if the code is missing"),
)


def rule_name(record: Any) -> str | None:
    """IPFilter's rule as ipmon names it: @GROUP:RULE."""
    if record.source != "ipl" or record.rule is None:
        return None
    return f"@{record.group or '0'}:{record.rule}"
