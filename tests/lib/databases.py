"""Databases for tests: PostgreSQL and MariaDB on unix sockets, in folders of their own, and SQLite.

A server runs as an unprivileged user, keeps nothing on the disk on purpose (a test's kill ends the
process, not the machine), and is ended by its id. `Lab` is what tests need of each of the three: an
address, an output, the rows of a table, a statement, and a crash.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pylog import outputs
from pylog.record import Record

START_S = 30.0
"""How long a server may take to answer."""

_numbers = itertools.count()


def program(name: str, *folders: str) -> str | None:
    """The path of a program, which may be in a folder that is not in PATH, the newest first."""
    there = [path for folder in folders for path in sorted(glob.glob(f"{folder}/{name}"))[::-1]]
    return next(iter(there), None) or shutil.which(name)


class Server(ABC):
    """A server of databases, which is started when it is needed."""

    user: str
    """The user that it runs as, if the tests are run by root."""
    binary: str
    folders: tuple[str, ...]

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = ""
        self.port = 0
        """On 127.0.0.1, with TLS by a certificate that has signed itself: cert.pem."""

    @property
    def certificate(self) -> str:
        return f"{self.folder}/cert.pem"

    def missing(self) -> str:
        """Why it cannot be started here; "" if it can."""
        needed = {self.binary: program(self.binary, *self.folders), "openssl": program("openssl")}
        absent = [name for name, path in needed.items() if path is None]
        return f"needs {', '.join(absent)}" if absent else ""

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        if not self.folder:
            self.folder = tempfile.mkdtemp(prefix="pylog-")
            if os.geteuid() == 0:
                owner = pwd.getpwnam(self._user())
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem",
            )  # fmt: skip
            self.prepare()
        with open(Path(self.folder, "log"), "ab") as log:
            self._process = self._popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self.answers():
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        """What it has printed."""
        return Path(self.folder, "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it and its processes at once, as a crash would."""
        assert self._process is not None
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self._process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + START_S
        while any(os.path.exists(f"/proc/{child}") for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _user(self) -> str:
        names = {entry.pw_name for entry in pwd.getpwall()}
        return self.user if self.user in names else "nobody"

    def run(self, *command: str) -> None:
        """Run a program as the server's user."""
        process = self._popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed.decode(errors="replace")

    def _popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(self._user())
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self.folder, **options)

    @abstractmethod
    def prepare(self) -> None:
        """Make the files of an empty server."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command that starts it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes connections."""


class PostgreSQLServer(Server):
    """PostgreSQL.

    settings   of the server, which write little to the disk
    """

    user = "postgres"
    binary = "initdb"
    folders = ("/usr/lib/postgresql/*/bin",)

    def __init__(self) -> None:
        super().__init__()
        self.settings = {
            "fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB",
            "autovacuum": "off", "max_connections": "20", "log_min_messages": "fatal",
        }  # fmt: skip

    def prepare(self) -> None:
        self.run(
            str(program("initdb", *self.folders)), "-D", f"{self.folder}/data", "-U", "pylog",
            "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip

    def command(self) -> list[str]:
        settings = {
            "unix_socket_directories": self.folder, "listen_addresses": "127.0.0.1",
            "port": str(self.port), "ssl": "on", "ssl_cert_file": self.certificate,
            "ssl_key_file": f"{self.folder}/key.pem", **self.settings,
        }  # fmt: skip
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        binary = str(program("postgres", *self.folders))
        return [binary, "-D", f"{self.folder}/data", *given]

    def address(self, database: str = "postgres", **more: str) -> str:
        where = {"host": self.folder, "port": str(self.port)}
        parameters = {**where, "user": "pylog", "dbname": database, **more}
        return " ".join(f"{name}={value}" for name, value in parameters.items())

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address()).close()
        except psycopg.OperationalError:
            return False
        return True


class MariaDBServer(Server):
    user = "mysql"
    binary = "mariadbd"
    folders = ("/usr/sbin",)

    def prepare(self) -> None:
        self.run("mkdir", f"{self.folder}/data")

    def command(self) -> list[str]:
        return [
            str(program(self.binary, *self.folders)), "--no-defaults",
            f"--datadir={self.folder}/data", f"--socket={self.socket}",
            f"--pid-file={self.folder}/pid", "--skip-grant-tables", "--bind-address=127.0.0.1",
            f"--port={self.port}", f"--ssl-cert={self.certificate}",
            f"--ssl-key={self.folder}/key.pem",
            "--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=16M", "--innodb-fast-shutdown=2",
            "--innodb-data-file-path=ibdata1:4M:autoextend", "--sync-binlog=0",
        ]  # fmt: skip

    @property
    def socket(self) -> str:
        return f"{self.folder}/s"

    def address(self, database: str) -> str:
        return f"mysql://root@localhost/{database}?unix_socket={self.socket}"

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(self.socket)
                return bool(client.recv(4))
            except OSError:
                return False


class Lab(ABC):
    """A database for a test, with what tests need to look into it.

    name      of the output
    address   of the target
    """

    name: str
    address: str

    def open(
        self, stream: str = "", refuse: outputs.Refuse | None = None, **options: Any
    ) -> outputs.Output:
        """The output."""
        more = {} if refuse is None else {"refuse": refuse}
        return outputs.open(self.name, outputs.Place(self.address, stream, **more), options)

    def records(self, records: Sequence[Record], **options: Any) -> list[tuple[Any, str]]:
        """Write records, and commit; gives those that were refused."""
        from pylog.batch import Batch

        refused: list[tuple[Any, str]] = []
        output = self.open(refuse=lambda *given: refused.append(given), **options)
        output.write(Batch(records))
        output.commit("1")
        output.close()
        return refused

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table by the names of its columns, in the order in which they are held."""
        names, rows = self.query(f"SELECT * FROM {self.quoted(table)}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def count(self, table: str) -> int:
        ((count,),) = self.query(f"SELECT count(*) FROM {self.quoted(table)}")[1]
        return int(count)

    def quoted(self, table: str) -> str:
        return table

    @abstractmethod
    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Execute a statement by a connection of its own; the names and rows of its result."""

    def crash(self) -> None:
        """Kill the server, and start it again."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027
        """Remove the database."""


class PostgreSQLLab(Lab):
    name = "postgresql"

    def __init__(self, server: PostgreSQLServer) -> None:
        self.server = server
        self.database = f"test{next(_numbers)}"
        self.address = server.address(self.database)
        self._of_server(f"CREATE DATABASE {self.database}")

    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        import psycopg

        with psycopg.connect(self.address, autocommit=True) as connection:
            cursor = connection.execute(statement)
            if cursor.description is None:
                return [], []
            return [column.name for column in cursor.description], cursor.fetchall()

    def _of_server(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.server.address(), autocommit=True) as connection:
            connection.execute(statement)

    def quoted(self, table: str) -> str:
        return f'pylog."{table}"'

    def crash(self) -> None:
        self.server.kill()
        self.server.start()

    def close(self) -> None:
        self._of_server(f"DROP DATABASE {self.database} WITH (FORCE)")


class MySQLLab(Lab):
    name = "mysql"

    def __init__(self, server: MariaDBServer) -> None:
        self.server = server
        self.database = f"test{next(_numbers)}"
        self.address = server.address(self.database)
        self._query("", f"CREATE DATABASE {self.database}")

    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        return self._query(self.database, statement)

    def _query(self, database: str, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        import pymysql

        with contextlib.closing(
            pymysql.connect(
                unix_socket=self.server.socket, user="root", autocommit=True,
                **({"database": database} if database else {}),
            )
        ) as connection:  # fmt: skip
            cursor = connection.cursor()
            cursor.execute(statement)
            return [column[0] for column in cursor.description or ()], list(cursor.fetchall())

    def crash(self) -> None:
        self.server.kill()
        self.server.start()

    def close(self) -> None:
        self._query("", f"DROP DATABASE {self.database}")


class SQLiteLab(Lab):
    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.address = str(path)

    def query(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        with contextlib.closing(sqlite3.connect(self.address, isolation_level=None)) as database:
            cursor = database.execute(statement)
            return [column[0] for column in cursor.description or ()], cursor.fetchall()


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The context in which a server may run."""
    try:
        yield server
    finally:
        server.close()
