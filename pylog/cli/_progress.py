"""The progress bar of commands that read long files, on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pylog.backends.base import Backend
from pylog.record import escape

LONG_FILE = 1 << 24
"""Shorter files, in bytes, have no progress bar."""


@contextlib.contextmanager
def progress(backends: Sequence[Backend], on_terminal: bool) -> Iterator[Any]:
    """A function that moves the progress bar of these backends, see `bar`."""
    sizes = [backend.size for backend in backends if backend.size is not None]
    size = sum(sizes) if len(sizes) == len(backends) else 0
    with bar(size, backends[0].name, on_terminal) as move:

        def move_on() -> None:
            move(sum(backend.position() for backend in backends))

        yield move_on
        move_on()


@contextlib.contextmanager
def bar(size: int, name: str, on_terminal: bool) -> Iterator[Callable[[int], None]]:
    """A function that moves a progress bar to a position in `size` bytes, if there is a bar.

    There is one for a long file, when standard error is a terminal, the records do not go to a
    terminal (`on_terminal`), and tqdm (the extra `progress`) is installed.
    """
    if size < LONG_FILE or not sys.stderr.isatty() or on_terminal:
        yield lambda at: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda at: None
        return
    with tqdm(
        total=size, unit="B", unit_scale=True, desc=escape(os.path.basename(name)), file=sys.stderr
    ) as shown:

        def move(at: int) -> None:
            shown.update(at - shown.n)

        yield move
