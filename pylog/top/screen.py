"""The screen: heads with the rate, a table of the chosen view, a filter line, and the keys.

It is drawn twice a second from a Picture. `Enter` looks into an entry: its last records as lines,
and for a prefix the rule of nftables, where that can be read. The screen fits 80 columns and 24
lines, and uses what there is beyond. Needs the extra `top` (textual).
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from pylog.errors import missing_extra
from pylog.filter import Filter
from pylog.filter.names import everything
from pylog.outputs._lines import lines_of
from pylog.record import escape
from pylog.top.counts import Counts, Picture
from pylog.top.look import COLOURS, Look, coloured
from pylog.top.picture import (
    cells,
    head,
    heads,
    key_text,
    loss_line,
    rate_line,
    verdict_line,
)
from pylog.top.reading import Reading
from pylog.zones import Clock

try:
    from rich.text import Text
    from textual.app import App, ComposeResult
    from textual.binding import Binding, BindingType
    from textual.events import Resize
    from textual.screen import Screen
    from textual.suggester import Suggester
    from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs
except ImportError as error:
    raise missing_extra("the live screen", "top") from error

DRAW_S = 0.5
ORDERS = ("count", "now", "last", "key")
WORDS = ("and", "or", "not", "in", "contains", "matches", "startswith", "block", "pass", "tcp",
         "udp", "icmp")  # fmt: skip

EXAMPLE = "filter, as: action == block and dport in {22, 80..88}"

RuleText = Callable[[str, str | None], list[str]]
"""Gives the texts of rules of nftables with a prefix and group; empty if they cannot be read."""


class Names(Suggester):
    """Completes the last word of a filter: a field, an operator, or a usual value."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names = sorted({*everything(), *WORDS}, key=lambda name: (len(name), name))

    async def get_suggestion(self, value: str) -> str | None:
        word = re.search(r"[\w.]+$", value)
        if word is None:
            return None
        return next((value + name[len(word[0]) :] for name in self._names
                     if name.startswith(word[0]) and name != word[0]), None)  # fmt: skip


class Table(DataTable[Text]):
    """The table of a view. A key that is typed fast must not pass one before it, as those of
    bindings with priority do: so its keys are its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,shift+tab", "app.view(-1)", "view", show=False),
        Binding("right,tab", "app.view(1)", "next view", key_display="→"),
        Binding("enter", "select_cursor", "look"),
    ]


class Line(Input):
    """The line of the filter, in which Tab completes a word."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "cursor_right", show=False)]


class Top(App[str]):
    """The application; `run()` gives the reason for which it ended, if that is an error."""

    TITLE = "pylog top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #head { height: 1; text-style: bold; }
    #rate { height: 1; color: #4aa3ff; }
    #verdicts { height: 1; }
    #losses { height: 1; }
    Tabs { height: 2; }
    Tab { padding: 0 1 0 0; }
    DataTable { height: 1fr; }
    #note { height: auto; max-height: 4; display: none; color: #ff9f1c; }
    #filter { height: 3; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit_top", "quit"),
        Binding("ctrl+c,ctrl+q", "quit_top", "quit", show=False, priority=True),
        Binding("p,space", "pause", "pause"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort", "sort"),
        Binding("c", "clear", "clear"),
        Binding("escape", "leave", "back", show=False),
        *(Binding(str(i + 1), f"choose({i})", "", show=False) for i in range(8)),
    ]

    def __init__(
        self, counts: Counts, reading: Reading, title: str, *, clock: Clock | None = None,
        tz: str = "UTC", wanted: str = "", rule_text: RuleText | None = None,
    ) -> None:  # fmt: skip
        """`wanted` is the first filter; `tz` the zone of lines, and `clock` that of the heads."""
        super().__init__()
        self.animation_level = "none"  # a line that slides is drawn 60 times a second
        self._counts, self._reading, self._clock = counts, reading, clock
        self._shown_title = escape(title)
        self._wanted, self._rule_text = wanted, rule_text
        self._line = lines_of("text", tz=tz).line
        self.view, self.order, self.paused = 0, "count", False
        self._picture: Picture | None = None
        self._columns: tuple[Any, ...] = ()
        self._is_ready = False
        """Whether everything is mounted that is drawn on."""

    def compose(self) -> ComposeResult:
        for name in ("head", "rate", "verdicts", "losses"):
            yield Static(id=name, markup=False)
        names = [f"{i + 1} {view.name}" for i, view in enumerate(self._counts.views)]
        names.append(f"{len(names) + 1} losses")
        yield Tabs(*(Tab(name, id=f"view{i}") for i, name in enumerate(names)))
        yield Table(cursor_type="row", zebra_stripes=True)
        yield Static(id="note", markup=False)
        yield Line(self._wanted, id="filter", suggester=Names(),
                    placeholder=EXAMPLE, select_on_focus=False)  # fmt: skip
        yield Footer()

    @property
    def _main(self) -> Screen[Any]:
        """The screen that is below all others."""
        return self.screen_stack[0]

    def on_mount(self) -> None:
        """Begin to read and to draw."""
        self._main.query_one(Tabs).can_focus = False
        self._main.query_one(DataTable).focus()
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            try:
                if number is not None:
                    loop.add_signal_handler(number, self._end, 128 + number)
            except (NotImplementedError, RuntimeError, ValueError):
                pass  # Windows, or not the main thread
        if not self._reading.is_alive() and self._reading.ident is None:
            self._reading.start()
        self._is_ready = True
        self.draw()
        self.set_interval(DRAW_S, self._tick)

    def on_unmount(self) -> None:
        """There is nothing to draw on any more."""
        self._is_ready = False

    def _end(self, status: int) -> None:
        self._is_ready = False
        self.exit(return_code=status)

    def on_resize(self, event: Resize) -> None:
        self.draw()

    def _tick(self) -> None:
        if self._reading.error is not None and not self._counts.picture(0, limit=0).records:
            self.exit()  # whoever runs this raises the error
        if not self.paused:
            self.draw()

    # What is drawn

    @property
    def is_losses(self) -> bool:
        """Whether the losses are the chosen view."""
        return self.view == len(self._counts.views)

    def draw(self) -> None:
        """Draw what is counted now; when it is paused, what was counted then."""
        if not self._is_ready or isinstance(self.screen, Look) or not self._main.query("#filter"):
            return  # it begins, something is above it, or it ends
        number = 0 if self.is_losses else self.view
        if self._picture is None or not self.paused:
            self._picture = self._counts.picture(number, self.order)
        shown, width = self._picture, self.size.width
        self._main.query_one("#head", Static).update(
            head(self._shown_title, shown, width, self._clock, self.paused)
        )
        self._main.query_one("#rate", Static).update(rate_line(shown, width)[:width])
        self._main.query_one("#verdicts", Static).update(coloured(verdict_line(shown)[:width]))
        losses = Text(loss_line(shown)[:width])
        if shown.losses:
            losses.stylize(COLOURS["lost"])
        self._main.query_one("#losses", Static).update(losses)
        self._draw_table(shown)
        if not self._main.query_one("#filter", Input).display:
            self._note()

    def _draw_table(self, shown: Picture) -> None:
        table = self._main.query_one(DataTable)
        rows: list[tuple[str, list[str]]] = []
        if self.is_losses:
            columns: tuple[Any, ...] = ("loss",)
            rows = [(str(i), [escape(text)]) for i, text in enumerate(shown.lost)]
        else:
            view = self._counts.views[self.view]
            room = self.size.width - 8
            bar_width = 10 if room < 100 else 24
            key_width = max(room - bar_width - 36, 16)
            columns = (view.name, *heads(self._counts.own_time), key_width)
            for entry in shown.entries:
                line = cells(view, entry, shown.count, bar_width, self._counts.own_time)
                if len(line[0]) > key_width:
                    line[0] = f"{line[0][: key_width - 1]}…"
                rows.append((repr(entry.group.keys), line))
        if columns != self._columns:
            self._columns = columns
            table.clear(columns=True)
            for i, name in enumerate(c for c in columns if isinstance(c, str)):
                width = columns[-1] if i == 0 and not self.is_losses else None
                label = Text(name, justify="right" if i and name else "left")
                table.add_column(label, key=str(i), width=width)
        cursor = table.cursor_row
        table.clear()
        for key, line in rows:
            styled = [Text(line[0])]
            styled += [Text(cell, justify="right") for cell in line[1:-1]]
            styled += [Text(cell, style="#4aa3ff") for cell in line[1:][-1:]]
            table.add_row(*styled, key=key)
        if rows:
            table.move_cursor(row=min(cursor, len(rows) - 1), animate=False)

    def _note(self, text: str = "") -> None:
        note = self._main.query_one("#note", Static)
        parts = [text] if text else []
        if not text:
            if self._picture is not None and not self._picture.records and not self._picture.ended:
                parts.append("no records yet")
            if self._counts.filter is not None:
                parts.append(f"filter: {self._counts.filter.text}")
            parts.append(f"order: {self.order}")
            if self._picture is not None and self._picture.ended not in ("", "end of the log"):
                parts.append(self._picture.ended)
            if self._picture is not None and self._picture.floor and not self.is_losses:
                parts.append(f"entries that are missing have at most {self._picture.floor:,}")
        note.update("   ".join(parts))
        note.display = bool(parts)

    # Keys

    def action_quit_top(self) -> None:
        """End."""
        self._is_ready = False
        self.exit()

    def action_pause(self) -> None:
        """Stop drawing, or go on; counting goes on."""
        self.paused = not self.paused
        self.draw()

    def action_sort(self) -> None:
        """Take the next order."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self._redraw()

    def action_clear(self) -> None:
        """Count anew."""
        self._counts.reset(self._counts.filter)
        self._redraw()

    def _redraw(self) -> None:
        """Draw another order or view, also when it is paused."""
        self._picture = None
        self.draw()

    def action_view(self, step: int) -> None:
        """Take the next view."""
        self.action_choose((self.view + step) % (len(self._counts.views) + 1))

    def action_choose(self, number: int) -> None:
        """Take a view."""
        if number <= len(self._counts.views):
            self.view = number
            self._main.query_one(Tabs).active = f"view{number}"
            self._redraw()

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        """A tab was clicked."""
        number = int(str(event.tab.id).removeprefix("view"))
        if number != self.view:
            self.action_choose(number)

    def action_filter(self) -> None:
        """Type a filter."""
        line = self._main.query_one("#filter", Input)
        line.display = True
        line.focus()
        self._note("Enter: count what it wants, from now on   →: complete   Esc: back")

    def action_leave(self) -> None:
        """Leave the filter as it was."""
        line = self._main.query_one("#filter", Input)
        line.display = False
        self._main.query_one(DataTable).focus()
        self._note()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong with a filter."""
        if event.input.display and event.value.strip():
            try:
                Filter(event.value)
            except ValueError as error:
                self._note(escape(str(error).partition("\n")[0]))
            else:
                self._note("Enter: count what it wants, from now on   Esc: back")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the filter."""
        self._take_filter(event.value.strip())

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Look into the entry of the cursor."""
        if self.is_losses or self._picture is None:
            return
        row = event.cursor_row
        if row >= len(self._picture.entries):
            return
        view, keys = self._counts.views[self.view], self._picture.entries[row].group.keys
        lines = [self._line(record) for record in self._counts.records_of(self.view, keys)]
        if not lines:
            lines = ["no record of it among the last ones"]
        rules = partial(self._rules, view.name, keys)
        self.push_screen(Look(f"{view.name}: {key_text(view, keys)}", lines, rules))

    def _rules(self, view: str, keys: tuple[Any, ...]) -> list[str]:
        """The texts of the rules with the prefix of an entry of the view of rules."""
        if view != "rules" or self._rule_text is None:
            return []
        group, _, prefix = keys
        found = [] if prefix is None else self._rule_text(prefix, group)
        return [escape(f"rule: {text}") for text in found]

    def _take_filter(self, text: str) -> None:
        try:
            wanted = Filter(text) if text else None
        except ValueError as error:
            self._note(escape(str(error).partition("\n")[0]))
            return
        self._counts.reset(wanted)
        self.action_leave()
        self._redraw()
