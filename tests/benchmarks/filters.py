"""Offline: `read --where` on logs of which 1 record in 100 passes, beside reading all of them.

all          read --to FORM
rule         with a filter that the rule decides: its prefix, or its interface
port         with one that the packet decides
everything   with a filter that all records pass
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import inputs
from measure import Log, Row, Scale, Table, cpu_us, interleaved, scratch
from traffic import packets

from pylog.cli import main

RARE = {
    inputs.NFLOG_LAYOUT: (
        (b"in-drop \0", b"forward \0", b"in ssh \0", b"out \0"), b"rare", "prefix startswith rare",
    ),
    inputs.IPL_LAYOUTS[0]: ((b"em0\0", b"em1\0"), b"ra0", "dev == ra0"),
}  # fmt: skip
"""What becomes of which bytes in one message of a hundred, and the filter for those messages."""
FORMS = ("text", "json", "csv")


def log(name: str, folder: Path, records: int, few: int) -> Log:
    """A log as inputs.log makes it, with a rare rule."""
    found = inputs.log(name, folder, records, few)
    before, after, _ = RARE[name]
    for path, count in ((found.path, records), (found.short, few)):
        with path.open("wb") as file:
            for number, message in enumerate(inputs.LOGS[name](packets(count, False))):
                if number % 100 == 50:
                    for word in before:
                        message = message.replace(word, after.ljust(len(word), b"\0"))
                file.write(message)
    return found


def read(form: str, layout: str, where: str | None, path: Path) -> None:
    """The command pylog read --to FORM, less Python's start."""
    options = ["--layout", layout, "--to", form, "--force", "-w", f"{path}.{form}"]
    filters = [] if where is None else ["--where", where]
    assert main(["read", str(path), *options, *filters]) == 0


def table(scale: Scale) -> Table:
    """Of each log and form, reading all and what filters cost or save."""
    rows, work = [], {}
    with scratch() as folder:
        for name, (_, _, rule) in RARE.items():
            made = log(name, Path(folder), scale.records, scale.few)
            ways = {"all": None, "rule": rule, "port": "dport == 23", "everything": "source"}
            for form in FORMS:
                first = f"{name}, {form}: all"
                for way, where in ways.items():
                    at_most = 0.5 if way == "rule" else None
                    than = "" if way == "all" else first
                    rows.append(Row(f"{name}, {form}: {way}", than=than, at_most=at_most))
                    run = partial(read, form, inputs.layout(name), where)
                    work[rows[-1].name] = partial(cpu_us, run, made)
        found, _ = interleaved(work, scale.rounds)
        for row in rows:
            row.values = found[row.name]
    return Table("Filters, 1 record in 100", rows)
