"""Makes headers of pflog from records, in any layout.

What a layout has no field or no number for is counted in `lost`. A record of pflog keeps the bytes
of its header if it has the layout already.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pylog.formats.addresses import octets
from pylog.formats.pflog import AF_INET
from pylog.formats.pflog_evidence import AF_INET6, NO_PID
from pylog.formats.pflog_layouts import (
    IFNAMSIZ,
    LONG,
    NOBODY,
    OLD,
    OPENBSD,
    RULESET,
    UID_MAX,
    Layout,
    named,
    packet_at,
    plan,
)
from pylog.formats.pflog_words import actions, directions, reasons
from pylog.formats.plan import BYTEORDER
from pylog.record import PacketRecord

PASS, BLOCK = 0, 1
OTHER_ACTIONS = {"log": PASS, "nomatch": PASS, "accept": PASS, "drop": BLOCK, "reject": BLOCK}
"""The numbers of words that are not pf's."""


def _no_pids() -> dict[str, int]:
    """NO_PID by system."""
    return {system: pid for pid, systems in NO_PID.items() for system in systems}


class Encoder:
    """Makes the packets of a capture.

    lost   what the layout could not hold, by field
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lost: Counter[str] = Counter()
        self._actions = {word: n for n, word in enumerate(actions(layout))}
        self._reasons = {word: n for n, word in enumerate(reasons(layout))}
        self._directions = {word: n for n, word in directions(layout).items()}
        family = {number for number, systems in AF_INET6.items() if layout.system in systems}
        self._inet6 = family.pop() if family else 24
        unsigned = layout.system in ("netbsd", "npf", "darwin")
        self._no_uid = UID_MAX if unsigned else NOBODY
        self._no_pid = NOBODY if layout.system == "npf" else _no_pids().get(layout.system, 100000)

    def encode(self, record: PacketRecord) -> bytes:
        """The packet of a capture: the header, and the logged bytes of a record that has some."""
        payload = record.payload or b""
        layout = self.layout
        if record.source == "pflog" and record.layout == layout.name and record.raw is not None:
            return record.raw
        own = record.source == "pflog"
        extra: dict[str, Any] = record.extra or {}
        rule = record.rule
        if rule is not None and record.source in ("ipl", "ipmon"):
            rule -= 1  # which counts from 1
        f: dict[str, Any] = {
            "length": layout.size,
            "af": self._inet6 if record.family == "ipv6" else AF_INET,
            "action": self._number("action", record.action, self._actions, OTHER_ACTIONS),
            "reason": self._number("reason", record.reason, self._reasons, {}),
            "ifname": self._name("interface", _device(record), IFNAMSIZ),
            "ruleset": self._name("group", record.group or "", RULESET),
            "rulenr": self._rule(rule),
            "subrulenr": extra.get("subrulenr", NOBODY) if own or record.group else NOBODY,
            "dir": self._direction(record, extra),
            "ridentifier": extra.get("ridentifier", 0),
            "rewritten": 0, "naf": AF_INET if record.family == "ipv4" else self._inet6,
            "reserve": 0, "saddr": bytes(16), "daddr": bytes(16), "sport": 0, "dport": 0,
        }  # fmt: skip
        for name, none, value in (
            ("uid", self._no_uid, record.uid), ("pid", self._no_pid, extra.get("pid")),
            ("rule_uid", 0, extra.get("rule_uid")), ("rule_pid", 0, extra.get("rule_pid")),
        ):  # fmt: skip
            number = none if value is None else value
            f[name] = number.to_bytes(4, BYTEORDER[layout.order or "<"])
        if layout.size == OPENBSD:
            self._put_rewritten(f, record, extra)
        self._count_lost(record, extra)
        names = plan(layout.size).names
        header = plan(layout.size).pack({name: f.get(name, b"") for name in names})
        at = OLD if layout.size == OLD else packet_at(layout.size)
        return header.ljust(at, b"\0") + payload

    def _number(
        self, field: str, word: str | int | None, words: dict[str, int], others: dict[str, int]
    ) -> int:
        """The number of a word, 0 for None; a word that the system lacks is counted."""
        if word is None:
            return 0
        if isinstance(word, int):
            return word & 0xFF
        if word in words:
            return words[word]
        self.lost[f"{field} {word}"] += 1
        return others.get(word, 0)

    def _name(self, field: str, name: str | int, size: int) -> bytes:
        """A name in a field of so many bytes; a longer one is cut and counted."""
        octets_of = (f"#{name}" if isinstance(name, int) else name).encode("utf-8", "replace")
        if len(octets_of) > size:
            self.lost[f"{field} of more than {size} bytes"] += 1
        return octets_of[:size].ljust(size, b"\0")

    def _rule(self, rule: int | None) -> int:
        if self.layout.size == OLD:
            if rule is not None and rule > 0x7FFF:
                self.lost["rule above 32767"] += 1
                return -1
            return -1 if rule is None or rule < 0 else rule
        return NOBODY if rule is None or not 0 <= rule < NOBODY else rule

    def _direction(self, record: PacketRecord, extra: dict[str, Any]) -> int:
        if record.direction is None:
            return int(extra.get("dir", 0))
        if record.direction not in self._directions:
            self.lost[f"direction {record.direction}"] += 1
            return self._directions.get("in", 1)
        return self._directions[record.direction]

    def _put_rewritten(
        self, f: dict[str, Any], record: PacketRecord, extra: dict[str, Any]
    ) -> None:
        """Put the addresses and ports after translation; without one, those of the packet."""
        ends = extra.get("rewritten")
        f["rewritten"] = int(ends is not None)
        if ends is None:
            ends = {"saddr": record.saddr, "daddr": record.daddr, "sport": record.sport,
                    "dport": record.dport}  # fmt: skip
        for name in ("saddr", "daddr"):
            f[name] = (octets[ends[name]] if ends.get(name) else b"").ljust(16, b"\0")
            if ends.get(name):
                f["naf"] = AF_INET if len(octets[ends[name]]) == 4 else self._inet6
        for name in ("sport", "dport"):
            f[name] = ends.get(name) or 0

    def _count_lost(self, record: PacketRecord, extra: dict[str, Any]) -> None:
        """Count what the layout has no field for."""
        size, held = self.layout.size, set(plan(self.layout.size).names)
        if size < LONG and record.uid is not None:
            self.lost["uid"] += 1
        for name, field in (
            ("pid", "pid"), ("rule_uid", "rule_uid"), ("rule_pid", "rule_pid"),
            ("ridentifier", "ridentifier"), ("rewritten", "rewritten"),
            ("subrulenr", "subrulenr"),
        ):  # fmt: skip
            if extra.get(name) and field not in held:
                self.lost[name] += 1
        if record.group and "ruleset" not in held:
            self.lost["group"] += 1
        for name in ("prefix", "mark", "hwheader", "vlan", "physindev"):
            if getattr(record, name) is not None:
                self.lost[name] += 1
        if record.count is not None and record.count > 1:
            self.lost["count"] += record.count - 1
        if record.source == "pflog" and named(record.layout).system == "npf" != self.layout.system:
            self.lost["npf's rule id"] += "rule_id" in extra


def _device(record: PacketRecord) -> str | int:
    """The interface: where a packet leaves for out, where it comes in for the rest."""
    first, second = record.indev, record.outdev
    if record.direction == "out":
        first, second = second, first
    device = first if first is not None else second
    return "" if device is None else device
