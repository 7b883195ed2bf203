"""The filter language: what expressions mean, and that predicates and tables agree about it."""

from __future__ import annotations

import builtins
import pickle
import time
from pathlib import Path
from typing import Any

import effort
import filters
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylog.errors import BackendUnavailable
from pylog.filter import Filter, FilterError, files, parsing
from pylog.record import (
    CounterRecord,
    FlowRecord,
    Fragment,
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    Vlan,
    row_of,
)
from pylog.record.joined import joined

re2 = pytest.importorskip("re2")

PACKET = PacketRecord(
    "nflog", "nfulnl-le", timestamp_ns=1_700_000_000 * 10**9, prefix="drop ssh", indev="eth0",
    outdev=7, protocol=6, saddr="10.1.2.3", daddr="::ffff:1.2.3.4", sport=55555, dport=22,
    tcp_flags="AS", fragment=Fragment(id=4, offset=8), vlan=(Vlan(5), Vlan(6, protocol=33024)),
    group="5", hwheader="00112233445566778899aabb0800", hwtype=1, hwaddr="66:77:88:99:aa:bb",
    extra={"NFULA_CT_INFO": "NEW", "n": 5, "l": ["a", 3], "b": True, "s": "5", "d": {"x": 1}},
    payload=bytes.fromhex("4500002800010000400600000a0102030a000001") + b"GET / \xff" + bytes(13),
    family="ipv4", mark=0x1234,
)  # fmt: skip


@pytest.mark.parametrize("expression", [
    "saddr in 10.0.0.0/8", "saddr == 10.0.0.0/255.0.0.0", "saddr == 10.1.2.3", "saddr < 10.1.2.4",
    "saddr in 10.1.0.0..10.1.255.255", "addr in {fe80::/10, 10.0.0.0/8}", "addr != 10.1.2.4",
    "addr == ::ffff:1.2.3.4", "daddr in ::ffff:0:0/96",
    "port == ssh", "dport == 22 and sport > 1024", "dport in {22, 23, 8000..8100}",
    "dport not in {23, 24}", "dport in 20..25", "dport == 0x16", "dport<70000",
    'prefix startswith drop && prefix contains "p s"', r'prefix matches "^drop\s+ss?h$"',
    "indev == eth0 and dev == 7 and dev != 8", "outdev < 8", "indev matches th",
    "tcp_flags has S and not (tcp_flags has F)", "tcp_flags has SA", "tcp_flags == SA",
    "fragment.offset == 8 and fragment.more == false", "vlan.id == 6", "vlan.protocol == 0x8100",
    'group == 5 and group == "5" and group in {4, 5}', "extra.NFULA_CT_INFO == NEW",
    "extra.n == 5 and extra.n < 6 and extra.n in 1..9", "extra.s == 5", 'extra.s == "5"',
    "extra.l has a and extra.l has 3", "extra.b == true", "extra.d.x == 1 and extra.d",
    "mac == 00:11:22:33:44:55", "mac == 00-11-22-33-44-55 and mac == 0011.2233.4455",
    "mac in {66:77:88:99:AA:BB}", "hwaddr startswith 66:77", "ttl == 64 and ip_id == 1",
    "timestamp == 2023-11-14T22:13:20Z", "timestamp == 2023-11-14T23:13:20+01:00",
    "timestamp == '2023-11-14 22:13:20'", "timestamp < -2h", "timestamp < now",
    "timestamp in 2023-11-14..2023-11-15", "kind == packet", "kind in {packet, flow}",
    "protocol == tcp and protocol in {tcp, udp}", 'payload contains "GET /"',
    "payload startswith 45:00 and payload contains 4745", r'payload matches "GET . \xff"',
    "not ttl == 5", "!uid", "kind", "prefix == 'drop ssh'", "short or (dport == 22 && !uid)",
    "action or protocol==6||uid", "not addr == 1.1.1.1",
    "mark & 0xff00 == 0x1200 and mark&0x34", "mark & 0xf in {4, 5} and not mark & 0x8",
    "mark & 0xff != 0x12 and port & 0x10", "mark & 0xff00 > 0x1100 && mark & 4",
    "vlan.id & 1 and fragment.offset & 0xf == 8",
])  # fmt: skip
def test_holds_for_the_packet(expression: str) -> None:
    assert Filter(expression).matches(PACKET) is True
    assert Filter(f"not ({expression})").matches(PACKET) is False


@pytest.mark.parametrize("expression", [
    "addr == 1.2.3.4", "addr != 10.1.2.3", "dport in {23, 24}", 'dev == "7"', "dev != 7",
    "tcp_flags has SAF", "vlan.id != 6", 'extra.n == "5"', 'extra.l has "3"', "extra.b == 1",
    "extra.d == 1", "extra.d.y", "observed", "observed != now", "observed < now", "kind != packet",
    "physindev != eth0", "action == block", "uid", "uid != 0", "short == true", "dport in {}",
    "extra.l == a", "extra.n contains 5", "outdev contains 7", "indev < 8", "rule_table",
    "mark & 0xff == 0x1234", "mark & 0x8", "uid & 1", "uid & 1 == 0", "port & 0 != 0",
    "prefix matches \"^ssh\"", "dport > 99999999999999999999", "saddr in ::/0",
])  # fmt: skip
def test_does_not_hold_for_the_packet(expression: str) -> None:
    assert Filter(expression).matches(PACKET) is False


def test_each_kind_has_its_own_fields() -> None:
    flow = FlowRecord("nfct", "x", packets={"orig": 9}, status=["ASSURED"], timeout=90, id=5,
                      duration_us=1_500_000, flow_type="state")  # fmt: skip
    for expression in ("packets.orig > 8", "status has ASSURED", "timeout < 2m", "timeout == 90",
                       "duration_us >= 1s500ms", "id == 5", "kind == flow"):  # fmt: skip
        assert Filter(expression).matches(flow), expression
        assert not Filter(expression).matches(PACKET)
    assert Filter("id == 5").matches(TraceRecord("nftables", "x", id="5"))
    assert Filter("packets > 8").matches(CounterRecord("nfct", "x", packets=9))
    assert not Filter("packets > 8").matches(flow)
    assert Filter("devices has eth0").matches(RulesetRecord("nftables", "x", devices=["eth0"]))
    with_rule = joined(PACKET, rule_table="filter", flow_age=5.5)
    assert Filter("rule_table == filter and flow_age > 5s").matches(with_rule)
    assert Filter("action == auth").matches(PacketRecord("ipl", "x", action=3))


def test_a_loss_passes_unless_the_kind_is_mentioned() -> None:
    loss = LossRecord("ipl", "x", count=3)
    assert Filter("dport == 22").matches(loss) and Filter("not dport").matches(loss)
    assert not Filter("kind == packet").matches(loss)
    assert not Filter("dport == 22 and kind").matches(loss)
    assert Filter("kind == loss and count > 2").matches(loss)


@pytest.mark.parametrize(("expression", "column", "reason"), [
    ("sadr == 1", 1, "no field 'sadr'; did you mean saddr?"),
    ("saddr == 300.1.1.1", 10, "'300.1.1.1' is not an address"),
    ("saddr in 10.0.0.0/33", 10, "'10.0.0.0/33' is not an address"),
    ("dport == 70000", 10, "from 0 to 65535"), ("dport == sshh", 10, "name of a service"),
    ("protocol == tpc", 13, "did you mean tcp?"), ("dport contains 5", 1, "no contains"),
    ('dport == "22"', 10, "without quotes"), ("fragment == 5", 1, "fragment.NAME"),
    ("fragment.of == 5", 1, "it has fragment.id"), ("extra == 5", 1, "extra.NAME"),
    ("timestamp > 5", 13, "not a time"), ("timestamp > 2026-13-01", 13, "a time that exists"),
    ("kind == packe", 9, "did you mean packet?"), ("tcp_flags has SYN", 15, "ARSFUPEC"),
    ("short == maybe", 10, "true or false"), ("saddr in @/nowhere/x", 10, "cannot read /nowhere/x"),
    ('prefix matches "("', 16, "no regular expression"), ("prefix in {a..b}", 12, "no ranges"),
    ("dport in {5..1}", 11, "ends before it begins"), ("saddr < 10.0.0.0/8", 9, "is a prefix"),
    ("saddr in ::1..1.1.1.1", 10, "does not go up"), ("status == 5", 1, "but has"),
    ("dport = 22", 7, "did you mean ==?"), ("dport eq 22", 7, "did you mean ==?"),
    ("a == ", 5, "a value"), ("(dport", 7, "`)`"), ("dport in {1 2}", 13, "`}`"),
    ('prefix == "x', 11, "is not closed"), ("dport in (1)", 10, "{1, 2}"), ("", 1, "empty"),
    ("dport == 22 AND uid", 13, "did you mean and?"), ("group < 5", 1, "is text"),
    ("saddr & dport == 5", 9, "saddr is an address without bits; and joins two"),
    ("mark & dport", 8, "'dport' is not a number"), ("mark & 0x1ffffffff", 8, "from 0 to 4"),
    ("mark & 1.5 == 1", 8, "not a number"), ("mark & == 1", 8, "a value"),
    ("extra.n & 1", 11, "without bits"),
    ("saddr == 10.1.2.3 saddr", 19, "`and` or `or`"), ("payload == xyz", 12, "bytes in hex"),
])  # fmt: skip
def test_an_error_points_at_its_place(expression: str, column: int, reason: str) -> None:
    with pytest.raises(FilterError) as raised:
        Filter(expression)
    assert raised.value.column == column and reason in raised.value.reason
    _, shown, caret = str(raised.value).split("\n")
    assert shown == f"    {expression}" and caret == " " * (3 + column) + "^"
    assert isinstance(raised.value, ValueError)


def test_of_a_long_expression_the_place_is_shown() -> None:
    with pytest.raises(FilterError) as raised:
        Filter("dport == 22 or " * 100 + "x\ty or " + "uid or " * 50 + "gid")
    _, shown, caret = str(raised.value).split("\n")
    assert len(shown) < 120 and shown[caret.index("^")] == "y"


def test_depth_and_length_are_limited() -> None:
    assert Filter("(" * 20_000 + "dport" + ")" * 20_000).matches(PACKET)
    at_most = parsing.DEEPEST - 2
    assert Filter("not (uid or " * (at_most // 2) + "uid" + ")" * (at_most // 2))
    assert Filter("not " * at_most + "uid").matches(PACKET) is (at_most % 2 == 1)
    for text in ("not " * 10_000 + "uid", "(uid or not " * 3000 + "uid" + ")" * 3000):
        with pytest.raises(FilterError, match="nested more than"):
            Filter(text)
    with pytest.raises(FilterError, match="at most 65536 characters"):
        Filter("uid or " * 10_000 + "uid")
    assert not Filter(" or ".join(f"dport == {n}" for n in range(1000, 3000))).matches(PACKET)


def test_a_set_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad hosts"
    path.write_text("# hosts\n10.1.0.0/16  # lab\n\nfe80::/10\n192.0.2.1..192.0.2.9\n")
    wanted = Filter(f'saddr in @"{path}"')
    assert wanted.files and wanted.matches(PACKET)
    assert not Filter(f'saddr not in @"{path}"').matches(PACKET)
    path.write_text("192.0.2.0/24\n")
    assert wanted.matches(PACKET)
    wanted.reload()
    assert not wanted.matches(PACKET)
    path.write_text("10.0.0.0/8\nnonsense\n")
    with pytest.raises(FilterError, match=r"line 2: 'nonsense' is not an address"):
        wanted.reload()
    assert not wanted.matches(PACKET)
    path.write_text("drop ssh\n22\nssh\n# not this\n")
    assert Filter(f"prefix in @'{path}'".replace("'", '"')).matches(PACKET)
    monkeypatch.setattr(files, "MOST", 2)
    with pytest.raises(FilterError, match="more than 2 entries"):
        Filter(f'prefix in @"{path}"')
    monkeypatch.setattr(files, "LARGEST", 5)
    with pytest.raises(FilterError, match="has more than"):
        Filter(f'prefix in @"{path}"')


def test_a_large_set_is_as_fast_as_a_small_one(tmp_path: Path) -> None:
    count = effort.number(100_000, 20_000)
    path = tmp_path / "set"
    path.write_text("".join(f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/25\n" for n in range(count)))
    large, small = Filter(f"saddr in @{path}"), Filter("saddr in {1.0.0.0/25, 1.0.2.0/25}")
    packets = [PacketRecord("ipl", "x", saddr=f"0.{n >> 8}.{n & 255}.{n % 200}")
               for n in range(2000)]  # fmt: skip
    assert sum(map(large.matches, packets)) == sum(n % 200 < 128 for n in range(2000))

    def seconds(wanted: Filter) -> float:
        before = time.process_time()
        for _ in range(5):
            for packet in packets:
                wanted.matches(packet)
        return time.process_time() - before

    assert min(seconds(large) for _ in range(3)) < 5 * min(seconds(small) for _ in range(3))


def test_without_the_extra_matches_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    importing: Any = builtins.__import__

    def refuse(name: str, *more: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return importing(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackendUnavailable, match=r"needs the extra filter; .*\.\[filter\]"):
        Filter("prefix matches x")


def test_a_filter_is_pickled_with_its_time() -> None:
    wanted = Filter("timestamp > -2h", now_ns=filters.NOW_NS)
    again: Filter = pickle.loads(pickle.dumps(wanted))
    assert (again.text, again.now_ns) == (wanted.text, wanted.now_ns)
    assert Filter("dport == 22 and extra.n").mentions("packet") == {"dport", "extra"}


@effort.examples(2000)
@given(filters.EXPRESSIONS, st.lists(st.one_of(filters.PACKETS, filters.FLOWS, filters.LOSSES),
                                     min_size=1, max_size=6))  # fmt: skip
def test_predicates_agree_with_the_reference(text: str, records: list[Record]) -> None:
    wanted, node = Filter(text, now_ns=filters.NOW_NS), parsing.parse(text)
    for record in records:
        expected = filters.reference(node, record)
        assert wanted.matches(record) is expected
        if wanted.fits_rows:
            assert wanted.matches_row(row_of(record)) is expected
        if isinstance(record, PacketRecord):
            some = {name for name in record.__struct_fields__ if len(name) % 2}
            values = [getattr(record, name) for name in record.__struct_fields__]
            for test, of in ((wanted.decided_by(some), record),
                             (wanted.decided_by_values(some), values)):  # fmt: skip
                assert not expected or test is None or test(of)  # type: ignore[arg-type]


@effort.examples(500)
@given(filters.EXPRESSIONS, st.lists(filters.PACKETS, max_size=6),
       st.lists(filters.FLOWS, max_size=3), st.lists(filters.LOSSES, max_size=2))  # fmt: skip
def test_tables_agree_with_the_reference(
    text: str, packets: list[Record], flows: list[Record], losses: list[Record]
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pylog.table.schemas import batch, chosen, on_request, schema
    from pylog.table.select import Selection

    wanted, node = Filter(text, now_ns=filters.NOW_NS), parsing.parse(text)
    for kind, given_records in {"packet": packets, "flow": flows, "loss": losses}.items():
        records: list[Record] = [
            msgspec.structs.replace(record, offset=i) for i, record in enumerate(given_records)
        ]
        kept = [r.offset for r in records if filters.reference(node, r)]
        selection = Selection(kind, ["offset"], wanted)
        left = selection.of(batch(kind, records, selection.needed))
        assert left.column(0).to_pylist() == kept
        held = all((getattr(r, name) or 0) < 2**63 for r in records
                   for name in ("timestamp_ns", "observed_ns"))  # fmt: skip
        expression = wanted.expression(kind)
        if expression is not None and held:
            columns = chosen(kind, [*schema(kind).names, *on_request(kind)])
            table = pa.Table.from_batches([batch(kind, records, columns)])
            assert table.filter(expression)["offset"].to_pylist() == kept
