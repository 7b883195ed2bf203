"""The kind of record for counters that have a name: nfacct objects, and what conntrack counts.

An nfacct object counts the packets of the rules that name it, and may have a quota; the kernel
sends one when its quota is passed. Conntrack counts by CPU what it could not track: flows that no
log of flows can hold.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pylog.record.base import BaseRecord
from pylog.record.fields import Field


class CounterRecord(BaseRecord, frozen=True, gc=False, tag="counter"):
    """A counter: packets and bytes since it was made or set to zero."""

    kind: ClassVar[Literal["counter"]] = "counter"

    name: Annotated[
        str | None,
        Field(
            "the nfacct object by name; conntrack for the size of the table, conntrack cpu N for"
            " what a CPU counted, with the numbers in `extra`",
            "word",
            since=4,
        ),
    ] = None
    event: Annotated[
        str | None,
        Field("quota if the kernel sent it because its quota is passed; dump for an answer",
              "word", since=4),
    ] = None  # fmt: skip
    packets: Annotated[int | None, Field("packets that were counted", "u64", since=4)] = None
    bytes: Annotated[int | None, Field("bytes that were counted", "u64", since=4)] = None
    quota: Annotated[
        int | None, Field("the quota, in packets or bytes as `flags` say", "u64", since=4)
    ] = None
    flags: Annotated[
        list[str | int] | None,
        Field("QUOTA_PKTS or QUOTA_BYTES, and OVERQUOTA (NFACCT_F_*)", "json", since=4),
    ] = None
    netns: Annotated[
        str | int | None,
        Field(
            "the network namespace that has the counter, where several are read: its name, or its"
            " number",
            "name",
            since=4,
        ),
    ] = None

    @property
    def log(self) -> str:
        """The log of conntrack, which a capture keeps together."""
        return "nfct"
