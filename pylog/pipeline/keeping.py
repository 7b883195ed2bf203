"""Keeps how far a stack came: its confirmed position, and the end of its file at that position.

Both are kept together, so that after a kill or a failure the file can be cut off where the position
says, and what comes after it is written again. A disk that is full must not stop the output: then
what was kept before stays, which is older and fits together as well.
"""

from __future__ import annotations

from pylog import outputs
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.outputs._files import OutputFiles
from pylog.pipeline.positions import PositionFile
from pylog.transports.ends import End, mend
from pylog.transports.rotation import File


class Keeping:
    """What is kept of a stack."""

    def __init__(self, stack: str, kept: PositionFile | None) -> None:
        """`kept` None: there is no journal, or the output stores its position."""
        self._stack, self._kept = stack, kept
        self._position: str | None = None
        self._end: End | None = None
        """Where the file of the output ends after its last commit."""
        self._file: File | None = None
        """The file that this is the end of."""
        before = None if kept is None else kept.read()
        self._certain = None if before is None else before.end
        """The end at the last position that was confirmed."""
        self._is_unsaved = False

    def mend(self) -> None:
        """Before the output is opened: take back what its file has beyond what is confirmed, as it
        is written again. BackendError.
        """
        if self._certain is not None and (size := mend(self._certain)):
            notes.info("%s: its last %d bytes were not committed, and are written again",
                       self._certain.path, size)  # fmt: skip

    def begin(self, position: str) -> None:
        """The output was opened, and goes on after this position."""
        self._position = position

    def before_writing(self, output: outputs.Output) -> None:
        """Keep where a file ends that was just opened, before anything is written to it."""
        if not isinstance(output, OutputFiles):
            return
        output.ready()
        if output.file is not self._file:
            self._file, self._end = output.file, output.end()
            self.confirmed(self._position)

    def committed(self, output: outputs.Output) -> None:
        """The output has committed, which confirms what is in a file."""
        if isinstance(output, OutputFiles):
            self._end = output.end()

    def complete(self) -> None:
        """The file is complete: nothing is to be cut off."""
        self._end = None

    def confirmed(self, position: str | None) -> None:
        """Keep a position; None: there is none yet."""
        self._position, self._certain = position, self._end
        if self._kept is None or position is None:
            return
        try:
            self._kept.write(position, self._end)
            self._is_unsaved = False
        except BackendError as error:
            if not self._is_unsaved:
                notes.warning("stack %s: %s; records may be written twice after a restart",
                              self._stack, error)  # fmt: skip
            self._is_unsaved = True
