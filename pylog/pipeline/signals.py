"""The signals of a pipeline: SIGTERM and SIGINT end it, SIGHUP reads its configuration again."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


def _handler(act: Callable[[], None]) -> Callable[[int, object], None]:
    def handle(number: int, frame: object) -> None:
        act()

    return handle


@contextlib.contextmanager
def handling(stop: Callable[[], None], reload: Callable[[], None], waker: int) -> Iterator[None]:
    """The context in which signals call `stop` and `reload`, if this is the main thread.

    waker   a descriptor that is written to when a signal comes
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name, act in (("SIGINT", stop), ("SIGTERM", stop), ("SIGHUP", reload)):
        number = getattr(signal, name, None)  # Windows has no SIGHUP, and nohup ignores it
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _handler(act))
    woken = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
