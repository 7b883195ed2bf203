"""The words of ipmon for protocols and ICMP types, for writing its text and for reading it.

Source: ipmon.c of IPFilter, protocols(5).
"""

from __future__ import annotations

from collections.abc import Mapping

from pylog.formats.ip_numbers import PROTOCOL_NAMES

PROTOCOLS = PROTOCOL_NAMES | {
    0: "ip", 3: "ggp", 4: "ipencap", 5: "st", 8: "egp", 9: "igp", 12: "pup", 20: "hmp",
    22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp",
    45: "idrp", 57: "skip", 58: "ipv6-icmp", 73: "rspf", 81: "vmtp", 93: "ax.25", 97: "etherip",
    98: "encap", 124: "isis", 133: "fc", 135: "mobility-header", 138: "manet", 139: "hip",
    140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
}  # fmt: skip
"""The names of protocols(5); any other protocol is shown as its number."""

Words = Mapping[int, tuple[str, Mapping[int, str]]]
"""ICMP types: the word, and the words for codes."""


def _codes(*words: str) -> Mapping[int, str]:
    return {code: word for code, word in enumerate(words) if word}


ICMP: Words = {
    0: ("echoreply", {}),
    3: ("unreach", _codes(
        "net", "host", "protocol", "port", "needfrag", "srcfail", "net_unknown", "host_unknown",
        "", "net_prohib", "", "tosnet", "toshost", "admin_prohibit",
    )),
    4: ("sourcequench", {}),
    5: ("redirect", _codes("net", "host", "tosnet", "toshost")),
    8: ("echo", {}), 9: ("routeradvert", {}), 10: ("routersolicit", {}),
    11: ("timxceed", _codes("transit", "reassem")),
    12: ("paramprob", _codes("errata_pointer", "optmissing", "length")),
    13: ("timestamp", {}), 14: ("timestampreply", {}), 15: ("inforeq", {}), 16: ("inforeply", {}),
    17: ("maskreq", {}), 18: ("maskreply", {}),
}  # fmt: skip
ICMP6: Words = {
    1: ("unreach", _codes("noroute", "admin", "neighbour", "address", "noport")),
    2: ("toobig", {}),
    3: ("timxceed", _codes("intransit", "reassem")),
    4: ("paramprob", _codes("header", "nextheader", "option")),
    128: ("echo", {}), 129: ("echoreply", {}),
    130: ("groupmemberquery", _codes("ipv6", "fqdn", "ipv4")),
    131: ("groupmemberreport", {}), 132: ("groupmemberterm", {}),
    133: ("routersolicit", {}), 134: ("routeradvert", {}), 135: ("neighborsolicit", {}),
    136: ("neighboradvert", {}), 137: ("redirect", {}),
    138: ("routerrenumber", {0: "command", 1: "result", 255: "seqnum_reset"}),
    139: ("whoareyourequest", {}), 140: ("whoareyoureply", {}),
    200: ("mtraceresponse", {}), 201: ("mtracerequest", {}),
}  # fmt: skip
