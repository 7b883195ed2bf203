"""What ulogd2 wrote of packets as JSON, beside what pylog says of them.

`views(record, wrote)` gives both in the same words, for the tests to compare. Left out is what
ulogd 2.0.8 gets wrong: ARP addresses, ICMP checksums, data offsets of TCP, headers in later
fragments, and everything in netdev and ARP families beyond the attributes.
"""

from __future__ import annotations

import json
from typing import Any

from pylog import PacketRecord


def objects(octets: bytes) -> list[dict[str, Any]]:
    """The JSON objects of ulogd's file, one a packet."""
    text = octets.decode("utf-8", "backslashreplace")
    return [json.loads(line) for line in text.splitlines()]


def views(record: PacketRecord, wrote: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the record and what ulogd say of a packet, each by field, as far as ulogd is right."""
    family = (record.extra or {})["nfgen_family"]
    both: dict[str, tuple[Any, Any]] = {
        "nfgen_family": (family, wrote["oob.family"]),
        "prefix": (record.prefix or "", wrote["oob.prefix"]),
        "mark": (record.mark or 0, wrote["oob.mark"]),
        "indev": (record.indev, _device(record.indev, wrote, "in")),
        "outdev": (record.outdev, _device(record.outdev, wrote, "out")),
        "uid": (record.uid, wrote.get("oob.uid")),
        "gid": (record.gid, wrote.get("oob.gid")),
        "seq": (record.seq, wrote["oob.seq.local"]),
        "hwtype": (record.hwtype, wrote.get("raw.type")),
    }
    if "mac.str" in wrote:
        both["hwheader"] = record.hwheader, wrote["mac.str"].replace(":", "")
    # two hooks log from the Ethernet header on, which pylog takes off; so with inner VLAN tags
    taken = 14 if (family, record.hook) in ((5, "egress"), (3, "output")) else 0
    taken += 4 * sum(tag.protocol == 0x8100 for tag in (record.vlan or ())[1:])
    if "raw.pktlen" in wrote and not (record.vlan and not taken):
        both["caplen"] = record.caplen, wrote["raw.pktlen"] - taken
    if "src_ip" in wrote:
        both["saddr"] = record.saddr, wrote["src_ip"]
        both["daddr"] = record.daddr, wrote["dest_ip"]
    if "ip.totlen" in wrote:
        both["length"] = record.length, wrote["ip.totlen"]
        both["protocol"] = record.protocol, wrote["ip.protocol"]
    if record.fragment and record.fragment.offset:
        both["sport"] = record.sport, None  # ulogd takes a later fragment's data for a header
    else:
        if "src_port" in wrote:
            both["sport"] = record.sport, wrote["src_port"]
            both["dport"] = record.dport, wrote["dest_port"]
        for name in ("icmp", "icmpv6"):
            if f"{name}.type" in wrote:
                both["icmp_type"] = record.icmp_type, wrote[f"{name}.type"]
                both["icmp_code"] = record.icmp_code, wrote[f"{name}.code"]
    return {k: ours for k, (ours, _) in both.items()}, {k: said for k, (_, said) in both.items()}


def _device(device: str | int | None, wrote: dict[str, Any], side: str) -> Any:
    """ulogd's word for a device: its name if pylog has one, too, and else its number."""
    if isinstance(device, str):
        return wrote[f"oob.{side}"] or None
    return wrote.get(f"oob.ifindex_{side}")
