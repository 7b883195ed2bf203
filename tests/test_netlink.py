"""Several netlink formats: each gets its own messages, and a clash is an error."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import builders
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, LossRecord, backends, discover
from pylog.batch import Batch
from pylog.detect import detect
from pylog.formats import Message, ipl, netlink_stream, nfulnl, registry
from pylog.formats.netlink import (
    ARPHRD_NETLINK,
    LINK_HEADER,
    NETLINK_NETFILTER,
    OCTETS,
    Table,
    align,
    build,
    scan,
)
from pylog.formats.netlink_stream import Layouts, NetlinkStream, name_of
from pylog.formats.pcap_blocks import interface_block, packet_block, section_block
from pylog.formats.registry import Registry
from pylog.record import PacketRecord, Record, Row

ATTRIBUTES: Table = {1: ("TOY_NUMBER", OCTETS), 2: ("TOY_REST", OCTETS)}
TOY_SUBSYSTEM = 6
"""That of ipset, which no format reads."""
TOY_MSG_NEW, TOY_MSG_GET = TOY_SUBSYSTEM << 8, TOY_SUBSYSTEM << 8 | 1
OTHER = 3 << 8
"""A message of NFQUEUE, which no format reads."""


class ToyStream(NetlinkStream):
    """All that another netlink format has to write."""

    source = "toy"
    types = frozenset((TOY_MSG_NEW,))
    noun = "toy message"

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.layout = name_of("toy", order)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, origin = message.start, message.origin
        parts = scan(data, start + 20, message.end, self.order, self.base)
        values = {number: data[at:stop] for number, at, stop in parts}
        if 1 not in values:
            raise self.error(start, "TOY_NUMBER", "none", "4 bytes")
        return PacketRecord(
            self.source, self.layout, None if self.live else self.base + start,
            observed_ns=self.observed_ns if origin is None else origin.observed_ns,
            mark=int.from_bytes(values[1]), raw=self.raw(data, message) if raw else None,
        )  # fmt: skip


def toy() -> ModuleType:
    """The toy as a format module."""
    made = ModuleType("toy")
    layouts = Layouts("toy", ToyStream)
    made.__dict__.update(
        NAME="toy", LINKTYPES=(), LOOKED_FOR="", SUBSYSTEM=TOY_SUBSYSTEM, STREAM=ToyStream,
        stream=layouts.stream, layout_names=layouts.layout_names, probe=layouts.probe,
        cut=layouts.cut, resumes=layouts.resumes, resume=layouts.resume,
        captured_layout=lambda packet, linktype, offset: "toy-le",
        capture=netlink_stream.capture, described=netlink_stream.described,
        interface_numbers=lambda message, layout: {},
        scrub=lambda message, layout, scrubber: message,
    )  # fmt: skip
    return made


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    every = registry.collect()
    monkeypatch.setattr(registry, "collect", lambda: [*every, toy()])
    registry.registered.cache_clear()
    registry.resuming.cache_clear()
    yield
    monkeypatch.undo()
    registry.registered.cache_clear()
    registry.resuming.cache_clear()


def message(order: str, kind: str, number: int) -> bytes:
    """A message of a kind, padded as a datagram is."""
    if kind == "nflog":
        head = [(1, {"hw_protocol": 0x800, "hook": 1}), (2, number)]
        made = builders.log(order, 5, head, family=2)
    else:
        nlmsg_type = {"toy": TOY_MSG_NEW, "other": OTHER, "config": TOY_MSG_GET, "ack": 2}[kind]
        made = build(ATTRIBUTES, order, nlmsg_type, 0, [(1, number.to_bytes(4))])
    return made + bytes(-len(made) % 4)


def capture(order: str, datagrams: list[bytes], description: str = "") -> bytes:
    """An nlmon capture."""
    head = LINK_HEADER.build(
        {"sll_pkttype": 4, "sll_hatype": ARPHRD_NETLINK, "sll_protocol": NETLINK_NETFILTER}
    )
    packets = [packet_block(head + data, 10**18 + n) for n, data in enumerate(datagrams)]
    return section_block() + interface_block(253, description=description) + b"".join(packets)


def read(data: bytes, layout: str | None = None) -> tuple[list[Record], int]:
    """The records, and how many messages had none."""
    with pylog.open(io.BytesIO(data), raw=True, layout=layout) as reader:
        return list(reader), reader.other


def told(records: Sequence[Record | Row]) -> list[tuple[str, int | None]]:
    return [(r.source, getattr(r, "mark", None)) for r in records]


KINDS = st.lists(st.sampled_from(("nflog", "toy", "other", "config", "ack")), max_size=12)
both = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@both
@given(st.sampled_from("<>"), KINDS, st.integers(1, 4))
def test_a_mixed_capture_gives_each_format_its_own_messages(
    with_toy: None, order: str, kinds: list[str], size: int
) -> None:
    kinds = ["nflog", *kinds, "toy"]
    messages = [message(order, kind, n) for n, kind in enumerate(kinds)]
    datagrams = [b"".join(messages[i : i + size]) for i in range(0, len(messages), size)]
    records, other = read(capture(order, datagrams))
    expected = [(kind, n) for n, kind in enumerate(kinds) if kind in ("nflog", "toy")]
    assert told(records) == expected and other == len(kinds) - len(expected)
    assert [r.layout for r in records] == [
        name_of({"nflog": "nfulnl"}.get(kind, kind), order) for kind, _ in expected
    ]
    assert [r.raw for r in records] == [messages[n] for _, n in expected]


@both
@given(st.sampled_from("<>"), KINDS, st.integers(1, 60))
def test_a_mixed_dump_gives_each_format_its_own_messages(
    with_toy: None, order: str, kinds: list[str], cut: int
) -> None:
    kinds = ["nflog", "toy", *kinds, "toy"]
    messages = [message(order, kind, n) for n, kind in enumerate(kinds)]
    data = b"".join(messages)
    records, other = read(data)
    expected = [(kind, n) for n, kind in enumerate(kinds) if kind in ("nflog", "toy")]
    assert told(records) == expected and other == len(kinds) - len(expected)
    offsets = [sum(map(len, messages[:n])) for _, n in expected]
    assert [r.offset for r in records] == offsets
    # however the bytes come, and with damage, nothing is lost but what the damage covers
    detection = detect(data, True)
    assert detection.container == "netlink" and detection.layouts == [name_of("netlink", order)]
    stream, found = detection.stream(), list[tuple[str, int | None]]()
    pending = b""
    for at in range(0, len(data), cut):
        pending += data[at : at + cut]
        final = at + cut >= len(data)
        items = [i for i in stream.split(pending, final) if isinstance(i, Message)]
        batch = list[Record | Row]()
        stream.records(pending, items, False, batch)
        found += told(batch)
        pending = pending[stream.used :]
    assert found == expected and not pending
    assert align(len(data)) == len(data)


def test_damage_in_a_mixed_dump_costs_the_damaged_message_alone(with_toy: None) -> None:
    messages = [message("<", kind, n) for n, kind in enumerate(("nflog", "toy") * 4)]
    broken = messages[3][:4] + b"\xff\xff" + messages[3][6:]
    records, _ = read(b"".join([*messages[:3], broken, *messages[4:]]))
    (loss,) = (r for r in records if isinstance(r, LossRecord))
    assert loss.size == len(broken) and loss.source == "netlink"
    assert [n for _, n in told(records)] == [0, 1, 2, None, 4, 5, 6, 7]


def test_a_named_layout_reads_that_format_alone(with_toy: None) -> None:
    messages = [message("<", kind, n) for n, kind in enumerate(("nflog", "toy", "nflog"))]
    records, other = read(capture("<", messages), "toy-le")
    assert told(records) == [("toy", 1)] and other == 2
    records, other = read(capture("<", messages), "netlink-le")
    assert told(records) == [("nflog", 0), ("toy", 1), ("nflog", 2)] and other == 0
    records, other = read(b"".join(messages), "netlink-le")
    assert told(records) == [("nflog", 0), ("toy", 1), ("nflog", 2)] and other == 0


def test_a_capture_that_was_written_again_has_the_messages_of_both(with_toy: None) -> None:
    from pylog.outputs import Target, pcapng

    messages = [message("<", kind, n) for n, kind in enumerate(("nflog", "toy", "nflog"))]
    records, _ = read(capture("<", messages))
    stream = io.BytesIO()
    output = pcapng.Output(Target(stream), machine=False)
    output.write(Batch(records))
    output.close()
    again, _ = read(stream.getvalue())
    assert sorted(told(again)) == sorted(told(records))


def test_without_another_format_a_capture_of_nlmon_is_of_nflog() -> None:
    messages = [message("<", kind, n) for n, kind in enumerate(("nflog", "other", "nflog"))]
    data = capture("<", messages)
    records, other = read(data)
    assert told(records) == [("nflog", 0), ("nflog", 2)] and other == 1
    assert detect(data, True).layouts == ["nfulnl-le"]


# Claims


def changed(module: Any, **names: Any) -> Any:
    """The format module under another name, with some names changed."""
    return SimpleNamespace(**(vars(module) | {"__name__": "zother", "NAME": "zother"} | names))


class Elsewhere(ToyStream):
    source = "elsewhere"


@pytest.mark.parametrize(
    ("module", "claim"),
    [
        (changed(ipl, NAME="nfulnl", LINKTYPES=(147,)), "format name 'nfulnl'"),
        (changed(ipl), "link type 116"),
        (changed(toy(), LINKTYPES=(253,), STREAM=Elsewhere), "link type 253"),
        (changed(toy(), SUBSYSTEM=4), "netlink subsystem 4"),
        (changed(ipl, LINKTYPES=(147,)), "source 'ipl'"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_two_formats_that_claim_the_same_are_an_error_that_names_both(
    module: Any, claim: str, first: bool
) -> None:
    every = registry.collect()
    with pytest.raises(ValueError, match=f"both claim the {claim}") as caught:
        Registry([module, *every] if first else [*every, module])
    assert "zother and " in str(caught.value) or " and zother " in str(caught.value)
    assert "pylog.formats." in str(caught.value)


@pytest.mark.parametrize(
    "name", ["NAME", "LOOKED_FOR", "STREAM", "probe", "cut", "stream", "layout_names", "scrub",
             "capture", "captured_layout", "described", "interface_numbers"]
)  # fmt: skip
def test_a_format_that_lacks_something_is_refused(name: str) -> None:
    module = toy()
    delattr(module, name)
    with pytest.raises(ValueError, match=rf"toy lacks {name}, see NetlinkFormat in pylog\.formats"):
        Registry([*registry.collect(), module])


def test_the_formats_that_there_are_claim_nothing_twice() -> None:
    found = Registry(registry.collect())
    assert {n: m.NAME for n, m in found.by_subsystem.items()} == {
        1: "nfct",
        2: "nfct",
        4: "nfulnl",
        7: "nfct",
        10: "nftables",
    }
    assert {found.by_linktype[t].NAME for t in (253, 113, 276)} == {"netlink"}
    assert registry.linktypes(nfulnl) == (239, 253, 113, 276)


def test_two_backends_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    every = backends.modules().values()
    second = changed(backends.modules()["ipl"], NAME="nflog")
    monkeypatch.setattr(backends, "_collected", lambda: discover.Collected([*every, second], {}))
    with pytest.raises(ValueError, match=r"backends\.nflog and zother both claim .* 'nflog'"):
        backends.modules.__wrapped__()
    del second.checks
    with pytest.raises(ValueError, match="zother lacks checks, see BackendModule"):
        discover.check(second, lambda module: discover.lacking(module, backends.BackendModule))


def test_bytes_that_are_no_message_are_an_error_of_the_format() -> None:
    with pytest.raises(DecodeError, match="nlmsg_type"):
        ToyStream("<").measure(message("<", "other", 1), 0)
