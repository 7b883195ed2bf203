"""Rules of logged packets and trails of traced ones, on the running kernel."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest

import pylog
from pylog import cli
from pylog.backends.nft_trace_rule import TraceRule
from pylog.formats.nft_trace_rule import Match
from pylog.join import Join
from pylog.joined import Joined
from pylog.record import LossRecord
from pylog.record.joined import JoinedRecord
from pylog.trails import Trail, Trails

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))

RULES = """
add table inet t
add set inet t trusted { type ipv4_addr; elements = { 127.0.0.2 } }
add chain inet t in { type filter hook input priority 0; policy drop; }
add chain inet t sub
add rule inet t in udp dport 7 log prefix "seven " group 5 accept
add rule inet t in udp dport { 8, 9 } log prefix "same " group 5 accept
add rule inet t in udp dport 10 log prefix "same " group 5 drop
add rule inet t in udp dport 11 jump sub
add rule inet t in udp dport 13 log prefix "late " group 5 limit rate 1/hour burst 1 packets
add rule inet t in udp dport 13 counter
add rule inet t sub ip saddr @trusted log prefix "sub drop " group 5 drop
add rule inet t sub log prefix "alike " group 5
add rule inet t sub log prefix "alike " group 5 accept
add rule inet t in log prefix "rest " group 5
"""


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        nft(made, RULES)
        yield made


def nft(namespace: netlab.Namespace, script: str) -> str:
    done = subprocess.run(["ip", "netns", "exec", namespace.name, "nft", "-a", "-f", "-"],
                          input=script.encode(), capture_output=True, timeout=30)  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout.decode()


def handles(namespace: netlab.Namespace) -> dict[int, str]:
    """The text of each rule by its handle, as nft lists it."""
    lines = [line.strip() for line in nft(namespace, "list ruleset").splitlines()]
    return {int(n): text for text, _, n in (line.partition(" # handle ") for line in lines) if n}


def send(namespace: netlab.Namespace, port: int, source: str = "127.0.0.1") -> None:
    def datagram() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            sender.sendto(b"x", ("127.0.0.1", port))

    namespace.inside(datagram)


def packets(joined: Joined, count: int) -> list[JoinedRecord]:
    found: list[JoinedRecord] = []
    while len(found) < count:
        record = joined.read(timeout=10)
        assert record is not None and not isinstance(record, LossRecord)
        if isinstance(record, JoinedRecord) and record.protocol == 17:  # not the ICMP errors
            found.append(record)
    return found


def test_by_prefix_only_what_is_sure_is_named(namespace: netlab.Namespace) -> None:
    texts = handles(namespace)
    with pylog.open("nftables:+nflog:5", netns=namespace.name) as reader:
        joined = Joined(reader, Join(at_once=True))
        for port in (7, 8, 10, 11, 12):
            send(namespace, port)
        seven, eight, ten, eleven, more, rest = packets(joined, 6)
        for record, prefix in ((seven, "seven "), (rest, "rest ")):
            assert record.rule_match == "prefix" and record.rule_handle is not None
            assert f'log prefix "{prefix}"' in texts[record.rule_handle]
        # the ports tell these two apart
        assert "udp dport { 8, 9 }" in texts[eight.rule_handle or 0]
        assert "udp dport 10" in texts[ten.rule_handle or 0]
        for record in (eleven, more):
            assert record.rule_handle is None and record.rule_unknown == "2 rules fit"
        nft(namespace, 'add rule inet t in udp dport 99 log prefix "rest " group 5')
        send(namespace, 12)
        (rest,) = packets(joined, 1)
        assert 'log prefix "rest "' in texts[rest.rule_handle or 0]


def test_by_trace_every_rule_is_named(namespace: netlab.Namespace) -> None:
    texts = handles(namespace)
    with (
        pylog.open("nftables:+trace+nflog:5", netns=namespace.name) as reader,
        TraceRule(Match(proto="udp"), namespace.name),
    ):
        joined = Joined(reader, Join(at_once=True))
        for port in (7, 8, 9, 10, 11):
            send(namespace, port)
        send(namespace, 11, "127.0.0.2")
        found = packets(joined, 7)
    assert {record.rule_match for record in found} == {"trace"}
    names = [texts[record.rule_handle or 0] for record in found]
    assert ["{ 8, 9 }" in name for name in names[1:3]] == [True, True]
    assert "udp dport 10" in names[3] and "@trusted" in names[6]
    alike = [record.rule_handle for record in found[4:6]]
    assert alike == sorted(h for h, text in texts.items() if '"alike "' in text)


def test_a_rule_that_fails_after_it_logged_is_not_mistaken(namespace: netlab.Namespace) -> None:
    texts = handles(namespace)
    with (
        pylog.open("nftables:+trace+nflog:5", netns=namespace.name) as reader,
        TraceRule(Match(proto="udp"), namespace.name),
    ):
        joined = Joined(reader, Join(at_once=True))
        for _ in range(3):
            send(namespace, 13)
        found = packets(joined, 6)
    for record in found:
        assert f'log prefix "{record.prefix}"' in texts[record.rule_handle or 0]
    assert [r.rule_match for r in found if r.prefix == "late "] == ["trace", "prefix", "prefix"]


def test_trails_of_live_packets(namespace: netlab.Namespace) -> None:
    made, trails = Trails(), list[Trail]()
    with (
        pylog.open("nftables:+trace", netns=namespace.name) as reader,
        TraceRule(Match(proto="udp"), namespace.name),
    ):
        for port in (7, 10, 11, 12):
            send(namespace, port)
        deadline = time.monotonic() + 10
        while sum(any(s.hook == "input" for s in t.steps) for t in trails) < 4:
            assert time.monotonic() < deadline
            try:
                trails += made.feed(reader.read_batch(timeout=0.1))
            except TimeoutError:
                trails += made.left(time.time_ns())
    assert not any(trail.incomplete for trail in trails)
    verdicts = {t.dport: t.verdict for t in trails if any(s.hook == "input" for s in t.steps)}
    assert verdicts == {7: "accept", 10: "drop", 11: "accept", 12: "drop"}


def test_the_command_adds_its_rule_and_leaves_nothing(namespace: netlab.Namespace) -> None:
    command = [sys.executable, "-m", "pylog", "trace", "--add", "--proto", "udp", "--dport", "7",
               "-n", "2", "--netns", namespace.name]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        netlab.until(lambda: "pylog-trace" in nft(namespace, "list tables"), "the rule")
        send(namespace, 7)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and b"tracing by table inet pylog-trace" in errors
    assert b'udp dport 7 log prefix "seven " group 5 accept' in output
    assert "pylog-trace" not in nft(namespace, "list tables")


def test_an_interface_that_is_not_there_is_refused(
    namespace: netlab.Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["trace", "--add", "--iif", "nosuch", "--netns", namespace.name]
    assert cli.main(words) == 2
    expected = f"--iif is 'nosuch', but the interfaces in {namespace.name} are "
    assert expected in capfd.readouterr().err


def test_read_with_rules_and_doctor(
    namespace: netlab.Namespace, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "pylog", "read", "--rules", "nflog:5", "--latency", "-n", "1",
               "--netns", namespace.name, "-w", str(target)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            send(namespace, 7)
            time.sleep(0.2)
        assert process.wait(timeout=10) == 0
    assert '"rule_chain":"in"' in target.read_text() and "origin" not in target.read_text()
    assert cli.main(["doctor", "nftables", "--netns", namespace.name]) == 0
    text = capfd.readouterr().out
    assert "to group 5, to which nobody listens" in text
    assert 'prefix "alike " and hook input in common' in text


def test_an_empty_or_unmatched_ruleset_is_no_missing_snapshot(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with netlab.Namespace() as empty:
        assert cli.main(["ruleset", "--netns", empty.name, "nftables:"]) == 0
        output = capfd.readouterr()
        assert not output.out and not output.err
        words = ["ruleset", "--netns", empty.name, "--tables", "nosuch", "nftables:"]
        assert cli.main(words) == 0
        assert "snapshot" not in capfd.readouterr().err
