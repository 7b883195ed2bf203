"""Replaces addresses and payloads in records, so that a log can be published."""

from __future__ import annotations

from typing import Any

import msgspec

from pylog.detect import stream_for
from pylog.formats import Message, Stream
from pylog.formats.netlink import LINKTYPE_NETLINK
from pylog.formats.nft_dumps import MOST_ELEMENTS
from pylog.formats.nft_marks import Texts, text_budget
from pylog.formats.nft_model import Model
from pylog.formats.pcap_interfaces import Origin
from pylog.formats.registry import registered
from pylog.formats.scrub import Scrubber
from pylog.formats.textlog import is_of_text
from pylog.record import (
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    kind_of,
)

_OF_COMMIT = ("seq", "op", "change", "generation", "pid", "process", "portid", "via", "incomplete",
              "partial")  # fmt: skip
"""Fields of a record of the ruleset that its commit or a listing has given it."""


class Scrubbing:
    """Scrubs records that were read with raw=True; equal addresses stay equal."""

    def __init__(self) -> None:
        self._scrubber = Scrubber()
        self._streams: dict[str, Stream] = {}
        self._rulesets: dict[tuple[str, Any], _Ruleset] = {}
        """By the layout and the origin of records."""

    def record(self, record: Record) -> Record:
        """The record that the scrubbed message decodes to; a loss without its damaged bytes."""
        if isinstance(record, LossRecord):
            return msgspec.structs.replace(record, raw=None)
        if is_of_text(record):
            raise ValueError(
                "lines of a text log cannot be scrubbed: their prefixes and names may hold anything"
            )
        module = registered().by_source.get(record.source)
        if module is None:
            raise ValueError(f"{kind_of(record)} records of {record.source} cannot be scrubbed")
        layout = module.described(record.layout, record.log)
        if record.raw is None and isinstance(record, RulesetRecord) and record.via is not None:
            # a listing showed that it is gone
            return self._ruleset(record).with_text(_of_names(record))
        if record.raw is None:
            raise ValueError(
                "a record without its raw bytes cannot be scrubbed: read with raw=True"
            )
        raw = module.scrub(record.raw, layout, self._scrubber)
        if layout not in self._streams:
            self._streams[layout] = stream_for(layout).stream()
            self._streams[layout].lenient = True
        stream = self._streams[layout]
        # a capture may hold the beginning of the message only
        origin = Origin(LINKTYPE_NETLINK, stream, 0, {}, record.observed_ns, cut=1)
        scrubbed = stream.decode(raw, Message(0, len(raw), origin), True)
        same: dict[str, Any] = {"offset": record.offset, "observed_ns": record.observed_ns}
        if isinstance(record, RulesetRecord):  # the commit is in no message but its own
            same |= {name: getattr(record, name) for name in _OF_COMMIT}
        elif isinstance(record, TraceRecord):
            same |= {"indev": record.indev, "outdev": record.outdev}
        elif isinstance(record, PacketRecord):  # a message may lack the names of its interfaces
            names = ("indev", "outdev", "physindev", "physoutdev")
            same |= {name: getattr(record, name) for name in names}
        result = msgspec.structs.replace(scrubbed, **same)
        if isinstance(result, RulesetRecord | TraceRecord):
            return self._ruleset(record).with_text(result)
        return result

    def _ruleset(self, record: Record) -> _Ruleset:
        return self._rulesets.setdefault((record.layout, record.origin), _Ruleset())


class _Ruleset:
    """The scrubbed ruleset, which has the sets that a rule's text needs.

    The texts are those of a scrubbed capture: it has no names for the numbers of interfaces.
    """

    def __init__(self) -> None:
        self._model = Model(anonymous_only=True)
        self._budget = text_budget()
        self._texts = Texts(self._model, budget=self._budget)
        self._added = 0
        """How many entities and elements the model may have at most."""

    def with_text(self, record: RulesetRecord | TraceRecord) -> Record:
        """The record, which the ruleset follows, with the text of its entity."""
        if isinstance(record, TraceRecord):
            rule = self._model.find_rule(record.family, record.table, record.handle)
            if rule is not None and rule.text is None:  # it names a chain that was renamed
                self._texts.put(rule)
            text = None if rule is None else rule.text
            return msgspec.structs.replace(record, text=text)
        deletes = str(record.op).startswith("del_")
        if deletes:
            self._texts.put(record)
        self._model.apply(record)
        if not deletes:
            self._texts.put(record)
        self._added += 1 if record.elements is None else len(record.elements)
        if self._added > MOST_ELEMENTS:
            self._added = self._model.count_entities() + self._model.count_elements()
            if self._added > MOST_ELEMENTS // 2:  # counting again takes time
                self._model, self._added = Model(anonymous_only=True), 0
        if record.op == "new_gen" or not self._added:
            self._texts = Texts(self._model, budget=self._budget)
        return record


def _of_names(record: RulesetRecord) -> RulesetRecord:
    """A record without its message: only what names the entity is left."""
    return msgspec.structs.replace(record, comment=None, expressions=None, elements=None,
                                   text=None, extra=None)  # fmt: skip
