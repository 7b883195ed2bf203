"""Keeps how far a stack came: its confirmed position, and the end of its file at that position.

Both are kept together, so that after a kill or a failure the file can be cut off where the position
says, and what comes after it is written again. A disk that is full must not stop the output: then
what was kept before stays, which is older and fits together as well.
"""

from __future__ import annotations

from collections.abc import Callable

from pylog import outputs
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.outputs._files import OutputFiles
from pylog.transports.ends import End
from pylog.transports.rotation import File

Save = Callable[[str, End | None], None]
"""Keeps a position and the end of a file; BackendError."""


class Keeping:
    """What is kept of a stack."""

    def __init__(self, stack: str, save: Save | None) -> None:
        """`save` None: the output stores its position, or nothing is kept."""
        self._stack, self._save = stack, save
        self._position: str | None = None
        self._end: End | None = None
        self._file: File | None = None
        """The file that this is the end of."""
        self._is_unsaved = False

    def begin(self, position: str) -> None:
        """The output was opened, and goes on after this position."""
        self._position, self._file = position, None

    def before_writing(self, output: outputs.Output) -> None:
        """Keep where a file ends that was just opened, before anything is written to it."""
        if not isinstance(output, OutputFiles):
            return
        output.ready()
        if output.file is not self._file:
            self._file, self._end = output.file, output.end()
            if self._position is not None:
                self.confirmed(self._position)

    def committed(self, output: outputs.Output) -> None:
        """The output has committed, which confirms what is in a file."""
        if isinstance(output, OutputFiles):
            self._end = output.end()

    def complete(self) -> None:
        """The file is complete: nothing is to be cut off."""
        self._end = None

    def confirmed(self, position: str) -> None:
        """Keep a position."""
        self._position = position
        if self._save is None:
            return
        try:
            self._save(position, self._end)
            self._is_unsaved = False
        except BackendError as error:
            if not self._is_unsaved:
                notes.warning("stack %s: %s; records may be written twice after a restart",
                              self._stack, error)  # fmt: skip
            self._is_unsaved = True
