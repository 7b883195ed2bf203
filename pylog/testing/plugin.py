"""Fixtures for pytest: in a conftest.py, pytest_plugins = ["pylog.testing.plugin"].

pylog_replay(path, **options)      a reader that replays a recording; without waiting, unless
                                   `speed` is given
ipl_device(layout=..., **options)  a double of /dev/ipl: pylog.testing.Device
nflog                              a double of NFLOG: pylog.testing.Nflog

All are closed after the test. `pylog.testing.packet` makes records to log. There is no entry point
`pytest11`, by which pytest would load this module by itself: it would import pylog in every run of
pytest, also of programs that do not use it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pylog.replay import Replay
from pylog.testing import Device, Nflog


@pytest.fixture
def pylog_replay() -> Iterator[Callable[..., Replay]]:
    """A function (path, **options of pylog.replay) -> Replay."""
    with ExitStack() as stack:

        def replay(path: str | os.PathLike[str], **options: Any) -> Replay:
            return stack.enter_context(Replay(path, **{"speed": None, **options}))

        yield replay


@pytest.fixture
def ipl_device() -> Iterator[Callable[..., Device]]:
    """A function (**options of pylog.testing.Device) -> Device."""
    with ExitStack() as stack:

        def device(*arguments: Any, **options: Any) -> Device:
            return stack.enter_context(Device(*arguments, **options))

        yield device


@pytest.fixture
def nflog() -> Iterator[Nflog]:
    """A pylog.testing.Nflog: nflog.open("5") is a reader, nflog.log(packet()) logs a packet."""
    with Nflog() as double:
        yield double
