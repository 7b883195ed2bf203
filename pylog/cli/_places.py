"""Outputs of commands that write to a place and not to a file: --target.

A command reads a log once and ends. So nothing is written again after a failure: the command ends
with the error. What the output accepted is committed now and then, and at the end the command waits
until the peer has confirmed it, or reports that it has not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from pylog import outputs
from pylog.batch import Batch
from pylog.cli import say
from pylog.outputs import LONGEST_S
from pylog.record import Record, Row

COMMIT_S = 1.0
"""How often what was written is committed."""
LOOK_S = 0.05
"""How often to ask whether the peer has confirmed."""
SHOWN = 3
"""How many refusals are reported one by one."""


class OutputPlace(outputs.Output):
    """An output of a place, with the methods of _files.OutputFiles that a copying loop needs.

    records   how many records were written and committed
    refused   how many of them the peer refused
    """

    on_terminal = False

    def __init__(self, name: str, address: str, options: dict[str, object]) -> None:
        """Connects; BackendError."""
        self.records = self.refused = 0
        self._unconfirmed = 0
        self._due = time.monotonic() + COMMIT_S
        place = outputs.Place(address, refuse=self._refuse)
        self.output: outputs.Output | None = outputs.open(name, place, options)
        self.takes_rows = self.output.takes_rows
        self.shows_payload = self.output.shows_payload
        self.wanted = self.output.wanted

    def _refuse(self, record: Record | Row, reason: str) -> None:
        self.refused += 1
        if self.refused <= SHOWN:
            say(f"a record is refused: {reason}")

    def ready(self) -> outputs.Output:
        """The output to write to."""
        assert self.output is not None
        return self.output

    @contextlib.contextmanager
    def writing(self) -> Iterator[outputs.Output]:
        """The context of writing to the output."""
        yield self.ready()

    def write(self, batch: Batch) -> None:
        self.ready().write(batch)

    def write_rows(self, rows: Sequence[Row]) -> None:
        self.ready().write_rows(rows)

    def flush(self) -> None:
        self.ready().flush()

    def leave_out(self, counts: Mapping[str, int]) -> None:
        self.ready().leave_out(counts)

    def confirm(self, records: int) -> None:
        """So many records more were written."""
        self._unconfirmed += records
        self.flush()
        self.turn()

    def turn(self, hung_up: bool = False) -> None:
        """Between two batches: commit, if it is time to."""
        if self._unconfirmed and time.monotonic() >= self._due:
            self._commit()

    def _commit(self) -> None:
        written, self._unconfirmed = self._unconfirmed, 0
        self.ready().commit(str(self.records + written))
        self.records += written
        self._due = time.monotonic() + COMMIT_S

    def close(self) -> None:
        """Commit the rest, wait until it is confirmed, and disconnect; BackendError."""
        output = self.output
        if output is None:
            return
        try:
            self._commit()
            deadline = time.monotonic() + LONGEST_S
            while output.confirmed() != str(self.records) and time.monotonic() < deadline:
                time.sleep(LOOK_S)
            if output.confirmed() != str(self.records):
                say("the last records were sent, but not confirmed")
        finally:
            self.output = None
            output.close()
        if self.refused > SHOWN:
            say(f"{self.refused} records were refused in all")
