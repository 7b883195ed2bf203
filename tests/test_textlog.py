"""Text logs: every program's lines in every envelope, times, repeated lines, and other lines."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import effort
import inprocess
import oracles
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.formats import textlog, textlog_kernel
from pylog.formats.textlog_envelopes import opened
from pylog.formats.textlog_fast import Fast
from pylog.formats.textlog_times import Calendar, LogTimes, civil_year, days_from_civil, yearless
from pylog.log_times import Months

LINES = "text/lines.tar.xz"
NAMES = oracles.names(LINES, ".txt")
LOG = (
    "IN=eth0 OUT= MAC=02:50:01:00:00:01:02:50:01:00:00:02:08:00 SRC=192.0.2.7 DST=198.51.100.1"
    " LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=4000 DPT=22 WINDOW=64240 RES=0x00"
    " SYN URGP=0 "
)


def read(text: str | bytes, **options: Any) -> list[pylog.Record]:
    data = text if isinstance(text, bytes) else text.encode()
    with pylog.open(io.BytesIO(data), **options) as reader:
        return list(reader)


def one(line: str, **options: Any) -> PacketRecord:
    (record,) = read(f"{line}\n", **options)
    assert isinstance(record, PacketRecord)
    return record


def rows(data: bytes, **options: Any) -> dict[int, dict[str, Any]]:
    """The packets of a log as JSON has them, by the number of their line."""
    found = [r for r in read(data, **options) if isinstance(r, PacketRecord)]
    made = [json.loads(line) for line in pylog.json_lines(found).splitlines()]
    return {data.count(b"\n", 0, row["offset"]) + 1: row for row in made}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_every_line_is_as_the_truth_says(name: str) -> None:
    data = oracles.members(LINES)[f"{name}.txt"]
    given_rows = rows(data, log_tz="UTC")
    for wanted in oracles.truth(LINES, name):
        fields, row = wanted["fields"], given_rows.get(wanted["line"])
        assert (fields is None) == (row is None), wanted["line"]
        if fields is None or row is None:
            continue
        assert not oracles.differences(fields, row), wanted["line"]
        if "timestamp" in fields:
            times = [datetime.fromisoformat(t) for t in (row["timestamp"], fields["timestamp"])]
            assert times[0] == times[1]


OTHERS = ("offsets", "v34-", "bits", "cut", ".n.", ".np.")  # whose options hide or change the log
IPMON = [
    p for p in sorted((samples.FIXTURES / "ipl").glob("*.txt"))
    if p.with_suffix(".bin").exists() and not any(word in p.name for word in OTHERS)
]  # fmt: skip
SAME = ("timestamp_ns", "action", "direction", "rule", "group", "protocol", "saddr", "daddr",
        "sport", "dport", "tcp_flags", "icmp_type", "icmp_code", "event", "flow_type")  # fmt: skip


@pytest.mark.parametrize("path", effort.sample(IPMON), ids=samples.name)
def test_what_ipmon_prints_is_what_its_binary_log_says(path: Path) -> None:
    stem = path.name.split(".")[0]
    with pylog.open(path.with_suffix(".bin")) as reader:
        binary = [r for r in reader if not isinstance(r, LossRecord)]
    text = [r for r in read(path.read_bytes(), log_tz="UTC") if not isinstance(r, LossRecord)]
    old = stem.startswith(("v34", "v33", "v32", "v31", "v2x", "v3-4"))
    assert len(text) == len(binary)
    by_time = {r.timestamp_ns: r for r in binary}
    for record in text:
        other = by_time[record.timestamp_ns]
        for name in SAME:
            value = getattr(record, name, None)
            if value is not None and not (old and name in ("event", "group", "action", "dport")):
                assert value == getattr(other, name), (name, record.offset)


PROGRAMS = {
    "ipmon": "14/11/2023 22:14:21.123457 fxp0 @0:3 b 10.1.1.1,4 -> 192.0.2.10,80 PR tcp len 20 40"
             " -S IN",
    "kernel-log": LOG,
    "ipfw": "ipfw: 100 Deny TCP 10.1.1.1:4 192.0.2.10:80 in via em0",
    "filterlog": "5,,,0,em0,match,block,in,4,0x0,,64,1,0,none,6,tcp,40,10.1.1.1,192.0.2.10,4,80,0,S"
                 ",1,,8192,,",
    "tcpdump": "rule 1/0(match): block in on em0: 10.1.1.1.4 > 192.0.2.10.80: Flags [S], seq 1",
}  # fmt: skip
ENVELOPES = {
    "kernel-log": {
        "": "{}", "dmesg": "[ 6538.552255] {}", "dmesg-r": "<6>[ 6538.552255] {}",
        "dmesg-x": "kern  :info  : [ 6538.552255] {}",
        "dmesg-T": "[Sat Nov 28 20:57:17 2026][   T12] {}",
        "dmesg-e": "[Nov28 20:57] {}",
        "dmesg-iso": "2026-11-28T20:57:17,307693+00:00 {}",
        "rfc3164": "Nov 28 20:57:17 fw kernel: [ 6538.552255] {}",
        "rsyslog": "2026-11-28T20:57:17.307693+00:00 fw kernel: {}",
        "rfc5424": '<6>1 2026-11-28T20:57:17Z fw kernel - - [a b="x \\" \\] y"][c] \ufeff{}',
        "journal-precise": "Nov 28 20:57:17.307693 fw kernel: {}",
        "journal-iso": "2026-11-28T20:57:17+0000 fw kernel: {}",
        "journal-full": "Sat 2026-11-28 20:57:17 UTC fw kernel: {}",
        "journal-unix": "1795899437.307693 fw kernel: {}",
        "journal-monotonic": "[ 6538.552255] fw kernel: {}",
        "journal-field": "MESSAGE={}", "kmsg": "6,1234,6538552255,-;{}",
        "logread": "Sat Nov 28 20:57:17 2026 kern.warn kernel: {}",
    },
    "ipmon": {"": "{}", "rfc3164": "<134>Nov 14 22:14:21 fw ipmon[17]: {}",
              "journal-full": "Tue 2023-11-14 22:14:21.5 CET fw ipmon[17]: {}"},
    "ipfw": {"": "{}", "rfc3164": "Nov 28 09:00:00 <security.info> fw kernel: {}",
             "dmesg-iso": "kern  :warn  : 2026-11-28T20:57:17,307693+00:00 {}"},
    "filterlog": {"": "{}", "rfc3164": "Nov 28 2026 09:00:00 fw local0.info filterlog[5]: {}",
                  "rfc5424": "<134>1 2026-11-28T09:00:00+01:00 fw filterlog 5 - - {}"},
    "tcpdump": {"": "2026-11-28 09:00:00.000001 {}"},
}  # fmt: skip


FORMS = [(program, form) for program, forms in ENVELOPES.items() for form in forms]


@pytest.mark.parametrize(("program", "form"), FORMS)
def test_every_program_is_read_in_every_envelope(program: str, form: str) -> None:
    line = ENVELOPES[program][form].format(PROGRAMS[program])
    record = one(line)
    assert record.source == program and record.layout.endswith(form)
    assert record.dport in (22, 80) and record.tcp_flags in ("S", None)
    assert record.host == ("fw" if " fw " in line else None)
    zoned = "+" in line or "UTC" in line or "Z fw" in line or form == "journal-unix"
    assert (record.timestamp_ns is not None) == zoned
    timeless = form in ("journal-field", "dmesg-e", "") and program not in ("tcpdump", "ipmon")
    assert (record.timestamp_local is None) == (zoned or timeless)


def test_the_journal_has_the_kernels_own_time() -> None:
    entry = {"MESSAGE": [*b"\xc3\xbc: ", *LOG.encode()], "SYSLOG_IDENTIFIER": "kernel",
             "_HOSTNAME": "fw", "__REALTIME_TIMESTAMP": "1795899714004104",
             "__MONOTONIC_TIMESTAMP": "6815252605",
             "_SOURCE_MONOTONIC_TIMESTAMP": "6808948843"}  # fmt: skip
    record = one(json.dumps(entry))
    assert record.prefix == "ü: " and record.host == "fw"
    assert record.timestamp_ns == (1795899714004104 - 6815252605 + 6808948843) * 1000


@pytest.mark.parametrize(("head", "prefix"), [
    ("IN=a OUT=b SRC=1.1.1.1 ", "IN=a OUT=b SRC=1.1.1.1 "), ("x=\\x5c\\xc3\\xbc ", "x=\\ü "),
    ("", None), ("[x] ", "[x] "), ("no blank", "no blank"),
])  # fmt: skip
def test_a_prefix_may_hold_anything(head: str, prefix: str | None) -> None:
    record = one(f"[ 6538.552255] {head}{LOG}")
    assert record.prefix == prefix and record.saddr == "192.0.2.7" and record.indev == "eth0"


def test_a_line_that_is_cut_is_read_as_far_as_it_is_sure() -> None:
    for at in effort.sample(range(LOG.index("SRC=") + 4, len(LOG)), least=40):
        (record,) = read(f"[ 1.000000] {LOG[:at]}")
        assert isinstance(record, PacketRecord)
        assert record.dport in (None, 22) and record.sport in (None, 4000)
        assert record.saddr in (None, "192.0.2.7") and record.length in (None, 60)


def test_what_a_line_says_beyond_the_fields_is_there_on_request() -> None:
    words = ("read", "-", "--to", "csv", "--columns", "ttl,ip_id,tcp_window,tos")
    (line,) = inprocess.run(*words, stdin=LOG.encode() + b"\n").stdout.splitlines()[1:]
    assert line == b"64,7,64240,0"


# Lines of other releases and systems


TCP_LINE = "TCP 192.0.2.7:4000 198.51.100.1:22 in via em0"
CSV = "em0,match,block,in,4,0x0,,64,1,0,DF,17,udp,60,192.0.2.7,198.51.100.1,4000,22,20"
UNCOMMON = {
    f"ipfw: 100 Forward to [2001:db8::1]:80 {TCP_LINE}": ("forward", 100, None),
    f"ipfw: 100 Deny {TCP_LINE.replace('TCP', 'UDPLite')}": ("block", 100, None),
    f"ipfw: 70000 Unreach 13 {TCP_LINE}": ("block", 70000, None),
    f"5,,,a label, with commas,{CSV}": ("block", 5, None),
    f"5,16777216,,1000000103,{CSV}": ("block", 5, None),
    f"5,3,acme/x,1000000103,{CSV}": ("block", 5, "acme/x"),
    "12:00:00.000001 rule 5..16777216/0(match): block in on em0: 192.0.2.7.4000 > 198.51.100.1.22:"
    " Flags [S]": ("block", 5, None),
    "12:00:00.000001 rule 5/0(match): block in on em0: IP truncated-ip - 20 bytes missing!"
    " 192.0.2.7.4000 > 198.51.100.1.22: Flags [S]": ("block", 5, None),
    "1795219861.267175 rule 5/0(match): block in/out on : 192.0.2.7.4000 > 198.51.100.1.22: UDP,"
    " length 64": ("block", 5, None),
    "1795219861.267175 rule 5/0(match): block in on em0: 192.0.2.7 > 198.51.100.1: DSTOPT"
    " 4000 > 22: Flags [S], seq 0": ("block", 5, None),
    "Nov 28 20:57:17 fw ipmon[9]: [ID 702911 local0.warning] 20:57:17.123457 fxp0 @0:5 b"
    " 192.0.2.7,4000 -> 198.51.100.1,22 PR tcp len 20 40 -S IN": ("block", 5, "0"),
}  # fmt: skip


@pytest.mark.parametrize("line", UNCOMMON)
def test_a_line_of_any_release_is_read(line: str) -> None:
    record = one(line)
    assert (record.action, record.rule, record.group) == UNCOMMON[line]
    ends = record.saddr, record.sport, record.daddr, record.dport
    assert ends == ("192.0.2.7", 4000, "198.51.100.1", 22)
    assert ("subrulenr" in (record.extra or {})) == (record.group == "acme/x")


@pytest.mark.parametrize("start", [
    "22:14:21.123456 rule 5/0(match): ", "Nov 14 22:14:21 fw pf: 00:00:01.123456 rule 5/0(match): ",
])  # fmt: skip
def test_the_second_line_of_a_packet_of_tcpdump_v_has_its_addresses(start: str) -> None:
    after = "Nov 14 22:14:21 fw pf: " if "pf:" in start else ""
    text = (
        f"{start}block in on em0: (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6),"
        f" length 60)\n{after}    192.0.2.7.4000 > 198.51.100.1.22: Flags [S], length 0\n"
    )
    for data in (text, f"{text}{text}"):
        for record in read(data):
            assert isinstance(record, PacketRecord)
            assert (record.saddr, record.dport, record.length) == ("192.0.2.7", 22, 60)
    assert len(read(f"{text}{text}")) == 2


@pytest.mark.parametrize(("stamp", "month"), [
    ("[Sa Mär 28 20:57:17 2026] ", 3), ("[sam. août 28 20:57:17 2026] ", 8),
    ("Dez 28 20:57:17 fw kernel: ", 12), ("déc. 28 20:57:17 fw kernel: ", 12),
    ("maj 28 20:57:17.123456 fw kernel: ", 5),
])  # fmt: skip
def test_months_may_be_of_another_language(stamp: str, month: int) -> None:
    record = one(f"{stamp}drop {LOG}", log_tz="UTC", year=2026)
    assert record.prefix == "drop " and str(record.timestamp_local) in stamp
    assert datetime.fromtimestamp((record.timestamp_ns or 0) / 1e9, UTC).month == month


@pytest.mark.parametrize("before", ["", "data: ", "\x1e"])
def test_entries_of_every_json_form_of_journalctl_are_read(before: str) -> None:
    entry = {"MESSAGE": f"drop {LOG}", "_HOSTNAME": "fw", "SYSLOG_IDENTIFIER": "kernel",
             "__REALTIME_TIMESTAMP": "1795899437307693"}  # fmt: skip
    record = one(before + json.dumps(entry))
    assert (record.prefix, record.host) == ("drop ", "fw") and record.timestamp_ns


def test_the_tunnel_of_a_sit_device_is_kept() -> None:
    start = "[ 1.000000] IN=sit0 OUT= MAC=45:00:00:64 TUNNEL=192.0.2.1->192.0.2.2 "
    record = one(start + LOG[LOG.index("SRC=") :])
    assert record.extra is not None and record.extra["tunnel"] == "192.0.2.1->192.0.2.2"


# The fast path


REGULAR = (
    LOG, f"{LOG}UID=1000 GID=100 MARK=0x1f ", LOG.replace("SYN", "ACK PSH").rstrip(),
    LOG.replace("WINDOW", "SEQ=7 ACK=8 WINDOW").replace("URGP=0", "URGP=9"),
    LOG[: LOG.index("PROTO")] + "PROTO=UDP SPT=53 DPT=4000 LEN=40 MARK=0x2 ",
    LOG[: LOG.index("PROTO")] + "PROTO=ICMP TYPE=8 CODE=0 ID=7 SEQ=1 ",
    "IN=eth0 OUT= MAC= SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=fe80::1 LEN=60 TC=4"
    " HOPLIMIT=64 FLOWLBL=7 PROTO=ICMPv6 TYPE=135 CODE=0 ",
    "IN= OUT=eth0 SRC=fe80::2 DST=fe80::1 LEN=60 TC=0 HOPLIMIT=1 FLOWLBL=0 PROTO=UDP SPT=546"
    " DPT=547 LEN=20 ",
)  # fmt: skip
"""Lines that the fast path reads."""
STARTS = (
    "Nov 28 20:57:17 fw kernel: ", "<6>Nov 28 20:57:17 fw kernel: [UFW BLOCK] ",
    "Nov 28 20:57:17 fw kernel: [ 6538.552255] [UFW] ", "[ 6538.552255] PF ", "<6>[    1.000000] ",
    "2026-11-28T20:57:17.307693+00:00 fw kernel: ", "2026-11-28T20:57:17,307693+01:00 a b ",
    "2026-11-28T20:57:17+0000 fw kernel: ", "[Sat Nov 28 20:57:17 2026] x",
    "<6>1 2026-11-28T20:57:17.307693Z fw kernel - - - ", "1795899437.307693 fw kernel: ",
    "Nov 28 20:57:17.307693 fw kernel: ",
)  # fmt: skip


IN_UTC = {"log_tz": "UTC", "year": 2026}


def by_grammar(data: bytes, **options: Any) -> list[pylog.Record]:
    """The records without the fast path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fast, "records", lambda _, lines, *__: [None] * len(lines))
        return read(data, layout="text", **options)


def test_regular_lines_are_read_by_the_fast_path() -> None:
    stream = textlog.stream("text")
    fast = Fast(stream._rule, stream._timed)
    stream.split(b"", False)
    for start in STARTS:
        for line in REGULAR:
            lines = [f"{start}{line}".encode()]
            assert fast.records(lines, [0], None) != [None], (start, line)


def test_the_fast_path_and_the_grammar_read_lines_alike() -> None:
    data = b"".join(
        oracles.members(LINES)[f"{name}.txt"] for name in NAMES if name.startswith("kernlog")
    )
    data += "\n".join(f"{start}{line}" for start in STARTS for line in REGULAR).encode()
    for options in ({}, IN_UTC):
        assert read(data, layout="text", **options) == by_grammar(data, **options)


def changed(line: bytes) -> Iterator[bytes]:
    """The line with a byte less, another byte, or one more, at each place."""
    for at in range(len(line)):
        yield line[:at] + line[at + 1 :]
        for octet in b"5 =a]xC\xb2-_":
            yield line[:at] + bytes((octet,)) + line[at + 1 :]
            yield line[:at] + bytes((octet,)) + line[at:]


@pytest.mark.parametrize("number", effort.sample(range(len(STARTS) * len(REGULAR)), least=2))
def test_changed_lines_are_read_alike(number: int) -> None:
    line = f"{STARTS[number % len(STARTS)]}{REGULAR[number // len(STARTS)]}".encode()
    data = b"\n".join([line, *effort.sample(list(changed(line)), least=100), line, b""])
    options = IN_UTC if number % 2 else {}
    fast, slow = read(data, layout="text", **options), by_grammar(data, **options)
    assert [r for r in fast if r not in slow] == [] and len(fast) == len(slow)


def in_blocks(lines: list[str], size: int) -> list[pylog.Record]:
    """The records of lines that come `size` at a time."""
    stream, records = textlog.stream("text"), []
    stream.times = LogTimes(zone=int, latest=int(datetime(2026, 2, 1, tzinfo=UTC).timestamp()))
    for at in range(0, len(lines), size):
        data = "".join(f"{line}\n" for line in lines[at : at + size]).encode()
        records += [stream.decode(data, item) for item in stream.split(data, True)]  # type: ignore[arg-type]
    return records


def test_years_are_the_same_however_many_lines_are_read_at_once() -> None:
    months = ("Nov", "Nov", "Nov", "Dec", "Dec", "Jan", "Jan", "Dec", "Jan", "Jan", "Nov", "Nov")
    fragment = LOG.replace("DF", "MF")  # a line for the grammar
    kinds = (LOG, LOG, fragment, LOG, fragment)
    lines = [
        f"{months[number // 3 % 12]} 05 12:00:{number % 60:02} fw kernel: {kinds[number % 5]}"
        for number in range(90)
    ]
    one_by_one = in_blocks(lines, 1)
    assert len({civil_year((r.timestamp_ns or 0) // 10**9) for r in one_by_one}) > 2
    for size in (2, 3, 4, 7, 30):
        assert in_blocks(lines, size) == one_by_one


# Times


def test_a_missing_year_is_the_newest_in_which_no_line_lies_in_the_future() -> None:
    latest = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp())
    calendar = Calendar(LogTimes(zone=int, latest=latest))
    moments = [
        calendar.moment(yearless("", month, "05", "12:00:00", None))
        for month in ("Nov", "Dec", "Jan", "Dec", "Jan")
    ]
    years = [civil_year((moment or 0) // 10**9) for moment in moments]
    assert years == [2025, 2025, 2026, 2025, 2026]


def test_a_log_of_several_years_counts_back_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    months = ("Mar", "Nov", "Feb", "Dec", "Jan")
    path.write_text("".join(f"{month} 05 12:00:00 fw kernel: {LOG}\n" for month in months))
    written = datetime(2026, 1, 20, tzinfo=UTC).timestamp()
    os.utime(path, (written, written))
    with pylog.open(path, log_tz="Europe/Oslo") as reader:
        times = [record.timestamp for record in reader]
    assert [f"{t:%Y-%m-%d %H}" for t in times if t] == [
        "2024-03-05 11", "2024-11-05 11", "2025-02-05 11", "2025-12-05 11", "2026-01-05 11",
    ]  # fmt: skip
    with pylog.open(path, log_tz="UTC", year=2001) as reader:
        assert [record.timestamp.year for record in reader if record.timestamp] == [
            2001, 2001, 2002, 2002, 2003,
        ]  # fmt: skip
    with pylog.open(path) as reader:
        first = reader.read()
    assert isinstance(first, PacketRecord) and first.timestamp_ns is None
    assert first.timestamp_local == "Mar 05 12:00:00"


def test_months_are_counted_however_the_bytes_come() -> None:
    data = b"".join(b"%s  5 12:00:00 x\n" % m for m in (b"Jan", b"Dec", b"Feb", b"Jan") * 3)
    counts = []
    for size in (1, 7, 50, 10**6):
        months = Months()
        for at in range(0, len(data), size):
            months.feed(data[at : at + size])
        counts.append(months.steps)
    assert len(set(counts[2:])) == 1


def test_days_are_those_of_the_calendar() -> None:
    for day in effort.sample(range(-100000, 2900000, 997)):
        date = datetime.fromordinal(719163 + day)
        assert days_from_civil(date.year, date.month, date.day) == day
        assert civil_year(day * 86400) == date.year


def test_a_zone_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        read(LOG, log_tz="Europe/Osla")
    with pytest.raises(ValueError, match="give log_tz"):
        read(LOG, year=2020)


# Repeated lines, other lines, long ones


SYSLOG = f"Nov 28 20:57:17 fw kernel: {LOG}\n"
AGAIN = "Nov 28 20:57:20 fw last message repeated 5 times\n"


def test_a_repeated_line_counts(tmp_path: Path) -> None:
    first, second = read(SYSLOG + AGAIN + AGAIN + SYSLOG)
    assert isinstance(first, PacketRecord) and isinstance(second, PacketRecord)
    assert (first.count, second.count) == (11, None)
    assert one(f"Nov 28 20:57:17 fw kernel: message repeated 3 times: [ {LOG}]").count == 3
    others = f"{SYSLOG}Nov 28 20:57:18 fw sshd[1]: x\n{AGAIN}"
    with pylog.open(io.BytesIO(others.encode())) as reader:
        assert [r.count for r in reader if isinstance(r, PacketRecord)] == [None]
        assert reader.other == 2


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_records_do_not_depend_on_how_the_bytes_come(size: int) -> None:
    data = (SYSLOG * 2 + AGAIN + "x\n" + SYSLOG).encode()
    stream = textlog.stream("text")
    found, rest, at = [], b"", 0
    while at < len(data) or rest:
        rest, at = rest + data[at : at + size], at + size
        for item in stream.split(rest, at >= len(data)):
            found.append(stream.decode(rest, item))  # type: ignore[arg-type]
        rest = rest[stream.used :]
    assert found == read(data)


def test_lines_that_come_now_do_not_wait_for_the_next() -> None:
    stream = textlog.stream("text")
    stream.prompt = True
    data = SYSLOG.encode()
    assert len(stream.split(data, False)) == 1
    (item,) = stream.split(AGAIN.encode(), False)
    record = stream.decode(AGAIN.encode(), item)  # type: ignore[arg-type]
    assert isinstance(record, PacketRecord) and record.count == 5


def test_lines_of_other_programs_and_noise_are_counted_and_no_damage() -> None:
    data = b"\0\xff\n" + SYSLOG.encode() + b"x" * 200000 + b"\n\n  \r\n" + SYSLOG.encode()[:-1]
    with pylog.open(io.BytesIO(data), layout="text") as reader:
        assert len(list(reader)) == 2 and reader.malformed == 0 and reader.other == 2
    done = inprocess.run("read", "-v", "--layout", "text", "-", stdin=data)
    assert b"lines of other programs: 2" in done.stderr


def test_ipmons_missed_records_are_a_loss() -> None:
    text = f"missed 7 ipf log entries: 3 10\n{PROGRAMS['ipmon']}\n"
    loss, record = read(text)
    assert isinstance(loss, LossRecord) and loss.count == 7 and isinstance(record, PacketRecord)


def test_states_and_translations_are_flows() -> None:
    state, nat = read(
        "14/11/2023 22:13:20.000000 STATE:EXPIRE 10.1.1.1,1 -> 192.0.2.1,80 PR tcp Forward: Pkts in"
        " 1 Bytes in 40 Pkts out 2 Bytes out 80 Backward: Pkts in 3 Bytes in 4 Pkts out 5 Bytes out"
        " 6\n14/11/2023 22:13:20.000000 @3 NAT:NEW-RDR 10.1.1.1,5 10.1.1.2,6 <- -> 10.1.1.3,7"
        " 10.1.1.4,8 tcp\n",
        log_tz="UTC",
    )
    assert isinstance(state, FlowRecord) and isinstance(nat, FlowRecord)
    assert (state.event, state.flow_type, state.protocol) == ("expire", "state", 6)
    assert state.packets == {
        "forward_in": 1, "forward_out": 2, "backward_in": 3, "backward_out": 5,
    }  # fmt: skip
    assert (nat.event, nat.flow_type, nat.rule, nat.nat_daddr) == ("new", "rdr", 3, "10.1.1.4")


# Outputs


def kernel_lines(found: list[pylog.Record]) -> bytes:
    made = io.BytesIO()
    output = outputs.open("kernel", outputs.Target(made), {})
    output.write(Batch(found))
    output.close()
    return made.getvalue()


KEPT = ("prefix", "indev", "outdev", "physindev", "physoutdev", "family", "protocol", "saddr",
        "daddr", "sport", "dport", "tcp_flags", "icmp_type", "icmp_code", "length", "fragment",
        "mark", "timestamp_ns", "timestamp_local", "host", "vlan", "hwheader", "uid",
        "gid")  # fmt: skip


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("kernlog")])
def test_written_lines_are_read_back(name: str) -> None:
    found = read(oracles.members(LINES)[f"{name}.txt"])
    back = read(kernel_lines(found))
    assert len(back) == len(found)
    names = KEPT if "-T" not in name and "precise" not in name else KEPT[:17]
    for before, after in zip(found, back, strict=True):
        for field in names:
            assert getattr(after, field) == getattr(before, field), field


def test_nflog_becomes_lines_of_log() -> None:
    with pylog.open(samples.FIXTURES / "nflog/batch.bin") as reader:
        found = [r for r in reader if isinstance(r, PacketRecord)]
    back = read(kernel_lines(list(found)), log_tz="UTC")
    assert len(back) == len(found)
    for before, after in zip(found, back, strict=True):
        for field in ("prefix", "protocol", "saddr", "daddr", "dport", "tcp_flags", "length"):
            assert getattr(after, field) == getattr(before, field), field


def test_ipfilters_log_of_lines_has_headers_made_of_their_fields() -> None:
    path = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.txt"
    found = [r for r in read(path.read_bytes(), log_tz="UTC") if isinstance(r, PacketRecord)]
    made = io.BytesIO()
    output = outputs.open("ipl", outputs.Target(made), {})
    output.write(Batch(list(found)))
    output.close()
    back = [r for r in read(made.getvalue()) if isinstance(r, PacketRecord)]
    names = ("timestamp_ns", "count", "action", "direction", "rule", "group", "indev", "outdev",
             "saddr", "daddr", "sport", "dport", "protocol", "tcp_flags", "icmp_type", "icmp_code",
             "length")  # fmt: skip
    assert len(back) == len(found)
    for before, after in zip(found, back, strict=True):
        for name in names:
            assert getattr(after, name) == getattr(before, name), (name, before.offset)


def test_a_capture_of_lines_is_refused_with_the_reason(tmp_path: Path) -> None:
    for form, says in (("pcapng", b"lines of text and no packets"),
                       ("pflog", b"packets without logged bytes (1)")):  # fmt: skip
        done = inprocess.run("read", "-", "-w", tmp_path / f"a.{form}", stdin=LOG.encode() + b"\n")
        assert says in done.stderr


# Any bytes


@effort.examples(300)
@given(st.lists(st.sampled_from([*PROGRAMS.values(), LOG, SYSLOG, AGAIN]), max_size=4),
       st.binary(max_size=40), st.integers(0, 400), st.integers(0, 400))  # fmt: skip
def test_any_bytes_give_records_or_other_lines(
    lines: list[str], noise: bytes, at: int, cut: int
) -> None:
    data = "\n".join(lines).encode()
    data = data[:at] + noise + data[at : at + cut] + data[at + 2 * cut :]
    with pylog.open(io.BytesIO(data + b"\n"), layout="text", log_tz="UTC") as reader:
        pylog.json_lines(reader)


NUMBERS = ("9" * 25, "9" * 5000, "-1", "99999999999", "18446744073709551615", "\xb2", "")


def with_other_numbers() -> list[tuple[str, str]]:
    """Each program's line with one of its numbers replaced, and the program."""
    state = (
        "14/11/2023 22:13:20.000000 STATE:EXPIRE 10.1.1.1,1 -> 192.0.2.1,80 PR tcp Forward: Pkts in"
        " 1 Bytes in 40 Pkts out 2 Bytes out 80 Backward: Pkts in 3 Bytes in 4 Pkts out 5 Bytes out"
        " 6"
    )
    lines = {**PROGRAMS, "states": state}
    return [
        (program, f"{line[: match.start()]}{number}{line[match.end() :]}")
        for program, line in lines.items()
        for match in re.finditer(r"\d+", line)
        for number in NUMBERS
    ]


def test_numbers_of_any_length_are_no_error() -> None:
    cases = effort.sample(with_other_numbers(), least=80)
    data = "\n".join(line for _, line in cases).encode("latin-1")
    found = read(data, layout="text", log_tz="UTC")
    pylog.json_lines(found)
    batch = Batch(found)
    for kind in batch.counts():
        batch.columns(kind)


def test_no_line_takes_long() -> None:
    for text in ("IN=" * 3000 + " OUT=", "(" * 20000, "rule 1" + ".a/(b)" * 3000, "," * 30000,
                 "x IN= OUT= SRC=" * 900, '{"MESSAGE":' * 3000, "[" * 9000 + LOG):  # fmt: skip
        with pylog.open(io.BytesIO(text.encode() + b"\n"), layout="text") as reader:
            list(reader)


def test_envelopes_take_any_text() -> None:
    for form in ENVELOPES["kernel-log"].values():
        line = form.format(LOG).encode().decode("latin-1")
        for at in effort.sample(range(len(line))):
            envelope = opened(line[:at])
            textlog_kernel.read(envelope.message, envelope.escaped, False, True)


def test_lines_of_ipfw_are_not_taken_for_its_captures(tmp_path: Path) -> None:
    line = PROGRAMS["ipfw"].encode() + b"\n"
    done = inprocess.run("read", "--to", "pcapng", "-", stdin=line)
    assert done.returncode == 2 and b"lines of text and no packets" in done.stderr
    done = inprocess.run("read", "--scrub", "-", stdin=line)
    assert done.returncode == 2 and b"cannot be scrubbed" in done.stderr
