"""Facts about the headers of layer 4, in arrays by protocol number."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from pylog.formats.columns import Array
from pylog.formats.ip_numbers import EXTENSIONS, FRAGMENT, ICMP6_ERRORS, ICMP_ERRORS
from pylog.formats.packet_schemas import AH, ESP, GRE, HEADER_NAMES, ICMP, SCHEMAS

NOTHING = 256
"""In place of a protocol: no header of layer 4 is read."""

CUTS = (None, "ipv6", "ipv4 options", "ipv6 extension", "ipv6 fragment",
         *dict.fromkeys(HEADER_NAMES.values()))  # fmt: skip
"""The headers that may be cut; the number is the index."""


class Protocols(NamedTuple):
    """Facts about protocols, in arrays by protocol number, and NOTHING.

    size     bytes of the header; a shorter one is cut
    ports    whether it has ports
    icmp     whether it is ICMP or ICMPv6
    cut      the place of its name in CUTS
    extra    how many bytes of it put something into `extra`; FAR_TOO_MANY: none
    quotes   by number << 8 | the header's first byte: whether it is an ICMP error
    """

    size: Array
    ports: Array
    icmp: Array
    cut: Array
    extra: Array
    quotes: Array


FAR_TOO_MANY = 1 << 32
_CHECKED = 4
"""An ICMP header is complete with type, code and checksum."""


@cache
def protocols() -> Protocols:
    count = NOTHING + 1
    size, cut, extra = np.zeros(count, np.int64), np.zeros(count, np.uint8), np.zeros(count, int)
    ports, icmp = np.zeros(count, bool), np.zeros(count, bool)
    quotes = np.zeros((count, 256), bool)
    extra[:], size[NOTHING] = FAR_TOO_MANY, -FAR_TOO_MANY
    for number, name in HEADER_NAMES.items():
        if number in EXTENSIONS or number == FRAGMENT:
            continue
        schema = SCHEMAS[name]
        ports[number] = any(field.name == "sport" for field in schema.subcons)
        icmp[number] = schema is ICMP
        size[number] = _CHECKED if icmp[number] else schema.sizeof()
        cut[number] = CUTS.index(name)
        if schema in (ESP, GRE):
            extra[number] = 4
        elif schema is AH:
            extra[number] = 1
        if icmp[number]:
            quotes[number, list(ICMP_ERRORS if name == "icmp" else ICMP6_ERRORS)] = True
    return Protocols(size, ports, icmp, cut, extra, quotes.ravel())
