"""pylog top: its counts, its one picture as text, and its screen under textual's pilot."""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import inprocess
import netlab
import pytest
from samples import FIXTURES

import pylog
import pylog.stats
from pylog.cli.top import rule_texts
from pylog.filter import Filter
from pylog.record import LossRecord, PacketRecord, Record
from pylog.top.counts import SLOT_S, Counts
from pylog.top.picture import bar, number, sparkline
from pylog.top.reading import Reading

IPL = FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
OVERRUN = FIXTURES / "nflog/overrun.bin"
SECOND = 10**9


def records() -> list[Record]:
    with pylog.open(IPL) as reader:
        return list(reader)


def read(counts: Counts, path: Any = IPL) -> Reading:
    """A thread that has read a log into counts."""
    reading = Reading(counts, [lambda: pylog.open(path)])
    reading.start()
    reading.join_or_raise(30)
    return reading


# Counts


def test_every_view_counts_what_stats_counts() -> None:
    counts, all_records = Counts(own_time=True), records()
    for start in range(0, len(all_records), 9):
        counts.feed(all_records[start : start + 9])
    for number_of, view in enumerate(counts.views):
        expected = Counter[Any]()
        summary = pylog.stats.Summary([pylog.stats.Question(view.by)])
        summary.add_records(all_records)
        for group in summary.answer().groups:
            expected[group.keys] = group.count
        shown = counts.picture(number_of)
        assert {entry.group.keys: entry.group.count for entry in shown.entries} == expected
        assert shown.count == 63 and shown.records == 61 and sum(shown.seconds) <= 61
    assert counts.picture(0).verdicts == [("block", 34), ("pass", 29)]


def test_rates_are_those_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(Counts, "_now", staticmethod(lambda: now))
    counts = Counts()
    packet = PacketRecord("nflog", "nfulnl-le", saddr="192.0.2.1", timestamp_ns=SECOND)
    for _ in range(20):
        counts.feed([packet] * 10)
        now += 1
    shown = counts.picture(0)
    assert shown.rate == 10 and shown.seconds[:20] == [10] * 20
    assert 5 <= shown.entries[0].now <= 10
    now += 3 * SLOT_S
    shown = counts.picture(0)
    assert shown.rate == 0 and shown.entries[0].now == 0 and shown.entries[0].group.count == 200


def test_a_filter_hides_no_loss_and_counts_anew() -> None:
    counts = Counts()
    counts.feed(records())
    counts.reset(Filter("dport == 22"))
    loss = LossRecord("nflog", "nfulnl-le", count=5, reason="sequence number 9, but expected 4")
    counts.feed([loss, *records()])
    shown = counts.picture(0)
    assert shown.count == 4 and shown.losses == "5 records were lost, in 1 place"
    assert shown.lost == ["lost 5 records: sequence number 9, but expected 4"]
    assert len(counts.records_of(2, (6, 22))) == shown.count


def test_keys_are_bounded_and_the_bound_is_shown() -> None:
    counts = Counts(keys=100)
    for i in range(30):
        counts.feed([PacketRecord("nflog", "x", saddr=f"10.0.{i}.{j}") for j in range(20)])
        counts.feed([PacketRecord("nflog", "x", saddr="192.0.2.1")] * 20)
    shown = counts.picture(0)
    assert shown.floor and shown.in_all <= 100
    group = shown.entries[0].group
    assert group.keys == ("192.0.2.1",) and group.count <= 600 <= group.at_most


# Text


def test_sparklines_bars_and_numbers() -> None:
    assert sparkline([0, 1, 2, 8], 10) == (" ▂▃█", 1)
    assert sparkline([5] * 40, 10) == ("████████", 5)
    assert sparkline([], 10) == ("", 1)
    assert sparkline([0, 1000, 1], 10)[0][-1] != " "
    assert bar(0.5, 4) == "██  " and bar(2, 2) == "██" and bar(0, 2) == "  "
    assert [number(n) for n in (0, 0.44, 12, 99_999, 123_456, 45_600_000, 3e9)] == [
        "0", "0.4", "12", "99,999", "123k", "45.6M", "3.0G"
    ]  # fmt: skip


def test_one_picture_for_scripts() -> None:
    done = inprocess.text("top", "--once", IPL)
    assert done.returncode == 0 and "block 54.0% (34)  pass 46.0% (29)" in done.stdout
    assert "198.51.100.23     47  74.6%" in done.stdout and "tcp 22" in done.stdout
    lost = inprocess.text("top", "--once", OVERRUN)
    assert "LOST: 2520 records were lost, in 1 place" in lost.stdout
    where = inprocess.text("top", "--once", "--where", "dport == 22", IPL)
    assert "4 in all" in where.stdout
    replayed = inprocess.text("top", "--once", "--for", "20s", "--speed", "max", IPL)
    assert "63 in all" in replayed.stdout


@pytest.mark.parametrize(("arguments", "text"), [
    (["top", IPL], "needs a terminal"),
    (["top", "--once", "--speed", "1", "nflog:5"], "--speed is for a recording"),
    (["top", "--once", "nosuch.bin"], "nosuch.bin"),
    (["top", "--once", "--where", "dprt == 1", IPL], "did you mean dport"),
])  # fmt: skip
def test_wrong_usage(arguments: list[object], text: str) -> None:
    done = inprocess.text(*arguments)
    assert done.returncode in (1, 2) and text in done.stderr


# The screen


def piloted(test: Callable[[Any, Any], Coroutine[Any, Any, None]], path: Any = IPL,
            size: tuple[int, int] = (80, 24),
            rule_text: Callable[[str, str | None], list[str]] | None = None) -> None:  # fmt: skip
    """Run a test with a screen of a log that was read, and its pilot."""
    pytest.importorskip("textual")
    from pylog.top.screen import Top

    counts = Counts(own_time=True)

    async def run() -> None:
        app = Top(counts, read(counts, path), "fw\x1b[31m.dump", rule_text=rule_text)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await test(app, pilot)

    asyncio.run(run())


def text_of(app: Any) -> str:
    """What the screen shows."""
    return "\n".join(
        "".join(s.text for s in line) for line in app.screen._compositor.render_strips()
    )


def test_the_screen_shows_views_filters_and_looks_into_entries() -> None:
    async def test(app: Any, pilot: Any) -> None:
        shown = text_of(app)
        assert "63 in all" in shown and "198.51.100.23" in shown and "8 losses" in shown
        assert "\x1b" not in shown and all(len(line) <= 80 for line in shown.splitlines())
        await pilot.press("3")
        assert "tcp 22" in text_of(app)
        await pilot.press("s")
        assert app.order == "now"
        await pilot.press("1", "enter")
        await pilot.pause()
        assert "sources: 198.51.100.23" in text_of(app) and " block in " in text_of(app)
        app._tick()
        await pilot.press("enter", "slash", "d", "p", "tab")
        assert app.query_one("#filter").value == "dport"
        app.query_one("#filter").value = "dport == 22"
        await pilot.press("enter")
        assert app._counts.filter.text == "dport == 22" and "0 in all" in text_of(app)
        app._counts.feed(records())
        app._tick()
        await pilot.pause()
        assert "4 in all" in text_of(app) and "filter: dport == 22" in text_of(app)
        await pilot.press("slash")
        app.query_one("#filter").value = "dport == 22 or"
        await pilot.press("enter")
        await pilot.pause()
        assert app._counts.filter.text == "dport == 22" and "expected" in text_of(app)
        await pilot.press("escape", "left")
        assert app.is_losses
        await pilot.press("q")

    piloted(test)


def test_the_screen_does_not_wait_for_the_text_of_a_rule() -> None:
    may_end = threading.Event()

    def rule_text(prefix: str, group: str | None) -> list[str]:
        assert may_end.wait(30)
        return [f"the rule of {prefix.strip()}\x1b"]

    async def test(app: Any, pilot: Any) -> None:
        await pilot.press("4", "enter")
        await pilot.pause()
        shown = text_of(app)
        assert "rules: " in shown and " in " in shown and "the rule of" not in shown
        may_end.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        shown = text_of(app)
        assert "rule: the rule of " in shown and "\\x1b" in shown and " in " in shown

    piloted(test, OVERRUN, rule_text=rule_text)


def test_a_small_and_a_paused_screen() -> None:
    async def test(app: Any, pilot: Any) -> None:
        assert "LOST: 2520 records were lost" in text_of(app)
        await pilot.press("space")
        app._counts.feed(records())
        app._tick()
        assert "PAUSED" in text_of(app) and "680 in all" in text_of(app)
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert "PAUSED" in text_of(app)

    piloted(test, OVERRUN)


def test_reading_ends_when_it_is_told_so() -> None:
    counts = Counts()
    reading = Reading(counts, [lambda: pylog.replay(IPL, speed=0.001)])
    reading.start()
    time.sleep(0.05)
    reading.end()
    assert not reading.is_alive() and reading.error is None


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft") or "")
def test_the_rule_of_a_prefix_is_read_from_nftables() -> None:
    rules = """table inet t {
        chain c {
            type filter hook input priority 0
            tcp dport 22 log prefix "in-drop " group 5 drop
            tcp dport 23 log prefix "in-drop " group 6 drop
        }
    }"""
    arguments = argparse.Namespace(source=["nflog:5"], netns=None)
    with netlab.Namespace() as alone:
        alone.nft(rules)
        assert alone.inside(lambda: rule_texts(arguments, "in-drop ", "5")) == [
            't c: tcp dport 22 log prefix "in-drop " group 5 drop'
        ]
        assert alone.inside(lambda: rule_texts(arguments, "other", "5")) == []
