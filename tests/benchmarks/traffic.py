"""Packets as firewalls log them, the same in every run.

Four in five are TCP SYNs of 40 bytes, the others pings of 84: what scans send. Of `skewed` traffic
most comes from few addresses, as it mostly is; `distinct` traffic never repeats an address or port
if it can help it, as whoever wants to fill memos would send it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from netlab import checksum

ICMP, TCP = 1, 6


def packets(count: int, distinct: bool = False) -> Iterator[bytes]:
    """IPv4 packets."""
    chance = random.Random(2024)
    few = [chance.getrandbits(32) for _ in range(500)]
    ports = (22, 23, 80, 443, 445, 3389, 8080, 5060)
    for number in range(count):
        common = not distinct and chance.random() < 0.95
        # skewed: the few first of the few most of all
        source = few[int(len(few) * chance.random() ** 3)] if common else chance.getrandbits(32)
        target = 0xC0000200 + chance.randrange(256) if not distinct else chance.getrandbits(32)
        if number % 5 < 4:
            dport = chance.choice(ports) if common else chance.randrange(1, 65536)
            yield tcp(source, target, chance.randrange(1024, 65536), dport, chance.getrandbits(32))
        else:
            yield ping(source, target, chance.getrandbits(16), number & 0xFFFF)


def ipv4(protocol: int, source: int, target: int, data: bytes) -> bytes:
    """An IPv4 packet."""
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(data), source & 0xFFFF, 0x4000, 52,
                       protocol, 0, source, target)  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data


def tcp(source: int, target: int, sport: int, dport: int, seq: int) -> bytes:
    """A SYN, 40 bytes."""
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 5 << 4, 2, 64240, 0, 0)
    pseudo = struct.pack("!IIBBH", source, target, 0, TCP, len(head))
    head = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
    return ipv4(TCP, source, target, head)


def ping(source: int, target: int, identifier: int, number: int) -> bytes:
    """An echo request, 84 bytes."""
    octets = struct.pack("!BBHHH", 8, 0, 0, identifier, number) + bytes(range(56))
    octets = octets[:2] + struct.pack("!H", checksum(octets)) + octets[4:]
    return ipv4(ICMP, source, target, octets)
