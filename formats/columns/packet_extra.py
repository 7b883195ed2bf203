"""What determines the fields that headers put into `extra`, for many packets at once.

These are the packet that an ICMP error quotes, ARP, and the numbers of ESP, AH and GRE. Packets
that agree in the bytes that matter have equal keys, so that each distinct value is decoded once.
Bytes that no record shows, as checksums, do not matter.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from pylog.formats.columns import Array
from pylog.formats.columns.arrays import alike, gather
from pylog.formats.ip_numbers import EXTENSIONS, FRAGMENT
from pylog.formats.packet_schemas import HEADER_NAMES, ICMP, IPV4, IPV6, TCP

KEY = 144
"""At most this many bytes of a packet determine what its headers put into `extra`."""

ARP_SIZE = 28
"""The size of ARP with addresses of Ethernet and IPv4."""

QUOTED_AT = ICMP.sizeof()
"""Where the packet that an ICMP error quotes begins."""

_LAYER4 = TCP.sizeof()


class ExtraKeys:
    """The bytes of packets that determine their `extra`."""

    def __init__(
        self, data: Array, starts: Array, left: Array, upper: Array, quotes: Array, arp: Array
    ) -> None:
        """One row for each packet that puts something into `extra`.

        starts   where its ARP or its header of layer 4 begins
        left     how many bytes it has from there on
        upper    the protocol of layer 4
        quotes   whether it quotes a packet
        arp      whether it is ARP
        """
        self._data, self._upper, self._quotes, self._arp = data, upper, quotes, arp
        self._places = starts + np.where(quotes, QUOTED_AT, 0)
        spans = np.where(quotes, left - QUOTED_AT, left)
        self._spans = np.minimum(spans, KEY + 1)

    def complete(self) -> Array:
        """False for packets whose KEY bytes are not all in the data, or more of them matter."""
        good: Array = self._places + KEY <= len(self._data)
        if len(self._data) < KEY:
            return good
        places = np.minimum(self._places, len(self._data) - KEY)
        heads = gather(self._data, places, IPV6.sizeof())
        chained = np.isin(heads[:, 6], [*EXTENSIONS, FRAGMENT]) & (heads[:, 0] >> 4 == 6)
        good &= ~(self._quotes & chained & (self._spans > KEY))
        return good

    def codes(self) -> tuple[Array, list[bytes]]:
        """A code for each packet, and the key of each code."""
        octets = gather(self._data, self._places, KEY)
        kinds = _key_kinds(octets, self._quotes, self._arp)
        masks, most = _key_masks()
        spans = np.minimum(self._spans, most[kinds])
        octets &= masks[kinds]
        octets[np.arange(KEY) >= spans[:, None]] = 0
        codes, first = alike([octets, spans, kinds, self._upper])
        heads = np.stack([spans, kinds, self._upper], axis=1).astype(np.uint16)
        return codes, [heads[i].tobytes() + octets[i].tobytes() for i in first.tolist()]


_PLAIN, _ALL, _ARP, _QUOTED = 0, 1, 2, 3
"""Kinds of keys: the header of layer 4, a quoted packet of which all bytes matter, ARP; and the
first kind of quoted packets whose headers have nothing unusual."""

_UPPER_MASKS = {"tcp": (0, 1, 2, 3, 13), "udp": (0, 1, 2, 3), "icmp": (0, 1), "icmpv6": (0, 1)}
"""The bytes of headers of layer 4 that a record of a quoted packet shows."""
_FOUR_BYTES = (0, 2, 3, 6, 7, 9, *range(12, 20))
_SIX_BYTES = (0, 4, 5, 6, *range(8, 40))
"""The bytes of an IP header without options, extension headers and fragment that it shows."""


@cache
def _key_masks() -> tuple[Array, Array]:
    """By kind: 0xFF for the bytes that matter, and how many bytes may matter."""
    chosen: list[tuple[tuple[int, ...], int]] = [
        (tuple(range(12)), 12),
        (tuple(range(KEY)), KEY),
        ((0, 1, 2, 3, 4, 5, 6, 7, *range(8, 14), *range(18, 24)), ARP_SIZE),
    ]
    for places, size in ((_FOUR_BYTES, IPV4.sizeof()), (_SIX_BYTES, IPV6.sizeof())):
        for upper in _UPPER_MASKS.values():
            chosen.append(((*places, *(size + at for at in upper)), size + _LAYER4))
    masks = np.zeros((len(chosen), KEY), np.uint8)
    for kind, (places, _) in enumerate(chosen):
        masks[kind, list(places)] = 0xFF
    return masks, np.array([most for _, most in chosen])


@cache
def _quoted_kinds() -> Array:
    """By family and protocol: the kind of key of a quoted packet without anything unusual."""
    kinds = np.full((2, 256), _ALL, np.intp)
    names = list(_UPPER_MASKS)
    for family in range(2):
        for number, name in HEADER_NAMES.items():
            if name in names:
                kinds[family, number] = _QUOTED + family * len(names) + names.index(name)
    return kinds


def _key_kinds(octets: Array, quotes: Array, arp: Array) -> Array:
    four = (octets[:, 0] == 0x45) & (octets[:, 6] & 0x3F == 0) & (octets[:, 7] == 0)
    six = octets[:, 0] >> 4 == 6
    by_protocol = _quoted_kinds()
    kinds = np.where(four, by_protocol[0, octets[:, 9]], _ALL)
    kinds = np.where(six, by_protocol[1, octets[:, 6]], kinds)
    return np.where(quotes, kinds, np.where(arp, _ARP, _PLAIN))
