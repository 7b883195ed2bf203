"""The bytes of the source nftables on the running kernel: listings among events, and who did it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netlab
import pytest

from pylog import BackendError
from pylog.backends import nft_listing, nft_trace_rule, nftables, process
from pylog.backends.base import HOST_ORDER
from pylog.backends.nft_trace_rule import TraceRule
from pylog.formats import nft_attributes as nft
from pylog.formats.nft_attributes import LISTING_SEQ, NFT_MSG_NEWGEN
from pylog.formats.nft_requests import generation_of, heads
from pylog.formats.nft_trace_rule import Match
from pylog.options import resolve

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        yield made


def opened(namespace: netlab.Namespace, address: str = "", **options: Any) -> nftables.Nftables:
    values = resolve(nftables.NAME, nftables.OPTIONS, {"netns": namespace.name, **options})
    (source,) = nftables.connect(address, values)
    assert isinstance(source, nftables.Nftables)
    return source


class Part:
    """A message in the bytes of the source; `listed`: of a listing."""

    def __init__(self, data: bytes, head: Any) -> None:
        self.kind, self.data = head.kind, data[head.start : head.end]
        self.listed = int.from_bytes(self.data[8:12], sys.byteorder) == LISTING_SEQ
        self.generation = generation_of(self.data, HOST_ORDER)
        self.low = head.generation


def parts(source: nftables.Nftables, wait_s: float = 0.3, most_s: float = 30) -> list[Part]:
    """The messages that come until none has come for a while, or the time is over."""
    found, deadline = list[Part](), time.monotonic() + most_s
    while time.monotonic() < deadline and source.wait(wait_s):
        data = source.receive()
        if not data:
            break
        found += [Part(data, head) for head in heads(data, HOST_ORDER)]
    return found


def commits(found: list[Part]) -> list[int]:
    return [p.generation for p in found if p.generation is not None and not p.listed]


def listings(found: list[Part]) -> list[int]:
    return [p.generation for p in found if p.generation is not None and p.listed]


def names(found: list[Part], kind: int = nft.NFT_MSG_NEWTABLE) -> list[bytes]:
    """The first attribute of the entities of a kind in the last listing."""
    listed = [p for p in found if p.listed]
    ends = [i for i, p in enumerate(listed) if p.kind == NFT_MSG_NEWGEN]
    begin = ends[-2] + 1 if len(ends) > 1 else 0
    texts = [p.data[24:].split(b"\0", 1)[0] for p in listed[begin:] if p.kind == kind]
    return sorted(texts)


# Addresses and options


@pytest.mark.parametrize(
    ("address", "trace", "groups"),
    [
        ("", False, []),
        ("+trace", True, []),
        ("+nflog:5", False, [5]),
        ("+trace+nflog:5,6", True, [5, 6]),
        ("+nflog:6,5,6+trace", True, [6, 5]),
    ],
)
def test_what_an_address_names(address: str, trace: bool, groups: list[int]) -> None:
    assert nftables.parsed(address) == (trace, groups)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("inet", "'inet' does not begin with +"),
        ("trace", "'trace' does not begin with +"),
        ("+", "unexpected +;"),
        ("+tracing", "unexpected +tracing"),
        ("+trace+trace", "unexpected +trace a second time"),
        ("+nflog", "+nflog lacks its group, as in +nflog:5"),
        ("+nflog:", "+nflog lacks its group"),
        ("+nflog:x", "'x' is no group, a number from 0 to 65535"),
        ("+nflog:5+nflog:6", "unexpected +nflog:6 a second time"),
        ("+nflog:70000", "'70000' is no group"),
    ],
)
def test_other_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        nftables.parsed(address)
    assert message in str(caught.value) and str(caught.value).startswith(
        f"nftables:{address.removesuffix(':')}: "
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": "inet,ipx"}, "families: no family 'ipx', only inet, ip, ip6"),
        ({"tables": " , "}, "tables: it is empty"),
        ({"rcvbuf": 1 << 20, "rcvbuf_max": 4608}, "rcvbuf_max is 4608"),
    ],
)
def test_options_that_cannot_be_are_refused(
    namespace: netlab.Namespace, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(namespace, **options)


# The snapshot


def test_the_source_begins_with_a_listing_of_everything(namespace: netlab.Namespace) -> None:
    namespace.nft("""
        table inet a {
            set s { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }
            counter k { }
            chain c { type filter hook input priority 0; tcp dport { 22, 80 } accept; }
        }
        table bridge b { }
    """)
    source = opened(namespace)
    try:
        found = parts(source)
        assert all(part.listed for part in found) and listings(found) == [2]
        assert found[-1].kind == NFT_MSG_NEWGEN
        kinds = list(dict.fromkeys(part.kind for part in found))
        assert kinds == [nft.NFT_MSG_NEWTABLE, nft.NFT_MSG_NEWCHAIN, nft.NFT_MSG_NEWSET,
                         nft.NFT_MSG_NEWSETELEM, nft.NFT_MSG_NEWOBJ, nft.NFT_MSG_NEWRULE,
                         NFT_MSG_NEWGEN]  # fmt: skip
        assert {part.low for part in found} == {2} and names(found) == [b"a", b"b"]
        elements = b"".join(p.data for p in found if p.kind == nft.NFT_MSG_NEWSETELEM)
        assert all(bytes(octets) in elements for octets in ((192, 0, 2, 1), (192, 0, 2, 2)))
        assert source.logs == {"ruleset": 3}
        namespace.nft("add table ip c")
        assert commits(parts(source)) == [3]
    finally:
        source.close()


def test_an_empty_ruleset_is_a_listing_too(namespace: netlab.Namespace) -> None:
    source = opened(namespace)
    try:
        found = parts(source)
        assert [part.kind for part in found] == [NFT_MSG_NEWGEN] and listings(found) == [1]
    finally:
        source.close()


def test_without_a_snapshot_there_are_only_events(namespace: netlab.Namespace) -> None:
    namespace.nft("add table inet a")
    source = opened(namespace, snapshot=False, relist_s=0.1)
    try:
        assert source.logs == {"ruleset": 3} and not source.wait(0.3)
        namespace.nft("add table inet b")
        found = parts(source)
        assert commits(found) == [3] and listings(found) == []
        source.refresh()
        assert not source.wait(0.3)
    finally:
        source.close()


CHANGE = "flush chain inet a c; add rule inet a c counter; add rule inet a c accept"


class Writer:
    """A process of nft that commits without pause, from `with` to the end of `with`."""

    def __init__(self, namespace: netlab.Namespace, script: str) -> None:
        loop = f"while :; do nft '{script}'; done"
        self._process = namespace.start("sh", "-c", loop, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


def test_commits_while_the_source_opens_are_in_the_listing_or_after_it(
    namespace: netlab.Namespace,
) -> None:
    namespace.nft("add table inet a; add chain inet a c; add set inet a s { type ipv4_addr; }")
    with Writer(namespace, CHANGE):
        for _ in range(20):
            source = opened(namespace)
            try:
                found = parts(source, 0.1, 0.1)
            finally:
                source.close()
            (first,) = listings(found)
            assert found[0].listed and source.logs == {"ruleset": first + 1}
            after = commits(found)
            assert after == list(range(first + 1, first + 1 + len(after)))
            entities = [p for p in found if not p.listed and p.kind != NFT_MSG_NEWGEN]
            assert not [p for p in entities if p.low <= first]


# Listing again


def test_what_no_event_announces_is_noticed_by_listing_again(namespace: netlab.Namespace) -> None:
    source = opened(namespace, relist_s=0.2)
    try:
        with TraceRule(Match(), namespace.name) as rule:
            found = parts(source, 0.5)
            assert names(found) == [rule.table.encode()]
            assert commits(found) == [2] and listings(found) == [1, 2]
            assert not source.wait(0.5)  # nothing has changed
        found = parts(source, 0.5)
        assert commits(found) == [] and listings(found) == [2] and names(found) == []
    finally:
        source.close()


def test_a_listing_stands_where_the_ruleset_was_so(namespace: netlab.Namespace) -> None:
    namespace.nft("add table inet a; add chain inet a c")
    source = opened(namespace, relist_s=0.01)
    try:
        with Writer(namespace, CHANGE):
            found = parts(source, 1, 1.5)
    finally:
        source.close()
    assert len(listings(found)) > 3 and len(commits(found)) > 10
    last = 0
    for part in found:
        if part.listed and part.generation is not None:
            assert part.generation == (last or part.generation)
            last = part.generation
        elif part.generation is not None:
            assert part.generation == last + 1
            last = part.generation


def test_a_request_lists_again_soon_and_no_more_often(namespace: netlab.Namespace) -> None:
    source = opened(namespace, relist_s=0)
    try:
        parts(source, 0)
        for _ in range(5):
            source.refresh()
        start = time.monotonic()
        assert listings(parts(source, 1.5)) == [1]
        assert time.monotonic() - start > nftables.LEAST_S / 2
        assert not source.wait(0.2)
    finally:
        source.close()


def test_after_an_overrun_the_ruleset_is_listed_again(
    namespace: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.nft("add table inet a; add chain inet a c")
    source = opened(namespace, relist_s=0, rcvbuf=16384, rcvbuf_max=16384)
    try:
        assert listings(parts(source)) == [2]
        for _ in range(50):
            namespace.nft("add rule inet a c counter; add rule inet a c accept")
        found = parts(source, 0.1)
        assert source.overrun is not None and "datagrams lost" in source.overrun
        found += parts(source, 1.5)
        assert 0 < len(commits(found)) < 50 and listings(found) == [52]
        assert sum(p.kind == nft.NFT_MSG_NEWRULE for p in found if p.listed) == 100
        namespace.nft("add rule inet a c counter")
        assert commits(parts(source)) == [53]
    finally:
        source.close()
    assert "overran" in caplog.text


# Traces and NFLOG


def test_traces_and_logged_packets_come_in_the_kernels_order(namespace: netlab.Namespace) -> None:
    namespace.nft("""
        table inet a {
            chain c {
                type filter hook output priority 0;
                udp dport 9 meta nftrace set 1 log group 5
                udp dport 9 drop
            }
        }
    """)
    source = opened(namespace, "+trace+nflog:5")
    try:
        assert source.name == "nftables:+trace+nflog:5" and source.logs["5"] == 0
        assert source.layout in ("netlink-le", "netlink-be")
        assert listings(parts(source)) == [2] and namespace.groups() == {5: source.portid}
        with pytest.raises(PermissionError):
            namespace.udp("127.0.0.1", 9)
        data = b""
        while source.wait(0.3):
            data += source.receive()
        order, at = [], 0
        while at < len(data):
            size, kind = int.from_bytes(data[at : at + 4], sys.byteorder), data[at + 4 : at + 6]
            order.append(int.from_bytes(kind, sys.byteorder))
            at += (size + 3) & ~3
        assert [kind for kind in order if kind != 3] == [
            0x400, nft.NFT_MSG_TRACE, nft.NFT_MSG_TRACE,
        ]  # fmt: skip
    finally:
        source.close()
    assert namespace.groups() == {}


def test_a_group_that_is_taken_is_refused(namespace: netlab.Namespace) -> None:
    first = opened(namespace, "+nflog:5")
    try:
        with pytest.raises(BackendError, match=r"cannot bind NFLOG group 5: .* listens to it"):
            opened(namespace, "+trace+nflog:5")
    finally:
        first.close()


# Ends and errors


def test_stop_gives_what_has_come_and_then_the_end(namespace: netlab.Namespace) -> None:
    source = opened(namespace)
    try:
        parts(source)
        namespace.nft("add table inet a")
        source.stop()
        assert commits(parts(source)) == [2] and source.receive() == b""
    finally:
        source.close()


def test_without_the_privilege_the_error_says_what_to_do(namespace: netlab.Namespace) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    code = (
        "import sys; sys.stderr = sys.stdout\n"
        "import pylog\n"
        "try: pylog.open('nftables:')\n"
        "except pylog.BackendError as error: print(error)\n"
    )
    done = namespace.run(*netlab.WITHOUT_CAPABILITIES, sys.executable, "-B", "-c", code)
    assert "nftables: cannot join multicast group 7 of netfilter netlink" in done
    assert "CAP_NET_ADMIN" in done and "receive buffer" not in done


def test_what_is_selected_and_not_there_is_noted_once(
    namespace: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.run("nft", "add table inet here; add chain inet here there")
    opened(namespace, tables="here", chains="there", since_gen=1).close()
    assert not caplog.records
    opened(namespace, tables="here,nosuch,her", chains="here", since_gen=99999999).close()
    assert [record.getMessage() for record in caplog.records] == [
        "nftables: the ruleset is generation 2: nothing matches up to generation 99999999",
        "nftables: the ruleset has no table 'nosuch' now",
        "nftables: the ruleset has no table 'her' now",
        "nftables: the ruleset has no chain 'here' now",
    ]


def test_doctor_and_sources_show_the_source(namespace: netlab.Namespace) -> None:
    for command in ("sources", "doctor"):
        name = ["nftables"] if command == "doctor" else []
        asked = [sys.executable, "-m", "pylog", command, "--json", *name]
        lines = [json.loads(line) for line in namespace.run(*asked).splitlines()]
        if command == "doctor":
            assert lines[0]["ok"] and "nftables works" in lines[0]["text"]
            assert "generation 1;" in lines[1]["text"]
        else:
            (line,) = [line for line in lines if line["source"] == "nftables:"]
            assert line["available"]


# Who


def test_a_process_is_described_if_its_name_agrees() -> None:
    comm = Path("/proc/self/comm").read_text().removesuffix("\n")
    own = process.process(os.getpid(), comm)
    assert own is not None and own.uid == os.getuid()
    assert own.cmdline is not None and "python" in own.cmdline
    assert own.cgroup is not None and own.cgroup.startswith("/")
    assert process.process(os.getpid(), "another") is None
    assert process.process(0x7FFFFFFF, comm) is None


def test_a_command_line_is_written_as_a_shell_reads_it(namespace: netlab.Namespace) -> None:
    made = namespace.start("sleep", "60", "it's")
    netlab.until(lambda: process.process(made.pid, "sleep") is not None, "sleep")
    made.kill()
    made.wait(10)
    assert process.process(made.pid, "sleep") is None  # a zombie that was waited for is gone


def test_in_another_pid_namespace_no_process_is_described() -> None:
    code = (
        "import os; from pylog.backends.process import process\n"
        "comm = open('/proc/self/comm').read()[:-1]\n"
        "print(process(os.getpid(), comm))\n"
    )
    asked = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-B", "-c", code]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert done.stdout == "None\n", done.stderr


# Rules that trace


@pytest.mark.parametrize(
    ("match", "rules"),
    [
        (Match(), ["meta nftrace set 1"]),
        (Match(saddr="192.0.2.1"), ["ip saddr 192.0.2.1 meta nftrace set 1"]),
        (Match(saddr="192.0.2.9/24", daddr="198.51.100.0/31"),
         ["ip saddr 192.0.2.0/24 ip daddr 198.51.100.0/31 meta nftrace set 1"]),
        (Match(daddr="2001:db8::/33", proto="ICMPv6"),
         ["ip6 daddr 2001:db8::/33 meta l4proto ipv6-icmp meta nftrace set 1"]),
        (Match(dport=53), ["tcp dport 53 meta nftrace set 1", "udp dport 53 meta nftrace set 1"]),
        (Match(proto=17, dport=53), ["udp dport 53 meta nftrace set 1"]),
        (Match(iif="eth0", proto="tcp"), ['iifname "eth0" meta l4proto tcp meta nftrace set 1']),
    ],
)  # fmt: skip
def test_a_rule_that_traces_is_what_nft_lists(
    namespace: netlab.Namespace, match: Match, rules: list[str]
) -> None:
    with TraceRule(match, namespace.name) as made:
        listed = [line.strip() for line in namespace.run("nft", "list", "ruleset").splitlines()]
        assert f"table inet {made.table}" in listed[0] and "flags owner" in listed
        chains = [line.split()[1] for line in listed if line.startswith("chain ")]
        assert chains == (["prerouting"] if match.iif else ["prerouting", "output"])
        assert [line for line in listed if "nftrace" in line] == rules * len(chains)
    assert namespace.run("nft", "list", "ruleset") == ""


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (Match(saddr="host"), "saddr is 'host', but must be an address or a prefix"),
        (Match(saddr="::1", daddr="192.0.2.1"), "saddr ::1 and daddr 192.0.2.1 are of different"),
        (Match(proto="tcq"), "proto is 'tcq', but must be a number up to 255 or one of ah, "),
        (Match(proto=256), "proto is 256, but must be"),
        (Match(dport=65536), "dport is 65536, but must be 1 to 65535"),
        (Match(dport=0), "dport is 0, but must be 1 to 65535"),
        (Match(proto="icmp", dport=5), "dport is 5, but icmp has no ports"),
        (Match(iif="an interface's name"), "must be the name of an interface"),
    ],
)
def test_a_match_that_cannot_be_is_refused(match: Match, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TraceRule(match)


def test_after_a_kill_no_rule_is_left(namespace: netlab.Namespace) -> None:
    code = (
        "import time\n"
        "from pylog.backends.nft_trace_rule import TraceRule\n"
        "from pylog.formats.nft_trace_rule import Match\n"
        "rule = TraceRule(Match(proto='tcp'))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = namespace.start(sys.executable, "-B", "-c", code, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    assert "nftrace" in namespace.run("nft", "list", "ruleset")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    netlab.until(lambda: not namespace.run("nft", "list", "ruleset"), "the table's end")


def test_several_rules_that_trace_exist_together(namespace: netlab.Namespace) -> None:
    with TraceRule(Match(), namespace.name) as one, TraceRule(Match(), namespace.name) as two:
        assert one.table != two.table
        assert namespace.run("nft", "list", "tables").count("inet pylog-trace-") == 2


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EOPNOTSUPP, "it takes Linux 5.12"),
        (errno.EBUSY, "Device or resource busy (errno 16)"),
    ],
)
def test_what_the_kernel_refuses_is_a_sentence(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, problem: int, message: str
) -> None:
    monkeypatch.setattr(nft_trace_rule, "transact", lambda *_: problem)
    with pytest.raises(BackendError) as caught:
        TraceRule(Match(), namespace.name)
    assert str(caught.value).startswith("cannot add a rule that traces packets: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EINVAL, "this kernel has no nf_tables (CONFIG_NF_TABLES, module nf_tables)"),
        (errno.ENOMEM, "Cannot allocate memory (errno 12)"),
    ],
)
def test_a_kernel_that_cannot_list_is_reported(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, problem: int, message: str
) -> None:
    monkeypatch.setattr(nft_listing, "ask", lambda *_: (b"", problem))
    with pytest.raises(BackendError) as caught:
        opened(namespace)
    assert str(caught.value).startswith("nftables: cannot ask for the generation of the ruleset: ")
    assert message in str(caught.value)


def test_a_listing_that_fails_later_is_noted_and_reading_goes_on(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(namespace, relist_s=0.1)
    try:
        parts(source, 0.05)
        monkeypatch.setattr(nft_listing, "ask", lambda *_: (b"", errno.EPERM))
        assert parts(source, 0.3) == []
        namespace.nft("add table inet a")
        assert commits(parts(source)) == [2]
    finally:
        source.close()
    assert caplog.text.count("the ruleset is not listed again") == 1


def test_large_listings_become_less_frequent(namespace: netlab.Namespace) -> None:
    source = opened(namespace, relist_s=0.1)
    try:
        source.receive()
        burnt = time.thread_time() + 0.1
        while time.thread_time() < burnt:  # as if it were decoded
            pass
        assert not source.wait(0)
        assert source._due - source._listed_at >= 0.1 * nftables.SHARE
    finally:
        source.close()
