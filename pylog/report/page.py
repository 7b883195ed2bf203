"""The page of a report: one HTML file that needs nothing else, and asks the network for nothing.

Its policy (CSP) allows only the script and the styles that are in it, by their hashes. All texts
are escaped by the template, and what is not printable, as marks that turn the direction of text, is
shown as an escape. The numbers for the script are JSON without the characters that could end it.
Needs the extra `report` (Jinja).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec

import pylog
from pylog.errors import missing_extra
from pylog.record import escape
from pylog.report import pictures, sentences, texts
from pylog.report.tables import by_time, cards, weeks

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise missing_extra("a report", "report") from error

ASSETS = "assets"
CHARTS = ("uPlot.LICENSE", "uPlot.iife.min.js", "uPlot.min.css")
"""uPlot, which draws the pictures, with its licence."""
MOST_CHANGES = 200
DIMENSIONS = (
    ("sources", "Sources", "Address"),
    ("targets", "Targets", "Address"),
    ("ports", "Destination ports", "Port"),
    ("rules", "Rules", "Rule or prefix"),
)


def page(f: Mapping[str, Any]) -> str:
    """The HTML of a report, of which `f` are the figures()."""
    licence = asset("uPlot.LICENSE").replace("*/", "* /")
    script = f"/*!\n{licence}\n*/\n{asset('uPlot.iife.min.js')}\n{asset('report.js')}"
    style = asset("uPlot.min.css") + asset("report.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    times = texts.Times(f["offsets"])
    data = pictures.data(f, times)
    made = {
        "f": f,
        "version": pylog.__version__,
        "policy": policy,
        "style": Markup(style),  # nosec: of this package
        "script": Markup(script),  # nosec: of this package
        "data": Markup(embedded(data)),
        "scripted": True,
        "period_text": _period_text(f, times),
        "contents": _contents(f),
        "cards": cards(f),
        "sentences": sentences.summary(f),
        "loss_sentences": _loss_sentences(f),
        "kinds": {kind: any(span["kind"] == kind for span in f["spans"])
                  for kind in ("loss", "silent", "outside")},
        "drawn_changes": [change for change in f["changes"] if change["second"] is not None],
        "legends": pictures.legends(data),
        "fire_choice": _fire_choice(f),
        "most": max((cell[2] for cell in f["fireplot"]["cells"]), default=1),
        "times": by_time(f, times),
        "weeks": weeks(f, times),
        "missing_hours": bool(f["spans"]),
        "dimensions": DIMENSIONS,
        "changes": _changes(f, times),
        "missing": [{**span, "text": pictures.span_text(span)} for span in f["spans"]],
        "before_word": "Before",
        "count_all": lambda entry: entry["packets"],
        "count_blocked": lambda entry: entry["blocked"],
        "count_passed": lambda entry: entry["packets"] - entry["blocked"],
        "percent": texts.percent,
        "count_flows": lambda entry: entry["flows"],
        "share": pictures.share,
        "trend": pictures.Trends(f, times),
    }  # fmt: skip
    return _template().render(made, when=times.minute)


def asset(name: str) -> str:
    """A file of the page."""
    return resources.files("pylog.report").joinpath(ASSETS, name).read_text("utf-8")


def embedded(data: Any) -> str:
    """Data as JSON that can stand in a script element, whatever texts are in it."""
    text = msgspec.json.encode(data).decode()
    for mark in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def show(text: Any) -> str:
    """A text of a log as the page shows it; "" for None."""
    return "" if text is None else escape(str(text))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache  # to compile it takes longer than all else
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., Any]] = {
        "n": texts.number, "octets": texts.octets, "short": texts.short, "per": texts.per,
        "span": texts.span, "show": show,
    }  # fmt: skip
    environment.filters.update(filters)
    return environment.from_string(asset("report.html"))


def _period_text(f: Mapping[str, Any], times: texts.Times) -> str:
    if f["first"] is None:
        return ""
    covered = f"{times.minute(f['first'])} to {times.minute(f['last'])} ({f['tz']})"
    name = f["period"]["name"]
    return f"{name}: {covered}" if name else covered


def _contents(f: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has."""
    timed = f["packets"] and f["first"] is not None and f["timeline"]["labels"]
    return [
        (id_, title)
        for id_, title, there in (
            ("summary", "Summary", True),
            ("traffic-section", "Traffic", timed),
            ("ports-section", "Ports", f["fireplot"]["cells"]),
            ("week-section", "Weekday and hour", timed),
            ("top-section", "Most frequent", f["packets"]),
            ("reach-section", "Scans", f["reach"]),
            ("new-section", "New", True),
            ("flows-section", "Flows and NAT", f["flows"]),
            ("changes-section", "Rules", f["changes"] or f["more_changes"]),
            ("losses-section", "Losses", True),
            ("about", "About", True),
        )
        if there
    ]


def _fire_choice(f: Mapping[str, Any]) -> list[tuple[str, str]]:
    if f["blocked"] in (None, f["packets"]):
        return []
    return [("all", "all"), ("blocked", "blocked"), ("passed", "passed or only logged")]


def _changes(f: Mapping[str, Any], times: texts.Times) -> list[dict[str, Any]]:
    made = []
    for change in f["changes"][:MOST_CHANGES]:
        user = None if change["uid"] is None else f"user {change['uid']}"
        who = [change["process"] or "", user or "", change["cmdline"] or ""]
        if change["via"] == "relist":
            who.append("seen in a later listing")
        made.append({
            "time": times.minute(change["second"]),
            "who": ", ".join(filter(None, who)) or "unknown",
            "words": change["words"],
            "more": change["changes"] - len(change["words"]),
            "incomplete": change["incomplete"],
        })  # fmt: skip
    return made


def _loss_sentences(f: Mapping[str, Any]) -> list[str]:
    made = [sentence.text for sentence in sentences.summary(f) if sentence.warns]
    losses = f["losses"]
    if losses["bytes"]:
        made.append(f"{texts.plural(losses['bytes'], 'byte')} of the logs could not be read.")
    if losses["untimed"]:
        made.append(f"Losses without a time, which are in no picture: {losses['untimed']:,}.")
    if f["untimed"]:
        made.append(
            f"{texts.plural(f['untimed'], 'packet')} without a time: counted, but in no picture."
        )
    if f["strays"]:
        made.append(
            f"{texts.plural(f['strays'], 'packet')} with times far from all others: counted, but"
            " in no picture over time."
        )
    return made
