"""CSV: the bytes are those that Python's csv module writes of the same cells."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import effort
import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.outputs import Target
from pylog.outputs._named import every
from pylog.record import Fragment, Record, Vlan, escape, escape_json, json_name, row_of

FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def cell(name: str, value: Any, safe: bool) -> Any:
    """What a cell holds, before the csv module puts it into a row."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fragment):
        return f"{value.id}:{value.offset}{'+' if value.more else ''}"
    if isinstance(value, tuple):
        return " ".join(str(tag.id) for tag in value)
    if isinstance(value, dict | list):
        return escape_json(msgspec.json.encode(value).decode())
    if isinstance(value, str):
        guarded = safe and FORMULA.match(value) and not NUMBER.fullmatch(value)
        return escape(f"'{value}" if guarded else value)
    return value


def plainly(records: list[Record], safe: bool) -> bytes:
    """The records as CSV, cell by cell."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(every())
    for record in records:
        row = row_of(record)
        fields = {json_name(field): field for field in row.__struct_fields__}
        values = [getattr(row, fields[n]) if n in fields else None for n in every()[1:]]
        cells = [cell(n, v, safe) for n, v in zip(every()[1:], values, strict=True)]
        writer.writerow([row.__struct_config__.tag, *cells])
    return text.getvalue().encode()


def written(records: list[Record], safe: bool, size: int = 1000) -> bytes:
    stream = io.BytesIO()
    output = outputs.open("csv", Target(stream), {"csv_safe": safe})
    for start in range(0, len(records), size):
        output.write(Batch(records[start : start + size]))
    output.close()
    return stream.getvalue()


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("dump", effort.sample(samples.dumps(), least=15), ids=samples.name)
def test_csv_is_what_the_csv_module_writes(dump: Any, safe: bool) -> None:
    with pylog.open(dump) as reader:
        records = list(reader)
    plain = plainly(records, safe)
    assert written(records, safe) == plain
    stream = io.BytesIO()
    output = outputs.open("csv", Target(stream), {"csv_safe": safe})
    with pylog.open(dump) as reader:
        rows = reader.rows()
        while batch := rows.read_batch():
            output.write_rows(batch)
    output.close()
    assert stream.getvalue() == plain


HOSTILE = (
    st.sampled_from(['"', ",", "\r\n", "=1", "-1", "-x", "None", "null", "{x}", "%s", "", " ", "'",
                     "\\", "\u202e", "\udc80", "\uff1d", "+1e5", "\0"])
    | st.text(max_size=3)
)  # fmt: skip
WORDS = st.none() | HOSTILE
NAMES = WORDS | st.integers(0, 2)
COUNTS = st.none() | st.integers(-1, 2) | st.just(2**63)
JSON = st.none() | st.dictionaries(
    HOSTILE.filter(lambda text: "\udc80" not in text),
    COUNTS | st.booleans() | HOSTILE.filter(lambda text: "\udc80" not in text),
    max_size=2,
)
TIMES = st.none() | st.integers(0, 253402300799 * 10**9)
ENDS: dict[str, Any] = {"saddr": WORDS, "daddr": WORDS, "sport": COUNTS, "dport": COUNTS}
RECORDS = (
    st.builds(PacketRecord, HOSTILE, HOSTILE, offset=COUNTS, timestamp_ns=TIMES, observed_ns=TIMES,
              seq=COUNTS, count=COUNTS, action=NAMES, hook=NAMES, rule=COUNTS, prefix=WORDS,
              short=st.none() | st.booleans(), indev=NAMES, mark=COUNTS, hwaddr=WORDS,
              vlan=st.none() | st.lists(st.builds(Vlan, st.integers(0, 9)), max_size=2).map(tuple),
              family=NAMES, protocol=COUNTS, tcp_flags=WORDS, icmp_type=COUNTS, icmp_code=COUNTS,
              fragment=st.none() | st.builds(Fragment, COUNTS, COUNTS, st.booleans()),
              length=COUNTS, caplen=COUNTS, cut=WORDS, extra=JSON,
              payload=st.none() | st.binary(max_size=3), **ENDS)
    | st.builds(FlowRecord, HOSTILE, HOSTILE, event=NAMES, flow_type=NAMES, group=WORDS,
                nat_saddr=WORDS, nat_dport=COUNTS, extra=JSON, icmp_type=COUNTS,
                packets=st.none() | st.dictionaries(st.sampled_from(["in", '"', ","]),
                                                    st.integers(0, 2**64)), **ENDS)
    | st.builds(LossRecord, HOSTILE, HOSTILE, offset=COUNTS, count=COUNTS, size=COUNTS,
                log=WORDS, reason=WORDS, timestamp_ns=TIMES)
)  # fmt: skip


@given(st.lists(RECORDS, max_size=6), st.booleans(), st.integers(1, 6))
def test_hostile_values_are_written_as_the_csv_module_does(
    records: list[Record], safe: bool, size: int
) -> None:
    assert written(records, safe, size) == plainly(records, safe)
