"""Line formats: ECS, whose names tests/services compares with Elastic's, CEF, templates."""

from __future__ import annotations

import json
import re
from pathlib import Path

import effort
import inprocess
import msgspec
import pytest
import samples
from all_kinds import documents, flat, recorded
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import outputs
from pylog.outputs import cef, ecs
from pylog.outputs._lines import formats, lines_of
from pylog.record import (
    LossRecord,
    PacketRecord,
    Record,
    kind_of,
)
from pylog.testing import packet

# ECS


def test_each_name_below_pylog_has_one_type() -> None:
    """Elasticsearch refuses a document whose field has another type than in one before it."""
    types: dict[str, set[str]] = {}
    for document in documents():
        for name, value in flat(document):
            parts = value if isinstance(value, list) else [value]
            kinds_of_it = {"text" if isinstance(part, str) else type(part).__name__
                           for part in parts}  # fmt: skip
            numeric = {"text"} if all(isinstance(p, str) and p.isdigit() for p in parts) else set()
            types.setdefault(name, set()).update(kinds_of_it - numeric)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}
    assert not {name for name in types if any(other.startswith(f"{name}.") for other in types)}


def test_no_field_of_a_record_is_missing_in_ecs() -> None:
    unlike = {(type(r), *(v is None for v in msgspec.structs.astuple(r))): r for r in recorded()}
    for record in unlike.values():
        text = lines_of("ecs").line(record)
        row = json.loads(lines_of("json", exclude="payload,offset,timestamp,observed").line(record))
        for name in row.keys() - {"kind", "hwaddr", "op"}:  # each change has an op
            without = msgspec.structs.replace(record, **{_field(record, name): None})
            assert lines_of("ecs").line(without) != text, name


def _field(record: Record, column: str) -> str:
    return column if hasattr(record, column) else f"{column}_ns"


def test_documents_say_what_the_record_says() -> None:
    record = packet(
        action="block", direction="in", indev="eth0", prefix="drop ", hwaddr="02:00:00:00:00:01",
        hwtype=1, hwheader="0200000000020200000000010800", count=2, length=40, group="5",
        timestamp_ns=10**18, observed_ns=10**18 + 1, host="fw1", origin="nflog:5", seq=7,
    )  # fmt: skip
    document = ecs.document(record)
    pylog_fields = document.pop("pylog")
    assert document.pop("message").startswith("2001-09-09T01:46:40.000000Z [nflog:5] block in eth0")
    assert document == {
        "@timestamp": "2001-09-09T01:46:40.000000Z",
        "event": {
            "created": "2001-09-09T01:46:40.000000001Z", "provider": "nflog", "sequence": 7,
            "action": "block", "kind": "event", "category": ["network"],
            "type": ["connection", "denied"], "module": "pylog", "dataset": "pylog.packet",
        },
        "network": {"direction": "ingress", "packets": 2, "bytes": 80, "type": "ipv4",
                    "iana_number": "6", "transport": "tcp",
                    "community_id": "1:+2pHz3aT6HgcBXuye2/+i7Ff26k="},
        "observer": {"name": "nflog:5", "hostname": "fw1", "type": "firewall",
                     "ingress": {"interface": {"name": "eth0"}}},
        "rule": {"name": "drop ", "ruleset": "5"},
        "source": {"address": "192.0.2.1", "ip": "192.0.2.1", "port": 40000,
                   "mac": "02-00-00-00-00-01"},
        "destination": {"address": "198.51.100.2", "ip": "198.51.100.2", "port": 80,
                        "mac": "02-00-00-00-00-02"},
        "related": {"ip": ["192.0.2.1", "198.51.100.2"]},
        "ecs": {"version": "9.4.0"},
    }  # fmt: skip
    assert pylog_fields.items() >= {"tcp_flags": "S", "length": 40, "hwtype": 1}.items()


# CEF


def parsed(line: str) -> tuple[list[str], dict[str, str]]:
    """The header and the extension of a line, as the standard says how to read them."""
    header, at = [""], 0
    while len(header) < 8:
        if line[at] == "\\":
            assert line[at + 1] in "|\\"
            at += 1
            header[-1] += line[at]
        elif line[at] == "|":
            header.append("")
        else:
            header[-1] += line[at]
        at += 1
    starts = list(re.finditer(r"(?:^| )(\w+)=", line[at:]))
    values = {}
    for match, after in zip(starts, [*starts[1:], None], strict=True):
        value = line[at:][match.end() : after.start() if after else None]
        assert not re.search(r"(?<!\\)(?:\\\\)*=", value), value
        assert match[1] not in values
        values[match[1]] = re.sub(r"\\(.)", r"\1", value)
    return header[:7], values


def test_a_parser_gets_the_values_of_cef_back() -> None:
    line = lines_of("cef").line
    keys = {*cef.LONGEST, *cef.LABELS, *(f"{key}Label" for key in cef.LABELS), "rt", "src", "dst",
            "spt", "dpt", "cnt", "in", "out", "start", "end", "smac", "dmac", "spid",
            "deviceDirection", "sourceTranslatedAddress", "sourceTranslatedPort",
            "destinationTranslatedAddress", "destinationTranslatedPort"}  # fmt: skip
    for record in recorded():
        text = line(record)
        assert text.isprintable()
        header, values = parsed(text)
        assert header[:3] == ["CEF:0", "pylog", "pylog"] and 0 <= int(header[6]) <= 10
        assert values["cat"] == kind_of(record) and set(values) <= keys
        assert all(len(values.get(key, "")) <= size for key, size in cef.LONGEST.items())
        assert all(f"{key}Label" in values for key in cef.LABELS if key in values)
        for key in ("src", "dst"):
            assert re.fullmatch(r"[\d.]+", values.get(key, "0.0"))


@effort.examples(100)
@given(st.text(), st.text(max_size=20))
def test_no_text_forges_a_line_or_a_key(prefix: str, action: str) -> None:
    record = packet(prefix=prefix, action=action, indev=prefix)
    header, values = parsed(lines_of("cef").line(record))
    assert {"cs1Label": "Prefix", "dpt": "80"}.items() <= values.items()
    assert header[4].startswith("packet") and set(values) == set(
        parsed(lines_of("cef").line(packet(prefix="a", action="b", indev="c")))[1]
    )
    for form in ("json", "ecs", "text", "kernel", "{prefix}\\t{action}"):
        text = lines_of(form).line(record)
        assert text.replace("\t", "").isprintable() and len(text.splitlines()) <= 1


# Templates


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{timestamp} {action} {saddr}:{sport}", "2001-09-09T01:46:40.000000Z - 192.0.2.1:40000"),
        ("{{{saddr}}} 100% %s", "{192.0.2.1} 100% %s"),
        (r"{protocol}\t{ttl}\\{hwtype}", "tcp\t64\\-"),
        ("{fragment.offset} {extra.a} {extra.a.b} {extra.c.d}", "- {\"b\":5} 5 -"),
        ("{kind}{rule_handle}", "packet-"),
        ("{prefix}", r"a\nb\x1b"),
    ],
)  # fmt: skip
def test_a_template_makes_a_line(template: str, line: str) -> None:
    record = packet(timestamp_ns=10**18, prefix="a\nb\x1b", extra={"a": {"b": 5}, "c": 5})
    assert lines_of(template).line(record) == line


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{sadr}", "no column 'sadr'; did you mean saddr"),
        ("{saddr!r}", "braces must have a name only"),
        ("{saddr:>5}", "braces must have a name only"),
        ("{saddr", "expected '}' before end of string"),
        ("{} a", "no column ''"),
        ("{{a}}", "must name a column in braces"),
        (r"{saddr}\n", r"template has '\\n': the escapes are \t and \\"),
        ("{saddr}\n", "template has a control character"),
        ("{saddr}\\", "the escapes are"),
    ],
)
def test_what_is_no_template_is_an_error(template: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        lines_of(template)


def test_a_template_writes_times_in_a_zone() -> None:
    record = packet(timestamp_ns=10**18)
    assert lines_of("{timestamp}", tz="Etc/GMT-2").line(record) == (
        "2001-09-09T03:46:40.000000+02:00"
    )


# The kernel's line


def test_lines_of_the_kernel_are_of_packets_and_have_a_time_where_no_header_has_it() -> None:
    form = lines_of("kernel")
    record = packet(timestamp_ns=10**18, prefix="drop: ", host="fw1", action="block")
    line, content = form.line(record), (form.content or form.line)(record)
    assert content.startswith("drop: IN=") and "SRC=192.0.2.1 DST=198.51.100.2" in content
    assert line == f"2001-09-09T01:46:40.000000+00:00 fw1 kernel: {content}"
    assert form.line(msgspec.structs.replace(record, host="a b\n")).startswith(
        "2001-09-09T01:46:40"
    )
    assert form.line(LossRecord("nflog", "nfulnl-le")) == ""
    assert form.report() == [
        "kernel: left out: loss records (1)",
        "kernel: not held: action (3); hook (3)",
    ]


# Files


def test_every_format_is_written_to_files_and_by_read(tmp_path: Path) -> None:
    log = samples.FIXTURES / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"
    assert {"json", "ecs", "cef", "ipmon", "kernel", "text", "template"} == set(formats())
    with pylog.open(log) as reader:
        records: list[PacketRecord] = [r for r in reader if isinstance(r, PacketRecord)]
    for name in ("ecs", "cef", "template"):
        done = inprocess.run("read", "--to", name, log)
        line = lines_of(name).line if name != "template" else None
        lines = done.stdout.decode().splitlines()
        assert done.returncode == 0 and len(lines) == len(records)
        if line is not None:
            assert lines == [line(record) for record in records]
    assert inprocess.run("read", "--template", "{dport}", "--to", "template", "-n", 1,
                         log).stdout == b"80\n"  # fmt: skip
    assert inprocess.run("convert", log, tmp_path / "a.cef").returncode == 0
    assert outputs.form_of("a.cef") == ("cef", "")
    assert outputs.form("a.jsonl.gz", "ecs") == ("ecs", ".gz")  # which is JSON lines
    with pytest.raises(ValueError, match=r"the ending of a\.cef says cef"):
        outputs.form("a.cef", "ecs")
