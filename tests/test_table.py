"""Tables hold what a Reader gives: the same rows in the same order, whatever the input."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import itertools
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import builders
import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.compute as pc
import tables
from tables import agree, small_pieces

import pylog
from pylog.backends import capture
from pylog.batch import Batch
from pylog.formats import Message, ipl, pcap_blocks
from pylog.formats.netlink import nlmsghdr
from pylog.formats.pcap_stream import PcapStream
from pylog.outputs import Target, pcapng
from pylog.table import bulk, schema
from pylog.table.bulk import Bulk
from pylog.table.select import Selection


@pytest.mark.parametrize("dump", effort.sample(samples.dumps(), least=25), ids=samples.name)
def test_a_table_has_the_rows_that_a_reader_gives(dump: Path) -> None:
    agree(dump.read_bytes())


ORIGINS = samples.origins()
RAW = [
    dump for dump in samples.dumps("*/*.bin")
    if 1000 < dump.stat().st_size < 60000 and "2.x" not in ORIGINS[samples.name(dump)]
]  # fmt: skip


@effort.examples(400)
@given(st.data())
def test_a_table_of_a_damaged_log_has_the_rows_that_a_reader_gives(data: st.DataObject) -> None:
    dump = data.draw(st.sampled_from(RAW), label="dump")
    damaged = data.draw(st.composite(tables.spliced)(dump.read_bytes()), label="damaged")
    layout = ORIGINS[samples.name(dump)]["layout"]
    with small_pieces() if data.draw(st.booleans()) else contextlib.nullcontext():
        agree(damaged, layout)


PAYLOADS = tables.payloads()

PLAIN = next(p for p in PAYLOADS if p[0] == 0x45 and p[9] == 6 and not p[7] and len(p) >= 40)
"""TCP, whole and no fragment."""


@st.composite
def nflog_messages(draw: st.DrawFn, order: str) -> bytes:
    """A netlink message, as the kernel may write it, or nearly so."""
    if draw(st.integers(0, 9)) == 0:  # NLMSG_DONE
        return nlmsghdr(order).build({"nlmsg_len": 20, "nlmsg_type": 3}) + bytes(4)
    family = draw(st.sampled_from((2, 2, 2, 10, 7, 5, 3, 1, 99)))
    payload = draw(st.sampled_from(PAYLOADS))
    ethertype = 0x86DD if payload[0] >> 4 == 6 else 0x800
    if draw(st.integers(0, 3)) == 0:  # the length in the header: of TSO, BIG TCP, padding...
        at = 4 if ethertype == 0x86DD else 2
        stated = draw(st.sampled_from((0, 20, 39, 40, 59, 60, 61, 0xFFFF))).to_bytes(2)
        payload = payload[:at] + stated + payload[at + 2 :]
    number = st.integers(0, 2**32 - 1)
    hook = {"hw_protocol": draw(st.sampled_from((ethertype, ethertype, 0, 0x806, 0x8100))),
            "hook": draw(st.integers(0, 6))}  # fmt: skip
    link = b"abcdefghijkl" + draw(st.sampled_from((hook["hw_protocol"], 0x800, 40))).to_bytes(2)
    if draw(st.integers(0, 3)) == 0:
        payload = draw(st.sampled_from((link, b"abcdefghijklmn"))) + payload
    elif hook["hw_protocol"] == 0x8100:
        payload = draw(st.sampled_from((b"\0\7\x08\0", b"\0\7\x81\0\0\0\x86\xdd"))) + payload
    tci = {"nla_type": 2, "value": draw(st.sampled_from((0, 7)))}
    tag = {"nla_type": 1, "value": 0x8100}
    vlan = draw(st.sampled_from(([tci, tag], [tag, tci], [tci], [tag, tag])))
    time = {"sec": draw(st.integers(0, 2**34)), "usec": draw(st.integers(0, 1_000_001))}
    hwaddr = {
        "hw_addrlen": draw(st.integers(0, 9)),
        "hw_addr": draw(st.binary(min_size=8, max_size=8)),
    }
    attributes = [
        (1, hook), (2, draw(number)), (3, time), (4, draw(st.integers(1, 3))),
        (5, draw(st.integers(1, 3))), (6, 4), (7, 5), (8, hwaddr),
        (10, draw(st.sampled_from((b"drop \0", b"accept\0", b"", b"x" * 20, b"\xff#\0")))),
        (11, draw(number)), (12, draw(st.integers(0, 5))), (13, draw(number)), (14, 0), (15, 1),
        (16, draw(st.sampled_from((b"", b"abcdefghijklmn", b"abcdefghijklmo", b"0123456789")))),
        (17, draw(st.sampled_from((0, 10, 14)))), (19, 2), (20, vlan),
        (21, draw(st.sampled_from((b"abcdefghijklmn", link, b"")))), (77, b"new"),
        (9, payload[: draw(st.sampled_from((0, 19, 24, 33, 40, 48, 60, 9999)))]),
    ]  # fmt: skip
    usual = draw(
        st.sampled_from(({19, 77}, {13, 20, 21, 77}, {2, 6, 7, 13, 19, 20, 21, 77}, {20}, set()))
    )
    left_out = usual | draw(st.sets(st.sampled_from([a[0] for a in attributes]), max_size=3))
    chosen = [(n, value) for n, value in attributes if n not in left_out]
    if draw(st.integers(0, 3)) == 0:
        chosen = draw(st.permutations(chosen))
    if draw(st.integers(0, 19)) == 0:
        chosen.append(draw(st.sampled_from(chosen + attributes)))  # one that comes again
    return builders.log(order, draw(st.integers(5, 6)), chosen, family=family)


@effort.examples(200)
@given(st.data())
def test_a_table_of_any_nflog_messages_has_the_rows_that_a_reader_gives(
    data: st.DataObject,
) -> None:
    order = data.draw(st.sampled_from("<>"))
    messages = data.draw(st.lists(nflog_messages(order), min_size=1, max_size=60))
    damaged = data.draw(st.composite(tables.spliced)(b"".join(messages)))
    with small_pieces() if data.draw(st.booleans()) else contextlib.nullcontext():
        agree(damaged, "nfulnl-le" if order == "<" else "nfulnl-be")


def changed(message: bytes) -> list[bytes]:
    """The message with a byte changed, each in a few ways, and cut everywhere; or some of these."""
    found = [
        message[:i] + bytes([value]) + message[i + 1 :]
        for i in range(len(message))
        for value in (0, 0xFF, message[i] ^ 0x80, message[i] ^ 1)
    ]
    return effort.sample([*found, *(message[:i] for i in range(len(message)))])


@pytest.mark.parametrize("name", ["ipl-5.1.2-lp64le", "ipl-3.4.35-lp64le", "ipl-3.3-ilp32be"])
def test_every_byte_of_a_record_is_heeded(name: str) -> None:
    dumps = [n for n, o in ORIGINS.items() if o["layout"] == name and ".ipf." in n]
    data = (samples.FIXTURES / (dumps or ["ipl/v33-ilp32be-ipf.bin"])[0]).read_bytes()
    stream = ipl.stream(name)
    first, second = (i for i in stream.split(data, True)[:2] if isinstance(i, Message))
    good, other = data[first.start : first.end], data[second.start : second.end]
    with small_pieces():
        agree(b"".join(good + variant + good * 2 for variant in changed(other)), name)


@pytest.mark.parametrize("order", "<>")
def test_every_byte_of_a_message_is_heeded(order: str) -> None:
    hwaddr = {"hw_addrlen": 6, "hw_addr": b"\2\0\0\0\0\1\0\0"}
    good = builders.log(order, 5, [
        (1, {"hw_protocol": 0x800, "hook": 1}), (10, b"drop \0"), (4, 2), (2, 7), (8, hwaddr),
        (15, 1), (17, 14), (16, b"abcdefghijklmn"), (3, {"sec": 1700000000, "usec": 5}), (11, 0),
        (12, 9), (9, PLAIN),
    ], family=2)  # fmt: skip
    layout = "nfulnl-le" if order == "<" else "nfulnl-be"
    with small_pieces():
        agree(b"".join(good + variant + good * 2 for variant in changed(good)), layout)


def agree_or_refuse(data: bytes, layout: str | None) -> None:
    """As `agree`, of data that may be no log, or none of that layout."""
    try:
        tables.streamed(data, layout)
    except (pylog.DecodeError, ValueError) as error:
        with pytest.raises(type(error)):
            pylog.read_table(io.BytesIO(data), layout=layout)
        return
    agree(data, layout)


def captured(dump: Path) -> bytes:
    """The messages of a raw dump as `pylog capture` writes them."""
    file = io.BytesIO()
    output = pcapng.Output(Target(file), machine=False)
    with pylog.open(dump, raw=True) as reader:
        for record in reader:
            output.write(Batch([record]))
    output.close()
    return file.getvalue()


NFLOG_DUMPS = samples.dumps("nflog/*.bin")


@pytest.mark.parametrize("dump", effort.sample(NFLOG_DUMPS, least=5), ids=samples.name)
def test_a_table_of_a_capture_has_the_rows_that_a_reader_gives(dump: Path) -> None:
    data = captured(dump)
    agree(data)
    with small_pieces():
        agree(data)


@functools.cache
def captures() -> list[bytes]:
    """Captures that are not long."""
    found = [captured(dump) for dump in NFLOG_DUMPS]
    found += [dump.read_bytes() for dump in samples.dumps("nflog/*.pcap*")]
    return [capture for capture in found if len(capture) < 60000]


@effort.examples(200)
@given(st.data())
def test_a_table_of_a_damaged_capture_has_the_rows_that_a_reader_gives(
    data: st.DataObject,
) -> None:
    capture = data.draw(st.sampled_from(captures()))
    damaged = data.draw(st.composite(tables.spliced)(capture))
    with small_pieces():
        agree_or_refuse(damaged, data.draw(st.sampled_from((None, None, "nfulnl-le"))))


def interface(
    order: str, linktype: int, layout: str, note: pcap_blocks.Note, resolution: int, offset_s: int
) -> bytes:
    """An interface of pcapng whose clock counts as if_tsresol and if_tsoffset say."""
    block = pcap_blocks.interface_block(
        linktype, description=layout, comment=note.comment(), order=order
    )
    options = block[8:-12] + bytes([resolution]) + block[-11:-8]
    if offset_s:
        options += struct.pack(f"{order}HHq", pcap_blocks.IF_TSOFFSET, 8, offset_s)
    size = struct.pack(f"{order}I", len(options) + 16)
    return block[:4] + size + options + bytes(4) + size


def repeated(draw: st.DrawFn, *values: st.SearchStrategy[Any]) -> Iterator[tuple[Any, ...]]:
    """A few of each of the values in many combinations, after a number below 100."""
    few = [draw(st.lists(value, min_size=1, max_size=8)) for value in values]
    chance = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 60))):
        yield chance.randrange(100), *(chance.choice(some) for some in few)


@st.composite
def sections(draw: st.DrawFn) -> bytes:
    """A section of pcapng with NFLOG messages, as some program may write it, or nearly so."""
    order = draw(st.sampled_from("<>"))
    parts = [pcap_blocks.section_block(order=order)]
    interfaces = st.builds(
        interface, st.just(order), st.sampled_from((239, 239, 239, 239, 1, 253)),
        st.sampled_from(("", "nfulnl-le", "nfulnl-be", "eth0")),
        st.builds(pcap_blocks.Note, unobserved=st.booleans()),
        st.sampled_from((9, 9, 9, 9, 6, 0, 3, 10, 0x80 | 10)), st.sampled_from((0, 0, 0, 5, -5)),
    )  # fmt: skip
    usual = interface(order, 239, "", pcap_blocks.Note(), 9, 0)
    parts += draw(st.lists(st.one_of(st.just(usual), interfaces), min_size=1, max_size=4))
    chosen = st.sampled_from([0, *range(len(parts) - 1)])
    times = st.one_of(
        st.integers(2**60, 2**60 + 5), st.sampled_from((0, 2**63 - 1, 2**63, 2**64 - 1))
    )
    names = st.dictionaries(
        st.integers(1, 3), st.sampled_from(("eth0", "eth1", None)), min_size=1, max_size=2
    )
    for what, number, message, time_ns in repeated(draw, chosen, nflog_messages(order), times):
        options: dict[str, Any] = {}
        if what == 0:
            options["dropped"] = 3
        elif what == 1:
            options["comments"] = [pcap_blocks.Note(interfaces=draw(names)).comment()]
        elif what == 2:
            options["length"] = len(message)
        elif what == 3:
            number = len(parts)
        elif what == 4:
            message = draw(nflog_messages("<>"[order == "<"]))
        elif what == 5:
            message = message[: draw(st.integers(16, 40))]
        parts.append(pcap_blocks.packet_block(
            message[16:], time_ns, interface=number, order=order, **options
        ))  # fmt: skip
    return b"".join(parts)


@st.composite
def pcaps(draw: st.DrawFn) -> bytes:
    """A pcap of NFLOG messages, as some program may write it, or nearly so."""
    order, nanoseconds = draw(st.sampled_from("<>")), draw(st.booleans())
    linktype = draw(st.sampled_from((239, 239, 239, 253, 1)))
    parts = [builders.pcap_header(linktype, order=order, nanoseconds=nanoseconds)]
    sender = draw(st.sampled_from("<>"))
    times = st.one_of(st.integers(2**60, 2**60 + 5), st.just(2**32 * 10**9 - 1))
    for what, message, time_ns in repeated(draw, nflog_messages(sender), times):
        length = None
        if what == 0:
            length = len(message)
        elif what == 1:
            message = draw(nflog_messages("<>"[sender == "<"]))
        elif what == 2:
            message = message[: draw(st.integers(16, 40))]
        parts.append(builders.pcap_packet(
            message[16:], time_ns, length=length, order=order, nanoseconds=nanoseconds
        ))  # fmt: skip
    return b"".join(parts)


@effort.examples(250)
@given(st.data())
def test_a_table_of_any_capture_has_the_rows_that_a_reader_gives(data: st.DataObject) -> None:
    captures = st.one_of(pcaps(), st.lists(sections(), min_size=1, max_size=3).map(b"".join))
    capture = data.draw(captures)
    if data.draw(st.booleans()):
        capture = data.draw(st.composite(tables.spliced)(capture))
    layout = data.draw(st.sampled_from((None, None, None, "nfulnl-le", "nfulnl-be")))
    stretch = data.draw(st.sampled_from((256, 1024)))
    with small_pieces(), mock.patch.object(bulk, "STRETCH", stretch):
        agree_or_refuse(capture, layout)


MESSAGE = builders.log("<", 5, [
    (1, {"hw_protocol": 0x800, "hook": 1}), (10, b"drop \0"), (4, 2), (12, 9), (9, PLAIN),
], family=2)  # fmt: skip

UNNUMBERED = builders.log("<", 5, [
    (1, {"hw_protocol": 0x800, "hook": 1}), (10, b"drop \0"), (4, 2), (9, PLAIN),
], family=2)  # fmt: skip


@pytest.mark.parametrize("order", "<>")
def test_every_byte_of_a_captured_packet_is_heeded(order: str) -> None:
    good = builders.pcap_packet(MESSAGE[16:], 2**60, order=order)
    data = builders.pcap_header(239, order=order) + good * 20
    with small_pieces():
        agree(data + b"".join(good + variant + good * 2 for variant in changed(good)))


@pytest.mark.parametrize("order", "<>")
def test_every_byte_of_a_captured_block_is_heeded(order: str) -> None:
    good = pcap_blocks.packet_block(MESSAGE[16:], 2**60, interface=1, order=order)
    data = pcap_blocks.section_block(order=order)
    data += interface(order, 239, "", pcap_blocks.Note(unobserved=True), 6, 0)
    data += interface(order, 239, "", pcap_blocks.Note(), 9, 0) + good * 20
    with small_pieces():
        agree(data + b"".join(good + variant + good * 2 for variant in changed(good)))


@pytest.mark.parametrize(("layout", "resolution", "offset_s"), [
    ("nfulnl-be", 9, 0), ("nfulnl-le", 6, 0), ("", 0, 0), ("", 3, 0), ("", 10, 0),
    ("", 0x80 | 9, 0), ("", 0x80 | 10, 0), ("", 9, 5), ("", 9, -5),
])  # fmt: skip
def test_each_interface_has_its_layout_and_its_clock(
    layout: str, resolution: int, offset_s: int
) -> None:
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    data += interface("<", 239, layout, pcap_blocks.Note(), resolution, offset_s)
    for i in range(90):
        data += pcap_blocks.packet_block(MESSAGE[16:], 2**30 + 7 * i, interface=i // 3 % 2)
    with small_pieces():
        agree(data)


def test_each_packet_of_an_interface_without_a_layout_tells_its_own_byte_order() -> None:
    either = MESSAGE[16:20] + b"\x08\x08\x00\x01" + bytes(0x0808 - 4)
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    for body in (MESSAGE[16:], either, MESSAGE[16:]):
        data += pcap_blocks.packet_block(body, 2**60) * 20
    with small_pieces():
        agree(data)


@pytest.mark.parametrize(("begun", "packet"), [
    (builders.pcap_header(239), builders.pcap_packet(MESSAGE[16:], 2**60)),
    (pcap_blocks.section_block() + pcap_blocks.interface_block(239),
     pcap_blocks.packet_block(MESSAGE[16:], 2**60)),
], ids=["pcap", "pcapng"])  # fmt: skip
def test_a_capture_may_end_within_a_packet(begun: bytes, packet: bytes) -> None:
    with small_pieces():
        for end in effort.sample(range(0, len(packet), 3)):
            agree(begun + packet * 20 + packet[:end])


def test_no_packet_of_pcap_is_longer_than_a_reader_believes() -> None:
    good = builders.pcap_packet(MESSAGE[16:], 2**60) * 1000
    long = MESSAGE[16:] + (b"\x60\xea\x4d\x00" + bytes(59996)) * 5
    agree(builders.pcap_header(239) + good + builders.pcap_packet(long, 2**60) + good)


def test_an_interface_has_the_name_that_the_log_gave_it_at_that_time() -> None:
    """Each log in a capture may tell other names, and later other ones again."""
    data = pcap_blocks.section_block()
    data += pcap_blocks.interface_block(239) + pcap_blocks.interface_block(239)
    for n, name in enumerate(("eth0", "eth1", None, "eth0")):
        comment = pcap_blocks.Note(interfaces={2: name}).comment()
        data += pcap_blocks.packet_block(MESSAGE[16:], 2**60, interface=n % 2, comments=[comment])
        data += b"".join(
            pcap_blocks.packet_block(MESSAGE[16:], 2**60 + i, interface=i % 2) for i in range(60)
        )
    with small_pieces():
        agree(data)
        found = pylog.read_table(io.BytesIO(data), columns=["indev"]).column(0).to_pylist()
    assert found[-60:] == ["#2", "eth0"] * 30


@pytest.mark.parametrize("capture", ["pcap", "pcapng"])
def test_captures_are_read_many_packets_at_a_time(capture: str) -> None:
    if capture == "pcap":
        data = builders.pcap_header(239)
        data += builders.pcap_packet(UNNUMBERED[16:], 2**60) * 5000
    else:
        data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
        data += pcap_blocks.packet_block(UNNUMBERED[16:], 2**60) * 5000
    seen = []
    split = PcapStream.split

    def counted(stream: PcapStream, data: bytes, final: bool) -> list[Any]:
        seen.append(len(data))
        return split(stream, data, final)

    with mock.patch.object(PcapStream, "split", counted):
        assert pylog.read_table(io.BytesIO(data)).num_rows == 5000
    assert sum(seen) < len(data) / 2


def test_an_attribute_of_zeros_is_another_thing_than_none() -> None:
    optional = [(2, 0), (4, 0), (5, 0), (6, 0), (7, 0), (10, b""), (11, 0), (13, 0), (15, 0),
                (16, b""), (17, 0)]  # fmt: skip
    head = (1, {"hw_protocol": 0x800, "hook": 0})
    agree(b"".join(
        builders.log("<", 0, [head, *chosen, (9, PLAIN)], family=2)
        for n in range(3)
        for chosen in itertools.combinations(optional, n)
    ), "nfulnl-le")  # fmt: skip


def test_losses_are_told_of_each_log_by_its_numbers() -> None:
    numbers = [(5, 2**32 - 2), (6, 7), (5, 2**32 - 1), (5, 0), (6, 8), (5, 1), (6, 11), (5, 5),
               (5, 4), (6, None), (6, 12), (7, 3), (7, 3), (5, 5), (6, 2**31 + 20)]  # fmt: skip
    data = b"".join(
        builders.log("<", group, [
            (1, {"hw_protocol": 0x800, "hook": 1}),
            *([] if seq is None else [(12, seq)]),
            (9, PLAIN),
        ], family=2)
        for group, seq in numbers
    )  # fmt: skip
    agree(data * 3, "nfulnl-le")
    lost = pylog.read_table(io.BytesIO(data), kind="loss", layout="nfulnl-le")
    assert lost.select(["log", "seq", "count"]).to_pylist() == [
        {"log": "6", "seq": 9, "count": 2}, {"log": "5", "seq": 2, "count": 3},
    ]  # fmt: skip


def test_a_log_within_a_logged_packet_is_not_read() -> None:
    """The walks begin wherever something looks like a message; what counts is the first walk."""
    inner = (samples.FIXTURES / "ipl/v5-1-2-lp64le-bits.ipf.bin").read_bytes()
    first = inner[: int.from_bytes(inner[32:40], "little")]
    layout = ipl.stream("ipl-5.1.2-lp64le")
    plan = layout.layout_value.plan("ipf")
    fields = dict(zip(plan.names, plan.unpack(first, 0), strict=True))
    packet = first[plan.size :] + inner
    head = fields | {"ipl_dsize": plan.size + len(packet), "fl_hlen": 40,
                     "fl_plen": (len(packet) - 40) & 0xFFFF}  # fmt: skip
    log = (plan.pack(head) + packet + inner) * 3
    with small_pieces():
        agree(log, layout.layout)
    nested = builders.log(
        "<",
        5,
        [
            (1, {"hw_protocol": 0x800, "hook": 1}),
            (12, 1),
            (
                9,
                PAYLOADS[-1]
                + b"".join(
                    builders.log(
                        "<", 5, [(1, {"hw_protocol": 0x800, "hook": 1}), (12, n), (9, PAYLOADS[n])]
                    )
                    for n in range(60)
                ),
            ),
        ],
    )
    with small_pieces():
        agree(nested * 5, "nfulnl-le")


def test_files_are_read_in_pieces_as_file_objects_are(tmp_path: Path) -> None:
    data = (samples.FIXTURES / "nflog/batch.bin").read_bytes() * 5  # some windows
    (tmp_path / "log").write_bytes(data)
    (tmp_path / "log.gz").write_bytes(gzip.compress(data))
    with small_pieces():
        found = [
            tables.plain(pylog.read_table(source))
            for source in (tmp_path / "log", tmp_path / "log.gz", io.BytesIO(data))
        ]
    assert found[0] == found[1] == found[2]
    assert found[0] == tables.rows(tables.streamed(data), "packet", schema().names)


def test_strict_reading_gives_what_came_before_the_damage() -> None:
    dump = samples.FIXTURES / "ipl/damaged.bin"
    found = []
    with pytest.raises(pylog.DecodeError, match="ipl_dsize 0"):
        for batch in pylog.iter_batches(dump, on_error="strict"):
            found += batch.to_pylist()
    assert [row["offset"] for row in found] == [0, 168]


def test_batches_have_about_as_many_rows_as_asked_for() -> None:
    data = (samples.FIXTURES / "nflog/batch.bin").read_bytes() * 200
    with mock.patch.object(bulk, "MIN_WINDOW", 1):
        sizes = [b.num_rows for b in pylog.iter_batches(io.BytesIO(data), rows=1000)]
    assert sum(sizes) == 16000 and all(500 <= size <= 8000 for size in sizes[:-1])


def test_columns_come_in_the_order_asked_for_and_filters_may_name_others() -> None:
    wanted = (pc.field("protocol") == 6) & (pc.field("family") == "ipv4")
    table = pylog.read_table(
        samples.FIXTURES / "nflog/seq.bin", columns=["dport", "saddr"], where=wanted
    )
    records = tables.streamed((samples.FIXTURES / "nflog/seq.bin").read_bytes())
    assert table.column_names == ["dport", "saddr"]
    assert table.to_pylist() == [
        {"dport": r.dport, "saddr": r.saddr}
        for r in records
        if isinstance(r, pylog.PacketRecord) and r.protocol == 6 and r.family == "ipv4"
    ]


def test_a_filter_may_name_text_columns() -> None:
    wanted = pc.field("saddr") == "10.1.1.1"
    dump = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
    table = pylog.read_table(dump, columns=["saddr"], where=wanted)
    assert set(table.column("saddr").to_pylist()) == {"10.1.1.1"}


@pytest.mark.parametrize(("given", "told"), [
    ({"columns": ["nothing"]}, "no column .nothing. of packet .*pylog help columns lists all"),
    ({"kind": "packets"}, "no kind of record 'packets'; there are packet, flow, loss"),
    ({"where": pc.field("nothing") == 1}, "nothing"),
    ({"columns": []}, "columns is \\[\\], but must be a list of one or more names, each once"),
    ({"columns": "dport"}, "columns is 'dport', but must be a list"),
    ({"columns": ["dport", "dport"]}, "each once"),
    ({"paths": "nflog:5"}, "nflog:5 is live: tables are made of files"),
])  # fmt: skip
def test_what_there_is_not_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pylog.read_table(**{"paths": samples.FIXTURES / "nflog/seq.bin", **given})


def test_several_logs_are_one_table_and_one_schema() -> None:
    logs = [samples.FIXTURES / "nflog/seq.bin", samples.FIXTURES / "ipl/damaged.bin"]
    whole = pylog.read_table(logs, origin=False)
    assert whole.schema == schema()
    assert pa.concat_tables([pylog.read_table(log) for log in logs]).to_pylist() == (
        whole.to_pylist()
    )


@pytest.mark.parametrize("dump", [
    "ipl/v5-1-2-lp64le-nat.all.bin", "ipl/damaged.bin", "nflog/batch.bin", "nflog/damaged.bin",
])  # fmt: skip
def test_two_parts_make_the_whole_and_the_left_tells_where_the_right_begins(dump: str) -> None:
    path = samples.FIXTURES / dump
    with pylog.open(path) as reader:
        layout = reader.layout
    whole = tables.plain(pylog.read_table(path))
    for cut in effort.sample(range(0, path.stat().st_size + 100, 97)):
        with Bulk(capture.connect(path, {})[0], layout=layout, stop=cut) as left:
            before = packets(left)
        assert left.end >= min(cut, path.stat().st_size)
        with Bulk(capture.Part(path, left.end), layout=layout, start=left.end) as right:
            assert before + packets(right) == whole


def packets(bulk: Bulk) -> list[dict[str, Any]]:
    """The rows of the packets, in their order."""
    batches = [batch for _, batch in bulk.batches({"packet": Selection("packet")})]
    return tables.plain(pa.Table.from_batches(batches, schema()))
