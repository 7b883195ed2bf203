"""Every fixture decodes to the JSON beside it, however its bytes arrive."""

from __future__ import annotations

import io
from pathlib import Path

import effort
import msgspec
import pytest
import samples

import pylog


@pytest.mark.parametrize("dump", samples.dumps(), ids=samples.name)
def test_json_is_as_recorded(dump: Path) -> None:
    with pylog.open(dump) as reader:
        assert pylog.json_lines(reader) == samples.golden(dump)


@pytest.mark.parametrize("dump", samples.dumps(), ids=samples.name)
def test_every_fixture_has_an_origin_and_the_stated_number_of_records(dump: Path) -> None:
    origin = samples.origins()[samples.name(dump)]
    with pylog.open(dump) as reader:
        layouts = [name.partition(":")[0] for name in reader.detection.layouts]
        for _ in reader:
            pass
    assert origin["layout"] in layouts
    assert reader.received == int(origin["records"])


class Trickle(io.RawIOBase):
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self._data[self._at : self._at + self._size]
        self._at += len(taken)
        return taken


@pytest.mark.parametrize("size", [997, 65536])
@pytest.mark.parametrize(
    "dump",
    effort.sample(d for d in samples.dumps() if d.stat().st_size < 60000),
    ids=samples.name,
)
def test_records_do_not_depend_on_how_the_bytes_arrive(dump: Path, size: int) -> None:
    layout: str | None = samples.origins()[samples.name(dump)]["layout"]
    with pylog.open(dump) as reader:
        if reader.detection.container in ("raw", "netlink"):
            layout = reader.detection.layouts[0]
        if len({record.layout for record in reader}) > 1:
            layout = None  # a named layout is not changed
    source = Trickle(dump.read_bytes(), size)
    with pylog.open(source, layout=layout) as reader:  # type: ignore[arg-type]
        assert pylog.json_lines(reader) == samples.golden(dump)


def test_no_number_in_json_is_above_2_to_the_53() -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for part in value.values() for n in numbers(part)]
        if isinstance(value, list):
            return [n for part in value for n in numbers(part)]
        return [value] if isinstance(value, int | float) else []

    for dump in samples.dumps():
        for line in samples.golden(dump).splitlines():
            decoded = msgspec.json.decode(line)
            assert all(abs(n) <= 2**53 for n in numbers(decoded)), line
            assert None not in decoded.values() and "" not in decoded.values(), line


def test_fixtures_stay_under_3_mib() -> None:
    assert sum(p.stat().st_size for p in samples.FIXTURES.rglob("*") if p.is_file()) < 3 << 20
