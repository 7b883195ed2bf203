"""Recordings with their truth beside them, several in one archive: NAME.pcap or NAME.txt with
NAME.truth.jsonl, and the comparison of a record with its truth.
"""

from __future__ import annotations

import io
import json
import tarfile
from functools import cache
from typing import Any

import samples


@cache
def members(archive: str) -> dict[str, bytes]:
    """The files of an archive below fixtures/, by name."""
    with tarfile.open(samples.FIXTURES / archive) as packed:
        files = [member for member in packed.getmembers() if member.isfile()]
        return {m.name: packed.extractfile(m).read() for m in files}  # type: ignore[union-attr]


def names(archive: str, ending: str) -> list[str]:
    """The names of the recordings that have a truth."""
    files = members(archive)
    stems = [name.removesuffix(ending) for name in files if name.endswith(ending)]
    return [stem for stem in stems if f"{stem}.truth.jsonl" in files]


def truth(archive: str, name: str) -> list[dict[str, Any]]:
    """The truth of a recording, a mapping for each packet or line."""
    return [json.loads(line) for line in members(archive)[f"{name}.truth.jsonl"].splitlines()]


def opened(archive: str, file: str) -> io.BytesIO:
    """A recording as a file object."""
    return io.BytesIO(members(archive)[file])


def agrees(wanted: Any, given: Any) -> bool:
    """Whether a value is that of the truth; a mapping may have more."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and all(agrees(v, given.get(k)) for k, v in wanted.items())
    return bool(wanted == given) or (isinstance(wanted, int) and str(wanted) == given)


def differences(wanted: dict[str, Any], given: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields in which a record, as JSON has it, differs from what the truth names."""
    cut = wanted.get("cut_at", 999) < 60
    headers = ("sport", "dport", "icmp_type", "icmp_code", "tcp_flags")
    return {
        name: (value, given.get(name))
        for name, value in wanted.items()
        if name not in ("kind", "cut_at", "timestamp", "timestamp_ns")
        and not (cut and name in headers and name not in given)
        and not agrees(value, given.get(name))
    }
