"""Conntrack: messages become records, the same ones as conntrack(8) prints."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import conntrack
import effort
import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import CounterRecord, DecodeError, FlowRecord
from pylog.detect import detect
from pylog.formats import Message, nfct
from pylog.formats.netlink import LINK_HEADER, OCTETS, build
from pylog.formats.nfct_attributes import CTA, EXPECT, STATS
from pylog.formats.pcap_blocks import interface_block, packet_block, section_block
from pylog.formats.scrub import Scrubber
from pylog.outputs.text import line
from pylog.scrub import Scrubbing

KINDS = samples.FIXTURES / "nfct/kinds.bin"


def read(data: bytes, **options: Any) -> list[Any]:
    with pylog.open(io.BytesIO(data), **options) as reader:
        return list(reader)


def tuple_of(*proto: tuple[int, Any], zone: int | None = None, v6: bool = False) -> Any:
    """The value of a tuple for `build`."""
    numbers, size = ((3, 4), 16) if v6 else ((1, 2), 4)
    ip = [{"nla_type": n, "value": bytes([10 + i] * size)} for i, n in enumerate(numbers)]
    made = [{"nla_type": 1, "value": ip},
            {"nla_type": 2, "value": [{"nla_type": n, "value": v} for n, v in proto]}]  # fmt: skip
    return made if zone is None else [*made, {"nla_type": 3, "value": zone}]


def entry(*attrs: tuple[int, Any], order: str = "<", **head: Any) -> bytes:
    """A message about a flow."""
    return build(CTA, order, head.pop("kind", 0x100), 0, list(attrs), family=2, **head)


# Against what conntrack printed


def test_events_are_those_that_conntrack_printed() -> None:
    records = [r for r in read(conntrack.unpacked("full.cat")) if r.flow_type != "expect"]
    lines = list(conntrack.printed(conntrack.unpacked("full.txt").decode()))
    assert len(records) == len(lines) == 417
    assert [conntrack.as_printed(record) for record in records] == lines
    times = [record.timestamp_ns for record in records]
    assert None not in times
    ends = [r for r in records if r.event == "destroy"]
    assert all(r.start_ns < r.stop_ns <= r.timestamp_ns for r in ends)


def test_a_listing_is_that_which_conntrack_printed_moments_later() -> None:
    records = [conntrack.as_printed(r) for r in read(conntrack.unpacked("dump.cat"))]
    lines = list(conntrack.printed(conntrack.unpacked("dump.txt").decode()))
    assert len(records) == len(lines) == 135
    for fields in records:
        (line,) = (line for line in lines if line["id"] == fields["id"])
        assert 0 <= fields["timeout"] - line["timeout"] <= 5
        assert fields | {"timeout": 0} == line | {"timeout": 0}


def test_expectations_are_those_that_conntrack_printed() -> None:
    records = [r for r in read(conntrack.unpacked("full.cat")) if r.flow_type == "expect"]
    lines = conntrack.expected(conntrack.unpacked("full.expect.txt").decode())
    assert len(records) == len(lines) == 8
    stated = [(r.event, r.timeout, r.protocol, r.saddr, r.daddr, r.sport, r.dport)
              for r in records]  # fmt: skip
    assert stated == lines


def test_the_end_of_every_flow_has_its_reason() -> None:
    ends = [r for r in read(conntrack.unpacked("full.cat")) if r.end_reason is not None]
    reasons = [r.end_reason for r in ends if r.flow_type != "expect"]
    assert {reason: reasons.count(reason) for reason in reasons} == {
        "expired": 87, "killed": 6, "removed": 18
    }  # fmt: skip
    assert all((r.extra or {}).get("nlmsg_pid") for r in ends if r.end_reason == "removed")


# Layouts


def test_both_byte_orders_say_the_same() -> None:
    for data in (conntrack.unpacked("full.cat"), KINDS.read_bytes()):
        little, big = read(data), read(conntrack.big_endian(data))
        assert {r.layout for r in big} == {"ctnetlink-be"}
        assert [r for r in map(_without_layout, big)] == [r for r in map(_without_layout, little)]


def _without_layout(record: Any) -> Any:
    return msgspec.structs.replace(record, layout="")


def test_it_is_detected_beside_nflog_and_nftables() -> None:
    own = KINDS.read_bytes()
    assert detect(own, True).layouts == ["ctnetlink-le"]
    assert detect(own[:300], False).layouts == ["ctnetlink-le"]
    assert detect(conntrack.big_endian(own), True).layouts == ["ctnetlink-be"]
    nflog = (samples.FIXTURES / "nflog/seq.bin").read_bytes()[:8000]
    for data in (own + nflog, nflog + own):
        found = detect(data, True)
        assert found.layouts == ["netlink-le"]
        assert " of nfct" in found.evidence[0] and "of nfulnl" in found.evidence[0]
    assert {r.source for r in read(own + nflog)} >= {"nfct", "nflog"}


def test_requests_have_no_record() -> None:
    flow = ((1, tuple_of((1, 17), (2, 1), (3, 2))), (2, tuple_of((1, 17), (2, 2), (3, 1))))
    request = entry(*flow, flags=0x605)
    answer = entry(*flow, flags=0x600)
    with pylog.open(io.BytesIO(answer + request + request + answer)) as reader:
        assert [getattr(record, "event", None) for record in reader] == ["new", "new"]
        assert reader.other == 2 and reader.malformed == 0


# Messages that are not as usual


def one(data: bytes) -> Any:
    """The record of a single message; both paths agree on it."""
    (record,) = read(data, layout="ctnetlink-le")
    return record


def test_a_message_without_tuples_or_id_has_a_record() -> None:
    record = one(entry((7, 30)))
    assert (record.event, record.timeout, record.flow_type) == ("update", 30, None)
    assert record.id is None and record.saddr is None and record.family == "ipv4"
    record = one(entry((1, tuple_of((1, 17), (2, 5), (3, 6))), (3, 0x18), (12, 7)))
    assert (record.flow_type, record.id, record.sport, record.dport) == ("map", 7, 5, 6)
    record = one(build(EXPECT, "<", 0x202, 0, [], family=2))
    assert (record.event, record.flow_type) == ("destroy", "expect")
    assert isinstance(one(build(STATS, "<", 0x105, 0, [(1, 5)])), CounterRecord)
    assert isinstance(one(build(STATS, "<", 0x700, 0, [])), CounterRecord)


def test_a_reply_that_the_fields_do_not_say_stays_in_extra() -> None:
    orig = tuple_of((1, 1), (4, 9), (5, 8), (6, 0), zone=4)
    strange = tuple_of((1, 1), (4, 9), (5, 3), (6, 0), zone=5)
    record = one(entry((1, orig), (2, strange), (3, 2)))
    assert record.extra["zone_orig"] == 4 and record.extra["zone_reply"] == 5
    assert record.extra["CTA_TUPLE_REPLY"]["CTA_TUPLE_PROTO"]["CTA_PROTO_ICMP_TYPE"] == 3
    assert "CTA_TUPLE_ZONE" not in record.extra["CTA_TUPLE_REPLY"]
    assert record.nat_saddr is None and record.flow_type == "state"


def test_a_time_of_64_bits_is_a_time() -> None:
    stamp = [{"nla_type": 1, "value": 2**64 - 1}, {"nla_type": 2, "value": 5}]
    record = one(entry((20, stamp), (12, 3), kind=0x102))
    assert (record.start_ns, record.stop_ns, record.timestamp_ns) == (2**64 - 1, 5, 5)
    assert b'"start":"2554-07-21T23:34:33.709551615Z"' in pylog.to_json(record)


def test_counters_of_32_bits_and_large_ones_are_counted() -> None:
    old = [{"nla_type": 3, "value": 4}, {"nla_type": 4, "value": 400}]
    assert one(entry((9, old))).packets == {"orig": 4}
    new = [{"nla_type": 1, "value": 2**63}, {"nla_type": 2, "value": 2**64 - 1}]
    record = one(entry((9, new), (10, new)))
    assert record.bytes == {"orig": 2**64 - 1, "reply": 2**64 - 1}
    assert f'"packets":{{"orig":"{2**63}"'.encode() in pylog.to_json(record)


def test_states_and_bits_without_a_name_are_numbers() -> None:
    info = [{"nla_type": 1, "value": [{"nla_type": 1, "value": 77}]}]
    record = one(entry((4, info), (3, 0x80000002)))
    assert record.state == 77 and record.status == ["SEEN_REPLY", 0x80000000]
    dccp = [{"nla_type": 2, "value": [{"nla_type": 1, "value": 4}, {"nla_type": 2, "value": 1}]}]
    record = one(entry((4, dccp)))
    assert record.state == "OPEN"
    assert record.extra == {"CTA_PROTOINFO": {"CTA_PROTOINFO_DCCP": {"CTA_PROTOINFO_DCCP_ROLE": 1}}}


# The fast path


def stream_of(data: bytes, rows: bool = False) -> tuple[nfct.NfctStream, list[Message]]:
    stream = nfct.NfctStream("<")
    stream.rows, stream.lenient = rows, True
    return stream, [item for item in stream.split(data, True) if isinstance(item, Message)]


def by_reference(data: bytes, rows: bool = False) -> list[Any]:
    """The records of messages as `decode` alone gives them, as far as the first that has none."""
    stream, items = stream_of(data, rows)
    found: list[Any] = []
    for item in items:
        try:
            found.append(stream.given(stream.decode(data, item)))
        except DecodeError:
            break
    return found


def by_fast_path(data: bytes, rows: bool = False) -> list[Any]:
    stream, items = stream_of(data, rows)
    found: list[Any] = []
    with contextlib.suppress(DecodeError):
        stream.records(data, items, False, found)
    return found


@pytest.mark.parametrize("rows", [False, True])
def test_the_fast_path_gives_what_decode_gives(rows: bool) -> None:
    for data in (
        conntrack.unpacked("full.cat"),
        conntrack.unpacked("dump.cat"),
        KINDS.read_bytes(),
    ):
        data += data  # the second time all shapes are known
        assert by_fast_path(data, rows) == by_reference(data, rows)


def test_nearly_all_messages_are_regular(monkeypatch: pytest.MonkeyPatch) -> None:
    irregular = []
    decode = nfct.NfctStream.decode

    def noted(self: nfct.NfctStream, data: bytes, message: Message, raw: bool = False) -> Any:
        irregular.append(message)
        return decode(self, data, message, raw)

    monkeypatch.setattr(nfct.NfctStream, "decode", noted)
    data = conntrack.unpacked("full.cat")
    assert len(by_fast_path(data)) == 425 and len(irregular) <= 70  # 62 shapes, 8 expectations
    irregular.clear()
    assert len(by_fast_path(data * 3)) == 3 * 425 and len(irregular) <= 62 + 3 * 8


_full = conntrack.messages(conntrack.unpacked("full.cat")) + conntrack.messages(KINDS.read_bytes())


@effort.examples(2000)
@given(st.sampled_from(_full), st.data())
def test_changed_messages_are_the_same_by_both_paths(message: bytes, data: st.DataObject) -> None:
    changed = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(8, len(message) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    stretch = message + bytes(changed) + bytes(changed) + message
    for rows in (False, True):
        assert by_fast_path(stretch, rows) == by_reference(stretch, rows)


@pytest.mark.parametrize("message", effort.sample(conntrack.messages(KINDS.read_bytes())))
def test_every_prefix_and_every_changed_byte_gives_records_or_an_error(message: bytes) -> None:
    for size in range(len(message)):
        prefix = message[:size]
        by_fast_path(message + prefix)
        short = size.to_bytes(4, "little") + prefix[4:] if size >= 20 else b""
        assert by_fast_path(message + short) == by_reference(message + short)
    for at in effort.sample(range(len(message))):
        for value in (0, 0xFF, message[at] ^ 1, message[at] ^ 0x80):
            changed = message[:at] + bytes((value,)) + message[at + 1 :]
            by_fast_path(message + changed)


def test_records_share_nothing_that_can_be_changed() -> None:
    data = conntrack.unpacked("full.cat")
    records = by_fast_path(data + data)
    again = by_fast_path(data + data)
    for record in records:
        if isinstance(record, FlowRecord):
            if record.status:
                record.status.append("CHANGED")
            record.extra and record.extra.get("CTA_PROTOINFO", {}).get(
                "CTA_PROTOINFO_TCP", {}
            ).clear()
    assert by_fast_path(data + data) == again
    lists = [id(r.status) for r in records if r.status is not None]
    assert len(lists) == len(set(lists))


# Scrubbing


def scrubbed(messages: list[bytes]) -> list[bytes]:
    scrubber = Scrubber()
    return [nfct.scrub(message, "ctnetlink-le", scrubber) for message in messages]


def test_scrubbed_messages_say_the_same_of_other_hosts() -> None:
    messages = [m for m in _full if m[4:6] != b"\3\0"]
    after = scrubbed(messages)
    old, new = read(b"".join(messages)), read(b"".join(after))
    hosts = ("saddr", "daddr", "nat_saddr", "nat_daddr", "extra", "name", "source")
    before = {r.saddr for r in old if r.kind == "flow"} | {r.daddr for r in old if r.kind == "flow"}
    for one, other in zip(old, new, strict=True):
        for name in set(one.__struct_fields__) - set(hosts):
            assert getattr(one, name) == getattr(other, name), name
        text = str(msgspec.structs.asdict(other))
        assert not any(f"'{address}'" in text for address in before if address)
        mask = (one.extra or {}).get("CTA_EXPECT_MASK")
        assert mask == (other.extra or {}).get("CTA_EXPECT_MASK")
    names = [(a.name, b.name) for a, b in zip(old, new, strict=True) if a.kind == "counter"]
    assert all(a != b for a, b in names if not a.startswith("conntrack"))
    assert len({b for _, b in names}) == len({a for a, _ in names})


def test_pseudonyms_are_those_of_packets() -> None:
    scrubbing = Scrubbing()
    nflog = (samples.FIXTURES / "nflog/seq.bin").read_bytes()[:4000]
    packet = next(r for r in read(nflog, raw=True) if r.family == "ipv4" and r.saddr != r.daddr)
    flow = entry((1, tuple_of((1, 17), (2, 1), (3, 2))), order="<")
    octets = [bytes(map(int, a.split("."))) for a in (packet.saddr, packet.daddr)]
    flow = flow.replace(bytes([10] * 4), octets[0]).replace(bytes([11] * 4), octets[1])
    (record,) = read(flow, raw=True)
    assert (record.saddr, record.daddr) == (packet.saddr, packet.daddr)
    one: Any = scrubbing.record(packet)
    other: Any = scrubbing.record(record)
    assert (one.saddr, one.daddr) == (other.saddr, other.daddr) != (packet.saddr, packet.daddr)


def test_security_contexts_and_what_nobody_knows_are_cut() -> None:
    labels = bytes(range(16))
    table: Any = CTA | {90: ("ANY", OCTETS)}
    message = build(table, "<", 0x100, 0, [
        (19, [{"nla_type": 1, "value": b"staff_u:staff_r"}]), (90, b"secret"), (22, labels),
        (5, [{"nla_type": 1, "value": b"ftp"}, {"nla_type": 2, "value": b"info"}]),
    ])  # fmt: skip
    (after,) = scrubbed([message])
    assert b"staff" not in after and b"secret" not in after and b"info" not in after
    assert labels in after and b"ftp" in after and len(after) == len(message)


@effort.examples(1000)
@given(st.sampled_from(_full), st.data())
def test_any_bytes_are_scrubbed_to_as_many_that_decode(message: bytes, data: st.DataObject) -> None:
    changed = bytearray(message)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    octets = bytes(changed[: data.draw(st.integers(0, len(message)))])
    (after,) = scrubbed([octets])
    assert len(after) == len(octets) and after[:20] == octets[:20]
    if by_reference(octets):
        assert len(by_reference(after)) == 1


# Outputs and tables


def test_the_line_of_a_flow_is_complete() -> None:
    flow = FlowRecord(
        "nfct", "ctnetlink-le", timestamp_ns=10**18, event="end", flow_type="map", family="ipv4",
        protocol=6, saddr="10.0.0.1", daddr="192.0.2.1", sport=5, dport=80,
        nat_saddr="198.51.100.1", nat_daddr="192.0.2.1", nat_sport=6, nat_dport=80,
        packets={"orig": 3, "reply": 2}, bytes={"orig": 300, "reply": 200}, state="TIME_WAIT",
        first_state="SYN_SENT", status=["SEEN_REPLY"], mark=16, zone=7, netns="router",
        end_reason="removed", duration_us=1_500_000, via="repair",
        extra={"nlmsg_pid": 42, "CTA_HELP": {"CTA_HELP_NAME": "ftp"}},
    )  # fmt: skip
    text = "2001-09-09T01:46:40.000000Z nat map end tcp 10.0.0.1:5 -> 192.0.2.1:80 as"
    assert line(flow) == (
        f"{text} 198.51.100.1:6 -> 192.0.2.1:80 SYN_SENT>TIME_WAIT removed by portid 42"
        " lasted 1.500000 s packets 3/2 bytes 300/200 zone 7 mark 0x10 helper ftp in router"
        " via repair"
    )


def test_the_line_of_a_flow_that_goes_on_says_how_old_it_is() -> None:
    flow = FlowRecord("nfct", "ctnetlink-le", observed_ns=10**18, event="active", protocol=6,
                      start_ns=10**18 - 1_500_000_000, end_reason="open")  # fmt: skip
    assert line(flow).endswith(" flow active tcp open after 1.500000 s")


def test_lines_of_expectations_and_counters() -> None:
    lines = [line(record).partition(" ")[2] for record in read(KINDS.read_bytes())]
    assert "expect new tcp 10.1.0.2:any -> 10.2.0.2:40100 timeout 300 s" in lines
    assert "counter quota limited packets 5 bytes 165 quota 5 QUOTA_PKTS,OVERQUOTA" in lines
    assert "counter dump conntrack entries 135 max entries 262144" in lines
    assert "counter dump conntrack cpu 0 invalid 7 insert 4" in lines


@pytest.mark.parametrize("kind", ["flow", "counter"])
def test_tables_have_the_records(kind: str, tmp_path: Any) -> None:
    pytest.importorskip("pyarrow")
    from pylog.table import rows

    path = tmp_path / "full.bin"
    path.write_bytes(conntrack.unpacked("full.cat") + KINDS.read_bytes())
    table = pylog.read_table(path, kind=kind)
    records = [r for r in read(path.read_bytes()) if r.kind == kind]
    again = [r for batch in table.to_batches() for r in rows.records(kind, batch)]
    assert again == records


def test_splits_have_the_records_of_one_reader(tmp_path: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    from pylog.table import splits

    path = tmp_path / "full.bin"
    path.write_bytes(conntrack.unpacked("full.cat") * 3)
    right = splits.confirm(splits.plan([path], 4))
    assert len(right) > 2
    tables = [batch for split in right for batch in splits.decode(split, kind="flow")]
    assert (
        pa.Table.from_batches(tables).to_pylist() == pylog.read_table(path, kind="flow").to_pylist()
    )


# Captures


def captured(messages: list[bytes], kept: int | None = None) -> bytes:
    """A capture of nlmon, of each packet the first bytes."""
    head = LINK_HEADER.build({"sll_pkttype": 4, "sll_hatype": 824, "sll_protocol": 12})
    blocks = [
        packet_block((head + m)[: None if kept is None else 16 + kept], 10**18,
                     length=16 + len(m)) for m in messages
    ]  # fmt: skip
    return section_block() + interface_block(253) + b"".join(blocks)


def test_a_capture_has_the_same_records() -> None:
    messages = conntrack.messages(KINDS.read_bytes())
    records, plain = read(captured(messages)), read(KINDS.read_bytes())
    assert len(records) == len(plain)
    for one, other in zip(records, plain, strict=True):
        same = {"offset": None, "observed_ns": None}
        assert one.observed_ns == 10**18
        assert msgspec.structs.replace(one, **same) == msgspec.structs.replace(other, **same)


@pytest.mark.parametrize("kept", effort.sample(range(20, 260, 4)))
def test_a_message_that_a_capture_cut_off_has_the_attributes_that_are_complete(kept: int) -> None:
    messages = [m for m in conntrack.messages(KINDS.read_bytes()) if m[4:6] != b"\3\0"]
    records, plain = read(captured(messages, kept)), read(b"".join(messages))
    flows = [(a, b) for a, b in zip(records, plain, strict=True) if a.kind == "flow"]
    for cut, full in flows:
        assert (cut.event, cut.family) == (full.event, full.family)
        for name in ("saddr", "id", "status", "timeout", "mark"):
            assert getattr(cut, name) in (None, getattr(full, name))
    assert kept < 76 or all(cut.saddr for cut, full in flows if full.flow_type != "expect"
                            and full.family == "ipv4" and full.protocol not in (1, 58))  # fmt: skip
