"""A connection to PostgreSQL with psycopg: transactions, COPY with savepoints, and its errors.

Each call ends in time: the server is asked to give up a statement, and where it does not answer at
all, the connection is cut. Errors never show a password: neither the address is repeated nor what
libpq says of an address that it cannot read.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pylog.errors import BackendError, missing_extra
from pylog.outputs import LONGEST_S
from pylog.outputs._sql_text import Style

try:
    import psycopg
    from psycopg import conninfo
except ImportError as error:
    raise missing_extra("the output postgresql", "postgresql") from error

STYLE = Style(
    opening="", closing="", start="", end="\n", comma="\t", null="\\N", octets=("\\\\x", ""),
    escapes=(("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")), zone="+00",
)  # fmt: skip
"""The text format of COPY."""

SERVER_S = int(LONGEST_S) - 1
"""How long a statement may take before the server gives it up."""
CONNECT_S = 5
LOCAL = ("", "localhost", "127.0.0.1", "::1")
"""Hosts of this machine, besides the paths of sockets."""
REFUSALS = ("22", "23", "44", "54", "P0")
"""Classes of SQLSTATE that blame a row: data, constraints, CHECK OPTION, limits of a row, and what
a trigger raises.
"""
_LINE = re.compile(r"^COPY [^\n]*, line (\d+)", re.M)


def parameters(address: str, password: str | None) -> dict[str, Any]:
    """The parameters of libpq for an address; ValueError, which repeats nothing of the address."""
    if "://" not in address and "=" not in address:
        raise ValueError(_NO_ADDRESS)
    try:
        given: dict[str, Any] = conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        raise ValueError(_NO_ADDRESS) from None
    if password is not None:
        given["password"] = password
    defaults = {
        "connect_timeout": CONNECT_S, "application_name": "pylog", "keepalives_idle": 20,
        "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": int(LONGEST_S * 1000),
    }  # fmt: skip
    return defaults | given | _tls(given) | {"client_encoding": "UTF8"}


_NO_ADDRESS = (
    "the target is no address of PostgreSQL, as postgresql://USER@HOST/DATABASE or"
    " host=HOST user=USER dbname=DATABASE"
)


def _tls(given: dict[str, Any]) -> dict[str, str]:
    """What TLS needs to verify the server, if that is another machine and nothing else is said.

    Without a file of certificates those of the system count, from libpq 16 on.
    """
    if "sslmode" in given or "PGSSLMODE" in os.environ or "service" in given:
        return {}
    hosts = str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST", ""))
    if all(host in LOCAL or host.startswith(("/", "@")) for host in hosts.split(",")):
        return {}
    mode = {"sslmode": "verify-full"}
    own = os.path.expanduser("~/.postgresql/root.crt")
    named = "sslrootcert" in given or "PGSSLROOTCERT" in os.environ or os.path.exists(own)
    if not named and psycopg.pq.version() >= 160000:
        mode["sslrootcert"] = "system"
    return mode


class Client:
    """A connection; after BackendError it is of no use."""

    def __init__(self, address: str, password: str | None) -> None:
        given = parameters(address, password)
        self._password = given.get("password")
        host = given.get("host") or given.get("hostaddr") or "this machine"
        database = given.get("dbname") or given.get("user") or "the default"
        self._shown = f"database {database} of PostgreSQL on {host}"
        self._cut = False
        try:
            self._connection = psycopg.connect(**given, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise self._failed("connect to", error) from None

    def begin(self) -> None:
        """Begin a transaction, in which no statement takes longer than SERVER_S."""
        self._run(f"BEGIN; SET LOCAL statement_timeout = '{SERVER_S}s'")

    def commit(self) -> None:
        self._run("COMMIT")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """The context of a transaction."""
        self.begin()
        yield
        self.commit()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives."""
        found: list[tuple[Any, ...]] = self._run(query, values, lambda cursor: cursor.fetchall())
        return found

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; gives the number of rows that it changed."""
        return int(self._run(statement, values, lambda cursor: cursor.rowcount))

    def tried(self, *statements: str) -> str | None:
        """Execute statements in the transaction, or in one of their own; gives the reason if the
        server refuses one, and the transaction is as before.
        """
        idle = self._connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        self._run("BEGIN" if idle else "SAVEPOINT pylog")
        try:
            with self._limited():
                for statement in (f"SET LOCAL lock_timeout = '{CONNECT_S}s'", *statements):
                    self._connection.execute(statement)
        except psycopg.Error as error:
            if self._connection.closed or self._cut:
                raise self._failed("write to", error) from None
            self._run("ROLLBACK" if idle else "ROLLBACK TO pylog")
            return self._reason(error)
        self._run("COMMIT" if idle else "RELEASE pylog")
        return None

    def copy(
        self, statement: str, text: memoryview, refused: Callable[[str, int | None], Exception]
    ) -> None:
        """Copy rows into a table, all or none: the exception that `refused` makes of the reason
        and of the row, if the server says it.
        """
        self._run("SAVEPOINT pylog")
        try:
            with (
                self._limited(),
                self._connection.cursor() as cursor,
                cursor.copy(statement) as copy,
            ):
                copy.write(text)
        except psycopg.Error as error:
            if self._connection.closed or self._cut or error.sqlstate is None:
                raise self._failed("write to", error) from None
            if not error.sqlstate.startswith(REFUSALS):
                raise self._failed("write to", error) from None
            self._run("ROLLBACK TO pylog")
            line = _LINE.search(error.diag.context or "")
            row = None if line is None else int(line[1]) - 1
            raise refused(self._reason(error), row) from None
        self._run("RELEASE pylog")

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()

    def _run(
        self, statement: str, values: Sequence[Any] = (), result: Callable[[Any], Any] | None = None
    ) -> Any:
        try:
            with self._limited(), self._connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return None if result is None else result(cursor)
        except psycopg.Error as error:
            raise self._failed("write to", error) from None

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """The context of a wait for the server, which ends after LONGEST_S."""
        timer = threading.Timer(LONGEST_S, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        """Cut the connection, which wakes who waits for it."""
        self._cut = True
        with contextlib.suppress(OSError, psycopg.Error):
            copy = socket.socket(fileno=os.dup(self._connection.fileno()))
            with contextlib.closing(copy):
                copy.shutdown(socket.SHUT_RDWR)

    def _failed(self, operation: str, error: psycopg.Error) -> BackendError:
        if self._cut:
            return BackendError(
                f"cannot {operation} {self._shown}: no answer for {LONGEST_S:.0f} s"
            )
        return BackendError(f"cannot {operation} {self._shown}: {self._reason(error)}")

    def _reason(self, error: psycopg.Error) -> str:
        """What the server or libpq says, in a line, without a password."""
        text = error.diag.message_primary or " ".join(str(error).split())
        column = f" (column {error.diag.column_name})" if error.diag.column_name else ""
        if self._password:
            text = text.replace(str(self._password), "***")
        return text + column
