"""The options of pylog's own sources as keyword arguments, for type checkers and IDEs.

`pylog.open` and `pylog.merge` pass options on to the source, which declares them in a table
(OPTIONS of its module in pylog.backends). The table checks the values when the
program runs. Type checkers cannot read it, so SourceOptions names the same options again; a test
holds both equal.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class SourceOptions(TypedDict, total=False):
    """The options of `pylog.open` and `pylog.merge`: `follow` of files, the others of live sources.

    To pass the options of another distribution's source, unpack a mapping of type dict[str, Any]:
    pylog.open("toy:PATH", **options).
    """

    follow: bool
    """At the end of a file wait for more, as tail -F does."""
    log_tz: str | None
    """Of text logs: the time zone of times that do not state it, as Europe/Oslo, or local."""
    year: int | None
    """Of text logs with log_tz: the year of the first line without one."""
    netns: str | int | None
    """The network namespace: a name of ip-netns, a path or a process id."""
    all_netns: bool
    """The flows of all network namespaces that have a number in this one."""
    rcvbuf: int
    """Bytes of the socket's receive buffer."""
    rcvbuf_max: int
    """Bytes up to which the receive buffer grows when it overruns."""
    events: str
    """Which events of conntrack: "new,update,destroy", also expect and quota."""
    families: str | None
    """Only changes and traces of these families: "inet,ip"; with nfct flows: "ipv4"."""
    zones: str | None
    """Only flows in these conntrack zones: "7,8"."""
    marks: str | None
    """Only flows with one of these marks: "0x10/0xff,5"."""
    snapshot: bool
    """Begin with a listing of the ruleset or the flows, and list again to notice what no event
    announces."""
    poll_s: float
    """Seconds after which the flows are listed again for their counters; 0: only after losses."""
    reliable: bool
    """Let the kernel send the end of a flow again until it was received."""
    copy_mode: Literal["none", "meta", "packet"]
    """What to copy of each packet: none and meta leave out the payload."""
    copy_range: int
    """Bytes to copy of each packet at most."""
    conntrack: bool
    """Add the conntrack entry to each record."""
    pf_bind: str | None
    """Families whose kernel-made logs are to come to group 0: "ipv4,ipv6"."""
    latency: bool
    """Preset: each record at once."""
    throughput: bool
    """Preset: many records at a time."""
    qthresh: int
    """Records that the kernel gathers before it sends them."""
    timeout_s: float
    """Seconds after which the kernel sends them in any case."""
    nlbufsiz: int
    """Bytes of the kernel's buffer to gather in."""
    seq: bool
    """Number the records of each group, to count losses."""
    seq_global: bool
    """Number the records of all groups."""
    relist_s: float
    """Seconds after which the ruleset is listed again; 0: only after losses."""
    since_gen: int | None
    """Leave out changes of the ruleset up to that generation."""
    tables: str | None
    """Only those of these tables."""
    chains: str | None
    """Only those of these chains and their rules."""
