"""NFLOG messages: round trips, the fast reader against construct, odd and bad messages."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import builders
import effort
import pytest
import samples
from builders import parse
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, PacketRecord, to_json
from pylog.formats import Damage, Message, nfulnl, nfulnl_attributes
from pylog.formats.netlink import (
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    nlmsgerr,
    nlmsghdr,
    to_dict,
)

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
VALUES: dict[int, st.SearchStrategy[Any]] = {
    1: st.fixed_dictionaries({"hw_protocol": U16, "hook": U8}),
    3: st.fixed_dictionaries({"sec": U64, "usec": U64}),
    8: st.fixed_dictionaries(
        {"hw_addrlen": U16, "hw_addr": st.binary(min_size=8, max_size=8)}
    ),
    **dict.fromkeys((2, 4, 5, 6, 7, 11, 12, 13, 14, 19), U32),
    **dict.fromkeys((15, 17), U16),
    **dict.fromkeys((9, 16, 21, 30, 0x3FFF), st.binary(max_size=60)),
    10: st.binary(max_size=60).map(lambda b: b.replace(b"\0", b"")),
    20: st.just([{"nla_type": 2, "value": 100}, {"nla_type": 1, "value": 0x8100}]),
    18: st.just([{"nla_type": 0x8001, "value": [
        {"nla_type": 0x8001, "value": [{"nla_type": 1, "value": b"\1\2\3\4"}]}]},
        {"nla_type": 3, "value": 0x8E}, {"nla_type": 99, "value": b"new"}]),
}  # fmt: skip
ATTRS = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda n: st.tuples(st.just(n), VALUES[n])), max_size=9
)
ORDERS = st.sampled_from("<>")


@given(ORDERS, U16, U8, ATTRS)
def test_parse_of_build_is_the_same(order: str, group: int, family: int, attrs: Any) -> None:
    data = builders.log(order, group, attrs, family=family, seq=9)
    message = builders.log_message(order).parse(data)
    assert message.nlmsghdr.nlmsg_len == len(data) and message.nlmsghdr.nlmsg_seq == 9
    assert (message.nfgenmsg.res_id, message.nfgenmsg.nfgen_family) == (group, family)
    assert len(message.attributes) == len(attrs)
    for attribute, (number, value) in zip(message.attributes, attrs, strict=True):
        assert attribute.nla_type == number
        assert same(attribute.value, value)
    assert builders.log_message(order).build(message) == data


def same(parsed: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return all(parsed[name] == part for name, part in value.items())
    if isinstance(value, list):
        return all(p.nla_type == v["nla_type"] and same(p.value, v["value"])
                   for p, v in zip(parsed, value, strict=True))  # fmt: skip
    return bool(parsed == value)


CONFIG_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "NFULA_CFG_CMD": U8,
    "NFULA_CFG_MODE": st.fixed_dictionaries({"copy_range": U32, "copy_mode": U8}),
    "NFULA_CFG_NLBUFSIZ": U32,
    "NFULA_CFG_TIMEOUT": U32,
    "NFULA_CFG_QTHRESH": U32,
    "NFULA_CFG_FLAGS": U16,
}


@given(ORDERS, U16, st.fixed_dictionaries({}, optional=CONFIG_VALUES))
def test_config_messages_are_built_and_parsed(order: str, group: int, attrs: Any) -> None:
    data = nfulnl_attributes.config(order, group, attrs, flags=5, seq=3)
    message = builders.config_message(order).parse(data)
    assert message.nlmsghdr.nlmsg_type == 0x0401 and message.nlmsghdr.nlmsg_flags == 5
    names = [nfulnl_attributes.CONFIG[a.nla_type][0] for a in message.attributes]
    assert names == list(attrs)
    assert all(same(a.value, v) for a, v in zip(message.attributes, attrs.values(), strict=True))


def test_a_bind_message_has_the_bytes_that_the_kernel_expects() -> None:
    attrs = {
        "NFULA_CFG_CMD": nfulnl_attributes.NFULNL_CFG_CMD_BIND,
        "NFULA_CFG_MODE": {"copy_range": 128, "copy_mode": nfulnl_attributes.NFULNL_COPY_PACKET},
        "NFULA_CFG_FLAGS": nfulnl_attributes.NFULNL_CFG_F_SEQ,
    }
    assert nfulnl_attributes.config("<", 5, attrs, flags=5, seq=1).hex(" ", 4) == (
        "30000000 01040500 01000000 00000000 00000005 05000100 01000000"
        " 0a000200 00000080 02000000 06000600 00010000"
    )


# The stream


def stream_of(data: bytes, order: str = "<") -> tuple[nfulnl.NfulnlStream, list[Any]]:
    stream = nfulnl.NfulnlStream(order)
    return stream, stream.split(data, True)


def records(data: bytes, order: str = "<") -> list[PacketRecord]:
    stream, items = stream_of(data, order)
    assert all(isinstance(item, Message) for item in items)
    found = [stream.decode(data, item) for item in items]
    return [record for record in found if isinstance(record, PacketRecord)]


def log(order: str = "<", **attrs: Any) -> bytes:
    numbers = {
        name.removeprefix("NFULA_").lower(): n
        for n, (name, _) in nfulnl_attributes.ATTRIBUTES.items()
    }
    return builders.log(
        order, 5, [(numbers[name], value) for name, value in attrs.items()], family=2
    )


HDR = {"hw_protocol": 0x800, "hook": 1}


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_say_the_same(order: str) -> None:
    (record,) = records(log(order, packet_hdr=HDR, mark=7, prefix=b"x: ", uid=2**32 - 1), order)
    assert (record.hook, record.direction, record.group) == ("input", "in", "5")
    assert (record.mark, record.prefix, record.uid) == (7, "x: ", 2**32 - 1)
    assert record.layout == ("nfulnl-le" if order == "<" else "nfulnl-be")


@pytest.mark.parametrize("order", "<>")
def test_done_error_and_config_messages_are_no_records(order: str) -> None:
    done = nlmsghdr(order).build({"nlmsg_len": 20, "nlmsg_type": NLMSG_DONE}) + bytes(4)
    ack = nlmsghdr(order).build({"nlmsg_len": 36, "nlmsg_type": NLMSG_ERROR}) + nlmsgerr(
        order
    ).build({"error": -1, "msg": {"nlmsg_len": 28, "nlmsg_type": 0x401}})
    config = nfulnl_attributes.config(order, 5, {"NFULA_CFG_CMD": 1})
    one = log(order, packet_hdr=HDR)
    stream, items = stream_of(one + one + done + ack + config + one, order)
    assert len(items) == 3 and stream.other == 3
    assert parse(nlmsgerr(order), ack[16:]).error == -1


def unpadded(message: bytes, cut: int) -> bytes:
    """The message as a kernel would send it that does not pad its last attribute."""
    return (len(message) - cut).to_bytes(4, "little") + message[4 : len(message) - cut]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_lengths_that_are_no_multiple_of_4(size: int) -> None:
    message = log(packet_hdr=HDR, payload=b"E" * (4 + size))
    odd = unpadded(message, 4 - size)
    pad = bytes(4 - size)
    for data in (odd, odd + pad, odd + pad + odd + pad, odd + odd, odd + message, message + odd):
        found = records(data)
        assert len(found) == (1 if len(data) < 50 else 2)
        assert all(r.payload == b"E" * (4 + size) for r in found)


def test_unknown_and_repeated_attributes_are_kept() -> None:
    attrs = [(1, HDR), (77, b"\1\2"), (2, 5), (2, 6), (0x4000 | 2, 7)]
    (record,) = records(builders.log("<", 5, attrs, family=2))
    assert record.mark == 5
    assert record.extra and record.extra["unknown"] == [
        [77, "0102"], [2, "00000006"], [2, "00000007"],
    ]  # fmt: skip


def test_unknown_hooks_and_families_stay_numbers() -> None:
    (record,) = records(builders.log("<", 5, [(1, {"hw_protocol": 0x88B5, "hook": 9})], family=44))
    assert (record.hook, record.direction, record.family) == (9, None, 0x88B5)


def test_an_empty_prefix_is_absent_and_bytes_stay_visible() -> None:
    (empty, odd) = records(log(prefix=b"") + log(prefix=b"\xffA\x1b["))
    assert empty.prefix is None
    assert odd.prefix == "\\xffA\x1b["


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m[:20] + b"\x03\0" + m[22:], "nla_len"),
        (lambda m: m[:20] + b"\xff\xff" + m[22:], "nla_len"),
        (lambda m: m[:20] + b"\x06\0" + m[22:], "NFULA_PACKET_HDR"),
        (lambda m: m + b"\x02\0\0\0", "nla_len"),
        (lambda m: m + b"\0\0", "nlattr"),
    ],
)
def test_attribute_lengths_that_lie_are_told(change: Any, field: str) -> None:
    message = change(log(packet_hdr=HDR, mark=1))
    message = len(message).to_bytes(4, "little") + message[4:]
    stream, items = stream_of(message)
    (item,) = (i for i in items if isinstance(i, Message))
    with pytest.raises(DecodeError) as caught:
        stream.decode(message, item)
    assert caught.value.field == field


def test_a_nested_length_that_lies_is_told() -> None:
    good = log(packet_hdr=HDR, ct=[{"nla_type": 0x8001, "value": []}, {"nla_type": 8, "value": 1}])
    bad = good.replace(b"\x08\0\x08\0", b"\xf0\0\x08\0")
    stream, items = stream_of(bad)
    with pytest.raises(DecodeError, match="nla_len 240"):
        stream.decode(bad, items[0])


def test_a_number_above_2_to_the_53_is_text() -> None:
    from pylog.formats import nfct_attributes

    schema = attributes(nfct_attributes.CTA, "<")
    data = schema.build([{"nla_type": 9, "value": [{"nla_type": 1, "value": 2**60}]}])
    entry = to_dict(nfct_attributes.CTA, data, 0, len(data), "<", 0)
    assert entry == {"CTA_COUNTERS_ORIG": {"CTA_COUNTERS_PACKETS": str(2**60)}}


def test_padding_in_a_conntrack_entry_is_no_attribute() -> None:
    """Before each value of 64 bits, where a machine cannot read them unaligned."""
    from pylog.formats import nfct_attributes

    def attribute(number: int, value: bytes = b"") -> bytes:
        head = (4 + len(value)).to_bytes(2, "little") + number.to_bytes(2, "little")
        return head + value + bytes(-len(value) % 4)

    eight = (1_700_000_000 * 10**9).to_bytes(8)
    counters = attribute(5) + attribute(1, bytes(7) + b"\7") + attribute(5) + attribute(2, bytes(8))
    times = attribute(3) + attribute(1, eight)
    dccp = attribute(0x8002, attribute(4) + attribute(3, bytes(8)))
    data = attribute(0x8009, counters) + attribute(0x8014, times) + attribute(0x8004, dccp)
    data += attribute(3) + attribute(27, eight) + attribute(3, b"\0\0\0\x08")
    assert nfct_attributes.entry(data, 0, len(data), "<", 0) == {
        "CTA_COUNTERS_ORIG": {"CTA_COUNTERS_PACKETS": 7, "CTA_COUNTERS_BYTES": 0},
        "CTA_TIMESTAMP": {"CTA_TIMESTAMP_START": "1700000000000000000"},
        "CTA_PROTOINFO": {"CTA_PROTOINFO_DCCP": {"CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ": 0}},
        "CTA_TIMESTAMP_EVENT": "1700000000000000000",
        "CTA_STATUS": ["CONFIRMED"],
    }


def test_the_numbers_of_conntrack_attributes_are_the_kernels() -> None:
    from pylog.formats import nfct_attributes

    header = Path("/usr/include/linux/netfilter/nfnetlink_conntrack.h")
    if not header.exists():
        pytest.skip("needs the kernel's headers (linux-libc-dev)")
    numbers: dict[str, int] = {}
    for body in re.findall(r"enum \w+ \{(.*?)\};", header.read_text(), re.S):
        names = re.findall(r"^\s*(\w+)(?:\s*=\s*\w+)?,", re.sub(r"/\*.*?\*/", "", body), re.M)
        aliases = set(re.findall(r"(\w+)\s*=", body))
        numbers |= {name: i for i, name in enumerate(n for n in names if n not in aliases)}
    newer = {"CTA_TIMESTAMP_EVENT"}

    def check(table: Any) -> int:
        checked = 0
        for number, (name, kind) in table.items():
            if name not in newer or name in numbers:
                assert numbers[name] == number, name
                checked += 1
            checked += check(kind) if isinstance(kind, dict) else 0
        return checked

    assert check(nfct_attributes.CTA) > 60


# hw_protocol 0: what is logged is said by the family, the link header or the packet

IPV4 = bytes.fromhex(
    "450000280001000040060000c0000201c6336402ac72232800000001000000005018020000000000"
)
IPV6 = bytes.fromhex("600000000008113f20010db800000000000000000000000120010db8000000000000000000000"
                     "0020035003500080000")  # fmt: skip
ARP = bytes.fromhex("000108000604000102000000000ac00002010000000000 00c0000202".replace(" ", ""))
ETHERNET = bytes.fromhex("02000000000b02000000000a")


@pytest.mark.parametrize("hw_protocol", [0, None])
@pytest.mark.parametrize(("family", "hook", "link", "payload", "found"), [
    (2, 3, None, IPV4, "ipv4"), (10, 3, None, IPV6, "ipv6"), (3, 0, None, ARP, "arp"),
    (7, 3, None, IPV4, "ipv4"), (7, 3, None, IPV6, "ipv6"), (1, 3, None, IPV4, "ipv4"),
    (0, 1, None, IPV6, "ipv6"), (5, 0, None, IPV4, "ipv4"),
    (7, 3, ETHERNET + b"\x08\6", ARP, "arp"), (5, 0, ETHERNET + b"\x86\xdd", IPV6, "ipv6"),
    (7, 3, ETHERNET + b"\x81\0", b"\0\x64\x08\0" + IPV4, "ipv4"),
    (5, 1, None, ETHERNET + b"\x08\0" + IPV4, "ipv4"),
    (5, 1, ETHERNET + b"\x86\xdd", ETHERNET + b"\x86\xdd" + IPV6, "ipv6"),
    (3, 1, None, ETHERNET + b"\x08\6" + ARP, "arp"),
    (7, 3, None, b"\x42\x42\x03" + bytes(40), None), (5, 0, None, b"\xff" * 40, None),
])  # fmt: skip
def test_a_protocol_of_0_is_not_said(
    hw_protocol: int | None, family: int, hook: int, link: bytes | None, payload: bytes,
    found: str | None,
) -> None:  # fmt: skip
    if hw_protocol is None and hook == 1 and family in (3, 5):
        return  # without NFULA_PACKET_HDR the hook is not said either
    attrs: list[tuple[int, Any]] = [] if link is None else [(21, link)]
    if hw_protocol is not None:
        attrs.insert(0, (1, {"hw_protocol": hw_protocol, "hook": hook}))
    data = builders.log("<", 5, [*attrs, (9, payload)], family=family)
    for stream in (nfulnl.NfulnlStream("<"), nfulnl.NfulnlStream(">")):
        if stream.order == ">":
            data = builders.log(">", 5, [*attrs, (9, payload)], family=family)
        data += bytes(-len(data) % 4)
        records: list[Any] = []
        for _ in range(3):  # what was seen before is remembered
            items = [item for item in stream.split(data, True) if isinstance(item, Message)]
            stream.records(data, items, False, records)
        record = records[0]
        assert record.family == found
        if found is not None and found != "arp":
            ends = ("192.0.2.1", "198.51.100.2")
            assert (record.saddr, record.daddr) == (
                ends if found == "ipv4" else ("2001:db8::1", "2001:db8::2")
            )
        for name in ("family", "saddr", "protocol", "payload", "hwheader", "vlan", "extra"):
            assert len({repr(getattr(record, name)) for record in records}) == 1


def test_without_a_payload_only_the_family_is_said() -> None:
    for family, found in ((2, "ipv4"), (10, "ipv6"), (3, "arp"), (7, None), (5, None)):
        attrs = [(1, {"hw_protocol": 0, "hook": 3})]
        data = builders.log("<", 5, attrs, family=family)
        record = nfulnl.NfulnlStream("<").decode(data, Message(0, len(data)))
        assert isinstance(record, PacketRecord) and record.family == found


# The reference and bad bytes


def check_against_reference(data: bytes) -> None:
    stream, items = stream_of(data)
    covered = 0
    for item in items:
        if isinstance(item, Damage):
            covered += item.size
            continue
        raw = data[item.start : item.end]
        covered += len(raw)
        try:
            reference = parse(builders.log_message("<"), raw)
        except DecodeError:
            reference = None
        try:
            record = stream.decode(data, item)
        except DecodeError:
            # what construct takes may still break a rule of a nested or a time attribute
            continue
        assert reference is not None, raw.hex()
        to_json(record)
        assert isinstance(record, PacketRecord)
        values: dict[int, Any] = {}
        for attribute in reference.attributes:
            values.setdefault(attribute.nla_type & 0x3FFF, attribute.value)
        assert record.mark == values.get(2) and record.seq == values.get(12)
        assert record.uid == values.get(11) and record.indev == values.get(4)
        assert record.group == str(reference.nfgenmsg.res_id)
    assert covered <= len(data)


BATCH = samples.FIXTURES / "nflog/batch.bin"


def messages() -> list[bytes]:
    """The messages of a real batch, each with the one after it."""
    data = BATCH.read_bytes()
    starts = [m.start for m in nfulnl.NfulnlStream("<").split(data, True) if isinstance(m, Message)]
    return [data[a:b] for a, b in zip(starts, [*starts[2:], len(data)], strict=False)]


def test_every_prefix_of_the_messages_of_a_real_batch() -> None:
    prefixes = (data[:end] for data in messages()[::4] for end in range(len(data)))
    for data in effort.sample(prefixes):
        check_against_reference(data)


def test_every_changed_byte_of_the_messages_of_a_real_batch() -> None:
    places = ((data, at) for data in messages()[::4] for at in range(len(data)))
    for data, at in effort.sample(places):
        changed = bytearray(data)
        changed[at] ^= (0x01, 0x80, 0xFF)[at % 3]
        check_against_reference(bytes(changed))


@given(st.binary(max_size=300), ORDERS)
def test_any_bytes_give_records_or_damage(junk: bytes, order: str) -> None:
    head = nlmsghdr(order).build({"nlmsg_len": 16 + len(junk), "nlmsg_type": 0x400})
    stream, items = stream_of(head + junk + junk, order)
    for item in items:
        if isinstance(item, Message):
            try:
                to_json(stream.decode(head + junk + junk, item))
            except DecodeError:
                continue


@pytest.mark.parametrize("dump", samples.dumps("nflog/*.bin"), ids=samples.name)
def test_real_messages_are_built_again_byte_for_byte(dump: Path) -> None:
    data = dump.read_bytes()
    stream = nfulnl.NfulnlStream("<")
    schema = builders.log_message("<")
    for item in stream.split(data, True):
        if isinstance(item, Message):
            raw = data[item.start : item.end]
            try:
                parsed = parse(schema, raw)
            except DecodeError:
                assert "damaged" in dump.name
                continue
            assert schema.build(parsed) == raw


def test_an_overrun_message_is_a_loss_of_unknown_size() -> None:
    overrun = nlmsghdr("<").build({"nlmsg_len": 16, "nlmsg_type": 4})
    with pylog.open(io.BytesIO(log(packet_hdr=HDR) + overrun + log(packet_hdr=HDR))) as reader:
        _, loss, _ = list(reader)
    assert isinstance(loss, pylog.LossRecord)
    assert loss.count is None and loss.reason == "NLMSG_OVERRUN"


def test_a_false_message_of_a_thousand_attributes_is_given_up_early() -> None:
    trap = (0x30024).to_bytes(4, "little") + b"\0\4" + bytes(2) + b"\4\0" + bytes(2)
    stream = nfulnl.NfulnlStream("<")
    scanned = 0
    real = stream._attribute

    def counted(data: Any, at: int = 0) -> tuple[Any, ...]:
        nonlocal scanned
        scanned += 1
        return real(data, at)

    stream._attribute = counted
    data = b"\xff" * 8 + trap * 2000
    stream.split(data, True)
    assert scanned <= 64 * 2000


def test_damage_keeps_nothing_alive() -> None:
    _stream, items = stream_of(b"\xff" * 40 + log(packet_hdr=HDR))
    assert isinstance(items[0], Damage) and items[0].error.__traceback__ is None
