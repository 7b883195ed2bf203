"""What conntrack(8) prints, as fields of records; and messages of conntrack made anew."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from typing import Any

import samples

from pylog.formats.netlink import NLA_TYPE_MASK, Table, align
from pylog.formats.nfct_attributes import CTA, EXPECT

NFCT = samples.FIXTURES / "nfct"
LABELS = {"lab-one": 1, "lab-last": 127}
"""The connlabel.conf of the machine that recorded."""


def unpacked(name: str) -> bytes:
    """A fixture of conntrack, unpacked."""
    return lzma.decompress((NFCT / f"{name}.xz").read_bytes())


def messages(data: bytes) -> list[bytes]:
    """The netlink messages of a little-endian recording."""
    found, at = [], 0
    while at < len(data):
        size = align(int.from_bytes(data[at : at + 4], "little"))
        found.append(data[at : at + size])
        at += size
    return found


def big_endian(data: bytes) -> bytes:
    """The same messages as a big-endian machine would have them; values are in network order."""
    return b"".join(map(_turned, messages(data)))


def _turned(message: bytes) -> bytes:
    head = b"".join(message[a:b][::-1] for a, b in ((0, 4), (4, 6), (6, 8), (8, 12), (12, 16)))
    kind = int.from_bytes(message[4:6], "little")
    table = EXPECT if kind >> 8 == 2 else CTA if kind in (0x100, 0x102) else {}
    if kind < 0x100:
        return head + message[16:20][::-1]  # the errno of NLMSG_DONE
    return head + message[16:20] + _turned_attributes(table, message[20:])


def _turned_attributes(table: Table, data: bytes) -> bytes:
    out, at = b"", 0
    while len(data) - at >= 4:
        size, kind = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
        _, inner = table.get(kind & NLA_TYPE_MASK, ("", None))
        value = data[at + 4 : at + size]
        if isinstance(inner, dict):
            value = _turned_attributes(inner, value)
        out += size.to_bytes(2) + kind.to_bytes(2) + value + data[at + size : at + align(size)]
        at += align(size)
    return out + data[at:]


_OF_A_WAY = frozenset(("src", "dst", "sport", "dport", "type", "code", "packets", "bytes"))


def printed(text: str) -> Iterator[dict[str, Any]]:
    """The fields of a record that each line of `conntrack -E` or `-L` states, None for those that
    it would state if they were there.
    """
    for line in text.splitlines():
        match = re.match(
            r"(?:\[[\d.]+\s*\]\s*)?(?:\[(NEW|UPDATE|DESTROY)\]\s+)?"
            r"(ipv4|ipv6)\s+\d+ \S+\s+(\d+) (.*)",
            line.strip(),
        )
        if match:
            yield _stated(match[1], match[2], int(match[3]), match[4])


def _stated(event: str | None, family: str, protocol: int, rest: str) -> dict[str, Any]:
    words = rest.split()
    stated: dict[str, Any] = {
        "event": (event or "dump").lower(), "family": family, "protocol": protocol,
        "timeout": None, "state": None,
    }  # fmt: skip
    if words[0].isdigit():
        stated["timeout"] = int(words.pop(0))
    if "=" not in words[0] and words[0][0] != "[":
        stated["state"] = words.pop(0)
    ways: list[dict[str, str]] = []
    more: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "src":
            ways.append({})
        name = {"srckey": "sport", "dstkey": "dport"}.get(name, name)
        icmp = name == "id" and protocol in (1, 58) and "id" not in ways[-1]
        if name in _OF_A_WAY or icmp:
            ways[-1][name] = value
        else:
            more[name] = value
    orig, reply = ways
    if protocol not in (6, 17, 47, 132, 136):  # `-L` prints ports of 0 where the kernel gave none
        for way in ways:
            way.pop("sport", None), way.pop("dport", None)
    port = "id" if protocol in (1, 58) else "sport"
    stated |= {"saddr": orig["src"], "daddr": orig["dst"], "sport": _number(orig.get(port)),
               "dport": _number(orig.get("dport")), "icmp_type": _number(orig.get("type")),
               "icmp_code": _number(orig.get("code")), "id": int(more["id"])}  # fmt: skip
    back = "id" if protocol in (1, 58) else "dport"
    ends = (
        reply["dst"],
        reply["src"],
        _number(reply.get(back)),
        _number(reply.get("sport") if back == "dport" else None),
    )
    mirrored = ends == tuple(stated[name] for name in ("saddr", "daddr", "sport", "dport"))
    names = ("nat_saddr", "nat_daddr", "nat_sport", "nat_dport")
    stated |= dict(zip(names, [None] * 4 if mirrored else ends, strict=True))
    for name in ("packets", "bytes"):
        counters = {"orig": orig.get(name), "reply": reply.get(name)}
        stated[name] = {k: int(v) for k, v in counters.items() if v is not None} or None
    stated["mark"] = int(more.get("mark", 0))
    stated["zone"] = _number(more.get("zone"))
    stated["assured"], stated["unreplied"] = "[ASSURED]" in more, "[UNREPLIED]" in more
    stated["helper"], stated["portid"] = more.get("helper"), _number(more.get("portid"))
    stated["labels"] = {LABELS[name] for name in more.get("labels", "").split(",") if name}
    return stated


def _number(text: str | None) -> int | None:
    return None if text is None else int(text, 0)


def as_printed(record: Any) -> dict[str, Any]:
    """What `printed` gives, of a FlowRecord."""
    names = ("event", "family", "protocol", "timeout", "state", "saddr", "daddr", "sport", "dport",
             "icmp_type", "icmp_code", "id", "nat_saddr", "nat_daddr", "nat_sport", "nat_dport",
             "packets", "bytes", "zone")  # fmt: skip
    extra = record.extra or {}
    labels = int.from_bytes(bytes.fromhex(extra.get("CTA_LABELS", "")), "little")
    return {name: getattr(record, name) for name in names} | {
        "mark": record.mark or 0,
        "assured": "ASSURED" in record.status,
        "unreplied": "SEEN_REPLY" not in record.status,
        "helper": extra.get("CTA_HELP", {}).get("CTA_HELP_NAME"),
        "portid": extra.get("nlmsg_pid"),
        "labels": {bit for bit in range(128) if labels >> bit & 1},
    }


def expected(text: str) -> list[tuple[str, int, int, str, str, int, int]]:
    """Event, timeout, protocol, addresses and ports of each line of `conntrack -E expect`."""
    pattern = re.compile(
        r"\[(NEW|DESTROY)\]\s*(\d+) proto=(\d+) src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)"
    )
    return [(e.lower(), int(t), int(p), s, d, int(sp), int(dp))
            for e, t, p, s, d, sp, dp in pattern.findall(text)]  # fmt: skip
