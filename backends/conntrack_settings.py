"""What the kernel hides of its flows, by the settings net.netfilter.nf_conntrack_*.

Packets and bytes are counted only with nf_conntrack_acct, and times kept only with
nf_conntrack_timestamp; both act on flows that begin later, and are off at first. With
nf_conntrack_events=2, which is the default since Linux 5.19, a flow has events only if somebody
listened when it began.

Sources: Documentation/networking/nf_conntrack-sysctl.rst, nf_ct_ecache_ext_add and
nf_ct_acct_ext_add in net/netfilter; runs on Linux 6.18.
"""

from __future__ import annotations

from pathlib import Path

from pylog.backends.netns import Namespace
from pylog.errors import BackendError

FOLDER = "/proc/sys/net/netfilter"


def settings(namespace: Namespace) -> dict[str, int]:
    """The settings of conntrack in a namespace by name, without nf_conntrack_; those that can be
    read.
    """
    names = ("acct", "timestamp", "events", "count", "max")

    def read() -> dict[str, int]:
        found = {}
        for name in names:
            try:
                found[name] = int(Path(FOLDER, f"nf_conntrack_{name}").read_text())
            except (OSError, ValueError):
                continue
        return found

    try:
        return namespace.run(read)
    except BackendError:
        return {}


def hidden(namespace: Namespace, at_length: bool = False) -> list[str]:
    """What flows lack here, and how to switch it on; a sentence for each.

    at_length   explain it
    """
    values, texts = settings(namespace), []
    switch = "sysctl -w net.netfilter.nf_conntrack_"
    later = ", for flows that begin from then on" if at_length else ""
    if values.get("acct") == 0:
        texts.append(f"packets and bytes are not counted ({switch}acct=1{later})")
    if values.get("timestamp") == 0:
        what = "flows and events have no time of the kernel"
        more = "; events get the time of receipt" if at_length else ""
        texts.append(f"{what} ({switch}timestamp=1{later}){more}")
    events = values.get("events")
    if events == 0:
        texts.append(f"flows have no events, but by rules with `ct event set` ({switch}events=1)")
    elif events == 2:
        what = "flows that began while nobody listened have no events"
        more = ""
        if at_length:
            more = ("; the snapshot shows those, and --poll reports that they ended; with 1 all"
                    " flows that begin from then on have events")  # fmt: skip
        texts.append(f"{what} ({switch}events=1){more}")
    return texts


def tracked(namespace: Namespace) -> str:
    """How many flows there are, of how many at most."""
    values = settings(namespace)
    if "count" not in values:
        return "how many flows are tracked cannot be read"
    count = values["count"]
    text = f"{count} flows are tracked, {values.get('max', 'unknown')} at most"
    if not count:
        text += "; tracking begins when a rule of the namespace needs it (ct, nat)"
    return text
