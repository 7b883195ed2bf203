"""The Decoder alone, without a file or a backend: bytes in, records and losses out."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import builders
import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog.decoder import Decoder
from pylog.detect import detect, stream_for
from pylog.errors import DecodeError
from pylog.formats import HEAD
from pylog.record import LossRecord, PacketRecord, Record

ROOT = Path(__file__).resolve().parents[1]
DUMPS = samples.dumps()
SMALL = [dump for dump in DUMPS if dump.stat().st_size < 1500]
MOST = 60_000
"""Of longer fixtures only so many bytes are decoded."""

IPL = samples.FIXTURES / "ipl/v5-1-2-lp64le-dup.ipf.bin"
DAMAGED = samples.FIXTURES / "ipl/damaged.bin"
NFLOG_DAMAGED = samples.FIXTURES / "nflog/damaged.bin"
CAPTURE = samples.FIXTURES / "capture/mergecap-two-hosts.pcapng"
LAYOUTS = {"ipl": "ipl-5.1.2-lp64le", "nflog": "nfulnl-le"}


def decoder_of(data: bytes, strict: bool = False) -> Decoder:
    """A decoder of the bytes, which it may look ahead in as a reader of a file does."""
    decoder = Decoder(detect(data[:HEAD], len(data) <= HEAD), strict=strict)
    decoder.peek = lambda offset, size: (data[offset : offset + size], offset + size >= len(data))
    return decoder


def fed(decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[Record]:
    """The records and losses of a log that comes in pieces."""
    for piece in [*pieces, b""]:
        decoder.feed(piece, final=not piece)
        while (record := decoder.next()) is not None:
            yield record
    while (loss := decoder.end()) is not None:
        yield loss


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(data: bytes) -> list[Record]:
    """The records of the same bytes, out of a file object."""
    with pylog.open(io.BytesIO(data)) as reader:
        return list(reader)


@pytest.mark.parametrize("dump", effort.sample(DUMPS, least=20), ids=samples.name)
def test_a_log_in_pieces_gives_what_its_file_gives(dump: Path) -> None:
    data = dump.read_bytes()[:MOST]
    with pylog.open(io.BytesIO(data)) as reader:
        records = list(reader)
    for size in (611, 4096, MOST):
        decoder = decoder_of(data)
        assert list(fed(decoder, pieces(data, size))) == records
        for name in ("received", "layout", "other"):
            assert getattr(decoder, name) == getattr(reader, name), name
        for name in ("malformed", "flaws", "cut_off"):
            assert getattr(decoder.damages, name) == getattr(reader, name), name
        assert decoder.losses.dropped == reader.dropped
        assert decoder.losses.uncounted == reader.uncounted


@pytest.mark.parametrize("dump", SMALL, ids=samples.name)
def test_a_log_that_comes_byte_by_byte_gives_what_its_file_gives(dump: Path) -> None:
    data = dump.read_bytes()
    assert list(fed(decoder_of(data), pieces(data, 1))) == read(data)


@effort.examples(100)
@given(st.sampled_from([IPL, DAMAGED, NFLOG_DAMAGED, CAPTURE]), st.data())
def test_where_a_log_is_cut_into_pieces_makes_no_difference(
    dump: Path, draw: st.DataObject
) -> None:
    data = dump.read_bytes()[:MOST]
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=30).map(sorted))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    assert list(fed(decoder_of(data), parts)) == read(data)


@effort.examples(200)
@given(st.sampled_from(sorted(LAYOUTS)), st.data())
def test_any_bytes_give_records_and_losses_that_cover_them_all(
    source: str, draw: st.DataObject
) -> None:
    good = {"ipl": IPL, "nflog": NFLOG_DAMAGED}[source].read_bytes()[:2000]
    part = st.binary(max_size=200) | st.builds(
        lambda a, b: good[a:b], st.integers(0, 2000), st.integers(0, 2000)
    )
    data = b"".join(draw.draw(st.lists(part, max_size=8)))
    size = draw.draw(st.integers(1, 700))
    decoder = Decoder(stream_for(LAYOUTS[source]), layout=LAYOUTS[source], raw=True)
    covered = 0
    for record in fed(decoder, pieces(data, size)):
        if isinstance(record, LossRecord):
            covered += record.size or 0
        else:
            assert record.offset == covered or decoder.other
            covered = (record.offset or 0) + len(record.raw or b"")
    assert covered == len(data) or decoder.other


def test_strict_decoding_ends_with_the_place_and_what_was_expected() -> None:
    data = IPL.read_bytes()
    broken = data[:168] + b"\xff" * 8 + data[176:]
    decoder = decoder_of(data, strict=True)
    decoder.feed(broken)
    assert isinstance(decoder.next(), PacketRecord)
    with pytest.raises(DecodeError) as caught:
        decoder.next()
    error = caught.value
    assert (error.offset, error.field, error.path) == (168, "ipl_magic", "input")
    assert error.found and error.expected and decoder.damages.error is error
    with pytest.raises(DecodeError):  # and again
        decoder.next()
    assert decoder.received == decoder.damages.malformed == 1


def test_a_gap_is_a_loss_before_the_record_that_shows_it() -> None:
    decoder = Decoder(stream_for("nfulnl-le"), layout="nfulnl-le")
    for number in (7, 8, 12):
        decoder.feed(builders.log("<", 5, [(12, number), (9, b"E")]))
        if number == 12:
            loss = decoder.next()
            assert isinstance(loss, LossRecord) and (loss.count, loss.seq) == (3, 9)
        record = decoder.next()
        assert record is not None and record.seq == number and decoder.next() is None
    assert decoder.received == 3 and decoder.losses.dropped == 3


def test_bytes_of_now_have_the_time_of_receipt_and_no_offset() -> None:
    decoder = Decoder(stream_for("nfulnl-le"), live=True, placed=False)
    decoder.feed(builders.log("<", 5, [(9, b"E")]), observed_ns=17)
    record = decoder.next()
    assert record is not None and (record.observed_ns, record.offset) == (17, None)


def test_messages_are_at_hand_one_by_one_until_their_records_are_taken() -> None:
    data = IPL.read_bytes()
    decoder = decoder_of(data)
    decoder.feed(data[:400])
    assert (decoder.queued, decoder.incomplete) == (336, 64)
    taken = []
    while (octets := decoder.message()) is not None:
        assert decoder.message() == octets
        assert decoder.next() is not None
        assert decoder.last_message() == octets and decoder.size == len(octets)
        taken.append(octets)
    assert b"".join(taken) == data[:336] and decoder.queued == 0
    decoder.feed(data[400:1000])
    before = decoder.queued
    assert decoder.discard() == before > 0 and decoder.next() is None
    assert decoder.received == 2


def test_what_is_at_hand_has_to_be_taken_before_more_is_fed() -> None:
    data = IPL.read_bytes()
    decoder = decoder_of(data)
    decoder.feed(data[:400])
    with pytest.raises(RuntimeError, match="take all records"):
        decoder.feed(data[400:])


@pytest.mark.parametrize("dump", [IPL, DAMAGED, NFLOG_DAMAGED], ids=samples.name)
def test_decoding_stops_before_an_offset_and_goes_on_from_there(dump: Path) -> None:
    data = dump.read_bytes()
    records = list(fed(decoder_of(data), [data]))
    for stop in range(0, len(data), len(data) // 40):
        decoder = decoder_of(data)
        decoder.stop = stop
        decoder.feed(data, final=True)
        before = list(iter(decoder.next, None))
        assert decoder.position >= stop
        rest = decoder_of(data)
        rest.losses = decoder.losses.resumed()
        rest.seek(decoder.position)
        assert before + list(fed(rest, [data[decoder.position :]])) == records


# Nobody steers another class by its underscore names


def classes() -> dict[str, tuple[str, ast.ClassDef]]:
    """The classes of pylog/*.py and pylog/table, by name."""
    found = {}
    for path in [*(ROOT / "pylog").glob("*.py"), *(ROOT / "pylog/table").glob("*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = path.name, node
    return found


def names_of_self(node: ast.AST, stored: bool) -> set[str]:
    """The underscore names of `self` that are set, or used, within a class."""
    return {
        a.attr
        for a in ast.walk(node)
        if isinstance(a, ast.Attribute)
        and isinstance(a.value, ast.Name)
        and a.value.id == "self"
        and a.attr.startswith("_")
        and not a.attr.startswith("__")
        and (isinstance(a.ctx, ast.Store) or not stored)
    }


@pytest.mark.parametrize("name", ["Decoder", "Input", "OpenLog", "Reader", "Replay", "Merged",
                                  "Bulk", "SplitReader"])  # fmt: skip
def test_a_class_uses_no_underscore_name_but_its_own(name: str) -> None:
    _, node = classes()[name]
    own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    own |= names_of_self(node, stored=True)
    assert names_of_self(node, stored=False) <= own


@pytest.mark.parametrize("path", sorted({path for path in (ROOT / "pylog").rglob("*.py")
                                         if not {"backends", "formats"} & set(path.parts)}),
                         ids=lambda path: str(path.relative_to(ROOT)))  # fmt: skip
def test_nobody_uses_an_underscore_name_of_a_decoder_or_an_input(path: Path) -> None:
    owners = {"decoder", "input", "_decoder", "_input", "bulk", "_bulk", "reader", "losses"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            of = node.value
            name = of.id if isinstance(of, ast.Name) else getattr(of, "attr", "")
            assert name not in owners, node.lineno


def test_tables_and_splits_are_no_readers() -> None:
    from pylog.reader import Reader
    from pylog.table.bulk import Bulk
    from pylog.table.splits import SplitReader

    assert not issubclass(Bulk, Reader) and not issubclass(SplitReader, Reader | Bulk)
