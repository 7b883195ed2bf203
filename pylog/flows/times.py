"""When the last packet of a conntrack entry passed: derived, because the kernel does not record it.

Each packet sets the entry's time to live anew. NEW and UPDATE events announce that timeout, and an
entry that expires stops exactly one timeout after its last packet. An entry that is removed before
its time still says how many seconds it had left. The kernel announces a timeout when the state or
the status changes, so the rule holds while both are those of the last announcement.
"""

from __future__ import annotations

import msgspec

from pylog.record import FlowRecord

SECOND = 1_000_000_000
_FOLLOWED = frozenset(("SEEN_REPLY", "ASSURED"))
"""Bits of the status with which the timeout changes (udp_packet, gre_packet, tcp_packet)."""
_UNRELATED = frozenset(("FIXED_TIMEOUT", "OFFLOAD", "HW_OFFLOAD"))
"""Bits of an entry whose timeout its packets do not set."""


def time_of(record: FlowRecord) -> int | None:
    """The kernel's time of an event, else when it was received."""
    return record.observed_ns if record.timestamp_ns is None else record.timestamp_ns


_UNACKNOWLEDGED_S = 300
"""While data of TCP is not acknowledged, or is sent again, longer timeouts become this one, and no
event says so (tcp_packet: TCP_CONNTRACK_UNACK, TCP_CONNTRACK_RETRANS).
"""


class Announced(msgspec.Struct, gc=False):
    """What the events of a living flow have announced, as far as packets caused them.

    heard_ns   the time of the last of them, None if there was none
    timeout    seconds
    """

    heard_ns: int | None = None
    timeout: int | None = None
    state: str | int | None = None
    status: list[str | int] | None = None

    def hear(self, record: FlowRecord) -> None:
        """Take a NEW or UPDATE event. One that a program asked for (nlmsg_pid) has the time that
        is left, which is not the timeout.
        """
        same_state = record.state in (None, self.state)
        if record.state is not None:
            self.state = record.state
        if record.status is not None:
            self.status = record.status
        if record.extra is None or not record.extra.get("nlmsg_pid"):
            self.heard_ns = time_of(record)
            # ctnetlink_dump_timeout rounds down: a tick after the packet it is a second less
            if not (same_state and self.timeout and record.timeout == self.timeout - 1):
                self.timeout = record.timeout
        elif (record.timeout or 0) > (self.timeout or 0):  # the program has set it
            self.timeout = None


def last_packet(ended: FlowRecord, reason: str, announced: Announced) -> int | None:
    """When the last packet passed, in nanoseconds since 1970; None if that is unknown.

    ended    the event that ended the flow
    reason   why: expired, removed or killed

    Expired: STOP less the timeout, right within a tick of the kernel's clock (1 to 10 ms); without
    the kernel's timestamps within the delay of its garbage collection (about a second). Removed or
    killed: up to a second too early, because the kernel rounds the time that was left down. Killed
    by the RST that closed it: the RST was the last packet.
    """
    stop_ns = time_of(ended) if ended.stop_ns is None else ended.stop_ns
    timeout, heard_ns = announced.timeout, announced.heard_ns
    if timeout is None or stop_ns is None or heard_ns is None:
        return None
    if reason == "killed" and ended.state == "CLOSE" != announced.state:
        return stop_ns
    if not _still_holds(announced, ended):
        return None
    left = 0
    if reason != "expired":
        left = ended.timeout or 0  # ctnetlink_dump_timeout leaves 0 out
        if left > timeout:
            return None
    last_ns = stop_ns - (timeout - left) * SECOND
    if last_ns < heard_ns - SECOND:
        return None  # the timeout was changed without an event
    if ended.protocol == 6 and timeout > _UNACKNOWLEDGED_S >= left and last_ns > heard_ns + SECOND:
        return None
    return max(last_ns, heard_ns)


def _still_holds(announced: Announced, ended: FlowRecord) -> bool:
    """Whether the timeout of a flow that ended is still the announced one."""
    if ended.state is not None and ended.state != announced.state:
        return False
    after = ended.status
    if not after:
        return True
    before = announced.status or ()
    return not any(bit in _UNRELATED or (bit in _FOLLOWED and bit not in before) for bit in after)
