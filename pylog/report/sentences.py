"""The summary of a report: what a reader must know, in sentences.

A sentence is a template with {} for values, which the page shows in bold. Every number is one of
figures(), or made of a few of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pylog.report.figures import per_day
from pylog.report.texts import Times, number, octets, percent, plural, span

NAMES = {"sources": "source", "targets": "target", "ports": "port", "rules": "rule"}
VERY_MANY = 200
"""A source that has tried so many ports or addresses is worth a sentence of its own."""
MUCH = 1.1
"""A change by less than a tenth is none worth a sentence of its own."""


class Part(NamedTuple):
    """A piece of a sentence; a strong one is a value."""

    text: str
    strong: bool = False


class Sentence(NamedTuple):
    """A sentence; one that warns is about what is missing."""

    parts: tuple[Part, ...]
    warns: bool = False

    @property
    def text(self) -> str:
        """The sentence as plain text."""
        return "".join(part.text for part in self.parts)


def sentence(template: str, *values: str, warns: bool = False) -> Sentence:
    """A sentence of a template, with a value for each {}."""
    parts: list[Part] = []
    pieces = template.split("{}")
    for place, piece in enumerate(pieces):
        parts.append(Part(piece))
        if place < len(values):
            parts.append(Part(values[place], True))
    return Sentence(tuple(part for part in parts if part.text), warns)


def summary(f: Mapping[str, Any]) -> list[Sentence]:
    """The sentences of a report."""
    times = Times(f["offsets"])
    made = [*_totals(f, times), *_compared(f), *_busiest(f, times), *_blocked(f), *_reach(f),
            *_new(f), *_flows(f), *_changes(f, times)]  # fmt: skip
    return [*made, *_missing(f)]


def _totals(f: Mapping[str, Any], times: Times) -> Iterator[Sentence]:
    if not f["packets"]:
        if not f["flows"] and not f["changes"]:
            of_period = " of this period" * bool(f["period"]["name"])
            yield sentence(f"The log has {{}}{of_period}.", "no record")
        return
    if f["blocked"] is None:
        labels = [name for name in f["labels"] if name != "no verdict"]
        most = "; the most frequent prefix is {}" if len(labels) > 1 else ""
        yield sentence(f"The firewall logged {{}}{most}.", plural(f["packets"], "packet"),
                       *(labels[:1] if most else ()))  # fmt: skip
        return
    passed = f["packets"] - f["blocked"]
    if not passed:
        yield sentence(
            "The firewall logged {}," + (" all of them" if f["packets"] > 1 else " which was")
            + " blocked: what passed is not in this log.", plural(f["packets"], "packet"),
        )  # fmt: skip
        return
    yield sentence(
        f"The firewall logged {{}}: {{}} {'was' if f['blocked'] == 1 else 'were'} blocked ({{}}),"
        f" {{}} passed or {'was' if passed == 1 else 'were'} only logged.",
        plural(f["packets"], "packet"), number(f["blocked"]),
        percent(f["blocked"], f["packets"]), number(passed),
    )  # fmt: skip


def _compared(f: Mapping[str, Any]) -> Iterator[Sentence]:
    """Against the period before, by day that is covered."""
    before = f["before"]
    if not before or not before["packets"] or not f["packets"]:
        return
    what, count, old = "blocked packets", f["blocked"], before.get("blocked")
    if not count or not old:
        what, count, old = "packets", f["packets"], before["packets"]
    now, then = per_day(count, f["covered"]), per_day(old, before["covered"])
    if max(f["covered"], before["covered"]) < 86_400:  # the rate of a day is not known
        yield sentence("{} had {} {}.", before["name"], number(old), what)
        return
    ratio = now / then
    if 1 / MUCH < ratio < MUCH:
        how = "about as many as"
        yield sentence(f"That is {{}} {what} a day, {how} in {{}} ({{}}).", number(now),
                       before["name"], number(then))  # fmt: skip
        return
    change = f"{ratio:.1f} times as many as" if ratio >= 2 else (
        f"{abs(ratio - 1) * 100:.0f} % {'more' if ratio > 1 else 'fewer'} than")  # fmt: skip
    yield sentence(f"That is {{}} {what} a day, {{}} in {{}} ({{}}).", number(now), change,
                   before["name"], number(then))  # fmt: skip


def _busiest(f: Mapping[str, Any], times: Times) -> Iterator[Sentence]:
    busiest = f["busiest"]
    if busiest is None or not f["packets"]:
        return
    width = busiest["width"]
    mean = f["packets"] * width / max(width, f["covered"])
    often = busiest["packets"] / mean if mean else 0
    name = span(width).removeprefix("1 ")
    verb = "were" if name.endswith("s") else "was"
    template = f"The busiest {name} {verb} {{}} to {{}}, with {{}}"
    values = [f"{times.day(busiest['start'])}, {times.clock(busiest['start'])}",
              times.clock(busiest["start"] + width),
              plural(busiest["packets"], "packet")]  # fmt: skip
    if often >= 2:
        template += ", {} times the mean"
        values.append(f"{often:.0f}" if often >= 10 else f"{often:.1f}")
    yield sentence(template + ".", *values)


def _blocked(f: Mapping[str, Any]) -> Iterator[Sentence]:
    """Who was blocked most, and where."""
    if f["blocked"] is None:
        for name, noun in (("sources", "source"), ("ports", "destination port")):
            entries = f["top"][name]["all"]
            if entries:
                yield sentence(
                    f"The most frequent {noun} is {{}}: {{}}, {{}} of all.",
                    _named(entries[0]), plural(entries[0]["packets"], "packet"),
                    percent(entries[0]["packets"], f["packets"]),
                )  # fmt: skip
        return
    sources, ports = f["top"]["sources"]["blocked"], f["top"]["ports"]["blocked"]
    if sources:
        yield sentence(
            "The most blocked source is {}: {}, {} of all that was blocked.", _named(sources[0]),
            plural(sources[0]["blocked"], "packet"), percent(sources[0]["blocked"], f["blocked"]),
        )  # fmt: skip
    if ports:
        noun = "destination port" if "/" in ports[0]["name"] else "protocol"
        yield sentence(
            f"The most blocked {noun} is {{}}: {{}}, {{}}.", ports[0]["name"],
            plural(ports[0]["blocked"], "packet"), percent(ports[0]["blocked"], f["blocked"]),
        )  # fmt: skip


def _reach(f: Mapping[str, Any]) -> Iterator[Sentence]:
    """Who has tried very many ports or addresses."""
    for entry in [e for e in f["reach"] if max(e["ports"], e["addresses"]) >= VERY_MANY][:3]:
        ports, addresses = entry["ports"], entry["addresses"]
        tried = [f"about {number(ports)} ports"] if ports >= VERY_MANY else []
        if addresses >= VERY_MANY:
            tried.append(f"about {number(addresses)} addresses")
        own = ", a private address," if entry.get("private") else ""
        yield sentence(
            f"{{}}{own} tried {' of '.join(['{}'] * len(tried))}.", _named(entry), *tried
        )


def _new(f: Mapping[str, Any]) -> Iterator[Sentence]:
    if f["new"] is None:
        return
    parts = [
        plural(f["new"][name]["distinct"], noun)
        for name, noun in NAMES.items()
        if f["new"][name]["distinct"]
    ]
    before = f["before"]["name"]
    if not parts:
        yield sentence("{} is new against {}.", "Nothing", before)
        return
    listed = ", ".join(["{}"] * (len(parts) - 1)) + (" and {}" if len(parts) > 1 else "{}")
    yield sentence(f"New against {{}}: {listed}.", before, *parts)
    rules = f["new"]["rules"]["entries"]
    if rules:
        yield sentence("The busiest new rule is {}, with {}.", rules[0]["name"],
                       plural(rules[0]["packets"], "packet"))  # fmt: skip
    sources = f["new"]["sources"]["entries"]
    if sources:
        yield sentence("The busiest new source is {}, with {}.", _named(sources[0]),
                       plural(sources[0]["packets"], "packet"))  # fmt: skip


def _flows(f: Mapping[str, Any]) -> Iterator[Sentence]:
    if not f["flows"]:
        return
    totals = f["flows"]["totals"]
    connections, translations = totals["connections begun"], totals["translations begun"]
    carried = f"; those that ended carried {octets(totals['bytes'])}" if totals["bytes"] else ""
    if connections:
        yield sentence("{} began" + carried + ".", plural(connections, "connection"))
        carried = ""
    if translations:
        hosts = f["flows"]["inner"]
        most = [_named(hosts[0]), number(hosts[0]["flows"])] if hosts else []
        yield sentence(
            "{} began" + carried + (", the most of {} ({})" if hosts else "") + ".",
            plural(translations, "address translation"), *most,
        )  # fmt: skip


def _changes(f: Mapping[str, Any], times: Times) -> Iterator[Sentence]:
    changes = [change for change in f["changes"] if change["changes"]]
    if not changes:
        return
    last = changes[-1]
    who = [last["process"]] if last["process"] else []
    often = "once" if len(changes) == 1 else f"{number(len(changes))} times"
    on = "on" if len(changes) == 1 else "last on"
    yield sentence(f"The rules changed {{}}, {on} {{}}{' by {}' * len(who)}.", often,
                   times.minute(last["second"]), *who)  # fmt: skip


def _missing(f: Mapping[str, Any]) -> Iterator[Sentence]:
    losses = f["losses"]
    if losses["records"] or losses["uncounted"]:
        number = losses["records"] or 1
        least = "At least " if losses["uncounted"] else ""
        yield sentence(
            f"{{}} {'was' if number == 1 else 'were'} lost, in {{}}: the numbers do not contain"
            f" {'it' if number == 1 else 'them'}.", least + plural(number, "record"),
            plural(losses["losses"], "place"), warns=True,
        )  # fmt: skip
    silent = [each["end"] - each["start"] for each in f["spans"] if each["kind"] == "silent"]
    if silent:
        longest = [span(max(silent))] if len(silent) > 1 else []
        yield sentence(
            f"For {{}} there is no record at all{', the longest time for {}' * len(longest)}: the"
            " firewall logged nothing, or logging stood still.", span(sum(silent)), *longest,
            warns=True,
        )  # fmt: skip
    outside = sum(each["end"] - each["start"] for each in f["spans"] if each["kind"] == "outside")
    if outside:
        yield sentence("The log lacks {} of the period.", span(outside), warns=True)


def _named(entry: Mapping[str, Any]) -> str:
    """An entry with its country and network."""
    place = ", ".join(filter(None, (entry.get("country"), entry.get("network"))))
    return f"{entry['name']} ({place})" if place else str(entry["name"])
