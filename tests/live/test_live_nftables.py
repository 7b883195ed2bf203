"""Records of the source nftables on the running kernel: they lead to what nft lists."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import effort
import netlab
import nftprograms
import pytest

import pylog
from pylog import LossRecord, PacketRecord, Reader, Record
from pylog.backends.nft_trace_rule import TraceRule
from pylog.formats.nft_model import Model
from pylog.formats.nft_trace_rule import Match
from pylog.record import RulesetRecord, TraceRecord, to_json

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        yield made


def read(reader: Reader, wait_s: float = 0.3) -> list[Record]:
    """The records that come until none has come for a while."""
    found: list[Record] = []
    with contextlib.suppress(TimeoutError):
        while (record := reader.read(timeout=wait_s)) is not None:
            found.append(record)
    return found


def read_to(reader: Reader, generation: int) -> list[Record]:
    """The records up to that commit."""
    found: list[Record] = []
    while True:
        record = reader.read(timeout=10)
        assert record is not None
        found.append(record)
        if generation in commits([record]):
            return found


def ruleset(found: list[Record]) -> list[RulesetRecord]:
    """The records of the ruleset, without that of a snapshot that is empty."""
    every = (record for record in found if isinstance(record, RulesetRecord))
    return [record for record in every if (record.op, record.via) != ("new_gen", "snapshot")]


def losses(found: list[Record]) -> list[LossRecord]:
    return [record for record in found if isinstance(record, LossRecord)]


def commits(found: list[Record]) -> list[int | None]:
    return [record.generation for record in ruleset(found) if record.op == "new_gen"]


def apply(model: Model, found: list[Record]) -> None:
    for record in ruleset(found):
        model.apply(record)
    model.finish()


@pytest.mark.parametrize("number", range(effort.number(40, 3)))
def test_records_lead_to_what_nft_lists_after_every_transaction(
    namespace: netlab.Namespace, number: int
) -> None:
    chance = effort.chance("programs", number)
    before = [nftprograms.transaction(chance, nftprograms.listing(namespace)) for _ in range(3)]
    for script in before:
        nftprograms.run(namespace, script)
    model, generation = Model(), 0
    with pylog.open("nftables:", netns=namespace.name, relist_s=chance.choice((0, 0.2))) as reader:
        apply(model, read(reader, 0.1))
        for _ in range(40):
            listed = nftprograms.listing(namespace)
            assert nftprograms.summary_of(model) == nftprograms.summary(listed)
            script = nftprograms.transaction(chance, listed)
            worked = nftprograms.run(namespace, script)
            found = read(reader, 0.05)
            assert worked or not commits(found), script
            for commit in commits(found):
                assert commit == (generation or commit - 1 if commit else 0) + 1
                generation = commit or 0
            assert not losses(found)
            assert all(r.process == "nft" for r in ruleset(found) if r.via is None)
            apply(model, found)


@pytest.mark.parametrize("number", range(effort.number(20, 2)))
def test_after_an_overrun_records_lead_to_what_nft_lists(
    namespace: netlab.Namespace, number: int
) -> None:
    chance, model = effort.chance("overrun", number), Model()
    source = {"netns": namespace.name, "rcvbuf": 16384, "rcvbuf_max": 16384, "relist_s": 0}
    options: dict[str, Any] = source
    with pylog.open("nftables:", **options) as reader:
        for count in (10, 60, 10, 60, 10):  # 60 are more than there is room for
            for _ in range(count):
                script = nftprograms.transaction(chance, nftprograms.listing(namespace))
                nftprograms.run(namespace, script)
                if count == 10:
                    apply(model, read(reader, 0.02))
            found = read(reader, 1.3)
            apply(model, found)
            assert nftprograms.summary_of(model) == nftprograms.summary(
                nftprograms.listing(namespace)
            )
            if count == 60:
                lost = losses(found)
                overruns = [loss for loss in lost if loss.count is None]
                assert overruns and all("overran" in (r.reason or "") for r in overruns)
                gaps = [loss for loss in lost if loss.count]
                assert gaps and all(loss.log == "ruleset" for loss in gaps)
                assert all((loss.reason or "").startswith("generation") for loss in gaps)
                marked = [r for r in ruleset(found) if r.op == "new_gen" and r.incomplete]
                assert len(marked) <= len(overruns)
                assert any(record.via == "relist" for record in ruleset(found))
        assert reader.dropped and reader.uncounted


def test_two_writers_are_told_apart(namespace: netlab.Namespace) -> None:
    names = ("one (of them)", "two")
    namespace.nft("add table inet t; add chain inet t c")
    with pylog.open("nftables:", netns=namespace.name) as reader:
        read(reader, 0.1)
        code = (
            "import subprocess, sys\n"
            "for _ in range(20):\n"
            "    subprocess.run(['bash', '-c', sys.argv[1]], check=True)\n"
        )
        script = "exec -a x {} 'add rule inet t c counter; add rule inet t c accept'"
        folder = Path("/tmp") / f"pylog-writers-{os.getpid()}"
        folder.mkdir()
        try:
            processes = []
            for name in names:
                (folder / name).symlink_to("/usr/sbin/nft")
                asked = [sys.executable, "-c", code, script.format(repr(str(folder / name)))]
                processes.append(namespace.start(*asked))
            found = read_to(reader, 42)
        finally:
            for process in processes:
                process.wait(30)
            for name in names:
                (folder / name).unlink()
            folder.rmdir()
    for name in names:
        own = [r for r in ruleset(found) if r.process == name]
        assert len(own) == 3 * 20 and len({r.pid for r in own}) == 20
    generation = 3
    for record in ruleset(found):
        assert record.generation == generation and not record.incomplete
        generation += record.op == "new_gen"


def test_a_writer_that_still_runs_is_described(namespace: netlab.Namespace) -> None:
    code = (
        "import ctypes, sys, time\n"
        "nft = ctypes.CDLL('libnftables.so.1')\n"
        "nft.nft_ctx_new.restype = ctypes.c_void_p\n"
        "context = ctypes.c_void_p(nft.nft_ctx_new(0))\n"
        "nft.nft_run_cmd_from_buffer(context, b'add table inet t')\n"
        "time.sleep(30)\n"
    )
    with pylog.open("nftables:", netns=namespace.name) as reader:
        process = namespace.start(sys.executable, "-c", code, "an argument")
        found = ruleset(read_to(reader, 2))
        assert [record.op for record in found] == ["new_table", "new_gen"]
        for record in found:
            assert (record.pid, record.uid) == (process.pid, 0)
            assert record.cmdline is not None and record.cmdline.endswith(" 'an argument'")
            assert record.cgroup is not None and record.cgroup.startswith("/")


def test_a_table_that_ends_with_its_owner_is_reported(namespace: netlab.Namespace) -> None:
    with pylog.open("nftables:", netns=namespace.name, relist_s=0.2) as reader:
        with TraceRule(Match(), namespace.name) as rule:
            found = ruleset(read(reader, 0.5))
            assert {record.table for record in found} == {rule.table, None}
            assert commits(list(found)) == [2]
        found = netlab.until(lambda: ruleset(read(reader, 0.6)), "the listing without the table")
        assert found[-1].op == "del_table" and found[-1].table == rule.table
        for record in found:
            assert record.via == "relist" and record.op and record.op.startswith("del_")
            assert record.generation is None and record.process is None


def test_elements_that_expire_are_reported(namespace: netlab.Namespace) -> None:
    namespace.nft("add table inet t; add set inet t s { type inet_service; flags timeout; }")
    with pylog.open("nftables:", netns=namespace.name, relist_s=0.2) as reader:
        read(reader, 0.1)
        namespace.nft("add element inet t s { 22 timeout 1s, 80 timeout 1h }")
        assert len(ruleset(read(reader, 0.5))) == 3
        found = netlab.until(lambda: ruleset(read(reader, 1.5)), "the listing without the element")
        assert [(r.op, r.via, r.name) for r in found] == [("del_set_element", "relist", "s")]
        assert [element["key"] for element in found[0].elements or ()] == ["0016"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"families": "inet"}, [("inet", "a"), ("inet", "a"), ("inet", "b"), (None, None)]),
        ({"tables": "a,x"}, [("inet", "a"), ("ip", "a"), ("inet", "a")]),
        ({"chains": "c"}, [("inet", "a")]),
        ({"since_gen": 2}, [("inet", "b"), (None, None)]),
        ({"since_gen": 3}, []),
        ({"families": "ip", "tables": "b"}, []),
    ],
)
def test_names_and_generations_select_records(
    namespace: netlab.Namespace, options: dict[str, Any], expected: list[Any]
) -> None:
    namespace.nft("add table inet a; add table ip a; add chain inet a c")
    with pylog.open("nftables:", netns=namespace.name, **options) as reader:
        namespace.nft("add table inet b")
        assert [(r.family, r.table) for r in ruleset(read(reader, 0.1))] == expected


def test_traces_and_packets_stand_in_order_with_the_ruleset(namespace: netlab.Namespace) -> None:
    namespace.nft("""
        table inet t {
            chain c {
                type filter hook output priority 0;
                udp dport 9 log prefix "out " group 5 counter
                udp dport 9 accept
            }
        }
    """)
    with pylog.open("nftables:+trace+nflog:5", netns=namespace.name) as reader:
        read(reader, 0.1)
        with TraceRule(Match(daddr="127.0.0.1", dport=9), namespace.name):
            namespace.udp("127.0.0.1", 9)
            namespace.nft("add table inet u")
            found = read(reader)
        kinds = [type(record) for record in found]
        packets = [record for record in found if isinstance(record, PacketRecord)]
        steps = [record for record in found if isinstance(record, TraceRecord)]
        assert [packet.prefix for packet in packets] == ["out "]
        assert kinds.index(TraceRecord) < kinds.index(PacketRecord)
        rules = [(step.chain, step.handle) for step in steps if step.handle is not None]
        assert [chain for chain, _ in rules][:1] == ["output"]
        assert rules[1:3] == [("c", 2), ("c", 3)]
        logged = kinds.index(PacketRecord)
        after = next(s for s in found[logged:] if isinstance(s, TraceRecord) and s.handle)
        assert (after.chain, after.handle) == ("c", 2)
        assert commits(found)[-1] == 4 and isinstance(found[-1], RulesetRecord)


def test_a_capture_reads_back_as_it_was_read_live(
    namespace: netlab.Namespace, tmp_path: Path
) -> None:
    """With a snapshot, commits, a listing that differs, traces and packets."""
    namespace.nft("""
        table inet t {
            set s { type inet_service; elements = { 22, 80 } }
            chain c { type filter hook output priority 0; udp dport 9 log group 5; }
        }
    """)
    path = tmp_path / "x.pcapng"
    source = ["nftables:+trace+nflog:5", "--netns", namespace.name, "--relist", "0.3"]
    asked = [sys.executable, "-m", "pylog", "capture", *source, "-w", str(path)]
    with (
        pylog.open("nftables:+trace", netns=namespace.name, relist_s=0.3) as reader,
        subprocess.Popen(asked, stderr=subprocess.DEVNULL) as capture,
    ):
        netlab.until(lambda: 5 in namespace.groups(), "pylog capture")
        with TraceRule(Match(dport=9), namespace.name):
            namespace.udp("127.0.0.1", 9)
            namespace.nft("add rule inet t c tcp dport @s counter; delete element inet t s { 22 }")
            time.sleep(0.5)
        time.sleep(0.8)
        capture.terminate()
        capture.wait(30)
        live = read(reader)
    with pylog.open(path) as replay:
        found = list(replay)
    assert sum(isinstance(record, PacketRecord) for record in found) == 1
    told = ("ruleset", "trace")
    shown = [[_shown(record) for record in part if record.kind in told] for part in (live, found)]
    assert shown[0] == shown[1]
    assert {record.via for record in ruleset(found)} == {None, "snapshot", "relist"}


def _shown(record: Record) -> dict[str, Any]:
    """A record in JSON, without what only a live source says, and times and places."""
    shown: dict[str, Any] = json.loads(to_json(record))
    for name in ("observed_time", "observed_ns", "observed", "offset", "uid", "cmdline", "cgroup",
                 "raw", "layout", "id", "time"):  # fmt: skip
        shown.pop(name, None)
    return shown


def test_a_commit_of_very_many_elements_is_read_in_time(namespace: netlab.Namespace) -> None:
    """100,000 elements: in one commit, as a snapshot, and listed again."""
    code = (
        "import contextlib, re, sys, time, pylog\n"
        "with pylog.open('nftables:', relist_s=float(sys.argv[1])) as reader:\n"
        "    print('ready', flush=True)\n"
        "    elements, start = 0, None\n"
        "    with contextlib.suppress(TimeoutError):\n"
        "        while True:\n"
        "            record = reader.read(timeout=60 if elements < 100000 else 3)\n"
        "            if start is None and record.op != 'new_gen':\n"
        "                start = time.process_time()\n"
        "            elements += len(record.elements or ())\n"
        "            if elements >= 100000 and (record.op == 'new_gen' or record.via):\n"
        "                print(time.process_time() - start, flush=True)\n"
        "    print(elements, reader.dropped, reader.uncounted)\n"
        "    status = open('/proc/self/status').read()\n"  # ru_maxrss counts the parent too
        "    print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)\n"
    )
    namespace.nft("add table inet t; add set inet t s { type ipv4_addr; }")
    addresses = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(100_000))
    for when in ("before", "after"):
        asked = [sys.executable, "-c", code, "0" if when == "before" else "1"]
        process = namespace.start(*asked, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        if when == "before":
            namespace.nft(f"add element inet t s {{ {addresses} }}")
        lines = process.stdout.read().decode().splitlines()
        assert process.wait(60) == 0
        seconds, (elements, dropped, uncounted) = float(lines[0]), lines[-2].split()
        print(when, lines)
        assert int(elements) == 100_000 and dropped in ("0", "None") and uncounted == "0"
        assert seconds < 3 and int(lines[-1]) < 150
