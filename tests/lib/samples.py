"""The fixtures, and values made of them, for all tests."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def dumps(pattern: str = "*/*") -> list[Path]:
    """The binary fixtures, by a pattern below fixtures/."""
    return sorted(
        path for path in FIXTURES.glob(pattern) if path.suffix in (".bin", ".pcap", ".pcapng")
    )


def golden(dump: Path) -> bytes:
    """What pylog is to print of a fixture as JSON lines."""
    packed = dump.with_suffix(".jsonl.gz")
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    return dump.with_suffix(".jsonl").read_bytes()


def name(path: Path) -> str:
    """A fixture's name in a test's id."""
    return str(path.relative_to(FIXTURES))


def origins() -> dict[str, dict[str, str]]:
    """The table in fixtures/ORIGINS.md: file -> layout, release, records, origin."""
    found = {}
    for line in (FIXTURES / "ORIGINS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and "/" in cells[0]:
            keys = ("file", "layout", "release", "records", "origin")
            found[cells[0]] = dict(zip(keys, cells, strict=True))
    return found


def without_origin(lines: bytes) -> bytes:
    """JSON lines of several sources as those of one are: no record says where it is from."""
    return re.sub(rb',"origin":"[^"]*"(,"host":"[^"]*")?', b"", lines)
