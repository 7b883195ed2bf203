"""A look into an entry: its last records as lines, and the rules of nftables that log them.

It lies over the screen of `screen` until Esc is pressed. Needs the extra `top` (textual).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pylog.errors import missing_extra

try:
    from rich.text import Text
    from textual.app import ComposeResult
    from textual.binding import Binding, BindingType
    from textual.containers import Vertical
    from textual.screen import ModalScreen
    from textual.widgets import RichLog
    from textual.worker import get_current_worker
except ImportError as error:
    raise missing_extra("the live screen", "top") from error

COLOURS = {"pass": "bold #4aa3ff", "block": "bold #ff9f1c", "lost": "bold reverse"}
"""Blue and orange: no red and green. Words and bars say the same."""


class Look(ModalScreen[None]):
    """The last records of an entry as lines, the newest first, below the rules that log them.

    To ask for rules takes half a second, so a thread does it, and they come when they are there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss_look", "back"),
    ]
    CSS = """
    Look { align: center middle; }
    #look { width: 100%; height: 100%; border: round $accent; padding: 0 1; }
    """

    def __init__(self, title: str, lines: list[str], rules: Callable[[], list[str]]) -> None:
        """`rules` gives lines; it is called in a thread."""
        super().__init__()
        self._title, self._lines, self._rules = title, lines, rules

    def compose(self) -> ComposeResult:
        with Vertical(id="look") as box:
            box.border_title = self._title
            box.border_subtitle = "Esc: back   arrows: scroll"
            yield RichLog(wrap=True, auto_scroll=False, min_width=20)

    def on_mount(self) -> None:
        self._write(self._lines)
        self.query_one(RichLog).focus()
        self.call_after_refresh(self._ask)

    def _ask(self) -> None:
        self.run_worker(self._look_up, thread=True)

    def _look_up(self) -> None:
        """Called in a thread, which goes on when the screen is left: then nothing is shown."""
        rules = self._rules()
        if rules and not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._write, [*rules, "", *self._lines])

    def _write(self, lines: list[str]) -> None:
        log = self.query_one(RichLog)
        log.clear()
        for line in lines:
            log.write(coloured(line))

    def action_dismiss_look(self) -> None:
        self.dismiss(None)


def coloured(line: str) -> Text:
    """A line of text with its verdict in colour."""
    text = Text(line)
    for word, colour in COLOURS.items():
        text.highlight_regex(rf"(?i)\b{word}\b", colour)
    return text
