"""The output PGSQL: a statement for each record, in PostgreSQL.

The columns are those of a table or view in `schema`, without a first one that begins with `_`.
Statements are sent by libpq's simple protocol as ulogd sends them, so PostgreSQL chooses functions
by the same types. Source: output/pgsql/ulogd_output_PGSQL.c, measured.
"""

from __future__ import annotations

from typing import Any

from pylog.errors import missing_extra
from pylog.ulogd.sql import Client, Database, Gone, Refused

CONNECT_S = 10
"""How long connecting may take, where connect_timeout says nothing."""
_TEMPORARY = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that blame no row: the same statement may be taken later."""
_COLUMNS = """
select attname from pg_attribute join pg_class on attrelid = pg_class.oid
join pg_namespace on relnamespace = pg_namespace.oid
where relname = %s and nspname = %s and attnum > 0 and not attisdropped order by attnum
"""


class Pgsql(Database):
    """The output PGSQL."""

    skipped = "_"

    def connected(self) -> Client:
        return _Connection(self.options, self.surroundings.exact)

    def table(self) -> str:
        return f"{self.options['schema']}.{self.options['table']}"

    def named(self, column: str) -> str:
        return '"' + column.replace('"', '""') + '"'

    def quoted(self, text: bytes) -> bytes:
        return b"'" + text.replace(b"'", b"''") + b"'"


class _Connection:
    """A connection of psycopg."""

    def __init__(self, options: dict[str, Any], exact: bool) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise missing_extra("the output PGSQL", "postgresql") from error
        self._psycopg = psycopg
        self._options = options
        given = {
            "dbname": options["db"], "host": options["host"], "user": options["user"],
            "password": options["pass"], "port": options["port"] or "",
        }  # fmt: skip
        given = {name: value for name, value in given.items() if value}
        more = {"connect_timeout": options["connect_timeout"] or CONNECT_S,
                "tcp_user_timeout": 30_000}  # fmt: skip
        if not exact:
            more["client_encoding"] = "UTF8"
        try:
            if options["connstring"]:
                given = psycopg.conninfo.conninfo_to_dict(options["connstring"])
            self._connection = psycopg.connect(**(more | given), autocommit=True)
            self._connection.execute("set standard_conforming_strings = on")
            path = ", ".join(
                '"' + name.replace('"', '""') + '"' for name in (options["schema"], "$user")
            )
            self._connection.execute(f"set search_path = {path}, public")
        except psycopg.Error as error:
            raise Gone(_first(str(error))) from error

    def columns(self) -> list[str]:
        try:
            rows = self._connection.execute(
                _COLUMNS, (self._options["table"], self._options["schema"])
            )
            return [row[0] for row in rows]
        except self._psycopg.Error as error:
            raise Gone(_first(str(error))) from error

    def execute(self, statements: list[bytes]) -> None:
        pq = self._psycopg.pq
        result = self._connection.pgconn.exec_(b";".join(statements))  # one transaction
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return
        reason = _first(result.error_message.decode("utf-8", "replace"))
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode("ascii", "replace")
        lost = self._connection.pgconn.status != pq.ConnStatus.OK
        if lost or not state or state.startswith(_TEMPORARY):
            raise Gone(reason)
        raise Refused(reason)

    def close(self) -> None:
        self._connection.close()


def _first(text: str) -> str:
    """The first line of what the server has to say."""
    return text.strip().partition("\n")[0] or "the connection has ended"
