"""Writes records in a form of ulogd2: LOGEMU, OPRINT, GPRINT, NACCT, JSON or XML into files, JSON
to a receiver over TCP, UDP or a local socket, and SYSLOG to the local syslog.

The bytes are those of `pylog ulogd` (pylog.ulogd.form). Packets and flows go through ulogd's
filters, which options name; counters need none. The zone of times is that of TZ. Over TCP, and to
a local socket that is a stream, each record arrives at least once; a datagram is sent once.
"""

from __future__ import annotations

from typing import Any

from pylog import outputs
from pylog.batch import Batch
from pylog.notes import notes
from pylog.options import Option
from pylog.outputs._sent_lines import SentMessages, checked
from pylog.record import Record
from pylog.ulogd.form import FORMS, Form, flow_filters_of, packet_filters_of
from pylog.ulogd.syslog import FACILITIES, LEVELS

NAME = "ulogd"
RAW = PLACE = FILE = True
LIKE = "json"
ADDRESS = "tcp://HOST:PORT, udp://HOST:PORT or unix:PATH for form json; unix:/dev/log for syslog"
PORTS = {"json": {"tcp": 0, "udp": 0, "unix": 0}, "syslog": {"unix": 0}}
"""The forms that go to receivers, with the schemes of their addresses."""
_ENDS = {"json": b"", "syslog": b"\0"}
"""What follows a message in a stream; a line of JSON has its newline in a datagram, too."""
OPTIONS = (
    Option("form", tuple(FORMS), "logemu", "the form of ulogd"),
    Option("filters", str, None, "ulogd's filters for packets, in their order, as"
           " BASE,IFINDEX,IP2STR", absent="those that the form needs", metavar="NAMES"),
    Option("flow_filters", str, None, "ulogd's filters for flows, as IP2STR,PRINTFLOW",
           absent="those that the form needs", metavar="NAMES"),
    Option("flow_starts", int, 0, "remember when so many flows began, and write a record for each"
           " flow, at its end; 0: for each event", 0, 1 << 24),
    Option("compat", ("safe", "exact"), "safe", "exact: ulogd's bytes also where a text can forge a"
           " record or a key is left out"),
    Option("log_hostname", str, None, "the machine's name in lines of LOGEMU",
           absent="this machine's"),
    Option("log_facility", tuple(FACILITIES), "LOG_DAEMON", "SYSLOG: the facility; LOG_KERN stands"
           " for LOG_DAEMON, as no program can send it"),
    Option("log_level", tuple(LEVELS), "LOG_NOTICE", "SYSLOG: the severity"),
    Option("eventv1", bool, False, "JSON: @timestamp and @version, as Logstash wants them"),
    Option("device", str, "Netfilter", "JSON: the value of `dvc`"),
    Option("boolean_label", bool, False, "JSON: raw.label becomes `action`"),
    Option("stamp", ("auto", "on", "off"), "auto", "whether JSON and GPRINT begin with a time;"
           " auto: JSON does"),
    Option("raw_label", int, 0, "the number of raw.label", 0, 255),
    Option("numbers", bool, False, "show the sequence numbers of packets"),
)  # fmt: skip


def check(*, form: str, filters: str | None, flow_filters: str | None, **_: Any) -> None:
    """ValueError for filters that do not exist."""
    packet_filters_of(form, filters)
    flow_filters_of(form, flow_filters)


def is_place(target: str) -> bool:
    """Whether a target is a receiver, not the path of a file."""
    return "://" in target or target.startswith("unix:")


def check_address(address: str, *, form: str, **options: Any) -> None:
    """ValueError for an address of another kind, or a form that is of files."""
    if form not in PORTS:
        raise ValueError(f"form {form} is of files: {' and '.join(PORTS)} go to receivers")
    checked(address, PORTS[form], options)


def delivery_to(address: str) -> outputs.Delivery:
    """What is promised of records: a local socket may take datagrams, which are sent once."""
    return "at least once" if address.startswith("tcp:") else "best effort"


def _form(
    form: str, filters: str | None, flow_filters: str | None, flow_starts: int, compat: str,
    log_hostname: str | None, log_facility: str, log_level: str, eventv1: bool, device: str,
    boolean_label: bool, stamp: str, raw_label: int, numbers: bool,
) -> Form:  # fmt: skip
    """What makes the bytes, with OPTIONS; ValueError."""
    options: dict[str, Any] = {}
    if form == "json":
        options = {"eventv1": int(eventv1), "device": device, "boolean_label": int(boolean_label)}
    elif form == "syslog":
        options = {"facility": log_facility, "level": log_level}
    if form in ("json", "gprint") and stamp != "auto":
        options["timestamp"] = int(stamp == "on")
    return Form(form, filters, options, compat == "exact", log_hostname or "", raw_label, numbers,
                flow_filters, flow_starts)  # fmt: skip


def _report(form: Form, name: str) -> None:
    """Say how many records the form has no place for."""
    if form.left_out:
        notes.warning("%s: records that ulogd's form has no place for: %d", name, form.left_out)


class Output(outputs.Output):
    """Writes records in a form of ulogd to a file; they must be read with raw=True."""

    def __init__(self, target: outputs.Target, **options: Any) -> None:
        """ValueError for filters that do not fit, and for SYSLOG."""
        self._form_name = options["form"]
        if self._form_name == "syslog":
            raise ValueError("form syslog is not of files: its target is unix:/dev/log")
        self._stream, self._form = target.stream, _form(**options)

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
        _report(self._form, self._form_name)


class PlaceOutput(SentMessages):
    """Sends records in a form of ulogd, each as a message; they must be read with raw=True."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        """Connects; BackendError. ValueError for filters that do not fit."""
        self._form_name = form = options["form"]
        self._form, self._end = _form(**options), _ENDS[form]
        super().__init__(place, checked(place.address, PORTS[form], options), options)

    def _framed(self, message: bytes) -> bytes:
        return message + self._end

    def write(self, batch: Batch) -> None:
        records: list[Record] = []
        messages: list[bytes] = []
        for record in batch.records():
            if octets := self._form.octets(record):
                records.append(record)
                messages.append(octets)
        self._send(records, messages)

    def close(self) -> None:
        try:
            super().close()
        finally:
            _report(self._form, self._form_name)
