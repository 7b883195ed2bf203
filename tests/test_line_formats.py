"""Line formats: ECS by Elastic's own package, CEF by a parser of the test, templates."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import effort
import inprocess
import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import outputs
from pylog.errors import DecodeError
from pylog.outputs import cef, ecs
from pylog.outputs._lines import formats, lines_of
from pylog.record import (
    CounterRecord,
    FlowRecord,
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    Vlan,
    kind_of,
)
from pylog.record.joined import joined
from pylog.testing import packet

HOSTILE = 'drop\r\n{"a":1}\0\x1b[2J\x7f\u2028\u202e a=b|c\\d "e] % {x}'


@cache
def recorded() -> tuple[Record, ...]:
    """A few records of each fixture, of all kinds."""
    records: list[Record] = [
        FlowRecord("nfct", "nfct-le", event="new", protocol=6, saddr="10.0.0.1", sport=1),
        FlowRecord("nfct", "nfct-le", event="destroy", packets={"orig": 5, "reply": 2},
                   bytes={"orig": 2**60, "reply": 60}, start_ns=10**18, stop_ns=10**18 + 5,
                   duration_us=7, end_reason="expired", nat_saddr="192.0.2.9", nat_sport=7,
                   status=["IPS_ASSURED", 4096], zone=3, state=99, netns=4, id=5),
        CounterRecord("nfct", "nfacct-le", name="web", packets=2**60, bytes=7, flags=["QUOTA", 4]),
        LossRecord("ipl", "x", size=7, offset=9, reason="cut off", host="fw1", origin="a.bin"),
        RulesetRecord("nftables", "nft-le", op="del_rule", change="replace", family=99, uid=0,
                      table="t", chain="c", handle=7, text="accept", cmdline="nft -f x", pid=5,
                      process="nft", flags=3, expressions=[{"name": "cmp", "data": {"a": 1}}]),
        TraceRecord("nftables", "nft-le", id="ab", type="rule", verdict="drop", handle=4,
                    family="inet", table="t", chain="c", text="drop", saddr="::1", length=60),
        joined(packet(), rule_family="inet", rule_table="t", rule_chain="c", rule_handle=7,
               rule_text="accept", nat_saddr="192.0.2.9", flow_age=1.5, flow_id=5,
               rule_candidates=[{"handle": 7}]),
        packet(action=7, uid=1, gid=2, vlan=(Vlan(5), Vlan(6)), count=3, prefix=HOSTILE),
    ]  # fmt: skip
    for path in effort.sample(samples.dumps("*/*")):
        try:
            with pylog.open(path) as reader:
                records += [record for _, record in zip(range(30), reader, strict=False)]
        except (ValueError, DecodeError):  # it has no layout by itself
            continue
    return tuple(records)


# ECS


def elastic() -> Path | None:
    """The folder of the package @elastic/ecs: PYLOG_ECS, or where npm installs for all."""
    places = [os.environ.get("PYLOG_ECS", ""), *(
        f"{root}/node_modules/@elastic/ecs" for root in ("/usr/lib", "/usr/local/lib")
    )]  # fmt: skip
    there = [Path(place) for place in places if place and Path(place, "package.json").exists()]
    return there[0] if there and shutil.which("node") else None


def flat(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a document with their values, below the names that are pylog's own none."""
    for name, value in document.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from flat(value, inner)
        else:
            yield inner, value


def documents() -> list[dict[str, Any]]:
    line = lines_of("ecs").line
    return [json.loads(line(record)) for record in recorded()]


@pytest.mark.skipif(elastic() is None, reason="needs node and the npm package @elastic/ecs")
def test_the_fields_of_ecs_are_those_of_elastic() -> None:
    script = f"""const {{EcsFlat, EcsVersion}} = require({str(elastic())!r});
        const fields = Object.entries(EcsFlat).map(([name, f]) => [name, [f.type,
            f.normalize.includes("array"), (f.allowed_values || []).map(v =>
                [v.name, v.expected_event_types || []])]]);
        console.log(JSON.stringify([EcsVersion, Object.fromEntries(fields)]))"""
    done = subprocess.run(["node", "-e", script], capture_output=True, check=True)
    version, fields = json.loads(done.stdout)
    assert version.split(".")[0] == ecs.VERSION.split(".")[0]
    types: dict[str, Any] = {"keyword": str, "wildcard": str, "match_only_text": str, "ip": str, "date": str,
             "long": (int, str)}  # fmt: skip
    seen = set()
    for document in documents():
        category = document["event"].get("category", [None])[0]
        for name, value in flat(document):
            if name.startswith("pylog."):
                continue
            seen.add(name)
            assert name in fields, name
            kind, is_list, allowed = fields[name]
            assert isinstance(value, list) == is_list, name
            for part in value if is_list else [value]:
                assert isinstance(part, types[kind]), (name, part)
                assert kind != "long" or int(part) is not None
                assert kind != "date" or re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{6,9}Z", part)
                if words := dict(allowed):
                    assert part in words, (name, part)
                if name == "event.category":
                    assert set(document["event"]["type"]) <= set(words[part])
        assert category or document["event"]["kind"] == "pipeline_error"
    assert {"source.nat.ip", "rule.description", "process.command_line", "error.message"} <= seen


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
                    "iana_number": "6", "transport": "tcp"},
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


@effort.examples(300)
@given(st.text(), st.text(max_size=20))
def test_no_text_forges_a_line_or_a_key(prefix: str, action: str) -> None:
    record = packet(prefix=prefix, action=action, indev=prefix)
    header, values = parsed(lines_of("cef").line(record))
    assert {"cs1Label": "Prefix", "dpt": "80"}.items() <= values.items()
    assert header[4].startswith("packet") and set(values) == set(
        parsed(lines_of("cef").line(packet(prefix="a", action="b", indev="c")))[1]
    )
    for form in ("json", "ecs", "text", "{prefix}\\t{action}"):
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


# Files


def test_every_format_is_written_to_files_and_by_read(tmp_path: Path) -> None:
    log = samples.FIXTURES / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"
    assert {"json", "ecs", "cef", "ipmon", "text", "template"} <= set(formats())
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
