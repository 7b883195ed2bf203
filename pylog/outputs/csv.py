"""CSV with a header line and the same columns for every record, as RFC 4180 has it.

Columns are the names of the JSON, of all three kinds of record. Where the JSON has an object or a
list, the column has its JSON text, but for `vlan` (the ids, joined by a space) and `fragment`
(id:offset, with a + when more fragments follow).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from functools import cache
from operator import itemgetter
from typing import Any, BinaryIO

import msgspec
from msgspec.structs import astuple

from pylog import outputs
from pylog.record import JSON_NAMES, Fragment, Record, json_shape

COLUMNS = (
    "kind", "source", "layout", "offset", "timestamp", "observed", "seq", "count", "action",
    "short", "direction", "hook", "rule", "group", "prefix", "reason", "indev", "outdev",
    "physindev", "physoutdev", "mark", "uid", "gid", "hwaddr", "hwtype", "hwheader", "vlan",
    "family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "icmp_type",
    "icmp_code", "fragment", "length", "caplen", "cut", "event", "flow_type", "nat_saddr",
    "nat_daddr", "nat_sport", "nat_dport", "packets", "bytes", "size", "queue", "extra", "payload",
)  # fmt: skip
"""The header. A new column comes at the end, whatever it means."""

_FIELDS = {name: field for field, name in JSON_NAMES.items()}
_ODD = [COLUMNS.index(n) for n in ("short", "vlan", "fragment", "packets", "bytes", "extra")]
"""The columns whose values are no text or number."""


@cache
def _values(kind: type[Record]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the columns after the first out of a record's shape."""
    there = kind.__struct_fields__
    fields = [_FIELDS.get(name, name) for name in COLUMNS[1:]]
    pick = itemgetter(*(there.index(f) if f in there else len(there) for f in fields))
    return lambda shape: pick((*astuple(shape), None))


class Output(outputs.Output):
    """Writes records as CSV."""

    takes_shapes = True

    def __init__(self, stream: BinaryIO, colour: bool = False) -> None:
        self._stream = stream
        self._text = io.StringIO()
        self._rows = csv.writer(self._text)
        self._rows.writerow(COLUMNS)

    def write(self, record: Record) -> None:
        self.write_shaped((json_shape(record),))

    def write_shaped(self, shapes: Iterable[Record]) -> None:
        for shape in shapes:
            self._write_row(shape)

    def _write_row(self, shape: Record) -> None:
        row = [shape.__struct_config__.tag, *_values(type(shape))(shape)]
        for i in _ODD:
            if row[i] is not None:
                row[i] = _cell(row[i])
        self._rows.writerow(row)
        if self._text.tell() > 1 << 16:
            self._write()

    def _write(self) -> None:
        self._stream.write(self._text.getvalue().encode("utf-8", "backslashreplace"))
        self._text.seek(0)
        self._text.truncate()

    def flush(self) -> None:
        self._write()
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fragment):
        return f"{value.id}:{value.offset}{'+' if value.more else ''}"
    if isinstance(value, tuple):
        return " ".join(str(tag.id) for tag in value)
    return msgspec.json.encode(value).decode()
