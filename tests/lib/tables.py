"""What tables are to hold: the same records as plain Python values, made in the plain way."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, get_type_hints
from unittest import mock

import pyarrow as pa
import samples
from hypothesis import strategies as st

import pylog
from pylog.formats.columns import arrays
from pylog.formats.columns import pcap as pcap_columns
from pylog.record import KINDS, PacketRecord, Record, kind_of
from pylog.table import bulk, schema
from pylog.table.schemas import packed as packed_columns


def streamed(data: bytes, layout: str | None = None) -> list[Record]:
    """The records of a log as a Reader gives them."""
    with pylog.open(io.BytesIO(data), layout=layout) as reader:
        return list(reader)


@cache
def payloads() -> list[bytes]:
    """Packets as kernels log them, sorted: of both families, fragments, errors, damaged."""
    origins = samples.origins()
    dumps = (*samples.dumps("ipl/v5-1-2-lp64le-*.ipf.bin"), *samples.dumps("nflog/*.bin"))
    return sorted({
        record.payload
        for dump in dumps
        for record in streamed(dump.read_bytes(), origins[samples.name(dump)]["layout"])
        if isinstance(record, PacketRecord) and record.payload
    })  # fmt: skip


def rows(records: Iterable[Record], kind: str, columns: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of a table of those records that are of a kind."""
    chosen = [r for r in records if kind_of(r) == kind]
    return [{name: value(record, name) for name in columns} for record in chosen]


def value(record: Any, name: str) -> Any:
    """What a column holds of a record, as `Table.to_pylist` gives it with times as integers."""
    if f"{name}_ns" in record.__struct_fields__:
        time_ns = getattr(record, f"{name}_ns")
        return time_ns if time_ns is None or time_ns < 1 << 63 else None
    if name.endswith("_bytes"):
        text = getattr(record, name.removesuffix("_bytes"))
        return None if text is None else packed(text)
    found = getattr(record, name, None)  # a loss has no extra of its own
    if name == "extra":
        decoded = json.loads(pylog.to_json(record))
        late = [
            n.removesuffix("_ns")
            for n in record.__struct_fields__
            if n.endswith("_ns") and (getattr(record, n) or 0) >= 1 << 63
        ]
        if found is not None or late:
            found = (decoded.get("extra") or {}) | {n: decoded[n] for n in late}
            return json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    if found is None:
        return None
    if isinstance(found, list):  # devices, expressions, elements, status, flags
        listed = json.loads(pylog.to_json(record))[name]
        return json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    if name == "fragment":
        return {n: getattr(found, n) for n in ("id", "offset", "more", "dont")}
    if name == "vlan":
        return [{n: getattr(t, n) for n in ("id", "priority", "dei", "protocol")} for t in found]
    if isinstance(found, dict):  # packets and bytes of flows
        return list(found.items())
    if not is_name_or_number(record, name):
        return found
    return f"#{found}" if isinstance(found, int) or found.startswith("#") else found


@contextlib.contextmanager
def small_pieces() -> Iterator[None]:
    """Few bytes at a time, so that a short log takes many windows, stretches and walks."""
    with (
        mock.patch.multiple(bulk, MIN_WINDOW=4096, MAX_WINDOW=8192, STRETCH=1024),
        mock.patch.object(arrays, "SPACING", 512),
        mock.patch.object(pcap_columns, "FEW", 1),
    ):
        yield


def agree(data: bytes, layout: str | None = None) -> None:
    """Tables and streamed records of the data are the same."""
    records = streamed(data, layout)
    for kind in KINDS:
        names = [*schema(kind).names, *packed_columns(kind)]
        table = pylog.read_table(io.BytesIO(data), kind=kind, columns=names, layout=layout)
        assert plain(table) == rows(records, kind, names)


def packed(text: str) -> bytes:
    """An address as 16 bytes."""
    address = ipaddress.ip_address(text)
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


def is_name_or_number(record: Any, name: str) -> bool:
    """Whether the field may hold a name in place of a number."""
    declared = str(_hints(type(record))[name])
    return "str" in declared and "int" in declared


_hints: Callable[[Any], dict[str, Any]] = cache(get_type_hints)


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table, with times as integers."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def spliced(draw: st.DrawFn, data: bytes) -> bytes:
    """Data that was cut, changed and put together anew in a few places."""
    for _ in range(draw(st.integers(0, 4))):
        at, other = (draw(st.integers(0, len(data))) for _ in range(2))
        how = draw(st.sampled_from(("cut", "change", "drop", "repeat", "insert")))
        first, last = sorted((at, other))
        if how == "cut":
            data = data[: max(at, len(data) // 2)]
        elif how == "change":
            changed = bytearray(data)
            for i in range(at, min(at + draw(st.integers(1, 4)), len(data))):
                changed[i] = draw(st.integers(0, 255))
            data = bytes(changed)
        elif how == "drop":
            data = data[:first] + data[min(last, first + 3000) :]
        elif how == "repeat":
            data = data[:at] + data[first : min(last, first + 3000)] + data[at:]
        else:
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
    return data
