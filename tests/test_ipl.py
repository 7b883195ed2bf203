"""IPFilter's records: every layout, against compilers, against construct, against bad bytes."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

from pylog import DecodeError, FlowRecord, PacketRecord, to_json
from pylog.formats import Damage, Message, ipl, ipl_layouts, ipl_names
from pylog.formats.ipl_layouts import Layout, layout, named
from pylog.formats.ipl_stream import IplStream
from pylog.formats.plan import Plan

LAYOUTS = [(x, device) for x in ipl_layouts.layouts() for device in x.logs]
RELEASES = {
    "v34": "3.4.0", "v3-4-29": "3.4.29", "v3435": "3.4.35", "v4-1-0": "4.1.0", "v4-1-35": "4.1.35",
    "v5-0-3": "5.0.3", "v5-0-6": "5.0.6", "v5-1-2": "5.1.2", "master": "master",
    "v4-1-35+own-illumos": "4.1-illumos", "v4-1-35+own-illumosold": "4.1-solaris",
}  # fmt: skip


def compiled() -> list[tuple[Layout, str, int, dict[str, int]]]:
    """The structures as compilers laid them out: layout, struct, size, {field: offset}."""
    found = []
    for block in (samples.FIXTURES / "ipl/offsets.txt").read_text().split("## ")[1:]:
        head, *lines = block.strip().splitlines()
        tag, base = head.split()
        _, _, variant = tag.partition("+own-")
        abi = ipl_layouts.ABI(
            base, time64="nbtv" in variant, unit="nounit" not in variant,
            ifname=32 if variant in ("lif32", "illumos", "illumosold") else 16,
        )  # fmt: skip
        release = RELEASES.get(tag) or RELEASES[tag.partition("+")[0]]
        for line in lines:
            struct, size, fields = re.fullmatch(r"(\w+)\[(\d+)\]: (.*)", line).groups()  # type: ignore[union-attr]
            offsets = {
                name.replace("nlx_", "nl_"): int(offset)
                for name, offset in re.findall(r"(\w+)@(\d+)", fields)
            }
            found.append((layout(release, abi), struct, int(size), offsets))
    return found


def test_every_field_lies_where_compilers_put_it() -> None:
    checked = 0
    sizes: dict[str, int] = {}
    devices = {"iplog": "ipf", "ipflog": "ipf", "natlog": "nat", "ipslog": "state"}
    for of, struct, size, offsets in compiled():
        plan = Plan(of.schema(devices[struct]))
        places = {leaf.name.partition(".")[0]: leaf.offset for leaf in reversed(plan.leaves)}
        if struct == "iplog":
            sizes[of.name], head = size, 0
        else:
            head = sizes[of.name]
            assert plan.size == head + size, (of.name, struct)
        for name, offset in offsets.items():
            assert places[name] == head + offset, (of.name, name)
            checked += 1
    assert checked == 3885


def test_names_lead_back_to_layouts() -> None:
    for of, device in LAYOUTS:
        assert named(of.name) == of
        assert ipl.stream(f"{of.name}:{device}").layout == of.name


@pytest.mark.parametrize("name", ["ipl", "ipl-9.9-lp64le", "ipl-5.1.2-vax", "ipl-5.1.2-lp64le-x"])
def test_a_wrong_layout_name_says_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"5\.1\.2|lp64le"):
        ipl.stream(name)


def test_2x_has_no_nat_log() -> None:
    with pytest.raises(ValueError, match="has no log 'nat'"):
        ipl.stream("ipl-2.x-lp64le:nat")


# Round trips


def value_of(leaf: Any, chance: random.Random) -> Any:
    """A value that the field can hold: any, the least or the greatest."""
    if leaf.code.endswith("s"):
        return chance.choice((chance.randbytes(leaf.size), bytes(leaf.size), b"\xff" * leaf.size))
    low, high = (-(2 ** (8 * leaf.size - 1)), 2 ** (8 * leaf.size - 1) - 1)
    if leaf.code.isupper():
        low, high = 0, 2 ** (8 * leaf.size) - 1
    return chance.choice((chance.randint(low, high), low, high))


@cache
def plan_of(of: Layout, device: str) -> Plan:
    return Plan(of.schema(device))


def test_parse_of_build_is_the_same_and_the_plan_agrees() -> None:
    for of, device in effort.sample(LAYOUTS, least=40):
        chance = effort.chance(of.name, device)
        for _ in range(3):
            check_build(of, device, chance)


def check_build(of: Layout, device: str, chance: random.Random) -> None:
    schema, plan = of.schema(device), plan_of(of, device)
    flat = {leaf.name: value_of(leaf, chance) for leaf in plan.leaves}
    packet = chance.randbytes(chance.randint(0, 60))
    if device == "ipf":
        if "ipl_dsize" in flat:
            flat["ipl_dsize"] = plan.size + len(packet)
        else:
            flat["fl_hlen"], flat["fl_plen"] = len(packet) // 2, len(packet) - len(packet) // 2
    fields: dict[str, Any] = {}
    for name, value in flat.items():
        array, _, _index = name.partition(".")
        if _index:
            fields.setdefault(array, []).append(value)
        else:
            fields[name] = value
    fields["packet"] = packet
    built = schema.build(fields)
    parsed = schema.parse(built)
    for name, value in fields.items():
        if name != "packet" or device == "ipf":
            assert parsed[name] == value, (of.name, device, name)
    assert schema.build(parsed) == built, (of.name, device)
    unpacked = dict(zip(plan.names, plan.unpack(built, 0), strict=True))
    assert unpacked == flat, (of.name, device)


@pytest.mark.parametrize("dump", samples.dumps("ipl/*"), ids=samples.name)
def test_real_records_are_built_again_byte_for_byte(dump: Path) -> None:
    data, stream = dump.read_bytes(), stream_of(dump)
    for item in stream.split(data, True):
        if isinstance(item, Message):
            raw = data[item.start : item.end]
            schema = stream.layout_value.schema(stream.message_log(data, item))
            assert schema.build(schema.parse(raw)) == raw


@cache
def stream_of(dump: Path) -> IplStream:
    guess = ipl.probe(dump.read_bytes(), True)[0]
    stream = guess.stream()
    assert isinstance(stream, IplStream)
    return stream


# The reference: construct and plain arithmetic against the fast decoder


def flat(parsed: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a parsed record under the plan's names: an array's rows are name.0, name.1."""
    found = {}
    for name in names:
        array, _, row = name.partition(".")
        found[name] = parsed[array][int(row)] if row else parsed[name]
    return found


def check_against_reference(stream: IplStream, data: bytes) -> None:
    """Decode everything that is in the data; nothing but records and DecodeError may come."""
    stream.base = stream.used = 0
    stream.damage = None
    covered = 0
    for item in stream.split(data, True):
        if isinstance(item, Damage):
            assert item.size > 0
            covered += item.size
            continue
        assert isinstance(item, Message)
        covered += item.end - item.start
        device = stream.message_log(data, item)
        plan = plan_of(stream.layout_value, device)
        parsed = stream.layout_value.schema(device).parse(data[item.start : item.end])
        expected = flat(parsed, plan.names)
        assert dict(zip(plan.names, plan.unpack(data, item.start), strict=True)) == expected
        try:
            record = stream.decode(data, item)
        except DecodeError:
            continue
        to_json(record)
        assert isinstance(record, PacketRecord | FlowRecord)
        seconds = parsed.ipl_sec * 10**9 + parsed.ipl_usec * 1000
        said = record.timestamp_ns, record.count, record.seq
        assert said == (seconds, parsed.get("ipl_count"), parsed.get("ipl_seqnum"))
        if isinstance(record, PacketRecord):
            assert record.caplen == len(parsed.packet)
    assert covered == len(data)  # every byte is in a record or told as lost


SMALL = [
    "ipl/v5-1-2-lp64le-nattag.ipf.bin", "ipl/v5-1-2-nounit-nbtv-lp64be-nat.all.bin",
    "ipl/v4-1-35-lp64le-state.state.bin", "ipl/v4-1-35-ilp32be-nat.all.bin",
    "ipl/v3435-ilp32be-nat.nat.bin", "ipl/v3435-lp64be-dup.ipf.bin", "ipl/v2x-ilp32le-ipf.bin",
    "ipl/v31-ilp32le-state.bin", "ipl/v4-1-35-illumos-lp64le-nat.all.bin",
]  # fmt: skip


def windows(name: str) -> list[tuple[bytes, int, int]]:
    """For each record of a dump: it with its neighbours, and where it begins and ends in there."""
    data = (samples.FIXTURES / name).read_bytes()
    stream = fresh(stream_of(samples.FIXTURES / name))
    ends = [0, *(m.end for m in stream.split(data, True) if isinstance(m, Message))]
    assert ends[-1] == len(data)
    found = []
    for i in range(1, len(ends)):
        first, last = ends[max(0, i - 2)], ends[min(len(ends) - 1, i + 1)]
        found.append((data[first:last], ends[i - 1] - first, ends[i] - first))
    return found


@pytest.mark.parametrize("name", SMALL)
def test_every_prefix_gives_records_and_tells_what_is_missing(name: str) -> None:
    stream = stream_of(samples.FIXTURES / name)
    cuts = ((window, cut) for window, start, end in windows(name) for cut in range(start, end))
    for window, cut in effort.sample(cuts):
        check_against_reference(stream, window[:cut])


@pytest.mark.parametrize("name", SMALL)
def test_every_changed_byte_gives_records_or_damage(name: str) -> None:
    stream = stream_of(samples.FIXTURES / name)
    places = ((window, at) for window, start, end in windows(name) for at in range(start, end))
    for window, at in effort.sample(places):
        changed = bytearray(window)
        changed[at] ^= (0x01, 0x80, 0xFF)[at % 3]
        check_against_reference(stream, bytes(changed))


@effort.examples(150)
@given(st.data())
def test_any_bytes_give_records_or_damage(data: st.DataObject) -> None:
    of, device = data.draw(st.sampled_from(LAYOUTS))
    stream = IplStream(of, device)
    junk = data.draw(st.binary(max_size=400))
    check_against_reference(stream, of.magic(device) + junk)


@pytest.mark.parametrize("name", SMALL[:6])
def test_splitting_at_record_borders_changes_nothing(name: str) -> None:
    dump = samples.FIXTURES / name
    data, stream = dump.read_bytes(), stream_of(dump)
    whole = [m for m in fresh(stream).split(data, True) if isinstance(m, Message)]
    records = [to_json(stream.decode(data, m)) for m in whole]
    for border in (m.end for m in whole):
        first = fresh(stream)
        parts = []
        for part, final in ((data[:border], False), (data[border:], True)):
            for item in first.split(part, final):
                assert isinstance(item, Message)
                parts.append(to_json(first.decode(part, item)))
        assert parts == records


def fresh(stream: IplStream) -> IplStream:
    stream.base = stream.used = 0
    return IplStream(stream.layout_value, stream.log)


# Names


@given(st.sampled_from(["flags 3", "flags 3.4.29", "flags 4", "flags 5", "lflags 3", "lflags 4",
                        "lflags 5", "lflags illumos"]), st.integers(0, 2**32 - 1))  # fmt: skip
def test_no_flag_bit_is_lost(table: str, value: int) -> None:
    names = ipl_names.bit_names(table, value)
    bits, commands = ipl_names._bits(table)
    numbers = {name: bit for bit, name in bits.items()} | {
        n: i for i, n in enumerate(commands) if n
    }
    total = 0
    for name in names:
        total |= name if isinstance(name, int) else numbers[name]
    assert total == value


def test_an_unknown_event_stays_a_number() -> None:
    dump = samples.FIXTURES / "ipl/v5-1-2-lp64le-statebits.state.bin"
    data, stream = dump.read_bytes(), stream_of(dump)
    events = {r.event for m in fresh(stream).split(data, True) if isinstance(m, Message)
              and isinstance(r := stream.decode(data, m), FlowRecord)}  # fmt: skip
    assert {"new", "clone", "statechange", 3, 65527} <= events


def test_messages_of_errors_name_offset_field_found_and_expected() -> None:
    dump = samples.FIXTURES / "ipl/damaged.bin"
    stream = ipl.stream("ipl-5.1.2-lp64le")
    damages = [d for d in stream.split(dump.read_bytes(), True) if isinstance(d, Damage)]
    assert [(d.offset, d.size) for d in damages] == [
        (336, 168), (1008, 168), (2016, 68), (10597, 118),
    ]  # fmt: skip
    error = damages[0].error
    assert (error.field, error.found, error.offset) == ("ipl_dsize", 0, 336)
    assert str(error) == (
        "ipl_dsize 0, but expected 168 (head, ipflog and fl_hlen) to 524288 at offset 336"
    )


def with_field(device: str, **changes: int) -> bytes:
    """The first record of a real dump with some fields changed."""
    name = {"ipf": "filter.ipf", "state": "state.all"}[device]
    dump = samples.FIXTURES / f"ipl/v5-1-2-lp64le-{name}.bin"
    data, stream = dump.read_bytes(), stream_of(dump)
    schema = stream.layout_value.schema(device)
    for item in fresh(stream).split(data, True):
        if isinstance(item, Message) and stream.message_log(data, item) == device:
            fields = schema.parse(data[item.start : item.end])
            fields.update(changes)
            return schema.build(fields)
    raise AssertionError


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ipl_count": 0}, "ipl_count"),
        ({"ipl_usec": 1_000_000}, "ipl_usec"),
        ({"ipl_sec": 2**40}, "ipl_sec"),
    ],
)
@pytest.mark.parametrize("device", ["ipf", "state"])
def test_a_record_that_no_kernel_writes_is_refused(
    device: str, changes: dict[str, int], field: str
) -> None:
    data = with_field(device, **changes)
    stream = ipl.stream("ipl-5.1.2-lp64le")
    (item,) = stream.split(data, True)
    assert isinstance(item, Message)
    with pytest.raises(DecodeError) as caught:
        stream.decode(data, item)
    assert caught.value.field == field


def test_a_name_that_is_not_utf8_stays_visible() -> None:
    data = with_field("ipf")
    data = data.replace(b"fxp0\0", b"f\xff\x1b0\0", 1)
    stream = ipl.stream("ipl-5.1.2-lp64le")
    (item,) = stream.split(data, True)
    assert isinstance(item, Message)
    record = stream.decode(data, item)
    assert isinstance(record, PacketRecord) and record.indev == "f\\xff\x1b0"
    assert b'"indev":"f\\\\xff\\u001b0"' in to_json(record)
