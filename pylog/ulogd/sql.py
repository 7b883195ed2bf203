"""What the outputs PGSQL and MYSQL share: statements, and what becomes of those that fail.

A record is one statement: INSERT or the call of a procedure, whose values are written out. Exact
outputs do as ulogd 2.0.8: each statement is sent by itself, any error, also of one row, closes the
connection for `reconnect` seconds, and what comes meanwhile is lost unless there is a backlog or a
ring, which a row that the server refuses blocks for ever. Otherwise statements are sent together,
a refused row is set aside and counted, and while the server is away statements wait in memory.
Source: util/db.c, output/pgsql/ulogd_output_PGSQL.c, output/mysql/ulogd_output_MYSQL.c, measured.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from pylog.errors import BackendError
from pylog.ulogd.columns import columns_of
from pylog.ulogd.keys import BOOL, IP, LITERAL, RAW, TEXT, Key, Value
from pylog.ulogd.log import ERROR
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

TOGETHER = 200
"""So many statements are sent at once, except by exact outputs."""
QUEUE_BYTES = 64 << 20
"""So many bytes of statements wait in memory at least, except by exact outputs."""


class Refused(Exception):
    """The server refuses a statement, and nothing of what was sent with it was done."""


class Gone(Exception):
    """The connection does not work."""


class Client(Protocol):
    """A connection to a database."""

    def columns(self) -> list[str]:
        """The columns of the table, [] if there is none; Refused, Gone."""

    def execute(self, statements: list[bytes]) -> None:
        """Do all statements or none; Refused, Gone."""

    def close(self) -> None:
        """End the connection."""


def opening(procedure: str, table: str, columns: list[str], exact: bool) -> str:
    """The beginning of statements, up to the bracket before the values.

    table     as it stands in a statement
    columns   likewise, without the one that is skipped
    exact     whether CALL is written twice, as ulogd does
    """
    listed = f" ({', '.join(columns)}) values ("
    upper = procedure.upper()
    if upper == "INSERT":
        return f"insert into {table}{listed}"
    if upper.startswith("INSERT "):
        return f"{procedure}{listed}"
    if upper.startswith("CALL"):
        return f"CALL {procedure}(" if exact or upper[4:5] != " " else f"{procedure}("
    return f"SELECT {procedure}("


class Database(Sink):
    """An output that writes to a database."""

    skipped = ""
    """A first column that begins so gets no value."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self._client: Client | None = None
        self._due_s = 0
        """When the next attempt to connect is due, by the clock of the records."""
        self._off, self._reason, self._lost = False, "", 0
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._rows = self.options["ring_buffer_size"]
        """So many statements wait at most; 0: their bytes decide."""
        self._most = self.options["backlog_memcap"]
        self._together = 1
        if not surroundings.exact:
            self._rows, self._most = 0, max(self._most, QUEUE_BYTES)
            self._together = TOGETHER

    # What a database has of its own

    def connected(self) -> Client:
        """A new connection; Gone."""
        raise NotImplementedError

    def table(self) -> str:
        """The table as it stands in a statement."""
        return str(self.options["table"])

    def named(self, column: str) -> str:
        """A column as it stands in a statement."""
        raise NotImplementedError

    def quoted(self, text: bytes) -> bytes:
        """A text as it stands in a statement, with its quotes; it has no NUL."""
        raise NotImplementedError

    # As an output

    def wanted(self, offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
        self._offered = offered
        return []

    def start(self) -> None:
        table = self.options["table"]
        try:
            self._client = self.connected()
            names = self._client.columns()
        except (Gone, Refused) as error:
            self._close()
            raise BackendError(str(error)) from error
        if not names:
            self._close()
            raise BackendError(f"no table or view {table!r}")
        if names[0].startswith(self.skipped):
            del names[0]
        try:
            self.instance.columns = columns_of(names, self._offered)
        except BackendError:
            self._close()
            raise
        columns = [self.named(name) for name in names]
        exact = self.surroundings.exact
        self._opening = opening(self.options["procedure"], self.table(), columns, exact).encode()

    def write(self, values: Values, view: View) -> None:
        if self._off:
            raise BackendError("permanently disabled, since reconnect is 0")
        client = self._connection()
        if client is None and not self._keeps:
            raise BackendError("no connection to the database")
        self._put(self._made(values))
        if client is not None and len(self._waiting) >= self._together:
            self._send(client)
            if not self._keeps and self._waiting:
                self._waiting.clear()
                self._size = 0
                raise BackendError(self._reason)

    def flush(self) -> None:
        if self.surroundings.exact or self._off or not self._waiting:
            return  # ulogd sends when a record comes
        if (client := self._connection()) is not None:
            self._send(client)

    def stop(self) -> None:
        self._due_s = 0
        self.flush()
        self._lost += len(self._waiting)
        self._waiting.clear()
        self._close()

    @property
    def lost(self) -> int:
        return self._lost

    # Statements

    def _made(self, values: Values) -> bytes:
        texts = b",".join(self._text(key, values[at]) for key, at in self.instance.columns)
        return self._opening + texts + b")"

    def _text(self, key: Key, value: Value) -> bytes:
        """A value as it stands in a statement."""
        if value is None or key.type == RAW:
            return b"NULL"
        if isinstance(value, int):
            return b"'%d'" % value if key.type == BOOL else b"%d" % value
        if key.type == LITERAL:
            return value
        if key.type == IP:
            if len(value) == 16 and not self.surroundings.exact:
                return b"NULL"
            return b"%d" % int.from_bytes(value[:4], "little")
        assert key.type == TEXT
        if not self.surroundings.exact:  # text in UTF-8, which a server would refuse otherwise
            value = value.decode("utf-8", "backslashreplace").encode()
        return self.quoted(value.partition(b"\0")[0])

    # The connection

    @property
    def _keeps(self) -> bool:
        """Whether statements wait while there is no connection."""
        return bool(self._most or self._rows)

    def _put(self, statement: bytes) -> None:
        """Have a statement wait; BackendError if there is no room."""
        if self._keeps:
            full = (
                len(self._waiting) >= self._rows
                if self._rows
                else self._size + len(statement) > self._most
            )
            if full:
                raise BackendError("the queue of statements is full")
        self._waiting.append(statement)
        self._size += len(statement)

    def _connection(self) -> Client | None:
        """The connection, a new one if it is time for it."""
        if self._client is None and self._now_s() >= self._due_s:
            try:
                self._client = self.connected()
            except Gone as error:
                self._fail(f"can't establish database connection: {error}")
        return self._client

    def _send(self, client: Client) -> None:
        """Send what waits, as much as is to be sent at once."""
        number = len(self._waiting)
        if self.surroundings.exact and self._most and not self._rows:
            # the statement at hand, after those of the backlog that may be sent at once
            number = min(number, max(self.options["backlog_oneshot_requests"], 3) + 1)
        try:
            while number > 0:
                part = [self._waiting[i] for i in range(min(self._together, number))]
                try:
                    client.execute(part)
                except Refused as error:
                    if self.surroundings.exact:
                        self._fail(str(error))
                        return
                    self._send_each(client, part)
                self._drop(len(part))
                number -= len(part)
        except Gone as error:
            self._fail(str(error))

    def _send_each(self, client: Client, statements: list[bytes]) -> None:
        """Send statements one by one; those that the server refuses are set aside and counted."""
        for number, statement in enumerate(statements):
            try:
                client.execute([statement])
            except Refused as error:
                self._lost += 1
                self._report(f"a row is refused: {error}")
            except Gone:
                self._drop(number)
                raise

    def _drop(self, number: int) -> None:
        for _ in range(number):
            self._size -= len(self._waiting.popleft())

    def _fail(self, reason: str) -> None:
        """Close the connection, and say when the next attempt is due."""
        self._close()
        self._reason = reason
        seconds = self.options["reconnect"]
        if not seconds:
            self._off = True
            self._lost += len(self._waiting) if self._keeps else 0
            self._report(f"{reason}; permanently disabling the plugin")
            return
        self._report(f"{reason}; no connection to the database, the next attempt follows after"
                     f" {seconds} seconds")  # fmt: skip
        self._due_s = self._now_s() + seconds

    def _now_s(self) -> int:
        return self.surroundings.clock_us() // 1_000_000

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _report(self, text: str) -> None:
        self.surroundings.log(ERROR, f"{self.instance.id}: {text}")
