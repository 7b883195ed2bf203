"""A descriptor that poll() and select() work on, for the doubles."""

from __future__ import annotations

import os


class Descriptor:
    """The end of a pipe that has a byte in it while there is something to read."""

    def __init__(self, flags: int) -> None:
        access = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        self.readable, self.writable = access != os.O_WRONLY, access != os.O_RDONLY
        self.number, self._other = os.pipe()
        self._shown = False

    def show(self, ready: bool) -> None:
        if ready and not self._shown:
            os.write(self._other, b"\0")
        elif self._shown and not ready:
            os.read(self.number, 1)
        self._shown = ready

    def close(self) -> None:
        os.close(self.number)
        os.close(self._other)
