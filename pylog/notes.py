"""Notes: what the library reports while it works, to the logger "pylog", a safe line each.

A note may quote names from a kernel, a capture or a command line. Characters that would break the
line or control a terminal are escaped here, for every handler of the logger.
"""

from __future__ import annotations

import logging
from typing import Any

from pylog.record import escape


class _Notes(logging.LoggerAdapter[logging.Logger]):
    """Passes messages on to the logger, escaped."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            self.logger.log(level, "%s", escape(text), stacklevel=2, **kwargs)


notes = _Notes(logging.getLogger("pylog"))
