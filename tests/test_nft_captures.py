"""Captures of nftables keep what /proc said of the process that committed, beside its messages."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from nftkernel import Kernel, commit, listing, made

import pylog
from pylog import Reader, outputs
from pylog.backends.process import Process
from pylog.batch import Batch
from pylog.formats.pcap_blocks import NOTE, process_note
from pylog.record import RulesetRecord


class Watched(Kernel):
    """A kernel whose processes can be looked up."""

    def __init__(self, processes: list[Process | None]) -> None:
        pieces = [listing(2, "a")]
        pieces += [made(g, f"t{g}", g) + commit(g) for g in range(3, 3 + len(processes))]
        super().__init__(pieces, 3)
        self._processes = list(processes)

    def process(self, pid: int, comm: str) -> Process | None:
        assert (pid, comm) == (4711, "nft")
        return self._processes.pop(0)


KNOWN = [
    Process(1000, "nft -f 'a file'", "/user.slice"),
    None,
    Process(0, None, None),
    Process(None, "x" * 5000 + "\udcff", "/"),
]


def captured(processes: list[Process | None]) -> bytes:
    """A capture of commits by these processes."""
    written = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(written))
    with Reader(Watched(processes), raw=True) as reader:
        reader.pass_messages()
        output.write(Batch(list(reader)))
    output.close()
    return written.getvalue()


def whose(capture: bytes) -> list[tuple[int | None, str | None, str | None]]:
    """The process of each commit, which all its records have."""
    with pylog.open(io.BytesIO(capture)) as reader:
        found = [r for r in reader if isinstance(r, RulesetRecord) and r.via is None]
    pairs = list(zip(found[::2], found[1::2], strict=True))
    for entity, end in pairs:
        assert (entity.op, end.op) == ("new_table", "new_gen")
        assert (entity.uid, entity.cmdline, entity.cgroup) == (end.uid, end.cmdline, end.cgroup)
    return [(end.uid, end.cmdline, end.cgroup) for _, end in pairs]


def test_a_capture_says_whose_a_commit_is() -> None:
    shown = whose(captured(KNOWN))
    assert shown[:3] == [(1000, "nft -f 'a file'", "/user.slice"), (None, None, None),
                         (0, None, None)]  # fmt: skip
    uid, cmdline, cgroup = shown[3]
    assert (uid, cgroup) == (None, "/") and cmdline == "x" * 4093 + "..."


def test_a_capture_of_a_capture_says_the_same(tmp_path: Path) -> None:
    capture = captured(KNOWN)
    written = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(written))
    with pylog.open(io.BytesIO(capture), raw=True) as reader:
        reader.pass_messages()
        output.write(Batch(list(reader)))
    output.close()
    assert whose(written.getvalue()) == whose(capture)


def test_without_a_process_there_is_no_comment() -> None:
    assert process_note(None, None, None) is None
    assert NOTE + b"{" not in captured([None, None])


@pytest.mark.parametrize("uid", [b"-1", b"4294967296"])
def test_an_impossible_user_is_damage(uid: bytes) -> None:
    capture = captured([Process(1000000000, None, None)])
    assert b'{"uid":1000000000}' in capture
    changed = capture.replace(b'{"uid":1000000000}', b'{"uid":' + uid.rjust(10) + b"}")
    with pylog.open(io.BytesIO(changed)) as reader:
        records = list(reader)
    assert [r.uid for r in records if isinstance(r, RulesetRecord) and r.via is None] == [None] * 2
    assert reader.malformed == 1
