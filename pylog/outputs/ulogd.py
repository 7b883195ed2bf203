"""Writes records in a form of ulogd2: LOGEMU, OPRINT, GPRINT, NACCT, JSON or XML.

The bytes are those of `pylog ulogd` (pylog.ulogd.form). Packets go through ulogd's filters, which
an option names; flows and counters through those that the form needs. The zone of times is that of
TZ.
"""

from __future__ import annotations

from typing import Any

from pylog import outputs
from pylog.batch import Batch
from pylog.notes import notes
from pylog.options import Option
from pylog.ulogd.form import FORMS, Form, filters_of

NAME = "ulogd"
RAW = True
LIKE = "json"
OPTIONS = (
    Option("form", tuple(FORMS), "logemu", "the form of ulogd"),
    Option("filters", str, None, "ulogd's filters for packets, in their order, as"
           " BASE,IFINDEX,IP2STR", absent="those that the form needs", metavar="NAMES"),
    Option("compat", ("safe", "exact"), "safe", "exact: ulogd's bytes also where a text can forge a"
           " record or a key is left out"),
    Option("log_hostname", str, None, "the machine's name in lines of LOGEMU",
           absent="this machine's"),
    Option("eventv1", bool, False, "JSON: @timestamp and @version, as Logstash wants them"),
    Option("device", str, "Netfilter", "JSON: the value of `dvc`"),
    Option("boolean_label", bool, False, "JSON: raw.label becomes `action`"),
    Option("stamp", ("auto", "on", "off"), "auto", "whether JSON and GPRINT begin with a time;"
           " auto: JSON does"),
    Option("raw_label", int, 0, "the number of raw.label", 0, 255),
    Option("numbers", bool, False, "show the sequence numbers of packets"),
)  # fmt: skip


def check(*, form: str, filters: str | None, **_: Any) -> None:
    """ValueError for filters that do not exist."""
    filters_of(form, filters)


class Output(outputs.Output):
    """Writes records in a form of ulogd; they must be read with raw=True."""

    def __init__(
        self, target: outputs.Target, *, form: str = "logemu", filters: str | None = None,
        compat: str = "safe", log_hostname: str | None = None, eventv1: bool = False,
        device: str = "Netfilter", boolean_label: bool = False, stamp: str = "auto",
        raw_label: int = 0, numbers: bool = False,
    ) -> None:  # fmt: skip
        self._stream, self._name = target.stream, form
        options: dict[str, Any] = {}
        if form == "json":
            options = {"eventv1": int(eventv1), "device": device,
                       "boolean_label": int(boolean_label)}  # fmt: skip
        if form in ("json", "gprint") and stamp != "auto":
            options["timestamp"] = int(stamp == "on")
        self._form = Form(
            form, filters, options, compat == "exact", log_hostname or "", raw_label, numbers
        )

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            octets = self._form.octets(record)
            if octets:
                self._stream.write(octets)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.write(self._form.end())
        self.flush()
        if self._form.left_out:
            notes.warning("%s: records that ulogd's form has no place for: %d", self._name,
                          self._form.left_out)  # fmt: skip
