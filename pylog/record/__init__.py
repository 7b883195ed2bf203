"""Records: what every source is decoded to, and their JSON.

`kinds` declares packet, flow and loss records with all their fields, `fields` says how a field is
declared, `registry` has all kinds, also those of other distributions, and `json` writes records as
text. docs/reference/json.md explains every field, with a table that is made from the declarations.
"""

from pylog.record.base import BaseRecord
from pylog.record.counter import CounterRecord
from pylog.record.fields import Column, Field, columns_of, fields_of, json_name, place, places_of
from pylog.record.json import (
    EXACT,
    escape,
    escape_json,
    in_row,
    json_lines,
    json_ready,
    rfc3339,
    rfc3339_us,
    row_lines,
    row_of,
    to_json,
)
from pylog.record.kinds import (
    MAX_SECONDS,
    Flow,
    FlowRecord,
    FlowRow,
    Fragment,
    Loss,
    LossRecord,
    LossRow,
    Packet,
    PacketHeaders,
    PacketRecord,
    PacketRow,
    Record,
    Row,
    Vlan,
)
from pylog.record.registry import (
    KINDS,
    ON_REQUEST,
    all_columns,
    kind_flaw,
    kind_of,
    kinds,
    no_column,
    row_type,
)
from pylog.record.ruleset import RulesetRecord, TraceRecord

__all__ = [
    "EXACT", "KINDS", "MAX_SECONDS", "ON_REQUEST", "BaseRecord", "Column", "CounterRecord",
    "Field", "Flow", "FlowRecord", "FlowRow", "Fragment", "Loss", "LossRecord", "LossRow", "Packet",
    "PacketHeaders", "PacketRecord", "PacketRow",
    "Record", "Row", "RulesetRecord", "TraceRecord", "Vlan", "all_columns", "columns_of", "escape",
    "escape_json", "fields_of", "in_row", "json_lines", "json_name", "json_ready", "kind_flaw",
    "kind_of", "kinds", "no_column", "place", "places_of", "rfc3339", "rfc3339_us", "row_lines",
    "row_of", "row_type", "to_json",
]  # fmt: skip
