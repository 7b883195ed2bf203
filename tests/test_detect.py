"""What an input is, and what it is not."""

from __future__ import annotations

import io

import pytest
import samples

import pylog
from pylog import DecodeError
from pylog.detect import detect

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"


def test_the_answer_has_evidence_and_what_else_would_fit() -> None:
    data = (samples.FIXTURES / "ipl/v4-1-35-lp64le-filter.ipf.bin").read_bytes()
    found = detect(data, True)
    assert found.container == "raw" and found.layouts[0] == "ipl-4.1-lp64le"
    assert "61 of 61 IPv4 header checksums right" in found.evidence
    assert any(name == "ipl-5.0.3-lp64le" for name, _, _ in found.rivals)


@pytest.mark.parametrize("size", [1, 3, 100, 1000, 300_000])
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"IPLM", b"MLPI", b"text of a log\n"])
def test_what_is_no_log_is_refused_with_what_was_looked_for(fill: bytes, size: int) -> None:
    with pytest.raises(DecodeError) as caught:
        pylog.open(io.BytesIO((fill * size)[:size]))
    error = caught.value
    assert "IPFilter records (the magic" in error.details and error.expected == "a firewall log"
    assert "\n" not in str(error) and "magic" not in str(error) and error.advice in str(error)


def test_an_empty_input_is_no_log_unless_the_layout_is_named() -> None:
    with pytest.raises(DecodeError, match="is empty"):
        pylog.open(io.BytesIO(b""))
    with pylog.open(io.BytesIO(b""), layout="ipl-5.1.2-lp64le") as reader:
        assert list(reader) == []


@pytest.mark.parametrize("name", ["ipl/v2x-lp64be-ipf.bin", "ipl/v31-ilp32le-ipf.bin"])
def test_without_a_magic_three_records_are_needed(name: str) -> None:
    data = (samples.FIXTURES / name).read_bytes()
    with pylog.open(io.BytesIO(data)) as reader:
        ends = [r.offset for r in reader]
        layout = reader.layout
    assert pylog.open(io.BytesIO(data[: ends[3]])).layout == layout
    with pytest.raises(DecodeError):
        pylog.open(io.BytesIO(data[: ends[2]]))
    with pylog.open(io.BytesIO(data[: ends[2]]), layout=layout) as reader:
        assert len(list(reader)) == 2


def test_one_record_with_a_magic_is_enough() -> None:
    data = FILTER.read_bytes()
    with pylog.open(io.BytesIO(data[:168])) as reader:
        assert reader.layout == "ipl-5.1.2-lp64le" and len(list(reader)) == 1


def test_a_named_layout_is_taken_without_question() -> None:
    with pylog.open(FILTER, layout="ipl-5.0.6-lp64le") as reader:
        assert reader.layout == "ipl-5.0.6-lp64le"
        assert len(list(reader)) == 61
    with pylog.open(FILTER, layout="ipl-5.1.2-lp64be") as reader:
        (loss,) = list(reader)
    assert isinstance(loss, pylog.LossRecord) and loss.size == FILTER.stat().st_size


@pytest.mark.parametrize("device", ["nat", "state", "ipf"])
def test_a_named_3x_layout_finds_out_the_log(device: str) -> None:
    name = {"ipf": "filter.ipf", "nat": "nat.nat", "state": "state.state"}[device]
    dump = samples.FIXTURES / f"ipl/v3435-lp64le-{name}.bin"
    for layout in ("ipl-3.4.35-lp64le", f"ipl-3.4.35-lp64le:{device}"):
        with pylog.open(dump, layout=layout) as reader:
            assert pylog.json_lines(reader) == samples.golden(dump)


def test_a_layout_that_does_not_exist_is_the_callers_error() -> None:
    with pytest.raises(ValueError, match="ipl-VERSION-ABI"):
        pylog.open(FILTER, layout="ipl-7-vax")


def test_two_layouts_that_explain_the_same_bytes_differently_are_an_error() -> None:
    # one state record with a time of 0 and sequence number 0: ILP32 5.x, or 4.1 with 64-bit time
    from pylog.formats.ipl_layouts import layout

    schema = layout("5.1.2", "ilp32le").schema("state")
    fields = {
        "ipl_magic": 0x49504C53, "ipl_count": 1, "ipl_seqnum": 7, "ipl_sec": 0, "ipl_usec": 0,
        "ipl_dsize": schema.sizeof(), "ipl_next": 0, "isl_pkts": [0] * 4, "isl_bytes": [0] * 4,
        "isl_src": bytes(16), "isl_dst": bytes(16), "isl_tag": 0, "isl_type": 0,
        "isl_ps": bytes(4), "isl_v": 4, "isl_p": 0, "isl_flags": 0, "isl_state": bytes(2),
        "isl_rulen": 0, "isl_group": bytes(16),
    }  # fmt: skip
    data = schema.build(fields)
    names = r"ipl-5\.1\.2-ilp32le or ipl-4\.1-ilp32le-time64.*--layout"
    with pytest.raises(DecodeError, match=names):
        pylog.open(io.BytesIO(data))


def test_a_valid_start_is_enough_whatever_follows() -> None:
    data = FILTER.read_bytes()
    with pylog.open(io.BytesIO(data + bytes(200_000))) as reader:
        records = list(reader)
    assert reader.received == 61 and reader.malformed == 1
    assert isinstance(records[-1], pylog.LossRecord) and records[-1].size == 200_000


def test_a_layout_that_no_packet_of_a_capture_has_is_refused() -> None:
    capture = samples.FIXTURES / "nflog/tcpdump.pcap"
    with pytest.raises(ValueError, match=r"ipl-5\.1\.2-lp64le: it has 239 \(NFLOG\)"):
        pylog.open(capture, layout="ipl-5.1.2-lp64le")
    with pylog.open(capture, layout="nfulnl-le") as reader:
        assert len(list(reader)) == 827


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ipl-5.1.2-lp64le:foo", "has no log 'foo'"),
        ("ipl-2.x-lp64le:nat", "has no log 'nat'"),
        ("nfulnl", "nfulnl-le and nfulnl-be"),
        ("vax", "names are as ipl-.*nfulnl-le .pylog help layouts"),
    ],
)
def test_the_error_is_about_the_family_that_was_meant(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pylog.open(FILTER, layout=name)
