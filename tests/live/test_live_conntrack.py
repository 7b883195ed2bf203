"""The source nfct on the running kernel, beside conntrack(8) and what was sent."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import conntrack
import effort
import netlab
import pytest

import pylog
from pylog import LossRecord
from pylog.backends import conntrack as backend
from pylog.backends import conntrack_options
from pylog.options import resolve
from pylog.reader import Reader

REASON = netlab.missing("nft", "conntrack")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

COUNTED = ("acct", "timestamp")
RULES = """
table ip t {
    ct helper ftp { type "ftp" protocol tcp; }
    chain pre {
        type filter hook prerouting priority -300;
        udp dport 5007 ct zone set 7
    }
    chain after {
        type filter hook prerouting priority -100;
        tcp dport 21 ct helper set "ftp"
        udp dport 5008 ct mark set 0x18
    }
    chain before {
        type nat hook prerouting priority -100;
        tcp dport 8080 dnat to 10.66.2.2:5000
        tcp dport 8081 redirect to :5001
    }
    chain last {
        type nat hook postrouting priority 100;
        oifname "f1" masquerade
    }
}
table ip6 t {
    chain pre {
        type filter hook prerouting priority 0;
        ct state new counter
    }
}
"""


def switch(namespace: netlab.Namespace, *names: str, **values: int) -> None:
    """Switch settings of conntrack on, or set them."""
    for name, value in {**dict.fromkeys(names, 1), **values}.items():
        path = Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}")
        namespace.inside(partial(path.write_text, str(value)))


@pytest.fixture
def alone() -> Iterator[netlab.Namespace]:
    """A namespace that tracks flows."""
    with netlab.Namespace() as made:
        made.nft("table inet t {\nchain c {\ntype filter hook input priority 0\n"
                 "ct state new counter\n}\n}\n")  # fmt: skip
        switch(made, *COUNTED)
        yield made


def flows(namespace: netlab.Namespace, count: int, port: int = 5000) -> None:
    """Begin so many flows of UDP, of one packet of one byte each."""
    sender = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    receiver.bind(("0.0.0.0", port))  # so that no ICMP error is sent
    for number in range(count):
        sender.sendto(b"x", (f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}", port))


def taken(reader: Any, wait_s: float = 0.2) -> list[Any]:
    """What comes until nothing has come for a while."""
    records: list[Any] = []
    with contextlib.suppress(TimeoutError):
        while batch := reader.read_batch(timeout=wait_s):
            records += batch
    return records


def until(reader: Any, condition: Any, timeout_s: float = 5) -> list[Any]:
    """What comes until the condition is true of it."""
    records: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while not condition(records):
        assert time.monotonic() < deadline, records
        with contextlib.suppress(TimeoutError):
            records += reader.read_batch(timeout=0.1)
    return records


def counted(records: list[Any]) -> Counter[Any]:
    """How many records there are of each event, and of what pylog adds to it."""
    return Counter((r.event, r.via, r.end_reason) for r in records if r.kind == "flow")


def sent_tcp(client: netlab.Namespace, host: str, port: int, server: socket.socket) -> None:
    """A connection: 1,000 bytes there, 2,000 back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sender = client.socket(family, socket.SOCK_STREAM)
    sender.connect((host, port))
    accepted, _ = server.accept()
    with accepted:
        sender.sendall(b"x" * 1000)
        received = 0
        while received < 1000:
            received += len(accepted.recv(4096))
        accepted.sendall(b"y" * 2000)
    while sender.recv(4096):
        pass
    sender.close()


def listening(namespace: netlab.Namespace, port: int, family: int = socket.AF_INET) -> Any:
    made = namespace.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    made.listen()
    return made


def test_records_are_what_conntrack_prints_and_what_was_sent(tmp_path: Path) -> None:
    with netlab.Lab() as lab:
        lab.firewall.nft(RULES)
        switch(lab.firewall, *COUNTED, tcp_timeout_time_wait=1, udp_timeout=1, icmp_timeout=1)
        switch(lab.firewall, icmpv6_timeout=1, tcp_timeout_close=1, tcp_timeout_last_ack=1)
        path = tmp_path / "printed"
        with path.open("wb") as file, path.with_suffix(".err").open("wb") as errors:
            program = lab.firewall.start(
                "conntrack", "-E", "-o", "id,extended,labels", stdout=file, stderr=errors
            )
            reader = pylog.open("nfct:", netns=lab.firewall.name)
            number = str(program.pid)
            netlab.until(lambda: number in lab.firewall.proc_net("netlink"), "conntrack")
            with reader:
                assert taken(reader, 0.05) == []
                servers = [listening(lab.server, port) for port in (5000, 21)]
                servers.append(listening(lab.firewall, 5001))
                servers.append(listening(lab.server, 5006, socket.AF_INET6))
                sent_tcp(lab.client, "10.66.2.2", 5000, servers[0])
                sent_tcp(lab.client, "10.66.2.2", 21, servers[1])
                sent_tcp(lab.client, "10.66.1.1", 8080, servers[0])
                sent_tcp(lab.client, "10.66.1.1", 8081, servers[2])
                sent_tcp(lab.client, "fd66:2::2", 5006, servers[3])
                for port in (5007, 5008):
                    lab.client.udp("10.66.2.2", port, b"z" * 100)
                lab.client.echo("10.66.2.2", 77, b"p" * 56)
                lab.client.echo("fd66:2::2", 78, b"p" * 56)
                lab.firewall.run("conntrack", "-D", "-p", "udp", "--dport", "5007")

                def over(records: list[Any]) -> bool:
                    with contextlib.suppress(AssertionError):
                        lab.firewall.run("conntrack", "-L")  # evicts what has expired
                    ends = [r for r in records if r.event == "destroy"]
                    return len({r.id for r in ends}) >= 9

                records = until(reader, over, 10)
                records += taken(reader)
            netlab.stop(program)
    lines = Counter(repr(sorted(p.items())) for p in conntrack.printed(path.read_text()))
    given = Counter(repr(sorted(conntrack.as_printed(record).items())) for record in records
                    if record.event != "dump")  # fmt: skip
    assert (given - lines, lines - given) == (Counter(), Counter())
    ends = {(r.protocol, r.daddr, r.dport): r for r in records if r.event == "destroy"}
    plain = ends[6, "10.66.2.2", 5000]
    assert plain.flow_type == "map" and plain.nat_saddr == "10.66.2.1"
    for end in (plain, ends[6, "10.66.1.1", 8080], ends[6, "fd66:2::2", 5006]):
        head = 20 + (40 if end.family == "ipv6" else 20)
        # options of TCP: 12 bytes with every packet but 20 with SYN
        for way, size in (("orig", 1000), ("reply", 2000)):
            packets = end.packets[way]
            assert end.bytes[way] == size + packets * (head + 12) + 8
    assert ends[6, "10.66.1.1", 8080].flow_type == "rwr_map"
    assert ends[6, "10.66.1.1", 8081].flow_type == "rdr"
    assert ends[17, "10.66.2.2", 5007].bytes["orig"] == 128
    assert ends[17, "10.66.2.2", 5007].zone == 7
    assert ends[17, "10.66.2.2", 5007].end_reason == "removed"
    assert ends[17, "10.66.2.2", 5008].mark == 0x18
    assert ends[17, "10.66.2.2", 5008].end_reason == "expired"
    assert ends[1, "10.66.2.2", None].bytes == {"orig": 84, "reply": 84}
    helped = [r for r in records if r.dport == 21 and r.event == "new"]
    assert helped[0].extra["CTA_HELP"]["CTA_HELP_NAME"] == "ftp"


def test_a_loss_has_its_number_and_the_repaired_table_is_that_of_a_dump(
    alone: netlab.Namespace,
) -> None:
    with pylog.open("nfct:", netns=alone.name, rcvbuf=40_000, rcvbuf_max=40_000) as reader:
        assert taken(reader, 0.05) == []
        flows(alone, 20)
        first = until(reader, lambda records: len(records) >= 20)
        flows(alone, 400, 5001)
        alone.run("conntrack", "-D", "-p", "udp", "--dport", "5000")
        late = until(reader, lambda records: counted(records)["destroy", "repair", "lost"] >= 20)
        events = [r for r in first + late if r.kind == "flow" and r.via is None]
        (loss,) = [r for r in late if isinstance(r, LossRecord)]
        assert loss.log == "nfct" and loss.source == "nfct" and loss.count == reader.dropped
        assert len(events) + (loss.count or 0) == 20 + 400 + 20
        alive = {r.id for r in first + late if r.kind == "flow" and r.event != "destroy"}
        alive -= {r.id for r in late if r.kind == "flow" and r.event == "destroy"}
        dump = alone.run("conntrack", "-L", "-o", "id,extended")
        assert alive == {stated["id"] for stated in conntrack.printed(dump)}
        assert len(alive) == 400 and counted(late)["dump", "repair", None] == 400


def test_the_snapshot_has_flows_that_were_there_and_a_poll_their_counters_and_their_end(
    alone: netlab.Namespace,
) -> None:
    switch(alone, events=2)
    flows(alone, 3)
    with pylog.open("nfct:", netns=alone.name, poll_s=0.1) as reader:
        records = until(reader, lambda records: counted(records)["dump", "poll", None] >= 6)
        assert counted(records)["dump", "snapshot", None] == 3
        assert all(r.packets == {"orig": 1, "reply": 0} for r in records)
        alone.run("conntrack", "-D", "-p", "udp", "--dport", "5000")
        gone = until(reader, lambda records: any(r.event == "destroy" for r in records))
        # with events only for those who listened, there was no event
        ends = counted(gone + taken(reader, 0.05))
        assert ends["destroy", "poll", "unseen"] + ends["destroy", None, "removed"] == 3


def test_all_namespaces_are_read_and_each_flow_has_its_own(
    alone: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    with netlab.Namespace("other") as other, netlab.Namespace("silent"):
        pylog.open("nfct:", netns=alone.name, all_netns=True).close()
        note = next(m for m in caplog.messages if "no events come from" in m)
        assert other.name in note and "ip netns set NAME auto" in note
        other.nft("table inet t {\nchain c {\ntype filter hook input priority 0\n"
                  "ct state new counter\n}\n}\n")  # fmt: skip
        alone.run("ip", "netns", "set", other.name, "auto")
        flows(other, 2)
        with pylog.open("nfct:", netns=alone.name, all_netns=True) as reader:
            records = until(reader, lambda records: len(records) >= 2)
            assert {(r.via, r.netns) for r in records} == {("snapshot", other.name)}
            for namespace in (alone, other):
                flows(namespace, 2, 5001 if namespace is other else 5002)
            records = until(reader, lambda records: len(records) >= 4)
            assert Counter(r.netns for r in records if r.event == "new") == {
                None: 2, other.name: 2}  # fmt: skip
            with netlab.Namespace("late") as late:
                late.nft("table inet t {\nchain c {\ntype filter hook input priority 0\n"
                         "ct state new counter\n}\n}\n")  # fmt: skip
                flows(late, 2)
                alone.run("ip", "netns", "set", late.name, "auto")
                flows(late, 1, 5001)
                records = until(reader, lambda records: len(records) >= 4)
                assert {r.netns for r in records} == {late.name}
                assert counted(records) == {
                    ("new", None, None): 1, ("dump", "snapshot", None): 3}  # fmt: skip


def ends(records: list[Any]) -> list[int]:
    """The ids of flows that ended."""
    return [r.id for r in records if r.kind == "flow" and r.event == "destroy"]


def test_a_reliable_listener_gets_every_end_once(alone: netlab.Namespace) -> None:
    small: dict[str, Any] = {"rcvbuf": 40_000, "rcvbuf_max": 40_000}
    with (
        pylog.open("nfct:", netns=alone.name, reliable=True, **small) as reader,
        pylog.open("nfct:", netns=alone.name) as beside,
    ):
        flows(alone, 100)
        alone.run("conntrack", "-D", "-p", "udp", "--dport", "5000")
        got = until(reader, lambda records: len(ends(records)) >= 100)
        assert len(set(ends(got))) == len(ends(got)) == 100
        assert all(r.count is None for r in got if isinstance(r, LossRecord))
        others = until(beside, lambda records: len(ends(records)) >= 100) + taken(beside, 0.1)
        assert len(set(ends(others))) == len(ends(others)) == 100


def test_many_short_flows_are_received(alone: netlab.Namespace) -> None:
    count = effort.number(20_000, 1000)
    with pylog.open("nfct:", netns=alone.name) as reader:
        taken(reader, 0.01)
        flows(alone, count)
        alone.run("conntrack", "-D", "-p", "udp", "--dport", "5000")
        records = until(reader, lambda r: counted(r)["destroy", None, "removed"] >= count, 60)
        assert counted(records)["new", None, None] == count and reader.dropped == 0


def test_a_capture_is_read_as_the_source_was(alone: netlab.Namespace, tmp_path: Path) -> None:
    path = tmp_path / "flows.pcapng"
    flows(alone, 2)
    values = resolve(backend.NAME, backend.OPTIONS, {"netns": alone.name})
    (source,) = backend.connect("", values)
    from pylog import outputs
    from pylog.batch import Batch

    with path.open("wb") as file, Reader(source, raw=True) as reader:
        reader.pass_messages()
        output = outputs.open("pcapng", outputs.Target(file, str(path)), {})
        # three answers mark the snapshot
        output.write(Batch(until(reader, lambda r: len(r) >= 2 + 3)))
        flows(alone, 3, 5001)
        output.write(Batch(until(reader, lambda r: len(r) >= 3)))
        output.close()
    with pylog.open(path) as stored:
        assert counted(list(stored)) == {("dump", "snapshot", None): 2, ("new", None, None): 3}


# Options and errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": "new,old"}, "events: 'old' is none of new, update, destroy, expect, quota"),
        ({"families": "ip"}, "families: 'ip' is none of ipv4, ipv6"),
        ({"zones": "x"}, "zones: 'x' is no number from 0 to 65535"),
        ({"zones": " , "}, "zones: the list is empty"),
        ({"marks": "0x100/0xff"}, "the value has bits that the mask has not"),
        ({"marks": "1/"}, "marks: '' is no number"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conntrack_options.scope_of(values := resolve(backend.NAME, backend.OPTIONS, options))
        backend.connect("", values)


def test_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="it has no address; write nfct:"):
        pylog.open("nfct:5")


def test_what_the_kernel_hides_is_noted_and_explained(
    alone: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    switch(alone, acct=0, timestamp=0, events=2)
    pylog.open("nfct:", netns=alone.name).close()
    (text,) = [text for text in caplog.messages if "sysctl" in text]
    for name in ("acct=1", "timestamp=1", "events=1"):
        assert f"sysctl -w net.netfilter.nf_conntrack_{name}" in text
    checks = alone.inside(backend.checks)
    assert checks[0].ok and "0 flows are tracked" in checks[1].text
    assert [c.ok for c in checks[1:]] == [None] * 4 and "--poll" in checks[-1].text
    switch(alone, *COUNTED, events=1)
    caplog.clear()
    pylog.open("nfct:", netns=alone.name).close()
    assert not caplog.messages and len(alone.inside(backend.checks)) == 2


def test_without_the_capability_the_error_says_what_it_takes(alone: netlab.Namespace) -> None:
    code = "import pylog; pylog.open('nfct:')"
    with pytest.raises(AssertionError, match="CAP_NET_ADMIN"):
        alone.run(*netlab.WITHOUT_CAPABILITIES, sys.executable, "-c", code)
