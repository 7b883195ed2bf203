"""What the library has to say while it works: to the logger "pylog", each note as one safe line.

A note may quote names from a kernel, a capture or a command line. Here, and nowhere else, what
would break the line or do something to a terminal is escaped, whoever the logger's handler is.
"""

from __future__ import annotations

import logging
from typing import Any

from pylog.record import escape


class _Notes(logging.LoggerAdapter[logging.Logger]):
    """The logger, for messages that are escaped."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            self.logger.log(level, "%s", escape(text), stacklevel=2, **kwargs)


notes = _Notes(logging.getLogger("pylog"))
