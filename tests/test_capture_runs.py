"""Captures of live NFLOG that are copied by runs have the records that live reading gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import pylog
from pylog import LossRecord, outputs
from pylog.cli import capture
from pylog.cli._runs import RunCopy
from pylog.cli._sources import Stopping
from pylog.outputs import pcapng
from pylog.outputs._files import OutputFiles
from pylog.reader import Reader
from pylog.testing import Nflog, packet
from pylog.transports.rotation import Files


def fill(nflog: Nflog) -> Iterator[None]:
    """Packets of two groups and interfaces, with a gap; what is between yields comes together."""
    for number in range(30):
        if number == 12:
            nflog.lose(3)
        nflog.log(packet(dport=number, indev="eth0", data=bytes(number)))
        if number % 4 == 0:
            nflog.log(packet(dport=number, outdev="lo"), group=6)
            yield


def captured(
    path: Path, given: Callable[[Nflog], Iterator[None]], by_runs: bool, **options: Any
) -> tuple[tuple[Any, ...], list[Any], int]:
    """The counts of a capture of what the double logs, what is read of it, and how many records
    were copied by runs.
    """
    files = Files(str(path), "number")
    output = OutputFiles(files, lambda file: pcapng.Output(outputs.Target(file.stream)))
    in_runs = 0
    with (
        Nflog(interfaces=("lo", "eth0", "ppp7")) as nflog,
        nflog.open("5,6", raw=True, **options) as reader,
        mock.patch("time.time_ns", return_value=1_700_000_000_000_000_000),
    ):
        assert isinstance(reader, Reader)
        runs = RunCopy.of(reader) if by_runs else None
        assert (runs is not None) == by_runs
        for _ in given(nflog):
            with contextlib.suppress(TimeoutError):
                while True:
                    count = None if runs is None else runs.write(output, 0.0)
                    in_runs += count or 0
                    if count is None:
                        capture._write(output, reader.read_raw(0.0))
        reader.stop()
        with Stopping() as stopping:
            capture._copy(reader, output, None, None, stopping)
        counts = reader.received, reader.dropped, reader.uncounted
    output.close()
    with pylog.open(path) as read:
        return (*counts, output.records), [*map(_without_offset, read)], in_runs


def _without_offset(record: Any) -> Any:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record).__name__, {**fields, "offset": None}


@pytest.mark.parametrize("options", [{"latency": True}, {}, {"seq": False}], ids=str)
def test_runs_are_read_as_what_is_copied_message_by_message(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    *by_runs, in_runs = captured(tmp_path / "runs.pcapng", fill, True, **options)
    *singly, none = captured(tmp_path / "singly.pcapng", fill, False, **options)
    assert by_runs == singly and not none
    assert bool(in_runs) == options.get("seq", True)
    counts, records = singly
    losses = [fields["count"] for kind, fields in records if kind == LossRecord.__name__]
    assert losses == ([3] if options.get("seq", True) else [None])
    assert counts[0] == len(records) - 1


def test_names_of_interfaces_are_those_of_the_time_of_receipt(tmp_path: Path) -> None:
    def given(nflog: Nflog) -> Iterator[None]:
        for device in ("eth0", "ppp7", "eth0"):
            nflog.log(packet(indev=device))
            yield

    _, records, in_runs = captured(tmp_path / "x.pcapng", given, True, latency=True)
    assert [fields["indev"] for _, fields in records] == ["eth0", "ppp7", "eth0"]
    assert in_runs == 3
