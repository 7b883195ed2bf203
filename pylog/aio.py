"""`async with` a reader, `async for` its records: the same reading, without blocking an event loop.

The coroutine reads with a timeout of 0. When no record is there, the event loop watches the
descriptors that a blocking read would wait on, and the coroutine reads again when a descriptor is
readable or a record is due. This needs no thread and no second way to read. asyncio is imported
where it is used, because that takes as long as importing the rest of pylog.
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from pylog.record import Record

if TYPE_CHECKING:
    from pylog.backends.base import Backend

POLL_S = 0.05
"""How often to look on Windows, whose event loop does not watch pipes."""


class AsyncRecords(ABC):
    """Makes an asynchronous iterator of a class that can read without waiting."""

    @abstractmethod
    def read(self, timeout: float | None = None) -> Record | None:
        """The next record; None at the end. TimeoutError when none comes in time."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""

    @abstractmethod
    def due_s(self) -> float | None:
        """In how many seconds to read again even if no descriptor is readable; None: never."""

    @abstractmethod
    def awaited(self) -> list[Backend]:
        """The backends that may still have something to read."""

    @abstractmethod
    def close(self) -> None:
        """Close the sources, without waiting for anything but the system."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        import asyncio

        while True:
            if not self.ready:
                await asyncio.sleep(0)  # let other tasks run, once for every lot of records
            try:
                record = self.read(timeout=0)
            except TimeoutError:
                await self._readable()
                continue
            if record is None:
                raise StopAsyncIteration
            return record

    async def _readable(self) -> None:
        """Wait until there may be a record."""
        import asyncio

        due = self.due_s()
        if sys.platform == "win32":
            await asyncio.sleep(POLL_S if due is None else min(POLL_S, due))
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        with contextlib.ExitStack() as stack:
            for backend in self.awaited():
                if backend.use.idle:
                    raise RuntimeError(f"{backend.name} is being read already")
                stack.enter_context(backend.use)
                if backend.closed:  # by another thread
                    return
                backend.use.idle = True
                for descriptor in backend.wait_descriptors():
                    loop.add_reader(descriptor, wake)
                    stack.callback(loop.remove_reader, descriptor)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken, due)
