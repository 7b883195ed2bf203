"""IPFIX as other programs read it: records that tshark decodes, and the structure of messages."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")

WITHOUT_NAME = {"Forwarding Status": "cflow.forwarding_status"}
"""Fields that tshark shows as a tree without a name."""
TEXTS = ("cflow.selector_name", "cflow.if_name", "cflow.user_name")
REVERSED = ("cflow.permanent_packets", "cflow.permanent_octets", "cflow.packets", "cflow.octets")
"""Fields whose reverse elements have the same name in tshark."""


class Message(NamedTuple):
    """A message as its header has it, and its sets."""

    length: int
    sequence: int
    domain: int
    sets: list[tuple[int, bytes]]


def messages(octets: bytes) -> list[Message]:
    """The messages of a file."""
    made, at = [], 0
    while at < len(octets):
        version, length, _, sequence, domain = struct.unpack_from(">HHIII", octets, at)
        assert version == 10 and length <= len(octets) - at
        sets, place = [], at + 16
        while place < at + length:
            number, size = struct.unpack_from(">HH", octets, place)
            assert size >= 4 and place + size <= at + length
            sets.append((number, octets[place + 4 : place + size]))
            place += size
        made.append(Message(length, sequence, domain, sets))
        at += length
    return made


def decoded(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """What tshark makes of a file: each data record as its fields, with the domain as "domain", and
    all complaints.
    """
    command = ["tshark", "-r", str(path), "-T", "pdml"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    tree = ElementTree.fromstring(done.stdout)
    records, problems = [], []
    for message in (proto for proto in tree.iter("proto") if proto.get("name") == "cflow"):
        domain = next(f.get("show") for f in message if f.get("name") == "cflow.od_id")
        for part in message.iter("field"):
            shown = part.get("showname") or part.get("show") or ""
            if part.get("name", "").startswith("_ws.") or "xpert" in shown:
                problems.append(shown)
            if (part.get("show") or "").startswith("Flow ") and not part.get("name"):
                records.append({"domain": str(domain), **dict(_fields(part))})
    return records, problems


def _fields(flow: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """The fields of a data record. A reverse element, the second of its name, has "-reverse"."""
    seen = set()
    for field in flow:
        name, show = field.get("name") or "", field.get("show") or ""
        if name == "cflow.timedelta":
            for inner in field:
                yield inner.get("name") or "", inner.get("show") or ""
            continue
        if name in TEXTS:  # shown with escapes
            show = bytes.fromhex(field.get("value") or "").decode()
        if not name:
            name, show = WITHOUT_NAME[show], field.get("value") or ""
        if name == "cflow.enterprise_private_entry":
            number = (field.get("showname") or "").partition("Type ")[2].partition(":")[0]
            name, show = f"netfilter {number}", field.get("value") or ""
        elif name in REVERSED and name in seen:
            name += "-reverse"
        seen.add(name)
        yield name, show
