"""The process of a stack, which `pylog run` starts with the descriptors of its sockets.

It needs no privilege, and gives up what it has before it imports what reads and writes records.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylog.cli import begin_logging


def main(arguments: Sequence[str]) -> int:
    """Run a stack: the exit status.

    arguments   the descriptor of the control socket and, without a journal, of that for blocks
    """
    begin_logging()
    from pylog.pipeline import privileges

    privileges.keep(())
    from pylog.pipeline.worker import main as work

    control, *data = map(int, arguments)
    return work(control, data[0] if data else None)
