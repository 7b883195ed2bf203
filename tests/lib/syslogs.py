"""Receivers of syslog for tests: rsyslog and syslog-ng on loopback, and one of the test itself.

Each program runs in the foreground in a folder of its own, with certificates of a test authority
that openssl makes. The package of syslog-ng conflicts with that of rsyslog: .ci/run unpacks it into
/opt/syslog-ng. `Peer` is a receiver in the process of the test, which reads, stalls and resets as
the test wants.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from netlab import until

SYSLOG_NG = Path("/opt/syslog-ng")
PROGRAMS = ("rsyslogd", "syslog-ng", "openssl")


def missing() -> str:
    """Why these tests cannot run here, "" if they can."""
    absent = [name for name in PROGRAMS if program(name) is None]
    return f"needs {', '.join(absent)}" if absent else ""


def program(name: str) -> str | None:
    unpacked = SYSLOG_NG / "usr" / "sbin" / name
    return str(unpacked) if unpacked.exists() else shutil.which(name, path=_path())


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def free_port() -> int:
    """A port that is free for TCP and UDP."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            with contextlib.suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                return port


class Certificates:
    """A test authority, and certificates of it: ca.pem, server.pem, client.pem with NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        # without which Python 3.13 takes no authority (VERIFY_X509_STRICT)
        authority = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        for name, *more in (
            ("ca", *authority),
            *((name, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext",
               "basicConstraints=critical,CA:FALSE", "-CA", f"{folder}/ca.pem",
               "-CAkey", f"{folder}/ca.key") for name in ("server", "client")),
            ("other", *authority),
        ):  # fmt: skip
            subprocess.run(
                ["openssl", "req", "-x509", *key, "-subj", f"/CN=pylog test {name}", *more,
                 "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"],
                check=True, capture_output=True,
            )  # fmt: skip

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def client(self) -> dict[str, str]:
        """The options of a client that the server accepts."""
        return {"ca": self["ca.pem"], "certificate": self["client.pem"],
                "private_key": self["client.key"]}  # fmt: skip

    def server(self, clients: bool) -> ssl.SSLContext:
        """The settings of a server; whether clients must have a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self["server.pem"], self["server.key"])
        if clients:
            context.load_verify_locations(self["ca.pem"])
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Program:
    """A receiver that runs: its ports, its local socket, and what it has written."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        folder.mkdir()
        self.folder, self.certificates = folder, certificates
        self.port, self.tls_port, self.line_port = free_port(), free_port(), free_port()
        self.socket = folder / "log"
        self.out = folder / "out"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "conf").write_text(self.configuration())
        self.start()

    def configuration(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with open(self.folder / "errors", "ab") as errors:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                env={"LD_LIBRARY_PATH": str(SYSLOG_NG / "usr/lib/syslog-ng")},
            )  # fmt: skip
        until(self._listens, f"{type(self).__name__} to listen")

    def _listens(self) -> bool:
        for port in (self.port, self.tls_port, self.line_port):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                return False
        return self.socket.exists()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        self._process = None

    def messages(self) -> list[dict[str, str]]:
        """What it has written: host, app, pid, msgid, sd, pri and msg of each message."""
        raise NotImplementedError

    def lines(self) -> list[bytes]:
        return self.out.read_bytes().split(b"\n")[:-1] if self.out.exists() else []


class Rsyslog(Program):
    """rsyslog, with imtcp, imudp, imuxsock (datagrams) and a parser of CEF."""

    def configuration(self) -> str:
        made = self.certificates
        return f"""
global(workDirectory="{self.folder}" maxMessageSize="64k"
       defaultNetstreamDriverCAFile="{made["ca.pem"]}"
       defaultNetstreamDriverCertFile="{made["server.pem"]}"
       defaultNetstreamDriverKeyFile="{made["server.key"]}")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp")
module(load="mmnormalize")
input(type="imuxsock" Socket="{self.socket}" RateLimit.Interval="0")
input(type="imudp" address="127.0.0.1" port="{self.port}")
input(type="imtcp" address="127.0.0.1" port="{self.port}")
input(type="imtcp" address="127.0.0.1" port="{self.line_port}" SupportOctetCountedFraming="off")
input(type="imtcp" address="127.0.0.1" port="{self.tls_port}" StreamDriver.Name="ossl"
      StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
if $msg startswith "CEF:0" then action(type="mmnormalize" rule=["rule=:%cef:cef%"])
template(name="all" type="string" string="%jsonmesg%\\n")
action(type="omfile" file="{self.out}" template="all")
"""

    def command(self) -> list[str]:
        return [str(program("rsyslogd")), "-n", "-f", f"{self.folder}/conf",
                "-i", f"{self.folder}/pid"]  # fmt: skip

    def messages(self) -> list[dict[str, Any]]:
        names = {"hostname": "host", "app-name": "app", "procid": "pid", "msgid": "msgid",
                 "structured-data": "sd", "pri": "pri", "msg": "msg", "$!": "parsed"}  # fmt: skip
        return [{names[name]: value for name, value in msgspec.json.decode(line).items()
                 if name in names} for line in self.lines()]  # fmt: skip


class SyslogNg(Program):
    """syslog-ng, with a local socket that is a stream."""

    def configuration(self) -> str:
        made, there = self.certificates, 'ip("127.0.0.1") port'
        return f"""
@version: 3.38
options {{ keep-hostname(yes); use-dns(no); dns-cache(no); stats-freq(0); log-msg-size(65536); }};
source s {{
  syslog({there}({self.port}) transport("tcp"));
  syslog({there}({self.port}) transport("udp"));
  syslog({there}({self.tls_port}) transport("tls") tls(ca-file("{made["ca.pem"]}")
    cert-file("{made["server.pem"]}") key-file("{made["server.key"]}")
    peer-verify(required-trusted)));
  network({there}({self.line_port}) transport("tcp"));
  unix-stream("{self.socket}");
}};
destination d {{ file("{self.out}" flush-lines(1)
  template("${{HOST}}\\t${{PROGRAM}}\\t${{PID}}\\t${{MSGID}}\\t${{SDATA}}\\t${{PRI}}\\t${{MSG}}\\n"));
}};
log {{ source(s); destination(d); }};
"""

    def command(self) -> list[str]:
        unpacked = SYSLOG_NG / "usr/lib/syslog-ng/3.38"
        modules = ["--module-path", str(unpacked)] if unpacked.exists() else []
        return [str(program("syslog-ng")), "-F", "-f", f"{self.folder}/conf", "-R",
                f"{self.folder}/persist", "-p", f"{self.folder}/pid", "-c", f"{self.folder}/ctl",
                "--no-caps", *modules]  # fmt: skip

    def messages(self) -> list[dict[str, str]]:
        names = ("host", "app", "pid", "msgid", "sd", "pri", "msg")
        return [dict(zip(names, line.decode().split("\t", len(names) - 1), strict=True))
                for line in self.lines()]  # fmt: skip


@contextlib.contextmanager
def running(kind: type[Program], folder: Path, certificates: Certificates) -> Iterator[Any]:
    """A program that runs in the context."""
    made = kind(folder, certificates)
    try:
        yield made
    finally:
        made.stop()


class Peer:
    """A receiver of the test: a server whose connections a thread reads.

    data        what each connection has given, in order
    stalled     set it, and nothing is read
    resets      after so many bytes of a connection it is reset, once all that came is read
    sending     hold it to send: no connection is reset meanwhile, or what is sent may be lost
    """

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._listener, self._tls = listener, tls
        self.address = listener.getsockname()
        self.data: list[bytearray] = []
        self.stalled = False
        self.sending = threading.Lock()
        self.resets: list[int] = []
        self._ended = False
        listener.settimeout(0.02)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @classmethod
    def tcp(cls, tls: ssl.SSLContext | None = None, port: int = 0) -> Peer:
        return cls(socket.create_server(("127.0.0.1", port)), tls)

    def _run(self) -> None:
        while not self._ended:
            with contextlib.suppress(TimeoutError, OSError):
                made, _ = self._listener.accept()
                self._read(made)

    def _read(self, made: socket.socket) -> None:
        """Read a connection until it ends."""
        made.settimeout(0.02)
        if self._tls is not None:
            made.settimeout(5)
            made = self._tls.wrap_socket(made, server_side=True)
            made.settimeout(0.02)
        with made:
            data = bytearray()
            self.data.append(data)
            after = self.resets.pop(0) if self.resets else None
            while not self._ended:
                if self.stalled:
                    time.sleep(0.01)
                    continue
                try:
                    part = made.recv(1 << 14)
                except TimeoutError:
                    continue
                if not part:
                    return
                data += part
                if after is not None and len(data) >= after:
                    self._reset(made, data)
                    return

    def _reset(self, made: socket.socket, data: bytearray) -> None:
        """Read all that the system has acknowledged, and reset the connection."""
        with self.sending:
            with contextlib.suppress(TimeoutError, OSError):
                while part := made.recv(1 << 20):
                    data += part
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()

    def close(self) -> None:
        self._ended = True
        self._thread.join(10)
        self._listener.close()
