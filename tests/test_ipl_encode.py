"""Records as IPFilter's bytes, in every layout: what goes in comes out, or is said to be lost."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import effort
import msgspec
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, Fragment, LossRecord, PacketRecord, Record
from pylog.actions import Actions
from pylog.formats import Message, ipl_layouts, ipl_names
from pylog.formats.ipl_encode import Encoder, ipfilter_log
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_stream import IplStream
from pylog.record import MAX_SECONDS

LAYOUTS = list(ipl_layouts.layouts())
NEWEST = "ipl-5.1.2-lp64le"
START = 1_700_000_000 * 10**9
Logged = PacketRecord | FlowRecord


@cache
def read(path: Path | str) -> list[Record]:
    """The records of a fixture, with their bytes."""
    with pylog.open(samples.FIXTURES / path, raw=True) as reader:
        return list(reader)


def logged(path: Path | str) -> list[Logged]:
    return [record for record in read(path) if isinstance(record, PacketRecord | FlowRecord)]


def packets(path: Path | str) -> list[PacketRecord]:
    return [record for record in read(path) if isinstance(record, PacketRecord)]


def flows(path: Path | str, **wanted: Any) -> list[FlowRecord]:
    return [r for r in read(path) if isinstance(r, FlowRecord)
            and all(getattr(r, name) == value for name, value in wanted.items())]  # fmt: skip


@cache
def stream_of(layout: Layout, log: str) -> IplStream:
    return IplStream(layout, "ipf" if layout.version.magic_tells_log else log)


def decoded(data: bytes, layout: Layout | str, log: str) -> Logged:
    """The one record that the bytes are, as a reader of that log finds it."""
    stream = stream_of(ipl_layouts.named(layout) if isinstance(layout, str) else layout, log)
    stream.base = stream.used = 0
    stream.damage = None
    (item,) = stream.split(data, True)
    assert isinstance(item, Message), item
    record = stream.decode(data, item, True)
    assert isinstance(record, PacketRecord | FlowRecord)
    return record


def again(record: Record, layout: Layout | str, **options: Any) -> tuple[Logged, dict[str, int]]:
    """A record as it is after it was written in a layout and read again, and what was lost."""
    encoder = Encoder(layout, **options)
    data = encoder.encode(record)
    assert data and not encoder.refused, encoder.refused
    return decoded(data, layout, ipfilter_log(record)), dict(encoder.lost)


def packet_again(
    record: Record, layout: Layout | str, **options: Any
) -> tuple[PacketRecord, dict[str, int]]:
    found, lost = again(record, layout, **options)
    assert isinstance(found, PacketRecord)
    return found, lost


def flow_again(record: FlowRecord, layout: Layout | str) -> tuple[FlowRecord, dict[str, int]]:
    found, lost = again(record, layout)
    assert isinstance(found, FlowRecord)
    return found, lost


def reason_of(record: Record, layout: Layout | str) -> str:
    """Why a layout refuses a record."""
    encoder = Encoder(layout)
    assert encoder.encode(record) == b""
    ((reason, count),) = encoder.refused.items()
    assert count == 1 and not encoder.lost
    return reason


def parsed(data: bytes, layout: str, log: str = "ipf") -> Any:
    """The fields of a record by construct, the reference."""
    return ipl_layouts.named(layout).schema(log).parse(data)


# In its own layout

OF_ONE_LAYOUT = [dump for dump in samples.dumps("ipl/*") if not dump.name.startswith("upgraded")]


@pytest.mark.parametrize("dump", effort.sample(OF_ONE_LAYOUT, least=20), ids=samples.name)
def test_a_record_keeps_its_bytes_in_its_own_layout(dump: Path) -> None:
    data, records = dump.read_bytes(), read(dump)
    written, lost = 0, sum(r.size or 0 for r in records if isinstance(r, LossRecord))
    encoder = Encoder(logged(dump)[0].layout)
    for record in records:
        encoded = encoder.encode(record)
        if isinstance(record, LossRecord):
            assert encoded == b""
        else:
            assert record.offset is not None
            assert encoded == data[record.offset :][: len(encoded)] != b""
        written += len(encoded)
    assert written + lost == len(data) and not encoder.refused
    assert set(encoder.lost) <= {"losses"}


@pytest.mark.parametrize("dump", effort.sample(OF_ONE_LAYOUT, least=20), ids=samples.name)
def test_a_record_made_anew_from_its_fields_reads_the_same(dump: Path) -> None:
    encoder = Encoder(logged(dump)[0].layout)
    for record in logged(dump):
        assert record.raw is not None
        data = encoder.encode(msgspec.structs.replace(record, raw=None))
        assert len(data) == len(record.raw)
        found = decoded(data, record.layout, ipfilter_log(record))
        for name in record.__struct_fields__:
            if name not in ("offset", "observed_ns", "raw"):
                assert getattr(found, name) == getattr(record, name), (record.offset, name)
    assert not encoder.lost and not encoder.refused


@pytest.mark.parametrize("dump", effort.sample(OF_ONE_LAYOUT, least=20), ids=samples.name)
def test_what_is_made_anew_has_zeros_where_no_kernel_writes(dump: Path) -> None:
    encoder = Encoder(logged(dump)[0].layout)
    for record in logged(dump):
        data = encoder.encode(msgspec.structs.replace(record, raw=None))
        fields = parsed(data, record.layout, ipfilter_log(record))
        assert fields.get("ipl_next", 0) == 0
        assert not any(any(v) for k, v in fields.items() if k.startswith("_") and k != "_io")


def test_a_large_body_is_kept_whole_where_the_record_is_ipfilters_own() -> None:
    payload = ipv4(17, bytes(8) + bytes(range(256)) * 2)
    record = ipl_packet(payload=payload)
    found, lost = packet_again(record, NEWEST)
    assert found.payload == payload or lost.get("packet") == 1


# From every layout to every other

FOUND = {f"FI_{word}": f"FF_{word}" for word in ("OPTIONS", "TCPUDP", "FRAG", "SHORT")}
"""What the filter found, as 4.x and later say it, and as 3.x does."""

CHANGES = {  # what a lost field means for the record
    "ipl_count": ("count",), "fl_group": ("group",), "isl_group": ("group",),
    "fl_rule": ("rule",), "isl_rulen": ("rule",), "fl_ifname": ("indev", "outdev"),
    "fl_unit": ("indev", "outdev"), "nl_ifnames": ("indev", "outdev"), "nl_p": ("protocol",),
    "nl_type": ("flow_type",), "nl_pkts": ("packets",), "nl_bytes": ("bytes",),
    "fl_breason": ("reason",), "fl_flags": ("action", "short", "words"),
    "fl_lflags FI_SHORT": ("short",),
}  # fmt: skip
UNSAID = ("fl_family", "nl_sec", "nl_usec", "isl_sec", "isl_usec", "fl_dir")
"""What only some layouts say, of the record's system or once more."""


def ends(record: FlowRecord) -> tuple[Any, ...]:
    """The inside, the outside and the peer of a NAT entry. 5.x tells the flow before and after."""
    source, peer = (record.saddr, record.sport or 0), (record.daddr, record.dport or 0)
    mapped = record.nat_saddr, record.nat_sport or 0
    if record.nat_daddr is None:
        return source, mapped, peer
    goes_to = record.nat_daddr, record.nat_dport or 0
    return (source, mapped, peer) if goes_to == peer else (goes_to, peer, source)


def facts(record: Logged) -> dict[str, Any]:
    """What a record says, in whatever way its version says it."""
    said = msgspec.structs.asdict(record)
    for name in ("layout", "offset", "observed_ns", "seq", "raw"):
        del said[name]
    extra = dict(said.pop("extra") or {})
    said["count"] = record.count or 1
    said["protocol"] = record.protocol or 0
    if isinstance(record, PacketRecord):
        words = {FOUND.get(w, w) for w in [*extra.pop("fl_flags"), *extra.pop("fl_lflags", ())]}
        words -= {"FR_INQUE", "FR_OUTQUE", "FR_CALL"}  # the direction; the number 0
        if record.layout.startswith("ipl-4") and "FR_NOMATCH" not in words:
            words = {"FR_COPIED" if w == "FF_LOGNOMATCH" else w for w in words}
        said["words"] = words
    elif record.flow_type != "state":
        for name in ("saddr", "daddr", "sport", "dport"):
            del said[name], said[f"nat_{name}"]
        said["ends"] = ends(record)
    for name in UNSAID:
        extra.pop(name, None)
    return said | extra


def total(counters: dict[str, int] | None) -> int:
    return sum((counters or {}).values())


@cache
def names_of(layout: Layout, log: str) -> tuple[str, ...]:
    """The fields of a layout's log."""
    return tuple(field.name or "" for field in layout.schema(log).subcons)


def check(before: Logged, after: Logged, lost: dict[str, int], target: Layout) -> None:
    """Hold a record against what it was in another layout."""
    log = ipfilter_log(before)
    names = names_of(target, log)
    old, new = facts(before), facts(after)
    gone = {name for what in lost for name in CHANGES.get(what, (what.split()[-1],))}
    if isinstance(before, PacketRecord):
        if "fl_flags" in lost:
            gone |= {"action", "short", "words"}
        dropped = {FOUND.get(w, w) for w in gone}
        old["words"], new["words"] = old["words"] - dropped, new["words"] - dropped
    for counter in ("packets", "bytes"):
        if counter in old and counter not in gone:
            said, found = old.pop(counter), new.pop(counter)
            assert total(said) == total(found), counter
            if said is not None and total(said) and found != said:
                prefix = "nl" if log == "nat" else "isl"
                assert f"{prefix}_{counter[:1] + 'kts' if counter == 'packets' else counter} by" \
                    " direction" in lost  # fmt: skip
    if not any("group" in name for name in names) and old["group"] == "0":
        old["group"] = None  # without groups there is but the main list
    if "isl_state" not in old:  # zeros have a meaning too
        gone.add("isl_state")
    for name in old.keys() | new.keys():
        if name not in gone:
            assert new.get(name) == old.get(name), (before.layout, after.layout, name, lost)
    if "ipl_seqnum" not in names:
        assert after.seq is None and ("ipl_seqnum" in lost) == (before.seq is not None)
    else:
        assert after.seq == (before.seq or 1)


def flow(path: str, **wanted: Any) -> FlowRecord:
    return flows(path, **wanted)[0]


@cache
def sample_records() -> tuple[Logged, ...]:
    tagged = packets("ipl/v5-1-2-lp64le-nattag.ipf.bin")
    packet = next(r for r in tagged if "fl_nattag" in (r.extra or {}))
    assert packet.extra is not None
    more = packet.extra | {"fl_loglevel": 37, "fl_logtag": 4711}
    return msgspec.structs.replace(packet, count=3, extra=more), nat(), state()


def in_layout(record: Logged, layout: Layout) -> Logged | None:
    """A record as that layout has it, if it can."""
    data = Encoder(layout).encode(msgspec.structs.replace(record, raw=None))
    return decoded(data, layout, ipfilter_log(record)) if data else None


@cache
def samples_in(layout: Layout) -> list[Logged]:
    """The sample records as that layout has them."""
    found = [r for sample in sample_records() if (r := in_layout(sample, layout))]
    assert len(found) == (1 if layout.version.name == "2.x" else 3), layout.name
    return found


@pytest.mark.parametrize("version", dict.fromkeys(of.version.name for of in LAYOUTS))
def test_a_record_of_a_layout_can_be_written_in_every_other(version: str) -> None:
    sources = [layout for layout in LAYOUTS if layout.version.name == version]
    for source, target in effort.sample(itertools.product(sources, LAYOUTS)):
        for record in samples_in(source):
            encoder = Encoder(target)
            data = encoder.encode(record)
            if data:
                after = decoded(data, target, ipfilter_log(record))
                check(record, after, dict(encoder.lost), target)
                if not encoder.lost and source.version == target.version:
                    same = {"layout": record.layout, "raw": None, "extra": None}
                    assert msgspec.structs.replace(after, **same) == msgspec.structs.replace(
                        record, **same
                    ), (source.name, target.name)
            else:
                assert target.version.name == "2.x" and isinstance(record, FlowRecord)
                assert list(encoder.refused) == [
                    f"{ipfilter_log(record)} records, which 2.x does not log"
                ]


VERSIONS = [ipl_layouts.layout(name, "lp64le") for name in ipl_layouts.VERSIONS]
MANY = [
    "ipl/v5-1-2-lp64le-filter.ipf.bin", "ipl/v5-1-2-lp64le-nomatch.ipf.bin",
    "ipl/v5-1-2-lp64le-nat.all.bin", "ipl/v5-1-2-lp64le-state.all.bin",
    "ipl/v4-1-35-lp64le-filter.ipf.bin", "ipl/v4-1-35-illumos-lp64le-nat.all.bin",
    "ipl/v3435-lp64le-filter.ipf.bin", "ipl/v3435-lp64le-nat.nat.bin",
    "ipl/v3435-lp64le-state.state.bin",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target"),
    effort.sample(itertools.product(MANY, VERSIONS), least=40),
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_real_records_say_the_same_in_every_version(name: str, target: Layout) -> None:
    written = 0
    for record in logged(name):
        encoder = Encoder(target)
        data = encoder.encode(record)
        if data:
            check(record, decoded(data, target, ipfilter_log(record)), dict(encoder.lost), target)
            written += 1
        else:
            assert list(encoder.refused) != [""] and encoder.refused.total() == 1
            assert not encoder.lost
    flows_only = all(isinstance(record, FlowRecord) for record in logged(name))
    assert written > 0 or (flows_only and target.version.name == "2.x")


@pytest.mark.parametrize("target", VERSIONS, ids=lambda layout: layout.name)
def test_there_and_back_again_changes_nothing_more(target: Layout) -> None:
    for sample in sample_records():
        once = in_layout(sample, target)
        if once is None:
            continue
        home = in_layout(once, ipl_layouts.named(NEWEST))
        assert home is not None
        twice = in_layout(home, target)
        assert twice is not None
        same = {"raw": None, "seq": None}
        assert msgspec.structs.replace(twice, **same) == msgspec.structs.replace(once, **same)


# What a layout cannot hold


def ipl_packet(**changes: Any) -> PacketRecord:
    """A packet as 5.1.2 logs it."""
    fields: dict[str, Any] = {
        "source": "ipl", "layout": NEWEST, "timestamp_ns": START, "seq": 1, "count": 1,
        "action": "block", "direction": "in", "rule": 1, "group": "0", "indev": "em0",
        "family": "ipv4", "protocol": 6,
        "payload": ipv4(6, bytes(20)),
        "extra": {"fl_flags": ["FR_BLOCK", "FR_LOG", "FR_INQUE"], "fl_lflags": ["FI_TCPUDP"]},
    }  # fmt: skip
    return PacketRecord(**fields | changes)


def ipv4(protocol: int, rest: bytes, options: bytes = b"", offset: int = 0) -> bytes:
    """An IPv4 packet."""
    size = 20 + len(options)
    head = bytes((0x40 + size // 4, 0)) + (size + len(rest)).to_bytes(2) + b"\x12\x34"
    head += offset.to_bytes(2) + bytes((64, protocol)) + bytes(2)
    return head + bytes((10, 1, 1, 1)) + bytes((192, 0, 2, 10)) + options + rest


def ipv6(protocol: int, rest: bytes) -> bytes:
    """An IPv6 packet."""
    ends = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002")
    return b"\x60\0\0\0" + len(rest).to_bytes(2) + bytes((protocol, 64)) + ends + rest


def nat(**changes: Any) -> FlowRecord:
    record = flow("ipl/v5-1-2-lp64le-nat.all.bin", flow_type="map", event="expire")
    return msgspec.structs.replace(record, **{"raw": None} | changes)


def state(**changes: Any) -> FlowRecord:
    record = flow("ipl/v5-1-2-lp64le-state.all.bin", flow_type="state", event="expire", protocol=6)
    return msgspec.structs.replace(record, **{"raw": None} | changes)


V6: dict[str, Any] = {"family": "ipv6", "payload": ipv6(6, bytes(20))}
V6_ENDS = {"family": "ipv6", "saddr": "2001:db8::1", "daddr": "2001:db8::2"}
V6_NAT = V6_ENDS | {"nat_saddr": "2001:db8::3", "nat_daddr": "2001:db8::2"}


@pytest.mark.parametrize("version", ["3.3", "3.2", "3.1", "2.x"])
def test_an_ipv6_packet_is_refused_before_3_4(version: str) -> None:
    said = reason_of(ipl_packet(**V6), f"ipl-{version}-lp64le")
    assert said == f"IPv6 packets, which {version} does not log"


@pytest.mark.parametrize("version", ["3.4.0", "3.4.35", "4.1", "5.0.0"])
def test_an_ipv6_packet_is_held_from_3_4_on(version: str) -> None:
    found, lost = packet_again(ipl_packet(**V6), f"ipl-{version}-lp64le")
    assert (found.family, found.saddr, found.daddr) == ("ipv6", "2001:db8::1", "2001:db8::2")
    assert lost == {"ipl_seqnum": 1}


@pytest.mark.parametrize(("version", "holds"), [
    ("3.1", False), ("3.4.35", False), ("4.1", False), ("4.1-solaris", True),
    ("4.1-illumos", True), ("5.0.0", True),
])  # fmt: skip
def test_ipv6_nat_is_held_by_illumos_and_5_alone(version: str, holds: bool) -> None:
    layout = ipl_layouts.layout(version, "lp64le").name
    if not holds:
        said = f"IPv6 NAT, which {version} does not log"
        assert reason_of(nat(**V6_NAT), layout) == said
        return
    found, _ = flow_again(nat(**V6_NAT), layout)
    assert (found.family, found.saddr, found.nat_saddr) == ("ipv6", "2001:db8::1", "2001:db8::3")


@pytest.mark.parametrize(("version", "holds"), [("3.3", False), ("3.4.0", True), ("4.1", True)])
def test_ipv6_states_are_held_from_3_4_on(version: str, holds: bool) -> None:
    layout = f"ipl-{version}-ilp32be"
    if not holds:
        assert reason_of(state(**V6_ENDS), layout) == f"IPv6 states, which {version} does not log"
        return
    found, _ = flow_again(state(**V6_ENDS), layout)
    assert (found.family, found.saddr, found.daddr) == ("ipv6", "2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize(("layout", "name", "found", "lost"), [
    ("ipl-5.1.2-lp64le", "abcdefghijklmno0", "abcdefghijklmno0", {}),
    ("ipl-5.1.2-lp64le", "abcdefghijklmnop0", "abcdefghijklmnop", {"fl_ifname": 1}),
    ("ipl-4.1-lp64le-name32", "a" * 31 + "0", "a" * 31 + "0", {}),
    ("ipl-3.4.0-lp64le", "ixgb0", "ixgb0", {}),
    ("ipl-3.4.0-lp64le", "ixgbe0", "ixgb0", {"fl_ifname": 1}),
    ("ipl-3.4.0-lp64le", "lagg", "lagg", {}),
    ("ipl-3.4.0-lp64le-nounit", "ixgbe0", "ixgbe0", {}),
    ("ipl-3.4.35-lp64le", "vlan32767", "vlan32767", {}),
    ("ipl-3.4.35-lp64le", "vlan32768", "vlan32768", {"fl_unit": 1}),
    ("ipl-2.x-lp64le", "tun255", "tun255", {}),
    ("ipl-2.x-lp64le", "t256", "t256", {"fl_unit": 1}),
])  # fmt: skip
def test_an_interface_longer_than_its_array_is_cut_and_counted(
    layout: str, name: str, found: str, lost: dict[str, int]
) -> None:
    flags = {"fl_flags": ["FR_BLOCK", "FR_LOG", "FR_INQUE"]}
    record = ipl_packet(indev=name, seq=None, extra=flags)
    again_, lost_ = packet_again(record, layout)
    assert again_.indev == found
    assert {what: n for what, n in lost_.items() if what in ("fl_ifname", "fl_unit")} == lost


def test_an_interface_of_a_nat_entry_longer_than_its_array_is_counted() -> None:
    found, lost = flow_again(nat(indev="abcdefghijklmnopq", outdev="em0"), NEWEST)
    assert (found.indev, found.outdev) == ("abcdefghijklmnop", "em0")
    assert lost == {"nl_ifnames": 1}


@pytest.mark.parametrize(("layout", "group", "found", "lost"), [
    ("ipl-3.4.35-lp64le", "web", None, 1),
    ("ipl-3.4.35-lp64le", "100", "100", 0),
    ("ipl-3.4.35-lp64le", "0", "0", 0),
    ("ipl-3.4.35-lp64le", None, None, 0),
    ("ipl-3.4.35-lp64le", "4294967294", "4294967294", 0),
    ("ipl-3.4.35-lp64le", "4294967295", None, 1),
    ("ipl-3.3-lp64le", "65534", "65534", 0),
    ("ipl-3.3-lp64le", "65535", None, 1),
    ("ipl-3.3-lp64le", "70000", None, 1),
    ("ipl-3.1-lp64le", "0", None, 0),
    ("ipl-3.1-lp64le", "100", None, 1),
    ("ipl-4.1-lp64le", "fifteen-letters", "fifteen-letters", 0),
    ("ipl-4.1-lp64le", "sixteen--letters", "sixteen--letter", 1),
    ("ipl-4.1-lp64le", "more-than-sixteen", "more-than-sixte", 1),
    ("ipl-4.1-lp64le", None, None, 0),
])  # fmt: skip
def test_a_group_that_has_no_room_is_counted(
    layout: str, group: str | None, found: str | None, lost: int
) -> None:
    packet, counted = packet_again(ipl_packet(group=group, seq=None), layout)
    assert (packet.group, counted.get("fl_group", 0)) == (found, lost)
    entry, counted = flow_again(state(group=group), layout)
    if "3.3" in layout or "3.1" in layout:
        assert (entry.group, counted.get("isl_group", 0)) == (None, group not in (None, "0"))
    else:
        assert (entry.group, counted.get("isl_group", 0)) == (found, lost)


def test_tags_reasons_and_uuids_are_counted_where_they_are_dropped() -> None:
    uuid = packets("ipl/v4-1-35-illumos-lp64le-filter.ipf.bin")[0]
    assert uuid.extra is not None and uuid.extra["fl_uuid"]
    assert again(uuid, "ipl-4.1-lp64le")[1] == {"fl_uuid": 1}
    told = {"fl_flags": ["FR_BLOCK"], "fl_logtag": 7, "fl_nattag": "web", "fl_loglevel": 37}
    record = ipl_packet(extra=told, reason="bad-frag", seq=None)
    assert again(record, "ipl-5.0.6-lp64le")[1] == {}
    assert again(record, "ipl-4.1-lp64le")[1] == {"fl_breason": 1}
    assert again(record, "ipl-3.4.35-lp64le")[1] == {
        "fl_breason": 1, "fl_logtag": 1, "fl_nattag": 1,
    }  # fmt: skip
    assert again(record, "ipl-3.2-lp64le")[1] == {
        "fl_breason": 1, "fl_logtag": 1, "fl_nattag": 1, "fl_loglevel": 1,
    }  # fmt: skip


def test_a_reason_that_another_release_does_not_know_is_counted() -> None:
    record = ipl_packet(reason="natv4")
    found, lost = packet_again(record, "ipl-5.1.2-ilp32be")
    assert (found.reason, lost) == ("natv4", {})
    found, lost = packet_again(record, "ipl-5.0.6-lp64le")
    assert (found.reason, lost) == (None, {"fl_breason": 1})
    found, lost = packet_again(ipl_packet(reason=99), "ipl-5.0.6-lp64le")
    assert (found.reason, lost) == (99, {})
    assert packet_again(ipl_packet(reason=256), NEWEST)[1] == {"fl_breason": 1}


def test_a_nat_tag_longer_than_its_array_is_cut_and_counted() -> None:
    for tag, lost in (("sixteen--letters", {}), ("more-than-sixteen", {"fl_nattag": 1})):
        record = ipl_packet(extra={"fl_flags": [], "fl_nattag": tag})
        found, counted = packet_again(record, "ipl-5.1.2-ilp32le")
        assert found.extra is not None and found.extra["fl_nattag"] == tag[:16]
        assert counted == lost


def test_counters_by_direction_are_summed_where_there_is_one() -> None:
    both = {"packets": {"in": 2, "out": 3}, "bytes": {"in": 80, "out": 220}}
    found, lost = flow_again(nat(**both), "ipl-3.4.35-lp64le")
    assert (found.packets, found.bytes) == ({"total": 5}, {"total": 300})
    assert lost["nl_pkts by direction"] == lost["nl_bytes by direction"] == 1
    four = {"forward_in": 1, "forward_out": 2, "backward_in": 4, "backward_out": 8}
    found, lost = flow_again(state(packets=four, bytes=four), "ipl-3.1-ilp32be")
    assert (found.packets, found.bytes) == ({"total": 15}, {"total": 15})
    assert lost["isl_pkts by direction"] == lost["isl_bytes by direction"] == 1
    found, lost = flow_again(nat(**both), "ipl-3.1-lp64le")
    assert (found.packets, found.bytes) == (None, None)
    assert lost["nl_pkts"] == lost["nl_bytes"] == 1


def test_a_total_stands_in_the_first_place_where_there_are_several() -> None:
    old = flow("ipl/v3435-lp64le-nat.nat.bin", event="expire")
    assert old.packets is not None and old.packets["total"]
    found, lost = flow_again(old, "ipl-4.1-lp64le")
    assert found.packets == {"in": old.packets["total"], "out": 0}
    assert lost["nl_pkts by direction"] == 1


def test_a_counter_beyond_32_bits_is_the_largest_one_and_counted() -> None:
    many = {"in": 2**40, "out": 7}
    found, lost = flow_again(nat(packets=many, bytes=many), "ipl-4.1-ilp32le-quad32")
    assert found.packets == found.bytes == {"in": 2**32 - 1, "out": 7}
    assert lost["nl_pkts.0"] == lost["nl_bytes.0"] == 1
    assert "nl_pkts.1" not in lost
    found, lost = flow_again(nat(packets=many, bytes=many), "ipl-4.1-ilp32le")
    assert found.packets == many and "nl_pkts.0" not in lost
    found, lost = flow_again(nat(packets=many, bytes=many), "ipl-3.4.35-ilp32be-quad32")
    assert found.packets == {"total": 2**32 - 1} and lost["nl_pkts"] == 1


@pytest.mark.parametrize("record", [ipl_packet(), nat, state], ids=["packet", "nat", "state"])
def test_a_time_after_2106_is_refused_where_seconds_have_32_bits(record: Any) -> None:
    make = record if callable(record) else lambda **c: msgspec.structs.replace(record, **c)
    late = make(timestamp_ns=2**32 * 10**9 + 5000)
    for layout in ("ipl-5.1.2-ilp32le", "ipl-4.1-ilp32be", "ipl-3.1-ilp32le8"):
        assert reason_of(late, layout) == f"times after 2106, for which {layout} has no room"
        last = (2**32 - 1) * 10**9 + 999_999_000
        assert again(make(timestamp_ns=last), layout)[0].timestamp_ns == last
    for layout in ("ipl-5.1.2-ilp32le-time64", "ipl-5.1.2-lp64be", "ipl-3.1-lp64le"):
        assert again(late, layout)[0].timestamp_ns == late.timestamp_ns


def test_a_record_without_a_time_has_that_of_its_receipt_or_of_the_one_before() -> None:
    found, lost = packet_again(ipl_packet(timestamp_ns=None, observed_ns=START + 7000), NEWEST)
    assert (found.timestamp_ns, lost) == (START + 7000, {})
    found, lost = packet_again(ipl_packet(timestamp_ns=None), NEWEST)
    assert (found.timestamp_ns, lost) == (0, {"time": 1})
    encoder = Encoder(NEWEST)
    encoder.encode(ipl_packet())
    after = decoded(encoder.encode(ipl_packet(timestamp_ns=None)), NEWEST, "ipf")
    assert after.timestamp_ns == START and encoder.lost == {"time": 1}


@pytest.mark.parametrize(("rest", "lost"), [(8 + 255, 0), (8 + 256, 1), (8 + 1000, 1)])
def test_2x_keeps_255_bytes_of_a_body(rest: int, lost: int) -> None:
    packet = ipv4(17, bytes(range(256)) * 4)[: 20 + rest]
    for source in (ipl_packet(payload=packet, protocol=17, seq=None), nflog(payload=packet)):
        found, counted = packet_again(source, "ipl-2.x-lp64be", body=None)
        assert found.payload == packet[: 28 + 255]
        assert counted.get("packet", 0) == lost


@pytest.mark.parametrize(("layout", "rule", "found", "lost"), [
    ("ipl-3.3-lp64le", 65535, 65535, 0),
    ("ipl-3.3-lp64le", 65536, None, 1),
    ("ipl-3.3-lp64le", 70000, None, 1),
    ("ipl-2.x-ilp32be", 65536, None, 1),
    ("ipl-3.3-lp64le", None, None, 0),
    ("ipl-3.4.0-lp64le", 70000, 70000, 0),
    ("ipl-5.1.2-lp64le", 2**32 - 1, 2**32 - 1, 0),
    ("ipl-5.1.2-lp64le", 2**32, None, 1),
])  # fmt: skip
def test_a_rule_that_has_no_room_is_none_and_counted(
    layout: str, rule: int | None, found: int | None, lost: int
) -> None:
    packet, counted = packet_again(ipl_packet(rule=rule), layout)
    assert (packet.rule, counted.get("fl_rule", 0)) == (found, lost)


def test_counts_and_numbers_are_counted_where_there_is_no_room() -> None:
    found, lost = packet_again(ipl_packet(count=3, seq=9, extra={}), "ipl-2.x-lp64le")
    assert (found.count, found.seq) == (None, None)
    assert lost == {"ipl_count": 1, "ipl_seqnum": 1}


def test_flags_of_2x_that_have_no_room_leave_the_others_alone() -> None:
    words = ["FR_BLOCK", "FR_INQUE", "FR_LOG", "FR_QUICK", "FF_SHORT"]
    record = ipl_packet(layout="ipl-3.2-lp64le", seq=None, group=None, extra={"fl_flags": words})
    wide, lost = packet_again(record, "ipl-2.x-lp64le-nounit")
    assert wide.extra == {"fl_flags": words} and not lost
    for source in (record, wide):
        found, lost = packet_again(source, "ipl-2.x-lp64le")
        assert (found.action, found.extra) == ("block", {"fl_flags": words[:-1]})
        assert lost == {"fl_flags": 1}


@pytest.mark.parametrize("words", [
    ["FR_BLOCK", "FR_PASS", "FR_LOG"], ["FR_PASS", "FR_LOG", "FR_ACCOUNT"],
    ["FR_BLOCK", "FR_LOG", "FR_AUTH"], ["FR_PASS", "FR_PREAUTH"],
])  # fmt: skip
@pytest.mark.parametrize("target", ["ipl-5.1.2-lp64le", "ipl-4.1-lp64le"])
def test_several_commands_of_3x_are_one_of_them_later(words: list[str], target: str) -> None:
    record = ipl_packet(layout="ipl-3.4.35-lp64le", seq=None, extra={"fl_flags": words})
    before, _ = packet_again(record, "ipl-3.4.35-lp64le")
    assert before.extra == {"fl_flags": ipl_names.bit_names(
        "flags 3.4.29", ipl_names.bits("flags 3.4.29", words)[0])}  # fmt: skip
    found, lost = packet_again(before, target)
    assert found.action == before.action
    assert len([what for what in lost if what.startswith("fl_flags ")]) == sum(
        word in ("FR_BLOCK", "FR_PASS", "FR_ACCOUNT", "FR_AUTH", "FR_PREAUTH") for word in words
    ) - 1  # fmt: skip


def test_a_packet_that_no_rule_of_4x_matched_stays_one() -> None:
    flags = {"fl_flags": ["FR_CALL", "FR_INQUE", "FF_LOGNOMATCH"]}
    record, _ = packet_again(
        ipl_packet(layout="ipl-4.1-lp64le", seq=None, extra=flags, action="nomatch"),
        "ipl-4.1-lp64le",
    )
    assert record.action == "nomatch"
    for target in (NEWEST, "ipl-3.4.35-lp64le"):
        assert packet_again(record, target)[0].action == "nomatch"


def test_the_mark_of_a_copied_rule_is_another_bit_in_4x() -> None:
    words = ["FR_BLOCK", "FR_LOG", "FR_INQUE", "FR_COPIED"]
    record = ipl_packet(seq=None, extra={"fl_flags": words})
    old, lost = packet_again(record, "ipl-4.1-lp64be")
    assert old.extra == {"fl_flags": [*words[:-1], "FF_LOGNOMATCH"]} and not lost
    new, lost = packet_again(old, "ipl-5.0.3-lp64be")
    assert new.extra == {"fl_flags": words} and not lost
    _, lost = packet_again(old, "ipl-3.4.35-lp64be")
    assert lost == {"fl_flags FR_COPIED": 1}


def test_what_the_filter_found_is_in_the_other_word_before_4() -> None:
    flags, found = ["FR_BLOCK", "FR_INQUE", "FR_LOG"], ["FI_TCPUDP", "FI_FRAG", "FI_SHORT"]
    record = ipl_packet(seq=None, extra={"fl_flags": flags, "fl_lflags": found}, short=True)
    old, lost = packet_again(record, "ipl-3.4.35-lp64le")
    assert old.extra == {"fl_flags": [*flags, "FF_TCPUDP", "FF_FRAG", "FF_SHORT"]} and not lost
    assert old.short is True
    new, lost = packet_again(old, "ipl-4.1-lp64le")
    assert new.extra is not None and new.extra["fl_lflags"] == found and not lost
    assert new.short is True


def test_an_odd_direction_is_counted_where_flags_tell_it() -> None:
    record = ipl_packet(seq=None, direction=None, indev=None, extra={"fl_flags": [], "fl_dir": 7})
    found, lost = packet_again(record, "ipl-4.1-lp64le")
    assert found.extra is not None and found.extra["fl_dir"] == 7 and not lost
    assert packet_again(record, "ipl-3.3-lp64le")[1] == {"fl_dir": 1}


def test_unknown_bits_are_kept_where_they_mean_the_same_and_counted_elsewhere() -> None:
    record = ipl_packet(seq=None, extra={"fl_flags": ["FR_PASS", 0x8], "fl_lflags": [0x1000000]})
    found, lost = packet_again(record, "ipl-5.1.2-ilp32be")
    assert found.extra is not None and found.extra["fl_lflags"] == [0x1000000] and not lost
    _, lost = packet_again(record, "ipl-4.1-lp64le")
    assert lost == {"fl_flags 8": 1, "fl_lflags 16777216": 1}


def test_nat_of_both_ends_is_refused_before_5() -> None:
    rewritten = nat(flow_type="rwr_map", event="new", nat_daddr="10.9.9.9")
    assert reason_of(rewritten, "ipl-4.1-lp64le") == "NAT of both ends, which is new in 5.0"
    one_end = nat(flow_type="rwr_map", event="new")
    assert reason_of(one_end, "ipl-4.1-lp64le") == "NAT 'rwr_map', which is new in 5.0"
    assert reason_of(nat(event="purge"), "ipl-3.4.35-lp64le") == "NAT 'purge', which is new in 5.0"
    assert flow_again(rewritten, "ipl-5.0.0-lp64le")[0].flow_type == "rwr_map"


def test_a_redirection_is_told_by_its_inside_before_5_and_as_a_flow_since() -> None:
    new = flow("ipl/v5-1-2-lp64le-nat.all.bin", flow_type="rdr", event="new")
    old = flow("ipl/v4-1-35-lp64le-nat.nat.bin", flow_type="rdr", event="new")
    names = ("saddr", "sport", "daddr", "dport", "nat_saddr", "nat_sport", "nat_daddr", "nat_dport")

    def told(record: FlowRecord) -> list[Any]:
        return [getattr(record, name) for name in names]

    # the same packets went through both kernels
    assert told(flow_again(new, "ipl-4.1-lp64le")[0]) == told(old)
    assert told(flow_again(old, NEWEST)[0]) == told(new)


def test_an_event_that_is_no_event_is_refused() -> None:
    assert reason_of(nat(event="x"), NEWEST) == "NAT events 'x'"
    assert reason_of(nat(event="x"), "ipl-4.1-lp64le") == "NAT 'x', which is new in 5.0"
    assert reason_of(state(event="x"), "ipl-4.1-lp64le") == "state events 'x'"


def test_states_of_tcp_keep_their_names_though_their_numbers_differ() -> None:
    record = state(extra={"isl_state": ["ESTABLISHED", "CLOSED"]})
    new, old = Encoder(NEWEST), Encoder("ipl-3.4.35-lp64le")
    assert parsed(new.encode(record), NEWEST, "state").isl_state == bytes((4, 11))
    assert parsed(old.encode(record), "ipl-3.4.35-lp64le", "state").isl_state == bytes((4, 0))
    assert "isl_state" not in old.lost
    half = state(extra={"isl_state": ["HALF_ESTAB", "LISTEN"]})
    _, lost = flow_again(half, "ipl-3.4.35-lp64le")
    assert lost["isl_state"] == 1


def test_2x_has_no_log_but_that_of_packets() -> None:
    assert reason_of(nat(), "ipl-2.x-lp64le") == "nat records, which 2.x does not log"
    assert reason_of(state(), "ipl-2.x-lp64le") == "state records, which 2.x does not log"


def test_a_wrong_layout_says_what_a_layout_is() -> None:
    with pytest.raises(ValueError, match=r"no layout 'ipl-9-x'; .*5\.1\.2"):
        Encoder("ipl-9-x")


def test_reasons_and_losses_are_summed_over_records() -> None:
    encoder = Encoder("ipl-3.3-lp64le")
    for record in (ipl_packet(**V6), ipl_packet(**V6), ipl_packet(group="web"), ipl_packet()):
        encoder.encode(record)
    assert encoder.refused == {"IPv6 packets, which 3.3 does not log": 2}
    assert encoder.lost == {"fl_group": 1, "ipl_seqnum": 2}


# Packets of Linux


def nflog(**changes: Any) -> PacketRecord:
    """A packet as NFLOG gives it."""
    fields: dict[str, Any] = {
        "source": "nflog", "layout": "nfulnl-le", "timestamp_ns": START, "direction": "in",
        "group": "5", "prefix": "drop ssh ", "indev": "eth0", "family": "ipv4", "protocol": 17,
        "payload": ipv4(17, bytes(8)), "extra": {"nfgen_family": 2},
    }  # fmt: skip
    fields |= changes
    packet = fields["payload"] or b""
    if len(packet) >= 6:
        six = packet[0] >> 4 == 6
        stated = 40 + int.from_bytes(packet[4:6]) if six else int.from_bytes(packet[2:4])
        fields.setdefault("length", stated)
    return PacketRecord(**fields)


@pytest.mark.parametrize(("direction", "found", "device", "flag"), [
    ("in", "in", "eth0", "FR_INQUE"), ("forward", "in", "eth0", "FR_INQUE"),
    ("out", "out", "eth1", "FR_OUTQUE"),
])  # fmt: skip
@pytest.mark.parametrize(
    "layout", [NEWEST, "ipl-4.1-ilp32be", "ipl-3.4.35-lp64le", "ipl-3.1-lp64le"]
)
def test_a_packet_has_a_way_and_the_interface_of_that_way(
    layout: str, direction: str, found: str, device: str, flag: str
) -> None:
    record, _ = packet_again(nflog(direction=direction, outdev="eth1"), layout)
    assert (record.direction, record.indev or record.outdev) == (found, device)
    assert record.extra is not None and flag in record.extra["fl_flags"]


def test_the_number_of_an_interface_is_its_name_where_there_is_no_other() -> None:
    for layout in (NEWEST, "ipl-3.4.0-lp64le", "ipl-2.x-ilp32le"):
        assert packet_again(nflog(indev=17), layout)[0].indev == "if17"
    assert packet_again(nflog(indev=None), NEWEST)[0].indev is None


def test_a_packet_without_a_way_says_so() -> None:
    found, lost = packet_again(nflog(direction=None), NEWEST)
    assert found.direction is None and not lost


@pytest.mark.parametrize(("options", "prefix", "group"), [
    ({}, "drop ssh ", "drop_ssh"), ({}, "a  b\tc", "a_b_c"), ({}, None, "5"), ({}, "  ", "5"),
    ({"group": "group"}, "drop ssh ", "5"), ({"group": "none"}, "drop ssh ", "0"),
])  # fmt: skip
def test_the_group_is_the_prefix_or_what_is_asked_for(
    options: dict[str, Any], prefix: str | None, group: str
) -> None:
    found, lost = packet_again(nflog(prefix=prefix), NEWEST, **options)
    assert (found.group, lost) == (group, {})


def test_the_group_is_that_of_linux_where_groups_are_numbers() -> None:
    for layout in ("ipl-3.4.35-lp64le", "ipl-3.2-ilp32be"):
        for options in ({}, {"group": "prefix"}, {"group": "group"}):
            found, lost = packet_again(nflog(), layout, **options)
            assert (found.group, lost) == ("5", {})
        assert packet_again(nflog(), layout, group="none")[0].group == "0"


@pytest.mark.parametrize(("options", "tag"), [
    ({}, 7), ({"tag": "uid"}, 1000), ({"tag": "gid"}, 2**32 - 1), ({"tag": "none"}, 0),
])  # fmt: skip
def test_the_log_tag_is_the_mark_or_what_is_asked_for(options: dict[str, Any], tag: int) -> None:
    record = nflog(mark=7, uid=1000, gid=2**32 - 1)
    data = Encoder(NEWEST, **options).encode(record)
    assert parsed(data, NEWEST).fl_logtag == tag
    assert parsed(Encoder(NEWEST, **options).encode(nflog()), NEWEST).fl_logtag == 0
    lost = Encoder("ipl-3.4.35-lp64le", **options)
    lost.encode(record)
    assert lost.lost["fl_logtag"] == (tag != 0)


ACTIONS = {"drop dns*": "log", "drop*": "block", "accept*": "pass", "*ssh*": "pass"}


@pytest.mark.parametrize(("prefix", "action"), [
    ("drop ssh ", "block"), ("drop dns ", "log"), ("accept drop ", "pass"), ("let ssh ", "pass"),
    ("other", "log"), (None, "log"), ("DROP", "log"),
])  # fmt: skip
@pytest.mark.parametrize(
    "layout", [NEWEST, "ipl-4.1-lp64be", "ipl-3.4.35-lp64le", "ipl-2.x-lp64le"]
)
def test_the_first_pattern_that_fits_a_prefix_is_its_action(
    layout: str, prefix: str | None, action: str
) -> None:
    record = Actions(ACTIONS).record(nflog(prefix=prefix))
    found, _ = packet_again(record, layout)
    assert found.action == action
    assert found.extra is not None and "FR_LOG" in found.extra["fl_flags"]


def test_a_packet_of_linux_has_no_rule_and_no_level() -> None:
    fields = parsed(Encoder(NEWEST).encode(nflog()), NEWEST)
    assert (fields.fl_rule, fields.fl_loglevel, fields.ipl_count) == (0xFFFFFFFF, 0xFFFF, 1)
    old = parsed(Encoder("ipl-3.3-lp64le").encode(nflog()), "ipl-3.3-lp64le")
    assert (old.fl_rule, old.fl_loglevel) == (0xFFFF, 0xFFFF)


def test_what_is_known_of_a_packet_is_told_as_the_filter_would() -> None:
    part = Fragment(id=1, offset=0, more=True)
    record = nflog(fragment=part, cut="udp", payload=ipv4(17, bytes(4), offset=0x2000))
    found, _ = packet_again(record, NEWEST)
    assert found.extra is not None and found.short is True
    assert set(found.extra["fl_lflags"]) == {"FI_FRAG", "FI_SHORT", "FI_TCPUDP"}
    plain, _ = packet_again(nflog(protocol=1, payload=ipv4(1, bytes(8))), NEWEST)
    assert plain.extra is not None and "fl_lflags" not in plain.extra and plain.short is None


def test_events_are_numbered_from_1_with_a_gap_for_what_was_lost() -> None:
    encoder = Encoder(NEWEST)
    lost = LossRecord("nflog", "nfulnl-le", count=5, log="5")
    numbers = [
        decoded(encoder.encode(record), NEWEST, "ipf").seq if not isinstance(record, LossRecord)
        else encoder.encode(record)
        for record in (nflog(seq=70), nflog(seq=71), lost, nflog(seq=77), nflog(), lost, nflog())
    ]  # fmt: skip
    assert numbers == [1, 2, b"", 8, 9, b"", 15]
    assert not encoder.lost and not encoder.refused


def test_each_log_has_its_own_numbers() -> None:
    encoder = Encoder(NEWEST)
    numbers: dict[str, list[int | None]] = {"ipf": [], "nat": [], "state": []}
    plain = ipl_packet(seq=None, count=3)
    entry, mapped = state(seq=None), nat(seq=None)
    for record in (plain, entry, plain, mapped, LossRecord("ipl", "x", count=4, log="nat"),
                   mapped, entry):  # fmt: skip
        data = encoder.encode(record)
        if not isinstance(record, LossRecord):
            log = ipfilter_log(record)
            numbers[log].append(decoded(data, NEWEST, log).seq)
    assert numbers == {"ipf": [1, 4], "nat": [1, 6], "state": [1, 2]}


def test_a_loss_that_leaves_no_gap_is_counted() -> None:
    unknown = LossRecord("nflog", "nfulnl-le", count=None, log="5")
    known = LossRecord("nflog", "nfulnl-le", count=3, log="5")
    encoder = Encoder(NEWEST)
    assert encoder.encode(unknown) == encoder.encode(known) == b""
    assert encoder.lost == {"losses": 1}
    for layout in ("ipl-4.1-lp64le", "ipl-2.x-lp64le"):
        for log in ("ipf", "nat", "state", None):
            old = Encoder(layout)
            assert old.encode(LossRecord("ipl", NEWEST, count=3, log=log)) == b""
            assert old.lost == {"losses": 1}


def test_losses_of_linux_are_read_back_as_losses() -> None:
    records = read("nflog/overrun.bin")
    encoder = Encoder(NEWEST)
    data = b"".join(encoder.encode(record) for record in records)
    with pylog.open(io.BytesIO(data)) as reader:
        found = list(reader)
    there = [(i, r.count) for i, r in enumerate(records) if isinstance(r, LossRecord)]
    here = [(i, r.count) for i, r in enumerate(found) if isinstance(r, LossRecord)]
    assert there == here and there and not encoder.lost and not encoder.refused


ERROR, ECHO = b"\x03\x03" + bytes(6), b"\x08\0" + bytes(6)
EXTENSION, FIRST, LATER = bytes((6, 0)) + bytes(6), bytes((17, 0, 0, 1)), bytes((17, 0, 0, 8))
REST = bytes(200)


@pytest.mark.parametrize(("packet", "headers"), [
    (ipv4(6, REST), 20 + 20),
    (ipv4(6, bytes(12) + b"\xa0" + REST), 20 + 20),  # TCP options are no headers
    (ipv4(6, REST, options=bytes(12)), 32 + 20),
    (ipv4(6, bytes(14)), 20 + 14),  # cut
    (ipv4(17, REST), 20 + 8),
    (ipv4(1, ECHO + REST), 20 + 28),
    (ipv4(1, ECHO), 20 + 8),
    (ipv4(1, ERROR + REST), 20 + 36),
    (ipv4(1, b"\x05" + REST), 20 + 36),
    (ipv4(1, b"\x0b" + REST), 20 + 36),
    (ipv4(1, ERROR + ipv4(17, bytes(8))), 20 + 8 + 28),
    (ipv4(1, b"\x06" + REST), 20 + 28),
    (ipv4(47, REST), 20),
    (ipv4(50, REST), 20),
    (ipv4(17, REST, offset=0x2000), 20 + 8),
    (ipv4(17, REST, offset=0x2001), 20),
    (ipv4(6, REST, offset=0x00FF), 20),
    (ipv6(6, REST), 40 + 20),
    (ipv6(17, REST), 40 + 8),
    (ipv6(58, b"\x01" + REST), 40 + 16),
    (ipv6(58, b"\x80" + REST), 40 + 8),
    (ipv6(58, b"\x87" + REST), 40 + 8),
    (ipv6(0, EXTENSION + REST), 40 + 8 + 20),
    (ipv6(60, bytes((43, 2)) + bytes(22) + EXTENSION + REST), 40 + 24 + 8 + 20),
    (ipv6(44, FIRST + bytes(4) + REST), 40 + 8 + 8),
    (ipv6(44, LATER + bytes(4) + REST), 40 + 8),
    (ipv6(0, bytes((44, 0)) + bytes(6) + FIRST + bytes(4) + REST), 40 + 8 + 8 + 8),
    (ipv6(59, REST), 40),
    (ipv6(6, b""), 40),
])  # fmt: skip
def test_headers_and_body_are_split_as_the_kernel_does(packet: bytes, headers: int) -> None:
    record = nflog(payload=packet, family="ipv4" if packet[0] >> 4 == 4 else "ipv6")
    for layout in (NEWEST, "ipl-4.1-lp64be", "ipl-3.4.35-ilp32le"):
        for body in (0, 128, None):
            kept = packet if body is None else packet[: headers + body]
            data = Encoder(layout, body=body).encode(record)
            fields = parsed(data, layout)
            assert (fields.fl_hlen, fields.fl_plen) == (headers, len(kept) - headers)
            assert fields.ipl_dsize == len(data)
            found = decoded(data, layout, "ipf")
            assert isinstance(found, PacketRecord) and found.payload == kept
            assert found.extra is not None
            assert ("FR_LOGBODY" in found.extra["fl_flags"]) == (len(kept) > headers)


def test_a_header_of_more_than_255_bytes_fits_the_field() -> None:
    packet = ipv6(60, bytes((6, 40)) + bytes(326) + REST)
    fields = parsed(Encoder(NEWEST).encode(nflog(payload=packet, family="ipv6")), NEWEST)
    assert (fields.fl_hlen, len(fields.packet)) == (255, 255 + 128)


@pytest.mark.parametrize("layout", ["ipl-3.4.35-lp64le", "ipl-3.3-lp64be", "ipl-5.1.2-ilp32le"])
def test_a_body_of_more_than_255_bytes_is_told_by_its_lowest_8_bits_where_it_must(
    layout: str,
) -> None:
    packet = ipv4(17, bytes(8) + bytes(1000))
    data = Encoder(layout, body=None).encode(nflog(payload=packet))
    assert parsed(data, layout).fl_plen == (1000 if layout.startswith("ipl-5") else 1000 & 0xFF)
    found = decoded(data, layout, "ipf")
    assert isinstance(found, PacketRecord) and found.payload == packet


def test_bytes_after_the_packet_do_not_make_a_record_that_cannot_be_read() -> None:
    padded = ipv4(17, bytes(8)) + bytes(400)  # more than the header says, as below a device
    for layout in LAYOUTS:
        found, _ = packet_again(nflog(payload=padded), layout, body=None)
        assert found.payload is not None and found.payload[:28] == padded[:28]


def test_a_jumbogram_is_held_so_that_it_can_be_read() -> None:
    option = bytes((17, 0, 0xC2, 4)) + (8 + 70_000).to_bytes(4)
    packet = b"\x60\0\0\0\0\0\0\x40" + V6["payload"][8:40] + option + bytes(70_000)
    record = nflog(family="ipv6", payload=packet, length=40 + 8 + 70_000)
    for layout in (NEWEST, "ipl-4.1-lp64be", "ipl-3.4.35-lp64le"):
        for body in (128, 1000):
            found, _ = packet_again(record, layout, body=body)
            assert found.payload is not None and packet.startswith(found.payload)
            assert (found.family, found.length) == ("ipv6", record.length)


@pytest.mark.parametrize("size", [0, 1, 12, 19])
def test_a_packet_of_less_than_an_ip_header_is_held_or_refused(size: int) -> None:
    record = nflog(payload=ipv4(17, bytes(8))[:size], cut="ipv4")
    for layout in LAYOUTS:
        encoder = Encoder(layout)
        data = encoder.encode(record)
        if data:
            found = decoded(data, layout, "ipf")
            assert isinstance(found, PacketRecord) and found.caplen == size
        else:
            assert encoder.refused.total() == 1


def test_a_packet_that_is_none_is_refused() -> None:
    for record in (nflog(payload=None), nflog(payload=b""), nflog(family="arp", payload=REST),
                   nflog(family=0x88B5, payload=REST), nflog(family=None)):  # fmt: skip
        assert reason_of(record, NEWEST) == "no IP packet"


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("first", [0x00, 0x50, 0xF5])
def test_a_packet_of_another_version_than_its_family_is_refused(family: str, first: int) -> None:
    encoder = Encoder(NEWEST)
    data = encoder.encode(nflog(family=family, payload=bytes((first,)) + bytes(60)))
    assert data == b"" and encoder.refused.total() == 1


@pytest.mark.parametrize(("layout", "options", "family"), [
    (NEWEST, {}, 28), ("ipl-5.1.2-lp64le-nounit", {}, 24), ("ipl-5.0.5-ilp32be", {}, 28),
    (NEWEST, {"af_inet6": 26}, 26), ("ipl-5.1.2-lp64be-nounit", {"af_inet6": 10}, 10),
])  # fmt: skip
def test_the_family_is_that_of_the_reading_system(
    layout: str, options: dict[str, Any], family: int
) -> None:
    encoder = Encoder(layout, **options)
    six = encoder.encode(nflog(family="ipv6", payload=V6["payload"]))
    assert parsed(six, layout).fl_family == family
    assert parsed(encoder.encode(nflog()), layout).fl_family == 2
    assert not encoder.lost


def test_an_ipv4_header_is_in_the_order_of_the_machine_before_5() -> None:
    packet = ipv4(17, bytes(8), offset=0x4000)
    for layout, head in (
        ("ipl-4.1-lp64le", b"\x45\0\x1c\0\x12\x34\0\x40"),
        ("ipl-4.1-lp64be", b"\x45\0\0\x1c\x12\x34\x40\0"),
        ("ipl-5.1.2-lp64le", b"\x45\0\0\x1c\x12\x34\x40\0"),
    ):
        assert parsed(Encoder(layout).encode(nflog(payload=packet)), layout).packet[:8] == head


def kept(records: list[PacketRecord]) -> list[PacketRecord]:
    return [r for r in records if r.family in ("ipv4", "ipv6") and r.payload]


@pytest.mark.parametrize("dump", samples.dumps("nflog/*"), ids=samples.name)
def test_packets_of_linux_become_packets_of_ipfilter(dump: Path) -> None:
    encoder = Encoder(NEWEST, body=None)
    refused = time = 0
    for record in packets(dump):
        data = encoder.encode(record)
        if not data:
            assert record not in kept([record])
            refused += 1
            continue
        found = decoded(data, NEWEST, "ipf")
        assert isinstance(found, PacketRecord)
        for name in ("family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags",
                     "icmp_type", "icmp_code", "fragment", "length"):  # fmt: skip
            assert getattr(found, name) == getattr(record, name), name
        assert record.payload is not None  # what follows the packet is padding of the link
        assert found.payload == record.payload[: record.length]
        time = next((t for t in (record.timestamp_ns, record.observed_ns) if t is not None), time)
        assert found.timestamp_ns == time
        out = record.direction == "out"
        assert found.direction == ("out" if out else "in")
        device = record.outdev if out else record.indev
        assert (found.outdev if out else found.indev) == (device and f"if{device}")
        assert found.group == "_".join((record.prefix or "").split())[:15]
        assert found.extra is not None and found.extra.get("fl_logtag") == (record.mark or None)
        assert (found.short is True) == (record.cut is not None)
    assert refused == len(packets(dump)) - len(kept(packets(dump))) == encoder.refused.total()
    assert set(encoder.refused) <= {"no IP packet"}
    assert set(encoder.lost) <= {"fl_group", "time"}


@pytest.mark.parametrize(
    "version", effort.sample(dict.fromkeys(of.version.name for of in LAYOUTS), least=6)
)
def test_a_log_made_of_linux_packets_is_found_to_be_of_its_layout(version: str) -> None:
    records = [r for r in packets("nflog/seq.bin") if r in kept([r])][::16]
    layouts = [
        layout for layout in LAYOUTS
        if layout.version.name == version and layout.abi.base in ("lp64be", "ilp32le")
    ]  # fmt: skip
    wrong = []
    for layout in effort.sample(layouts, least=2):
        encoder = Encoder(layout)
        written = [data for record in records if (data := encoder.encode(record))]
        six = ("IPv6 packets" in reason for reason in encoder.refused)
        assert len(written) + encoder.refused.total() == len(records) and all(six)
        try:
            with pylog.open(io.BytesIO(b"".join(written))) as reader:
                found = list(reader)
                fits = layout.name in reader.detection.layouts
        except pylog.DecodeError as error:
            wrong.append(f"{layout.name}: {error}")
            continue
        if not fits:
            wrong.append(f"{layout.name}: found to be {reader.layout}")
        assert len(found) == len(written)
        assert all(isinstance(record, PacketRecord) for record in found)
    assert not wrong


# Anything at all

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
NANOSECONDS = st.integers(0, MAX_SECONDS * 10**9)
U8, U16, U32 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
WORDS = [word for table in ("flags 3.4.29", "flags 4", "flags 5", "lflags 5")
         for word in ipl_names._bits(table)[0].values()]  # fmt: skip
COMMANDS = ["FR_CALL", "FR_BLOCK", "FR_PASS", "FR_SKIP", "FR_DECAPSULATE"]
FLAGS = st.lists(st.sampled_from(WORDS) | st.sampled_from(COMMANDS) | U32, max_size=6)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str | int | None, bytes | None]:
    """A family and a packet: of it, cut, with bytes after it, or anything."""
    rest = draw(st.binary(max_size=100) | st.integers(0, 2000).map(bytes))
    protocol = draw(st.sampled_from([0, 1, 4, 6, 17, 43, 44, 58, 60, 132]) | U8)
    kind = draw(st.sampled_from(["ipv4", "ipv4", "ipv6", "ipv6", "bytes", "none"]))
    if kind == "ipv4":
        packet = ipv4(protocol, rest, draw(st.sampled_from([b"", bytes(8)])), draw(U16))
    elif kind == "ipv6":
        packet = ipv6(protocol, rest)
    else:
        families = [None, "arp", 4, "ipv4", "ipv6"]
        return draw(st.sampled_from(families)), None if kind == "none" else rest
    stop = draw(st.none() | st.integers(0, 80))
    return kind, packet[:stop] + draw(st.sampled_from([b"", bytes(4), bytes(300)]))


@st.composite
def any_packets(draw: st.DrawFn) -> PacketRecord:
    source = draw(st.sampled_from(["ipl", "nflog"]))
    layout = draw(st.sampled_from(LAYOUTS)).name if source == "ipl" else "nfulnl-le"
    extra = {"nfgen_family": 2} if source == "nflog" else draw(st.none() | st.fixed_dictionaries(
        {"fl_flags": FLAGS},
        optional={
            "fl_lflags": FLAGS, "fl_loglevel": U16, "fl_logtag": U32, "fl_nattag": NAMES,
            "fl_family": U8, "fl_dir": U8, "fl_uuid": st.binary(min_size=16, max_size=16).map(
                bytes.hex),
        },
    ))  # fmt: skip
    devices = maybe(NAMES | U32)
    family, payload = draw(payloads())
    return PacketRecord(
        source=source, layout=layout, timestamp_ns=draw(maybe(NANOSECONDS)),
        observed_ns=draw(maybe(NANOSECONDS)), seq=draw(maybe(U32)),
        count=draw(maybe(st.integers(1, 2**32 - 1))),
        action=draw(maybe(st.sampled_from(["pass", "block", "log", "nomatch", 3]))),
        short=draw(maybe(st.booleans())),
        direction=draw(maybe(st.sampled_from(["in", "out", "forward"]))),
        rule=draw(maybe(st.integers(1, 2**32))), group=draw(maybe(NAMES)),
        prefix=draw(maybe(NAMES)), reason=draw(maybe(NAMES | U8)), indev=draw(devices),
        outdev=draw(devices), mark=draw(maybe(U32)), uid=draw(maybe(U32)), gid=draw(maybe(U32)),
        family=family, payload=payload,
        length=draw(maybe(st.integers(0, 2**32 - 1) | st.just(len(payload or b"")))),
        protocol=draw(maybe(U8)), cut=draw(maybe(st.just("ipv4"))), extra=extra,
        fragment=draw(maybe(st.builds(Fragment, id=U16, offset=U16))),
    )  # fmt: skip


WAYS = [("total",), ipl_names.NAT_DIRECTIONS, ipl_names.STATE_DIRECTIONS]
COUNTERS = st.sampled_from(WAYS).flatmap(
    lambda ways: st.fixed_dictionaries({way: st.integers(0, 2**64 - 1) for way in ways})
)


@st.composite
def any_flows(draw: st.DrawFn) -> FlowRecord:
    events = [*ipl_names.NAT_EVENTS_5.values(), *ipl_names.STATE_EVENTS.values(), "other"]
    kinds = [*ipl_names.NAT_KINDS_5.values(), "state", "state", "nat", "other"]
    tcp = st.sampled_from([*ipl_names.TCP_STATES_3, *ipl_names.TCP_STATES_4, 77])
    extra = draw(maybe(st.fixed_dictionaries({}, optional={
        "nl_p": st.lists(U8, min_size=2, max_size=2), "nl_v": U8 | st.lists(
            U8, min_size=2, max_size=2),
        "isl_v": U8, "isl_ps": st.binary(min_size=4, max_size=4).map(bytes.hex),
        "isl_state": st.lists(tcp, min_size=2, max_size=2), "isl_flags": U8, "isl_tag": U32,
        "nl_sec": U32.map(str), "nl_usec": U32.map(str), "isl_sec": U32.map(str),
        "isl_usec": U32.map(str),
    })))  # fmt: skip
    address, port = maybe(ADDRESSES), maybe(U16)
    return FlowRecord(
        source="ipl", layout=NEWEST, timestamp_ns=draw(maybe(NANOSECONDS)),
        seq=draw(maybe(U32)), count=draw(maybe(st.integers(1, 2**32 - 1))),
        event=draw(maybe(st.sampled_from(events) | U32)),
        flow_type=draw(maybe(st.sampled_from(kinds) | U32)),
        rule=draw(maybe(st.integers(1, 2**31))), group=draw(maybe(NAMES)),
        indev=draw(maybe(NAMES)), outdev=draw(maybe(NAMES)),
        family=draw(maybe(st.sampled_from(["ipv4", "ipv6"]))), protocol=draw(maybe(U8)),
        saddr=draw(address), daddr=draw(address), sport=draw(port), dport=draw(port),
        icmp_type=draw(maybe(U16)), nat_saddr=draw(address), nat_daddr=draw(address),
        nat_sport=draw(port), nat_dport=draw(port), packets=draw(maybe(COUNTERS)),
        bytes=draw(maybe(COUNTERS)), extra=extra,
    )  # fmt: skip


def check_any(encoder: Encoder, record: Logged) -> None:
    """A record has bytes that are one record with its packet, or it is refused."""
    data = encoder.encode(record)
    if not data:
        assert encoder.refused.total() == 1
        return
    assert not encoder.refused
    found = decoded(data, encoder.layout, ipfilter_log(record))
    assert type(found) is type(record) and found.raw == data
    if isinstance(found, PacketRecord) and isinstance(record, PacketRecord):
        assert record.payload is not None and found.payload is not None
        assert record.payload.startswith(found.payload)
    pylog.to_json(found)


@effort.examples(400)
@given(any_packets(), st.sampled_from(LAYOUTS), st.sampled_from([None, 0, 128]))
@example(nflog(payload=b"\x45"), ipl_layouts.named("ipl-2.x-lp64le"), 128)
@example(nflog(family="ipv6", payload=b"\x60" + bytes(39)), ipl_layouts.named(NEWEST), 128)
def test_any_packet_has_bytes_that_decode_or_is_refused(
    record: PacketRecord, layout: Layout, body: int | None
) -> None:
    check_any(Encoder(layout, body=body), record)


@effort.examples(400)
@given(any_flows(), st.sampled_from(LAYOUTS))
def test_any_flow_has_bytes_that_decode_or_is_refused(record: FlowRecord, layout: Layout) -> None:
    check_any(Encoder(layout), record)


def mixed() -> Iterator[Record]:
    yield from read("nflog/batch.bin")
    yield from read("ipl/v5-1-2-lp64le-nat.all.bin")
    yield from read("ipl/v3435-lp64le-state.state.bin")


@pytest.mark.parametrize(
    "layout", ["ipl-5.1.2-lp64be", "ipl-4.1-ilp32le", "ipl-4.1-illumos-lp64le-name32"]
)
def test_records_of_several_sources_are_one_log(layout: str) -> None:
    encoder = Encoder(layout)
    written = [data for record in mixed() if (data := encoder.encode(record))]
    with pylog.open(io.BytesIO(b"".join(written)), layout=layout, raw=True) as reader:
        found = [record for record in reader if isinstance(record, PacketRecord | FlowRecord)]
    assert [record.raw for record in found] == written
    assert {ipfilter_log(record) for record in found} == {"ipf", "nat", "state"}
