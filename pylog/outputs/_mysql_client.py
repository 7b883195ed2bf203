"""A connection to MariaDB or MySQL with PyMySQL, and its errors.

PyMySQL is the driver because it is pure Python, has a free licence, is kept, and works with both
servers: those in C must be compiled or are made for one of them. It escapes values one by one in
Python, so rows come here as finished text (see _sql_text).
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pylog.errors import BackendError, missing_extra
from pylog.outputs import LONGEST_S
from pylog.outputs._sql_text import Style

try:
    import pymysql
    from pymysql.constants import CLIENT
except ImportError as error:
    raise missing_extra("the output mysql", "mysql") from error

STYLE = Style(
    opening="'", closing="'", start="(", end="),", comma=",", null="NULL", octets=("x'", "'"),
    escapes=(("\\", "\\\\"), ("'", "\\'")), zone="",
)  # fmt: skip
"""Rows of INSERT, in the mode that Client sets."""

CONNECT_S = 5
LOCAL = ("", "localhost", "127.0.0.1", "::1")
"""Hosts of this machine."""
MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
"""The words of ssl-mode, as those of the command mysql."""
PARAMETERS = ("unix_socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key")
"""What may follow ? in an address."""
REFUSALS = frozenset((
    1048, 1062, 1118, 1216, 1217, 1264, 1265, 1292, 1300, 1366, 1367, 1406, 1411, 1441, 1451, 1452,
    1526, 1644, 3140, 3819, 3988, 4025,
))  # fmt: skip
"""Errors that blame a row: values that do not fit, constraints, and what a trigger signals
(mysqld_error.h: ER_BAD_NULL_ERROR, ER_DUP_ENTRY, ... ER_CONSTRAINT_FAILED).
"""
_ROW = re.compile(r" at row (\d+)")
_NO_ADDRESS = (
    "the target is no address of MariaDB or MySQL, as mysql://USER@HOST:PORT/DATABASE or"
    " mysql://USER@localhost/DATABASE?unix_socket=PATH"
)


def parameters(address: str, password: str | None) -> dict[str, Any]:
    """The parameters of PyMySQL for an address; ValueError, which repeats nothing of the address.

    `ssl_mode`, `ssl_ca`, `ssl_cert` and `ssl_key` among them are not PyMySQL's: see `tls`.
    """
    try:
        parts = urlsplit(address)
        port, host = parts.port or 3306, parts.hostname or ""
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    database = unquote(parts.path.strip("/"))
    if parts.scheme not in ("mysql", "mariadb") or not database or parts.fragment:
        raise ValueError(_NO_ADDRESS)
    for name in query:
        if name not in PARAMETERS:
            raise ValueError(
                f"after ? of the target {', '.join(PARAMETERS)} may stand, and nothing else"
            )
    local = "unix_socket" in query or host in LOCAL
    mode = query.get("ssl-mode", "DISABLED" if local else "VERIFY_IDENTITY").upper()
    if mode not in MODES:
        raise ValueError(f"ssl-mode of the target must be one of {', '.join(MODES)}")
    given = None if parts.password is None else unquote(parts.password)
    return {
        "host": host or "localhost", "port": port, "database": database,
        "user": None if parts.username is None else unquote(parts.username),
        "password": given if password is None else password,
        "unix_socket": query.get("unix_socket"), "ssl_mode": mode,
        **{f"ssl_{name}": query.get(f"ssl-{name}") for name in ("ca", "cert", "key")},
    }  # fmt: skip


def tls(mode: str, ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """How to use TLS, as `mode` says; OSError or ValueError for files that cannot be used.

    Without `ca` the certificates of the system count.
    """
    if mode == "DISABLED":
        return None
    context = ssl.create_default_context(cafile=ca)
    if mode != "VERIFY_IDENTITY":
        context.check_hostname = False
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


class Client:
    """A connection; after BackendError it is of no use."""

    def __init__(self, address: str, password: str | None) -> None:
        given = parameters(address, password)
        secure = [given.pop(f"ssl_{name}") for name in ("mode", "ca", "cert", "key")]
        self._password = given["password"]
        self.database = given["database"]
        self._shown = f"database {given['database']} of MySQL on {given['host']}"
        try:
            context = tls(*secure)
            self._connection = pymysql.connect(
                **{name: value for name, value in given.items() if value is not None},
                **({"ssl_disabled": True} if context is None else {"ssl": context}),
                charset="utf8mb4", autocommit=True, client_flag=CLIENT.FOUND_ROWS,
                connect_timeout=CONNECT_S, read_timeout=LONGEST_S, write_timeout=LONGEST_S,
                sql_mode="STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
            )  # fmt: skip
        except (pymysql.Error, OSError, ValueError, RuntimeError) as error:
            raise self._failed("connect to", error) from None
        self.execute(f"SET SESSION innodb_lock_wait_timeout = {CONNECT_S}, time_zone = '+00:00'")

    def rows(self, query: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        """The rows that a query gives."""
        found: Sequence[tuple[Any, ...]] = self._run(query, values).fetchall()
        return found

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute a statement; gives the number of rows that it is about."""
        return int(self._run(statement, values).rowcount)

    def insert(self, statement: bytes, refused: Callable[[str, int | None], Exception]) -> None:
        """Insert rows, all or none: the exception that `refused` makes of the reason and of the
        row, if the server says it.
        """
        try:
            self._connection.query(statement)
        except pymysql.MySQLError as error:
            if self._code(error) not in REFUSALS or not self._connection.open:
                raise self._failed("write to", error) from None
            row = _ROW.search(self._reason(error))
            reason = _ROW.sub("", self._reason(error))
            raise refused(reason, None if row is None else int(row[1]) - 1) from None
        except OSError as error:
            raise self._failed("write to", error) from None

    def close(self) -> None:
        with contextlib.suppress(pymysql.Error, OSError, AttributeError):
            self._connection.close()

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        try:
            cursor = self._connection.cursor()
            cursor.execute(statement, tuple(values) or None)
            return cursor
        except (pymysql.Error, OSError) as error:
            raise self._failed("write to", error) from None

    @staticmethod
    def _code(error: Exception) -> int:
        code = error.args[0] if error.args else 0
        return code if isinstance(code, int) else 0

    def _failed(self, operation: str, error: Exception) -> BackendError:
        return BackendError(f"cannot {operation} {self._shown}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        """What the server or the driver says, in a line, without a password."""
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        text = " ".join(text.split()) or type(error).__name__
        return text.replace(self._password, "***") if self._password else text
