"""The output MYSQL: a statement for each record, in MariaDB or MySQL.

The columns are those of a table or view without the first. Of a function that is called by SELECT
ulogd never sees the errors, so exact outputs ignore them. Source: output/mysql/
ulogd_output_MYSQL.c, measured.
"""

from __future__ import annotations

import contextlib
from typing import Any

from pylog.errors import missing_extra
from pylog.ulogd.sql import Client, Database, Gone, Refused

CONNECT_S = 10
"""How long connecting may take, where connect_timeout says nothing."""
LONGEST_S = 30
"""How long a statement may take."""
_TEMPORARY = frozenset((
    0, 3, 28, 1020, 1021, 1030, 1037, 1038, 1040, 1041, 1053, 1077, 1114, 1129, 1135, 1159, 1160,
    1161, 1203, 1205, 1206, 1213, 1290, 1317, 1927, 1969, 2006, 2013, 2014, 2055, 3024,
))  # fmt: skip
"""Errors that blame no row (mysqld_error.h, errmsg.h): the same statement may be taken later."""


class Mysql(Database):
    """The output MYSQL."""

    def connected(self) -> Client:
        return _Connection(self.options, self.surroundings.exact)

    def named(self, column: str) -> str:
        return "`" + column.replace("`", "``") + "`"

    def quoted(self, text: bytes) -> bytes:
        from pymysql.converters import escape_string

        escaped: str = escape_string(text.decode("latin-1"))
        return b"'" + escaped.encode("latin-1") + b"'"


class _Connection:
    """A connection of PyMySQL."""

    def __init__(self, options: dict[str, Any], exact: bool) -> None:
        try:
            import pymysql
        except ImportError as error:
            raise missing_extra("the output MYSQL", "mysql") from error
        self._pymysql = pymysql
        self._exact, self._table = exact, options["table"]
        host, where = options["host"], {}
        if host in ("", "localhost"):  # as libmysqlclient, which takes the socket for that word
            where["unix_socket"] = _socket()
        try:
            self._connection = pymysql.connect(
                host=host or "localhost", port=options["port"] or 3306, user=options["user"],
                password=options["pass"], database=options["db"], charset="utf8mb4",
                autocommit=True, connect_timeout=options["connect_timeout"] or CONNECT_S,
                read_timeout=LONGEST_S, write_timeout=LONGEST_S, **where,
            )  # fmt: skip
            # the escapes of `quoted` are those without NO_BACKSLASH_ESCAPES
            self._query(b"set sql_mode = replace(@@sql_mode, 'NO_BACKSLASH_ESCAPES', '')")
        except (pymysql.Error, OSError, Refused) as error:
            raise Gone(_reason(error)) from error

    def columns(self) -> list[str]:
        name = self._table.replace("`", "``")
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"show columns from `{name}`")
                return [row[0] for row in cursor.fetchall()]
            except self._pymysql.Error as error:
                raise Refused(_reason(error)) from error

    def execute(self, statements: list[bytes]) -> None:
        if len(statements) == 1:
            self._query(statements[0])
            return
        self._query(b"begin")
        try:
            for statement in statements:
                self._query(statement)
        except Refused:
            self._query(b"rollback")
            raise
        self._query(b"commit")

    def _query(self, statement: bytes) -> None:
        from pymysql.cursors import SSCursor

        called = self._exact and statement.startswith(b"SELECT ")
        try:
            cursor = self._connection.cursor(SSCursor)
            cursor.execute(statement)
            with contextlib.suppress(*([self._pymysql.Error] if called else [])):
                cursor.fetchall()
                cursor.close()
        except (self._pymysql.Error, OSError) as error:
            number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            if not self._connection.open or number in _TEMPORARY or isinstance(error, OSError):
                raise Gone(_reason(error)) from error
            raise Refused(_reason(error)) from error

    def close(self) -> None:
        with contextlib.suppress(self._pymysql.Error, OSError):
            self._connection.close()


def _socket() -> str | None:
    """The socket of this machine's server, None if there is none."""
    import os

    paths = (os.environ.get("MYSQL_UNIX_PORT", ""), "/run/mysqld/mysqld.sock",
             "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock",
             "/var/lib/mysql/mysql.sock")  # fmt: skip
    return next((path for path in paths if path and os.path.exists(path)), None)


def _reason(error: BaseException) -> str:
    """What the server has to say, without its number."""
    return str(error.args[-1] if error.args else error) or "the connection has ended"
