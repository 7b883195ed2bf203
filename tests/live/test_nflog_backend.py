"""The NFLOG backend against the running kernel: what it sets, refuses, loses and gives back."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import builders
import netlab
import pytest

import pylog
from pylog import BackendError, BackendUnavailable, LossRecord, PacketRecord
from pylog.backends import netlink_socket, nflog, nflog_binding, nflog_proc
from pylog.backends.netlink_socket import NEEDS_CAPABILITY
from pylog.formats import netlink, nfulnl_attributes

needs_lab = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
PORT = 9


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        yield made


def settings(namespace: netlab.Namespace, group: int) -> tuple[int, int, int]:
    """Copy mode, copy range and timeout (1/100 s) of a group, as the kernel says."""
    for line in namespace.proc_net("netfilter/nfnetlink_log").splitlines():
        number, _, _, mode, length, timeout, _ = map(int, line.split())
        if number == group:
            return mode, length, timeout
    raise AssertionError(f"group {group} is not bound")


def flood(namespace: netlab.Namespace, count: int, data: bytes = b"flood") -> None:
    """Send so many UDP packets, as fast as one socket can."""
    sender = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", PORT))
    for _ in range(count):
        with contextlib.suppress(ConnectionRefusedError):
            sender.send(data)


def total(records: Sequence[pylog.Record | None]) -> int:
    """How many packets the records tell of, lost ones among them."""
    return sum((r.count or 0) if isinstance(r, LossRecord) else 1 for r in records)


# Settings


@needs_lab
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (2, 65531, 20)),
        ({"copy_range": 96, "timeout_s": 1.5}, (2, 96, 150)),
        ({"copy_mode": "meta"}, (1, 0, 20)),
        ({"copy_mode": "none", "timeout_s": 0}, (0, 0, 0)),
        ({"latency": True}, (2, 65531, 0)),
        ({"throughput": True}, (2, 65531, 100)),
        ({"throughput": True, "timeout_s": 0.5}, (2, 65531, 50)),
        ({"seq": False, "seq_global": True, "nlbufsiz": 8192}, (2, 65531, 20)),
    ],
)
def test_the_kernel_has_the_settings_that_were_asked_for(
    namespace: netlab.Namespace, options: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    with pylog.open("nflog:0,65535,7", netns=namespace.name, **options):
        assert set(namespace.groups()) == {0, 7, 65535}
        for group in (0, 7, 65535):
            assert settings(namespace, group) == expected
    assert not namespace.groups()


@needs_lab
def test_flags_and_copy_settings_show_in_the_records(namespace: netlab.Namespace) -> None:
    namespace.log_udp(PORT, 5)
    seen = {}
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"seq": False},
        "seq": {},
        "global": {"seq_global": True},
        "meta": {"copy_mode": "meta"},
        "none": {"copy_mode": "none"},
        "range": {"copy_range": 30},
    }
    for name, options in kinds.items():
        with pylog.open("nflog:5", netns=namespace.name, latency=True, **options) as reader:
            namespace.udp("127.0.0.1", PORT, b"x" * 50)
            seen[name] = reader.read(timeout=5)
    records = {name: record for name, record in seen.items() if isinstance(record, PacketRecord)}
    assert len(records) == 6
    assert records["plain"].seq is None and records["seq"].seq == 0
    assert "NFULA_SEQ_GLOBAL" in (records["global"].extra or {})
    assert "NFULA_SEQ_GLOBAL" not in (records["seq"].extra or {})
    assert records["meta"].payload is records["none"].payload is None
    assert len(records["range"].payload or b"") == 30 and records["range"].length == 78


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nflog:65536", {}, "'65536' is no group"),
        ("nflog:", {}, "'' is no group"),
        ("nflog:5,x", {}, "'x' is no group"),
        ("nflog:-1", {}, "'-1' is no group"),
        ("nflog:5", {"copy_mode": "all"}, "copy_mode is 'all', but must be one of none, meta"),
        ("nflog:5", {"copy_mode": 2}, "copy_mode is 2"),
        ("nflog:5", {"copy_range": 0}, "copy_range is 0, but must be a whole number from 1 to"),
        ("nflog:5", {"copy_range": 65536}, "copy_range is 65536"),
        ("nflog:5", {"copy_mode": "meta", "copy_range": 96}, "leave out copy_range"),
        ("nflog:5", {"nlbufsiz": 131073}, "nlbufsiz is 131073"),
        ("nflog:5", {"nlbufsiz": 4096}, "nlbufsiz is 4096"),
        ("nflog:5", {"qthresh": 0}, "qthresh is 0"),
        ("nflog:5", {"qthresh": 1.5}, "qthresh is 1.5"),
        ("nflog:5", {"qthresh": True}, "qthresh is True"),
        ("nflog:5", {"timeout_s": -1}, "timeout_s is -1"),
        ("nflog:5", {"timeout_s": 0.005}, "counts in 0.01 s"),
        ("nflog:5", {"timeout_s": float("nan")}, "timeout_s is nan"),
        ("nflog:5", {"seq": 3}, "seq is 3, but must be True or False"),
        ("nflog:5", {"pf_bind": "ipv4,ipx"}, "no family 'ipx'"),
        ("nflog:5", {"pf_bind": "ipv4"}, "kernel-made logs come to group 0"),
        ("nflog:5", {"rcvbuf": 16384, "rcvbuf_max": 8192}, "rcvbuf_max is 8192"),
        ("nflog:5", {"latency": True, "throughput": True}, "exclude each other"),
        ("nflog:5", {"qtresh": 5}, "nflog has no option qtresh; did you mean qthresh?"),
        ("fixtures/nflog/tcpdump.pcap", {"qthresh": 5}, "capture has no option qthresh"),
    ],
)
def test_nonsense_is_refused_before_the_kernel_is_asked(
    source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pylog.open(source, **options)


# Refusals


@needs_lab
def test_a_group_that_is_taken_names_its_owner(namespace: netlab.Namespace) -> None:
    with pylog.open("nflog:5", netns=namespace.name) as first:
        assert isinstance(first.backend, nflog.Nflog)
        with pytest.raises(BackendError) as caught:
            pylog.open("nflog:6,5", netns=namespace.name)
        name = Path("/proc/self/comm").read_text().strip()
        portid = first.backend.portid
        assert str(caught.value) == (
            f"cannot bind NFLOG group 5: {name} (process {os.getpid()}, portid {portid}) listens to"
            " it, and a group has one listener; use another group"
        )
        assert set(namespace.groups()) == {5}  # 6 was given back


@needs_lab
def test_unknown_namespaces_are_told(namespace: netlab.Namespace, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=rf"no network namespace 'none': .*{namespace.name}"):
        pylog.open("nflog:5", netns="none")
    with pytest.raises(BackendError, match="no process 4194399"):
        pylog.open("nflog:5", netns=4194399)
    with pytest.raises(BackendError, match="no such file"):
        pylog.open("nflog:5", netns=str(tmp_path / "none"))
    (tmp_path / "file").write_text("no namespace")
    with pytest.raises(BackendError, match=r"cannot use the network namespace .*Invalid argument"):
        pylog.open("nflog:5", netns=str(tmp_path / "file"))


@needs_lab
def test_a_namespace_is_given_by_name_path_or_process(namespace: netlab.Namespace) -> None:
    sleeper = namespace.start("sleep", "60")
    netlab.until(
        lambda: os.readlink(f"/proc/{sleeper.pid}/ns/net") != os.readlink("/proc/self/ns/net"),
        "the namespace of the process",
    )
    for netns in (namespace.name, f"/run/netns/{namespace.name}", sleeper.pid, str(sleeper.pid)):
        with pylog.open("nflog:5", netns=netns):
            assert set(namespace.groups()) == {5}


def run_without_privilege(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process without any capability."""
    return subprocess.run([*netlab.WITHOUT_CAPABILITIES, sys.executable, "-c",
                           f"import pylog; {code}"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip


@needs_lab
def test_without_the_capability_the_error_says_which_it_takes() -> None:
    done = run_without_privilege("pylog.open('nflog:65530')")
    assert "cannot bind NFLOG group 65530: it takes CAP_NET_ADMIN" in done.stderr
    assert "AmbientCapabilities=CAP_NET_ADMIN" in done.stderr and "setcap" not in done.stderr


@needs_lab
@pytest.mark.parametrize("capable", [True, False])
def test_the_advice_for_the_capability_works(capable: bool) -> None:
    """As root without root's privileges: others may not reach this Python."""
    match = re.search(r'sudo (setpriv .*) "\$\(command -v pylog\)" \.\.\.', NEEDS_CAPABILITY)
    assert match
    words = match[1].replace("USER", "root").replace("GROUP", "root").split()
    if not capable:
        words = words[: words.index("--inh-caps")]
    words[1:1] = ["--securebits", "+noroot"]
    done = subprocess.run([*words, sys.executable, "-m", "pylog", "doctor", "nflog"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == (0 if capable else 1)
    first = "ok      nflog: NFLOG works" if capable else "FAILED  nflog: cannot bind"
    assert done.stdout.startswith(first), done.stdout


@needs_lab
def test_a_file_capability_is_no_advice_for_a_virtual_environment(tmp_path: Path) -> None:
    """Its python is a symlink, which cannot have one: so no text of pylog speaks of setcap."""
    if not shutil.which("setcap"):
        pytest.skip("needs setcap")
    (tmp_path / "python").symlink_to(sys.executable)
    done = subprocess.run(["setcap", "cap_net_admin+ep", str(tmp_path / "python")],
                          capture_output=True, timeout=60)  # fmt: skip
    assert done.returncode != 0 and "setcap" not in NEEDS_CAPABILITY


@needs_lab
def test_without_privilege_no_namespace_is_entered(namespace: netlab.Namespace) -> None:
    done = run_without_privilege(f"pylog.open('nflog:65530', netns={namespace.name!r})")
    assert "it takes CAP_SYS_ADMIN" in done.stderr


@needs_lab
def test_a_receive_buffer_that_is_not_granted_is_told() -> None:
    """In a user namespace net.core.rmem_max is the limit."""
    code = "import pylog; pylog.open('nflog:5', rcvbuf=1 << 28).close(); print('fine')"
    done = subprocess.run(["unshare", "-Urn", sys.executable, "-c", code],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stdout == "fine\n"
    assert "bytes, not 268435456: without CAP_NET_ADMIN" in done.stderr


@needs_lab
def test_conntrack_is_given_or_its_lack_is_named(namespace: netlab.Namespace) -> None:
    namespace.log_udp(PORT, 5)
    try:
        reader = pylog.open("nflog:5", netns=namespace.name, latency=True, conntrack=True)
    except BackendError as error:
        assert "cannot add conntrack entries (EOPNOTSUPP: it lacks nf_conntrack" in str(error)
        assert not namespace.groups()
    else:  # a kernel with the glue
        with reader:
            namespace.udp("127.0.0.1", PORT)
            assert reader.read(timeout=5) is not None


@needs_lab
@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (errno.EINVAL, "this kernel has no nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)"),
        (524, "does not know the command (ENOTSUPP 524)"),
        (errno.EPERM, "another process listens to it (only root can see which); use another group"),
        (errno.ENOMEM, "Cannot allocate memory (errno 12)"),
    ],
)
def test_what_the_kernel_refuses_becomes_a_sentence(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, problem: int, message: str
) -> None:
    monkeypatch.setattr(nflog_binding.Binding, "request", lambda *_, **__: problem)
    monkeypatch.setattr(nflog, "instances", lambda: None)
    with pytest.raises(BackendError) as caught:
        pylog.open("nflog:5", netns=namespace.name)
    assert str(caught.value).startswith("cannot bind NFLOG group 5: ")
    assert message in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


@needs_lab
def test_the_capability_is_read_from_what_is_in_effect() -> None:
    code = "from pylog.backends.nflog_proc import has_capability; print(has_capability())"
    done = run_without_privilege(code)
    assert done.stdout == "False\n"
    status = Path("/proc/self/status").read_text()
    effective = int(re.findall(r"CapEff:\s*(\w+)", status)[0], 16)
    assert nflog_proc.has_capability() == bool(effective & 1 << netlab.CAP_NET_ADMIN)


@needs_lab
def test_without_pyroute2_a_namespace_gives_the_error_that_any_group_gives(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyroute2", "pyroute2.netns"):
        monkeypatch.setitem(sys.modules, name, None)
    for netns in (None, namespace.name):
        with pytest.raises(BackendUnavailable, match="needs Linux and the package pyroute2"):
            pylog.open("nflog:5", netns=netns)


@needs_lab
def test_doctor_says_that_only_root_can_list_the_groups_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nflog, "instances", lambda: None)
    remarks = [check.text for check in nflog.checks()]
    why = "(Permission denied): only root can, so groups in use are not listed"
    assert any(why in remark for remark in remarks)


@needs_lab
def test_a_kernel_that_took_something_else_is_found_out(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nflog_proc.instances

    def altered() -> list[nflog_proc.Instance]:
        return [instance._replace(copy_range=100) for instance in real() or ()]

    monkeypatch.setattr(nflog, "instances", altered)
    with pytest.raises(BackendError, match=r"are \(2, 100, 20\), not \(2, 65531, 20\)"):
        pylog.open("nflog:5", netns=namespace.name)
    monkeypatch.setattr(nflog, "instances", lambda: [])
    with pytest.raises(BackendError, match="was acknowledged, but is not bound"):
        pylog.open("nflog:5", netns=namespace.name)
    assert not namespace.groups()


@needs_lab
def test_a_kernel_that_does_not_answer_is_not_waited_for(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfulnl_attributes, "config", lambda *_, **__: bytes(4))
    with pytest.raises(BackendError, match="the kernel did not answer to binding group 5"):
        pylog.open("nflog:5", netns=namespace.name)


# Losses


@needs_lab
@pytest.mark.parametrize("silent", [True, False])
def test_an_overrun_is_noted_lets_the_buffer_grow_and_ends_nothing(
    namespace: netlab.Namespace, caplog: pytest.LogCaptureFixture, silent: bool
) -> None:
    """With ENOBUFS (which NETLINK_NO_ENOBUFS turns off) and without it."""
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, latency=True, rcvbuf=16384,
                    rcvbuf_max=32768) as reader:  # fmt: skip
        assert isinstance(reader.backend, nflog.Nflog)
        if not silent:
            own = reader.backend._socket._socket
            own.setsockopt(netlink_socket.SOL_NETLINK, netlink_socket.NETLINK_NO_ENOBUFS, 0)
        records: list[pylog.Record | None] = []
        for _ in range(2):
            flood(namespace, 300)
            with contextlib.suppress(TimeoutError):
                while True:
                    records.append(reader.read(timeout=0.5))
        namespace.udp("127.0.0.1", PORT)
        records.append(reader.read(timeout=5))
        if isinstance(records[-1], LossRecord):
            records.append(reader.read(timeout=5))
        assert total(records) == 601 == namespace.counted()[0]
        assert reader.received + (reader.dropped or 0) == 601 and (reader.dropped or 0) > 200
        size = reader.backend._socket._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert size == 32768
    notes = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert "receive buffer of 16384 bytes overran" in notes[0]
    assert "it has 32768 now" in notes[0]
    assert ("ENOBUFS" in " ".join(notes)) is not silent


@needs_lab
def test_without_sequence_numbers_an_overrun_is_a_loss_of_an_unknown_number(
    namespace: netlab.Namespace,
) -> None:
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, latency=True, seq=False, rcvbuf=16384,
                    rcvbuf_max=16384) as reader:  # fmt: skip
        flood(namespace, 300)
        reader.stop()
        records = list(reader)
    (loss,) = [record for record in records if isinstance(record, LossRecord)]
    assert loss.count is None and "datagrams lost" in (loss.reason or "")
    assert reader.dropped is None and 0 < reader.received < 300


@needs_lab
def test_a_loss_after_the_last_record_is_told_at_the_end(namespace: netlab.Namespace) -> None:
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, latency=True, rcvbuf=16384,
                    rcvbuf_max=16384) as reader:  # fmt: skip
        flood(namespace, 300)
        reader.stop()
        records = list(reader)
    loss = records[-1]
    assert isinstance(loss, LossRecord) and loss.count is None
    assert "receive buffer of 16384 bytes overran" in (loss.reason or "")


@needs_lab
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_no_loss_is_without_a_word_however_the_groups_overrun(
    namespace: netlab.Namespace, groups: int
) -> None:
    """Either the numbers add up, or there is a loss of an unknown number."""
    rules = "".join(f"udp dport {70 + i} counter log group {70 + i} drop\n" for i in range(groups))
    namespace.nft("table inet t {\nchain c {\ntype filter hook prerouting priority -400;\n"
                  f"{rules}}}\n}}\n")  # fmt: skip
    numbers = ",".join(str(70 + i) for i in range(groups))
    with pylog.open(f"nflog:{numbers}", netns=namespace.name, rcvbuf=20000,
                    rcvbuf_max=20000) as reader:  # fmt: skip
        senders = [
            namespace.sender("127.0.0.1", 70 + i, count=4000) for i in reversed(range(groups))
        ]
        records: list[pylog.Record] = []
        with contextlib.suppress(TimeoutError):
            while (record := reader.read(timeout=1)) is not None:
                records.append(record)
        assert all(sender.wait(30) == 0 for sender in senders)
        reader.stop()
        records += list(reader)
    unknown = any(isinstance(r, LossRecord) and r.count is None for r in records)
    assert sum(namespace.counted()) == 4000 * groups
    assert unknown or total(records) == 4000 * groups
    assert total(records) <= 4000 * groups


@needs_lab
def test_a_datagram_that_is_cut_is_told_and_reading_goes_on(
    namespace: netlab.Namespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, latency=True) as reader:
        monkeypatch.setattr(netlink_socket, "LARGEST", 512)
        namespace.udp("127.0.0.1", PORT, b"short")
        namespace.udp("127.0.0.1", PORT, b"x" * 1000)
        namespace.udp("127.0.0.1", PORT, b"short again")
        records = [reader.read(timeout=5) for _ in range(4)]
    assert [type(record) for record in records] == [
        PacketRecord, LossRecord, LossRecord, PacketRecord
    ]  # fmt: skip
    cut, gap = records[1:3]
    assert isinstance(cut, LossRecord) and cut.size == 512 and "cut off" in (cut.reason or "")
    assert isinstance(gap, LossRecord) and gap.count == 1
    assert "was cut to 512" in caplog.text


@needs_lab
def test_what_is_not_from_the_kernel_is_thrown_away(namespace: netlab.Namespace) -> None:
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, latency=True) as reader:
        assert isinstance(reader.backend, nflog.Nflog)
        forged = builders.log("<", 5, [(10, b"forged\0")])
        liar = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_NETFILTER)
        liar.sendto(forged, (reader.backend.portid, 0))
        namespace.udp("127.0.0.1", PORT)
        record = reader.read(timeout=5)
        assert isinstance(record, PacketRecord) and record.prefix != "forged"
        assert reader.backend.foreign == 1


# Ends


@needs_lab
def test_stop_makes_the_kernel_send_what_it_was_gathering(namespace: netlab.Namespace) -> None:
    namespace.log_udp(PORT, 5)
    with pylog.open("nflog:5", netns=namespace.name, qthresh=1000, timeout_s=600) as reader:
        flood(namespace, 10)
        with pytest.raises(TimeoutError):
            reader.read(timeout=0.3)
        reader.stop()
        assert len(list(reader)) == 10
        assert not namespace.groups()


@needs_lab
def test_an_exception_gives_the_group_back(namespace: netlab.Namespace) -> None:
    with pytest.raises(ZeroDivisionError), pylog.open("nflog:5", netns=namespace.name):
        raise ZeroDivisionError
    assert not namespace.groups()


@needs_lab
@pytest.mark.parametrize("before", ["NONE", "nf_log_ipv4"])
def test_loggers_of_the_kernel_are_given_back(namespace: netlab.Namespace, before: str) -> None:
    def logger() -> str:
        return namespace.run("cat", "/proc/sys/net/netfilter/nf_log/2").strip()

    try:
        namespace.run("tee", "/proc/sys/net/netfilter/nf_log/2", stdin=before)
    except AssertionError:
        pytest.fail(f"this kernel has no logger {before}")
    with pylog.open("nflog:5", netns=namespace.name):
        assert logger() == before  # nobody asked
    with pylog.open("nflog:0", netns=namespace.name, pf_bind="ipv4"):
        assert logger() == "nfnetlink_log"
    assert logger() == before


@needs_lab
def test_kernel_made_logs_come_to_group_0(namespace: netlab.Namespace) -> None:
    namespace.nft("table inet t {\nchain c {\ntype filter hook output priority 0;\n"
                  "ct state invalid counter\n}\n}\n")  # fmt: skip
    namespace.run("tee", "/proc/sys/net/netfilter/nf_conntrack_log_invalid", stdin="255")
    with pylog.open("nflog:0", netns=namespace.name, pf_bind="ipv4", latency=True) as reader:
        raw = namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        raw.sendto(bytes(12) + b"\x10\x3f" + bytes(6), ("127.0.0.1", 0))  # a bad data offset
        record = reader.read(timeout=5)
    assert isinstance(record, PacketRecord) and record.group == "0"
    assert (record.prefix or "").startswith("nf_ct_proto_6: ")


@needs_lab
def test_a_name_of_an_interface_that_is_no_utf_8_is_escaped(namespace: netlab.Namespace) -> None:
    odd = "w\udcff"  # the byte 0xff, as Python passes it on
    namespace.run("ip", "link", "add", odd, "type", "veth", "peer", "name", "v1")
    namespace.run("ip", "link", "set", odd, "up")
    namespace.run("ip", "addr", "add", "10.9.9.1/24", "dev", odd)
    namespace.run("ip", "neigh", "add", "10.9.9.2", "lladdr", "02:00:00:00:00:02", "dev", odd)
    namespace.nft("table inet t {\nchain o {\ntype filter hook output priority 0;\n"
                  "udp dport 9 log group 5\n}\n}\n")  # fmt: skip
    with pylog.open("nflog:5", netns=namespace.name, latency=True) as reader:
        namespace.udp("10.9.9.2", PORT)
        record = reader.read(timeout=5)
    assert isinstance(record, PacketRecord) and record.outdev == "w\\xff"
    assert b'"outdev":"w\\\\xff"' in pylog.to_json(record)


@needs_lab
def test_loggers_are_put_back_in_the_namespace_that_they_were_taken_in(
    namespace: netlab.Namespace,
) -> None:
    def logger() -> str:
        return namespace.run("cat", "/proc/sys/net/netfilter/nf_log/2").strip()

    reader = pylog.open("nflog:0", netns=namespace.name, pf_bind="ipv4")
    sleeper = namespace.start("sleep", "60")  # keeps the namespace, whose name goes
    netlab.until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", "sleep")
    namespace.delete()
    subprocess.run(["ip", "netns", "add", namespace.name], check=True, timeout=30)
    with pylog.open("nflog:0", netns=namespace.name, pf_bind="ipv4"):
        assert logger() == "nfnetlink_log"
        reader.close()
        assert logger() == "nfnetlink_log"
        old = subprocess.run(["nsenter", f"--net=/proc/{sleeper.pid}/ns/net", "cat",
                              "/proc/sys/net/netfilter/nf_log/2"],
                             capture_output=True, text=True, check=True, timeout=30)  # fmt: skip
        assert old.stdout.strip() != "nfnetlink_log"
