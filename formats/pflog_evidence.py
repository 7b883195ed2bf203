"""Which system wrote the packets of a pflog capture, and in which byte order its machine counts.

Headers of 61 bytes look alike on six systems. What tells them apart is seldom in every packet: the
number of AF_INET6, what stands for no user, and numbers of actions that only some systems have. So
the first packets of a capture are examined together. Byte order matters for uid and pid only. The
machine that wrote the file usually logged the packets too, but editcap and mergecap write their own
order: a pid or a user of which one reading is absurd outweighs the order of the file.

Source: net/if_pflog.h, net/pfvar.h and sys/socket.h of the systems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pylog.formats.pflog_layouts import (
    LONG,
    NOBODY,
    OF_SYSTEM,
    OLD,
    OPENBSD_PAD,
    ORDERS,
    SIZES,
    SYSTEMS,
    UID_MAX,
    Layout,
    plan,
    size_of,
)
from pylog.formats.pflog_words import ACTIONS, LATER_ACTIONS, LATER_REASONS, REASONS
from pylog.formats.plan import BYTEORDER

AF_INET6 = {24: ("openbsd", "netbsd", "npf"), 28: ("freebsd", "dragonfly"), 30: ("darwin",)}
"""The systems by their number of AF_INET6; AF_INET is 2 on all of them."""
NO_USER = {
    UID_MAX: ("netbsd", "npf", "darwin"),
    NOBODY: ("openbsd", "freebsd", "dragonfly"),
}
"""The systems by the uid that stands for none."""
NO_PID = {100000: ("freebsd",), 32767: ("openbsd",)}
"""The systems by the pid that stands for none (NO_PID), where nothing else decides."""
MOST_PIDS = 100000
"""No pid of these systems is larger."""
MOST_USERS = 65536
"""Larger uids exist, but not as the owner of a rule."""
NPF_RULESET = b"rules".ljust(16, b"\0")
SOUND = frozenset((*SIZES[1:], OPENBSD_PAD))
"""The lengths that systems state. A header of another length is accepted if a packet follows."""
NAMES = {
    "openbsd": "OpenBSD", "freebsd": "FreeBSD", "dragonfly": "DragonFly", "netbsd": "NetBSD's pf",
    "npf": "NetBSD's npf", "darwin": "macOS",
}  # fmt: skip


def is_npf(ruleset: bytes, subrulenr: int, pid: bytes, rule_pid: bytes) -> bool:
    """Whether a header of 61 bytes is of NetBSD's npf (npf_log in npf_ext_log.c)."""
    nobody = b"\xff" * 4
    return ruleset == NPF_RULESET and subrulenr != NOBODY and pid == rule_pid == nobody


def examine(packets: Iterable[bytes], order: str) -> tuple[Layout, list[str]]:
    """The layout of most of the packets, which have a length, and sentences that say why.

    order   of the capture file, "<" or ">"
    """
    sizes: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    of_order = dict.fromkeys(ORDERS, 0)
    systems = {size: Systems(names) for size, names in SYSTEMS.items()}
    for packet in packets:
        size = size_of(packet[0]) if packet and packet[0] in SOUND else None
        if size is None or len(packet) < plan(size).size:
            continue
        sizes[size] += 1
        lengths[packet[0]] += 1
        if size in SYSTEMS:
            systems[size].add(packet)
        if size < LONG:
            continue
        places = plan(size).places
        users = [packet[places[n].offset :][:4] for n in ("uid", "pid", "rule_uid", "rule_pid")]
        for sign in ORDERS:
            of_order[sign] += _sense(users, sign)
    if not sizes:
        return Layout(LONG, "", order), ["no packet has a complete header"]
    evidence = ["length of the header: " + ", ".join(
        f"{length} ({count})" for length, count in sorted(lengths.items()))]  # fmt: skip
    size = sizes.most_common(1)[0][0]
    best = ""
    if size >= LONG:
        best = max(of_order, key=lambda sign: (of_order[sign], sign == order))
        evidence.append(_order_text(best, order, of_order))
    system = systems[size].decide(evidence) if size in systems else OF_SYSTEM[size]
    return Layout(size, system, best), evidence


def examine_old(packets: Iterable[bytes]) -> tuple[Layout, list[str]]:
    """As `examine`, for packets of link type 17, which have headers of 28 bytes."""
    size = plan(OLD).size
    seen = {int.from_bytes(packet[26:28]) for packet in packets if len(packet) >= size}
    if 0 in seen and not seen - {0, 1}:
        return Layout(OLD, "old"), ["directions are 0 and 1 only: the oldest numbers, in and out"]
    return Layout(OLD), [f"directions: {', '.join(map(str, sorted(seen))) or 'none'}"]


def _sense(users: list[bytes], sign: str) -> int:
    """How much sense uid, pid, rule_uid and rule_pid make in a byte order."""
    uid, pid, rule_uid, rule_pid = (int.from_bytes(part, BYTEORDER[sign]) for part in users)
    score = 4 * (uid == UID_MAX)
    score += sum(0 < number <= MOST_PIDS for number in (pid, rule_pid))
    return score + sum(0 < number < MOST_USERS for number in (uid, rule_uid))


def _order_text(best: str, order: str, scores: dict[str, int]) -> str:
    names = {"<": "little-endian", ">": "big-endian"}
    text = f"uid and pid are {names[best]}"
    other = "<" if best == ">" else ">"
    if scores[best] == scores[other]:
        return f"{text}, as the file is: their values do not say"
    against = "" if best == order else f", although the file is {names[order]}"
    return f"{text} by their values ({scores[best]} against {scores[other]}){against}"


class Systems:
    """Gathers what headers of one length say about the system that wrote them."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those of the systems that write such headers."""
        self._names = list(names)
        self._families: Counter[int] = Counter()
        self._users: Counter[int] = Counter()
        self._pids: Counter[int] = Counter()
        self._npf = self._count = 0
        self._action = self._reason = 0
        """The largest numbers."""

    def add(self, packet: bytes) -> None:
        """Take a header."""
        self._count += 1
        _, af, action, reason = packet[:4]
        self._families[af] += 1
        self._action, self._reason = max(self._action, action), max(self._reason, reason)
        if packet[0] < LONG:
            return
        schema = plan(LONG)
        f = dict(zip(schema.names, schema.unpack(packet, 0), strict=True))
        self._npf += is_npf(f["ruleset"], f["subrulenr"], f["pid"], f["rule_pid"])
        for facts, table, names in (
            (self._users, NO_USER, ("uid", "rule_uid")), (self._pids, NO_PID, ("pid",))
        ):  # fmt: skip
            for name in names:  # in either order
                for number in {int.from_bytes(f[name]), int.from_bytes(f[name], "little")}:
                    facts[number] += number in table

    def decide(self, evidence: list[str]) -> str:
        """The system, "" if several are possible; adds sentences to the evidence."""
        if self._npf and self._npf == self._npf_possible():
            evidence.append(f"NetBSD's npf: {self._npf} packets of ruleset rules without a pid")
            return "npf"
        left = [system for system in self._names if system != "npf"]
        for facts, table, name in (
            (self._families, AF_INET6, "AF_INET6 is"),
            (self._users, NO_USER, "no user is"),
        ):
            for number, systems in table.items():
                if facts[number]:
                    left = [system for system in left if system in systems] or left
                    shown = number if number < 256 else f"{number:#x}"
                    evidence.append(f"{name} {shown} ({facts[number]}): {_listed(systems)}")
        for numbers, most, later in (
            (ACTIONS, self._action, LATER_ACTIONS), (REASONS, self._reason, LATER_REASONS)
        ):  # fmt: skip
            if most >= len(numbers):
                able = [s for s in left if most < len(numbers) + len(later.get(s, ()))]
                if able and able != left:
                    what = "action" if numbers is ACTIONS else "reason"
                    evidence.append(f"{what} {most}: {_listed(able)}")
                    left = able
        for number, systems in NO_PID.items():
            if self._pids[number] and len(left) > 1 and set(systems) & set(left):
                left = [system for system in left if system in systems]
                evidence.append(f"no pid is {number} ({self._pids[number]}): {_listed(systems)}")
        if len(left) == 1:
            return left[0]
        if left == ["freebsd", "dragonfly"] and "npf" in self._names:
            evidence.append("no pid is not 100000: DragonFly")
            return "dragonfly"
        evidence.append(f"the system is open: {_listed(left)}")
        return ""

    def _npf_possible(self) -> int:
        """How many packets npf can have written."""
        return self._count if self._reason == 0 and self._action <= 1 else -1


def _listed(systems: Iterable[str]) -> str:
    return ", ".join(NAMES[system] for system in systems)
