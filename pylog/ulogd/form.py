"""ulogd's forms for records that come without ulogd.conf: the output `ulogd` of pylog.

A Form is three stacks, for packets, flows and counters, with the same output at their ends. What
the output would write to its file is collected, and given to the caller record by record.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from pylog.record import CounterRecord, FlowRecord, PacketRecord, Record
from pylog.ulogd.build import Element, Stack, StackError, bind, made
from pylog.ulogd.conffile import Section
from pylog.ulogd.files import File
from pylog.ulogd.inputs import Input, Nfacct, Nfct, Nflog
from pylog.ulogd.plugins import FILTER, PLUGINS
from pylog.ulogd.worker import Instance, Sink, Stop, Surroundings

FORMS = {"logemu": "LOGEMU", "oprint": "OPRINT", "gprint": "GPRINT", "nacct": "NACCT",
         "json": "JSON", "xml": "XML", "syslog": "SYSLOG"}  # fmt: skip
"""The plugin of each form."""
PACKET_FILTERS = {
    "logemu": "BASE,IFINDEX,IP2STR,PRINTPKT", "syslog": "BASE,IFINDEX,IP2STR,PRINTPKT", "xml": "",
    "nacct": "",
}  # fmt: skip
OTHER_PACKET_FILTERS = "BASE,IFINDEX,IP2STR,HWHDR"
FLOW_FILTERS = {"logemu": "IP2STR,PRINTFLOW", "syslog": "IP2STR,PRINTFLOW", "xml": ""}
OTHER_FLOW_FILTERS = "IP2STR"

_NO_SECTION = Section({}, "", True, [])


def packet_filters_of(form: str, filters: str | None) -> list[str]:
    """The filters for packets: those given, or else those that a form needs; ValueError."""
    return _filters(PACKET_FILTERS.get(form, OTHER_PACKET_FILTERS) if filters is None else filters)


def flow_filters_of(form: str, filters: str | None) -> list[str]:
    """The filters for flows: those given, or else those that a form needs; ValueError."""
    return _filters(FLOW_FILTERS.get(form, OTHER_FLOW_FILTERS) if filters is None else filters)


def _filters(text: str) -> list[str]:
    words = [word for word in text.split(",") if word]
    for word in words:
        plugin = PLUGINS.get(word)
        if plugin is None or plugin.place != FILTER or plugin.refused:
            known = [p.name for p in PLUGINS.values() if p.place == FILTER and not p.refused]
            raise ValueError(f"no filter {word!r} of ulogd; there are {', '.join(known)}")
    return words


class _Collected(File):
    """A file whose bytes are collected."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """There is no file."""

    def taken(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self.parts)
        self.parts.clear()
        return data


class Form:
    """The bytes of records in a form of ulogd.

    left_out   how many records have none
    """

    def __init__(
        self, form: str, filters: str | None, options: dict[str, Any], exact: bool, hostname: str,
        label: int = 0, numbers: bool = False, flow_filters: str | None = None,
        flow_starts: int = 0,
    ) -> None:  # fmt: skip
        """
        options       of the plugin of the form
        label         what raw.label is
        numbers       whether packets show their sequence numbers
        flow_starts   as the option of pylog.outputs.ulogd

        Raises ValueError for a form or filters that do not fit.
        """
        self._label, self._flow_starts = label, flow_starts
        self._hidden = frozenset(() if numbers else ("oob.seq.local", "oob.seq.global"))
        self._file = _Collected()
        self._surroundings = Surroundings(
            hostname=hostname or socket.gethostname(), exact=exact,
            open_file=lambda path, sync: self._file, replayed=True, send_syslog=self._file.write,
        )  # fmt: skip
        self._options = options
        self.left_out = 0
        self._stacks: dict[type, tuple[Input, Stack]] = {}
        packets, flows = packet_filters_of(form, filters), flow_filters_of(form, flow_filters)
        for kind, words in (
            (PacketRecord, ["NFLOG", *packets]), (FlowRecord, ["NFCT", *flows]),
            (CounterRecord, ["NFACCT"]),
        ):  # fmt: skip
            try:
                self._stacks[kind] = self._stack([*words, FORMS[form]])
            except StackError as error:
                given = flow_filters is not None and kind is FlowRecord
                if given or (kind is PacketRecord and form != "nacct"):
                    raise ValueError(f"form {form}: {error}") from error
        self._started: set[type] = set()

    def _stack(self, words: list[str]) -> tuple[Input, Stack]:
        elements = []
        for word in words:
            instance = Instance(word.lower(), PLUGINS[word])
            if instance.plugin.name == "NFLOG":
                instance.options["numeric_label"] = self._label
            elif instance.plugin.name == "NFACCT":
                instance.options |= {"pollinterval": 1, "timestamp": 1}
            elif instance.plugin.name == "NFCT":
                starts = self._flow_starts
                instance.options |= {"hash_enable": int(starts > 0), "hash_max_entries": starts,
                                     "event_mask": 7}  # fmt: skip
            elif word == words[-1]:
                instance.options |= self._options
            elements.append(Element(instance, _NO_SECTION, made(instance, self._surroundings)))
        stack = Stack(",".join(words), 0, elements, bind(elements))
        source = elements[0].work
        assert isinstance(source, Nflog | Nfct | Nfacct)
        source.hidden = self._hidden
        return source, stack

    def octets(self, record: Record) -> bytes:
        """The bytes of a record, b"" if it has none."""
        pair = self._stacks.get(type(record))
        if pair is None:
            self.left_out += 1
            return b""
        time_ns = record.observed_ns or record.timestamp_ns
        if time_ns is not None:
            self._surroundings.replay_us = time_ns // 1000
        elif self._surroundings.replay_us is None:  # no record has said a time yet
            self._surroundings.replay_us = time.time_ns() // 1000
        source, stack = pair
        view = source.view(record)
        if view is None:
            if not (self._flow_starts and isinstance(record, FlowRecord)):  # of which it takes note
                self.left_out += 1
            return b""
        if type(record) not in self._started:
            self._started.add(type(record))
            for element in stack.elements:
                if element.work is not None:
                    element.work.start()
            stack.prepare()
        values = stack.begin(source, view)
        try:
            for step in stack.steps:
                step(values, view)
        except Stop:
            self.left_out += 1
        return self._file.taken()

    def end(self) -> bytes:
        """What follows the last record."""
        for kind in self._started:
            for element in self._stacks[kind][1].elements:
                if isinstance(element.work, Sink):
                    element.work.stop()
        return self._file.taken()
