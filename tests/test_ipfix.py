"""IPFIX: tshark decodes every field as the record has it; sizes, sequence numbers, templates."""

from __future__ import annotations

import gzip
import io
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import effort
import inprocess
import ipfix
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.flows import Flows
from pylog.outputs import _ipfix_domain, _ipfix_elements
from pylog.outputs._ipfix_exporter import Exporter, Settings
from pylog.outputs._ipfix_parts import ntp
from pylog.record import CounterRecord
from pylog.record.joined import joined
from pylog.testing import packet


def written(records: Sequence[Any], **options: Any) -> bytes:
    """The file that the output makes of records."""
    stream = io.BytesIO()
    output = outputs.open("ipfix", outputs.Target(stream), {"domain_name": "", **options})
    output.write(Batch(records))
    output.close()
    return stream.getvalue()


# What tshark is to say of a record, written from the meaning of the elements


def _time(time_ns: int, decimals: int = 9) -> str:
    """A time as tshark shows it."""
    second, part = divmod(time_ns, 10**9)
    part -= part % 10 ** (9 - decimals)
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    return f"{day:%b} {day.day:2}, {day:%Y %H:%M:%S}.{part:09} UTC"


def _flags(letters: str) -> str:
    bits = {"F": 0, "S": 1, "R": 2, "P": 3, "A": 4, "U": 5, "E": 6, "C": 7}
    return f"0x{sum(1 << bits[letter] for letter in letters if letter != '-'):04x}"


def _common(record: Any, numbers: dict[str, str]) -> Iterator[tuple[str, Any]]:
    yield "cflow.observation_time_nanoseconds", _of(record.timestamp_ns, _time)
    if record.timestamp_ns is None and record.observed_ns is not None:
        yield "cflow.collection_time_milliseconds", _time(record.observed_ns, 3)
    yield "cflow.ip_version", {"ipv4": 4, "ipv6": 6}.get(record.family)
    if record.family == "arp" or isinstance(record.family, int):
        yield "cflow.ethernet_type", 2054 if record.family == "arp" else record.family
    for name, address in (("cflow.srcaddr", record.saddr), ("cflow.dstaddr", record.daddr)):
        if address is not None:
            yield name + ("v6" if ":" in address else ""), ip_address(address)
    yield "cflow.srcport", record.sport
    yield "cflow.dstport", record.dport
    yield "cflow.protocol", record.protocol
    yield "cflow.inputint", _interface(record.indev, numbers)
    yield "cflow.outputint", _interface(record.outdev, numbers)
    yield "netfilter 4", _of(record.mark, lambda mark: f"{mark:08x}")
    if record.icmp_type is not None:
        kind, code = record.icmp_type, record.icmp_code
        if record.family == "ipv6":
            yield "cflow.icmp_ipv6_type", kind
            yield "cflow.icmp_ipv6_code", code
        elif code is None:
            yield "cflow.icmp_ipv4_type", kind
        else:
            yield "cflow.icmp_type_code_ipv4", f"0x{kind:02x}{code:02x}"
    for name, end in (("source", "nat_saddr"), ("destination", "nat_daddr")):
        address = getattr(record, end, None)
        if address is not None and ":" in address:
            yield f"cflow.post_nat_{name}_ipv6_address", ip_address(address)
        elif address is not None:
            yield f"cflow.post_nat{name}_ipv4_address", address
        yield f"cflow.post_napt{name}_transport_port", getattr(record, end[:5] + "port", None)


def _of(value: Any, make: Callable[[Any], Any]) -> Any:
    return None if value is None else make(value)


def _interface(name: Any, numbers: dict[str, str]) -> Any:
    return numbers[name] if isinstance(name, str) else name


HOOKS = ["prerouting", "input", "forward", "output", "postrouting", "ingress"]


def of_packet(record: Any, numbers: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The fields of a packet. `numbers` are those of interfaces."""
    yield from _common(record, numbers)
    time_ns = record.timestamp_ns or record.observed_ns
    yield "cflow.abstimestart", _of(time_ns, lambda t: _time(t, 3))
    yield "cflow.abstimeend", _of(time_ns, lambda t: _time(t, 3))
    count = record.count or 1
    yield "cflow.packets", count
    yield "cflow.octets", _of(record.length, lambda length: length * count)
    yield "cflow.ip_total_length", record.length
    yield "cflow.tcpflags", _of(record.tcp_flags, _flags)
    fragment = record.fragment
    if fragment is not None:
        yield "cflow.frag_ident", fragment.id
        yield "cflow.fragment_offset", _of(fragment.offset, lambda offset: offset // 8)
        yield "cflow.ip_fragment_flags", f"0x{0x40 * fragment.dont + 0x20 * fragment.more:02x}"
    if record.action == "block":
        yield "cflow.firewall_event", 3
    yield "cflow.forwarding_status", {"pass": "40", "block": "81"}.get(record.action)
    yield "cflow.direction", {"in": 0, "out": 1}.get(record.direction)
    yield "cflow.ingress_physical_interface", _interface(record.physindev, numbers)
    yield "cflow.egress_physical_interface", _interface(record.physoutdev, numbers)
    header = record.hwheader if record.hwtype == 1 and len(record.hwheader or "") >= 28 else None
    source = record.hwaddr if len(record.hwaddr or "") == 17 else None
    if header:
        yield "cflow.dstmac", ":".join(header[i : i + 2] for i in range(0, 12, 2))
        source = source or ":".join(header[i : i + 2] for i in range(12, 24, 2))
    yield "cflow.srcmac", source
    for tag, name in zip(record.vlan or (), ("", "customer_"), strict=False):
        yield f"cflow.dot1q_{name}vlan_id", tag.id
        yield f"cflow.dot1q_{name}priority", tag.priority
    rule: str | None = record.prefix or None
    if record.source == "nflog":
        yield "cflow.observation_point_id", record.group
        yield "netfilter 7", _of(record.seq, lambda seq: f"{seq:08x}")
    elif record.source == "ipl" and record.rule is not None:
        rule = f"@{record.group or 0}:{record.rule}"
    if getattr(record, "rule_handle", None):
        rule = f"inet fw input handle {record.rule_handle}"
    yield "cflow.selector_name", rule
    yield "netfilter 3", _of(record.prefix, lambda prefix: prefix.encode().hex())
    hooks = {3: ["input", "output", "forward"], 5: ["ingress", "egress"]}.get(
        (record.extra or {}).get("nfgen_family", 0), HOOKS
    )
    if record.hook in hooks:
        yield "netfilter 5", f"{hooks.index(record.hook):02x}"
    yield "cflow.user_name", record.uid
    yield "cflow.flow_id", getattr(record, "flow_id", None)


EVENTS = {"new": 1, "clone": 1, "update": 5, "statechange": 5, "intermediate": 5, "active": 5,
          "end": 2, "destroy": 2, "expire": 2, "flush": 2, "remove": 2, "killed": 2}  # fmt: skip


def of_flow(record: FlowRecord, numbers: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The fields of a flow of conntrack."""
    yield from _common(record, numbers)
    event = EVENTS.get(str(record.event))
    time_ns = record.timestamp_ns or record.observed_ns
    start = record.start_ns or (time_ns if event == 1 else None)
    end = record.last_ns or record.stop_ns or time_ns
    yield "cflow.abstimestart", _of(start, lambda t: _time(t, 3))
    yield "cflow.abstimeend", _of(end, lambda t: _time(t, 3))
    yield "cflow.firewall_event", event
    if record.nat_saddr is not None and record.family == "ipv4" and event in (1, 2):
        yield "cflow.nat_event", {1: 4, 2: 5}[event]
    reason = {"removed": 4, "open": 4, "active": 2}.get(str(record.end_reason))
    if record.end_reason in ("expired", "killed"):
        reason = 1 if record.end_reason == "expired" else 4
        if record.state in ("TIME_WAIT", "CLOSE"):
            reason = 3
    yield "cflow.flow_end_reason", reason
    form = "" if record.event in ("end", "active") else "permanent_"
    for name, counters in (("packets", record.packets), ("octets", record.bytes)):
        yield f"cflow.{form}{name}", counters and counters["orig"]
        yield f"cflow.{form}{name}-reverse", counters and counters["reply"]
    yield "cflow.biflow_direction", record.packets and 1
    yield "cflow.flow_id", record.id
    extra = record.extra or {}
    for name in ("internal", "external"):
        way = "zone_orig" if name == "internal" else "zone_reply"
        zone = record.zone if record.zone is not None else extra.get(way)
        yield (
            f"cflow.{name}_address_realm",
            _of(zone, lambda zone: f"{zone >> 8:02x}:{zone & 255:02x}"),
        )


def _expected(record: Any, numbers: dict[str, str]) -> dict[str, str]:
    fields = of_flow if isinstance(record, FlowRecord) else of_packet
    return {name: str(value) for name, value in fields(record, numbers) if value is not None}


CONNTRACK = "nfct/kinds.bin"


def _examples() -> list[Any]:
    """Packets and flows of fixtures, one for each set of fields, and packets that these lack."""
    kept: dict[Any, Any] = {}
    logs = ("nflog/seq.bin", "nflog/snap40.bin", "nflog/meta.bin", CONNTRACK,
            "ipl/v5-1-2-lp64le-filter.ipf.bin", "ipl/v5-1-2-lp64le-nomatch.ipf.bin")  # fmt: skip
    for log in logs:
        with pylog.open(str(samples.FIXTURES / log)) as reader:
            records = list(reader)
        if log == CONNTRACK:
            flows = Flows()
            records += flows.feed(records) + flows.end()
        for record in records:
            expected = isinstance(record, FlowRecord) and record.flow_type == "expect"
            if isinstance(record, PacketRecord | FlowRecord) and not expected:
                names = record.__struct_fields__
                present = tuple(name for name in names if getattr(record, name) is not None)
                kept.setdefault((type(record), present), record)
    six = packet(saddr="2001:db8::1", protocol="udp", hook="input", uid=1000, prefix="a" * 300)
    return [
        *kept.values(),
        joined(six, nat_saddr="2001:db8::7", nat_sport=5, flow_id=77, rule_family="inet",
               rule_table="fw", rule_chain="input", rule_handle=9),
        packet(action="pass", direction="out", outdev="wan0", timestamp_ns=None,
               observed_ns=1_700_000_000_123_456_789),
        packet(family=0x88CC, payload=b""),
        packet(host="fw2", indev="wan0", outdev="lan0", action="block"),
    ]  # fmt: skip


@ipfix.needs_tshark
def test_tshark_decodes_every_field_as_the_record_has_it(tmp_path: Path) -> None:
    records = _examples()
    lost = LossRecord("nflog", "x", count=7, log="5", timestamp_ns=1_700_000_000_000_000_000)
    counter = CounterRecord("nfct", "x", name="web", packets=5, bytes=600)
    path = tmp_path / "x.ipfix"
    path.write_bytes(written([lost, lost, counter, *records], message_size=900))
    decoded, problems = ipfix.decoded(path)
    assert problems == []
    options = [record for record in decoded if record["domain"] == "0"]
    data = [record for record in decoded if record["domain"] != "0"]
    numbers = {record["cflow.if_name"]: record["cflow.inputint"]
               for record in options if "cflow.if_name" in record}  # fmt: skip
    assert {flow.pop("domain") for flow in data[:-1]} == {"1"}
    second = data[-1].pop("domain")
    for record, flow in zip(records, data, strict=True):
        if isinstance(record, PacketRecord) and record.prefix is not None:
            record = structs.replace(record, prefix=record.prefix[:254])
        assert flow == _expected(record, numbers), record
    told = {tuple(record.items()) for record in options}
    for expected in (
        {"cflow.od_id": second, "cflow.observation_domain_name": "fw2"},
        {"cflow.private_enterprise_number": "21373", "cflow.information_element_id": "4",
         "cflow.information_element_data_type": "3", "cflow.information_element_name": "mark"},
        {"cflow.od_id": "1", "cflow.selector_name": "web", "cflow.permanent_packets": "5",
         "cflow.permanent_octets": "600"},
        {"cflow.od_id": "1", "cflow.flow_exporter": str(os.getpid()), "cflow.notsent_flows": "14",
         "cflow.notsent_packets": "14", "cflow.abstimestart": "Nov 14, 2023 22:13:20.000000000 UTC",
         "cflow.abstimeend": "Nov 14, 2023 22:13:20.000000000 UTC"},
    ):  # fmt: skip
        assert (("domain", "0"), *expected.items()) in told


@ipfix.needs_tshark
def test_tshark_decodes_fields_on_request_sections_and_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "x.ipfix"
    records = [
        packet(payload=bytes.fromhex(PACKET)), packet(saddr="2001:db8::1", protocol="udp"),
    ]  # fmt: skip
    path.write_bytes(written(records, headers=True, section=300, times="nanoseconds"))
    decoded, problems = ipfix.decoded(path)
    first, second = (flow for flow in decoded if flow["domain"] == "1")
    assert problems == []
    for name, value in {
        "cflow.ip_ttl": "61", "cflow.tos": "0x10", "cflow.frag_ident": "4660",
        "cflow.tcp_seq_num": "1", "cflow.tcp_ack_num": "2", "cflow.tcp_windows_size": "512",
        "cflow.abstimestart": "Nov 14, 2023 22:13:20.000000000 UTC",
    }.items():  # fmt: skip
        assert first[name] == value
    assert first["cflow.section_header"].replace(":", "") == PACKET
    assert second["cflow.ip_ttl"] == "64" and second["cflow.udp_length"] == "8"


PACKET = "451000281234000" + "03d06000" + "0c0000201c6336402" + "9c400050" + "0000000100000002" + (
    "5010020000000000")  # fmt: skip
"""An IPv4 packet with TOS, TTL, id and TCP numbers that differ from all defaults."""


# Messages


@effort.examples(200)
@given(
    st.lists(st.sampled_from(["plain", "prefix", "six", "lost", "flow", "host"]), max_size=60),
    st.integers(512, 1500),
)
def test_messages_are_no_longer_than_allowed_and_counted(kinds: list[str], size: int) -> None:
    makers: dict[str, Callable[[int], Any]] = {
        "plain": lambda i: packet(),
        "prefix": lambda i: packet(prefix="p" * i, indev=f"eth{i}"),
        "six": lambda i: packet(saddr="2001:db8::1"),
        "lost": lambda i: LossRecord("nflog", "x", count=i, log="5"),
        "flow": lambda i: FlowRecord("nfct", "x", event="new", family="ipv4", sport=i),
        "host": lambda i: packet(host=f"fw{i % 3}"),
    }
    records = [makers[kind](i) for i, kind in enumerate(kinds)]
    octets = written(records, message_size=size)
    sequences: Counter[int] = Counter()
    counts = _data_records(octets)
    for message, count in counts:
        assert message.length <= size
        assert message.sequence == sequences[message.domain]
        sequences[message.domain] += count
    data = sum(count for message, count in counts if message.domain)
    assert data == len(kinds) - kinds.count("lost")


def _data_records(octets: bytes) -> list[tuple[ipfix.Message, int]]:
    """How many data records each message has; AssertionError for one without a template."""
    sizes: dict[tuple[int, int], list[int]] = {}
    counts = []
    for message in ipfix.messages(octets):
        count = 0
        for number, content in message.sets:
            at = 0
            while at < len(content):
                if number in (2, 3):
                    template, fields = struct.unpack_from(">HH", content, at)
                    at += 4 if number == 2 else 6
                    made = []
                    for _ in range(fields):
                        element, length = struct.unpack_from(">HH", content, at)
                        made.append(length)
                        at += 8 if element & 0x8000 else 4
                    sizes[message.domain, template] = made
                else:
                    for length in sizes[message.domain, number]:
                        if length == 0xFFFF:
                            length = content[at]
                            at += 1
                        at += length
                    count += 1
            assert at == len(content)
        counts.append((message, count))
    return counts


def test_templates_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(_ipfix_domain, "MOST_TEMPLATES", 3)
    records = [packet(), packet(uid=1), packet(mark=1), packet(uid=1, mark=1), packet(hook=None)]
    assert sum(count for message, count in _data_records(written(records)) if message.domain) == 4
    assert "a record was refused: records have more than 3 different sets" in caplog.text
    assert "1 values were left out" in caplog.text


def test_interfaces_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(_ipfix_domain, "MOST_INTERFACES", 2)
    written([packet(indev=f"eth{i}") for i in range(5)])
    assert "3 values were left out" in caplog.text


def test_a_record_that_no_message_has_room_for_is_refused_and_counted(caplog: Any) -> None:
    big = packet(prefix="p" * 300, uid=1, indev="e" * 15, rule=5)
    big = joined(big, rule_handle=1, rule_family="inet", rule_table="t" * 300, rule_chain="c")
    octets = written([big, packet()], message_size=512)
    assert sum(count for message, count in _data_records(octets) if message.domain) == 1
    assert "bytes as IPFIX, but a message has 512 at most (message_size)" in caplog.text


@effort.examples(100)
@given(st.integers(-(2**62), 2**63))
def test_times_keep_their_nanoseconds(time_ns: int) -> None:
    octets = ntp(time_ns)
    if octets is None:
        assert not -61_505_152 * 10**9 <= time_ns < 4_233_462_144 * 10**9
        return
    seconds, fraction = struct.unpack(">II", octets)
    era = seconds if seconds >= 1 << 31 else seconds + (1 << 32)  # RFC 4330, 3
    assert (era - 2_208_988_800) * 10**9 + (fraction * 10**9 >> 32) == time_ns


def test_what_has_no_form_is_counted(caplog: Any) -> None:
    expected = FlowRecord("nfct", "x", event="new", flow_type="expect", sport=1)
    empty = FlowRecord("nfct", "x")
    huge = CounterRecord("nfct", "x", name="n", packets=1 << 64)
    cut = LossRecord("ipl", "x", reason="cut off", size=3)
    odd = FlowRecord("nfct", "x", saddr="no address", sport=70_000, icmp_type=999, event="new",
                     family="ipv4", icmp_code=0)  # fmt: skip
    octets = written([expected, empty, huge, cut, odd])
    assert sum(count for message, count in _data_records(octets) if message.domain) == 1
    assert "IPFIX has no form for expected flow records" in caplog.text
    assert "it has no field that IPFIX has an element for" in caplog.text


def test_over_udp_templates_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    settings = Settings(message_size=512, repeat_s=60, repeat_messages=5)
    exporter = Exporter(settings, sent.append, lambda *refused: None)
    for _ in range(60):
        exporter.write([packet(indev="wan0")])
    exporter.flush()
    sets = [number for octets in sent for m in ipfix.messages(octets) for number, _ in m.sets]
    assert len(sent) > 10 and sets.count(2) >= 3 and sets.count(3) >= 3
    assert sum(count for message, count in _data_records(b"".join(sent)) if message.domain) == 60
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    exporter.write([packet()])
    exporter.flush()
    _data_records(sent[-1])  # which has the template again


# Files


def test_appending_goes_on_with_templates_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "fw.ipfix"
    log = samples.FIXTURES / "nflog/seq.bin"
    for more in ((), ("--append",)):
        done = inprocess.text("read", "--to", "ipfix", "-w", path, "-n", "40", *more, log)
        assert (done.returncode, done.stderr) == (0, "")
    with path.open("ab") as file:
        file.write(path.read_bytes()[:70])  # as after a crash
    done = inprocess.text("read", "--to", "ipfix", "-w", path, "-n", "5", "--append", log)
    assert "its last message was not complete: 70 bytes are removed" in done.stderr
    sequences: Counter[int] = Counter()
    for message, count in _data_records(path.read_bytes()):
        assert message.sequence == sequences[message.domain]
        sequences[message.domain] += count
    assert sequences[1] == 85
    path.write_bytes(path.read_bytes()[:100] + b"\1" * 100)
    done = inprocess.text("read", "--to", "ipfix", "-w", path, "--append", log)
    assert (done.returncode, "damaged" in done.stderr or "no IPFIX" in done.stderr) == (1, True)
    (tmp_path / "text.ipfix").write_text("text\n")
    done = inprocess.text("read", "--to", "ipfix", "-w", tmp_path / "text.ipfix", "--append", log)
    assert "it is no file of IPFIX messages" in done.stderr


def test_a_compressed_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "fw.ipfix.gz"
    log = samples.FIXTURES / "nflog/seq.bin"
    for more in ((), ("--append",)):
        done = inprocess.text("read", "--to", "ipfix", "-w", path, "-n", "9", *more, log)
        assert (done.returncode, done.stderr) == (0, "")
    counts = _data_records(gzip.decompress(path.read_bytes()))
    assert [message.sequence for message, _ in counts if message.domain] == [0, 1, 9, 10]
    path.write_bytes(path.read_bytes()[:-10])
    done = inprocess.text("read", "--to", "ipfix", "-w", path, "--append", log)
    assert "its compression is not complete" in done.stderr


@pytest.mark.parametrize("cut", range(0, 130, 13))
def test_any_damage_of_a_file_is_an_error_or_a_cut(cut: int, tmp_path: Path) -> None:
    octets = bytearray(written([packet(prefix="x"), packet()]))
    octets[cut] ^= 0xFF
    path = tmp_path / "x.ipfix"
    path.write_bytes(octets)
    with path.open("ab") as stream:
        try:
            outputs.open("ipfix", outputs.Target(stream, str(path), appending=True)).close()
        except BackendError as error:
            assert str(path) in str(error)


# Arguments


@pytest.mark.parametrize(
    ("address", "options", "problem"),
    [
        ("http://x", {}, "is no collector"),
        ("udp://", {}, "is no collector"),
        ("udp://x:0", {}, "no port 0"),
        ("tcp://x:99999", {}, "no port 99999"),
        ("udp://x", {"message_size": 65535}, "UDP carries 65507"),
        ("udp://x", {"section": 1000}, "give a message_size"),
        ("tcp://x", {"section": 1000, "message_size": 1000}, "at most message_size - 512"),
        ("tcp://x", {"message_size": 100}, "from 512"),
        ("tcp://x", {"domain": 0}, "from 1"),
    ],
)
def test_addresses_and_options_are_checked(
    address: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        outputs.check_address("ipfix", address, options)


def test_every_element_is_the_one_of_its_number() -> None:
    """No number and no name stands twice, and every element is used."""
    elements = [e for e in vars(_ipfix_elements).values() if isinstance(e, _ipfix_elements.Element)]
    assert len({(e.enterprise, e.number) for e in elements}) == len(elements)
    assert len({e.name for e in elements}) == len(elements)
