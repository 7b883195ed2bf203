"""Replaces addresses, payloads and names in records, so that a log can be published.

A record is decoded again from its scrubbed message. What is in no message is carried over, with
names replaced, or left out: the user, command line and cgroup of a process identify more than they
explain. The text of rules is written anew from the scrubbed ruleset, which a model follows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pylog.detect import stream_for
from pylog.formats import Message, Stream
from pylog.formats.addresses import addresses, octets
from pylog.formats.netlink import LINKTYPE_NETLINK, text
from pylog.formats.nft_dumps import MOST_ELEMENTS
from pylog.formats.nft_marks import Texts, text_budget
from pylog.formats.nft_model import Model
from pylog.formats.pcap_interfaces import Origin
from pylog.formats.registry import registered
from pylog.formats.scrub import Scrubber
from pylog.formats.scrub_names import name_bytes
from pylog.formats.textlog import is_of_text
from pylog.record import (
    FlowRecord,
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    kind_of,
)
from pylog.record.joined import JOINED, JoinedRecord, joined

_OF_COMMIT = ("seq", "op", "change", "generation", "pid", "process", "portid", "via", "incomplete",
              "partial")  # fmt: skip
"""Fields of a record of the ruleset that its commit or a listing has given it."""
_OF_FLOW = frozenset((
    "CTA_HELP", "CTA_LABELS", "CTA_TUPLE_MASTER", "CTA_TUPLE_REPLY", "CTA_SEQ_ADJ_ORIG",
    "CTA_SEQ_ADJ_REPLY", "CTA_SYNPROXY", "zone_orig", "zone_reply", "nlmsg_pid", "packets", "bytes",
    "event", "isl_state", "isl_flags", "isl_tag", "isl_v", "nl_p", "nl_v",
))  # fmt: skip
"""What `extra` of a flow may keep. A security context is not among it."""


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
            return self._ruleset(record).with_text(self._of_names(record))
        if record.raw is None and isinstance(record, FlowRecord):
            return self._flow(record)  # of --flows, or a listing showed that it is gone
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
            same["process"] = self._process(record.process)
        elif isinstance(record, TraceRecord):
            same |= {"indev": record.indev, "outdev": record.outdev}
        elif isinstance(record, PacketRecord):  # a message may lack the names of its interfaces
            names = ("indev", "outdev", "physindev", "physoutdev")
            same |= {name: getattr(record, name) for name in names}
        elif isinstance(record, FlowRecord):  # what the reader of a live source adds
            same |= {"netns": record.netns, "via": record.via}
        result = msgspec.structs.replace(scrubbed, **same)
        if isinstance(result, RulesetRecord | TraceRecord):
            return self._ruleset(record).with_text(result)
        if isinstance(record, JoinedRecord) and isinstance(result, PacketRecord):
            return self._joined(result, record)
        return result

    def _joined(self, packet: PacketRecord, before: JoinedRecord) -> JoinedRecord:
        """The packet with its rule and its flow; the rule's text only if its record came."""
        layout = "nft" + before.layout[-3:]  # of the same byte order
        ruleset = self._rulesets.get((layout, before.origin))

        def scrubbed(names: dict[str, Any], start: str) -> dict[str, Any]:
            """Names, and the text, of a rule; their keys begin with `start`."""
            changed = dict(names)
            for key in (f"{start}table", f"{start}chain"):
                if changed.get(key) is not None:
                    changed[key] = self._name(changed[key])
            if changed.get(f"{start}text") is not None:
                rule = [changed.get(start + key) for key in ("family", "table", "handle")]
                changed[f"{start}text"] = None if ruleset is None else ruleset.text_of(*rule)
            return changed

        fields = scrubbed({name: getattr(before, name) for name in JOINED}, "rule_")
        for name in ("nat_saddr", "nat_daddr"):
            fields[name] = self._address(fields[name])
        candidates = [scrubbed(rule, "") for rule in before.rule_candidates or ()]
        fields["rule_candidates"] = [
            {name: value for name, value in rule.items() if value is not None}
            for rule in candidates
        ] or None
        return joined(packet, **fields)

    def _flow(self, record: FlowRecord) -> FlowRecord:
        """A flow without its message: addresses are replaced, and what is not certain to hold
        none is left out of `extra`.
        """
        changed: dict[str, Any] = {
            name: self._address(getattr(record, name))
            for name in ("saddr", "daddr", "nat_saddr", "nat_daddr")
        }
        extra = {
            name: self._tuple(value) if isinstance(value, dict) else value
            for name, value in (record.extra or {}).items()
            if name in _OF_FLOW
        }
        return msgspec.structs.replace(
            record, **changed, extra=extra or None, origin=None, host=None
        )

    def _tuple(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes of conntrack with other addresses, and without a helper's own bytes."""
        return {
            name: self._tuple(value)
            if isinstance(value, dict)
            else self._address(value)
            if name.startswith("CTA_IP_")
            else value
            for name, value in attributes.items()
            if name != "CTA_HELP_INFO"
        }

    def _address(self, address: str | None) -> str | None:
        """The replacement of an address."""
        return None if address is None else addresses[self._scrubber.address(octets[address])]

    def _name(self, name: str | None) -> str | None:
        """The pseudonym of a name."""
        return None if name is None else text(self._scrubber.name(name_bytes(name)))

    def _process(self, comm: str | None) -> str | None:
        """The pseudonym of a process."""
        return None if comm is None else text(self._scrubber.process(name_bytes(comm)))

    def _of_names(self, record: RulesetRecord) -> RulesetRecord:
        """A record without its message: only what names the entity is left."""
        return msgspec.structs.replace(
            record, table=self._name(record.table), chain=self._name(record.chain),
            name=self._name(record.name), process=self._process(record.process), uid=None,
            cmdline=None, cgroup=None, comment=None, expressions=None, elements=None, text=None,
            extra=None,
        )  # fmt: skip

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

    def text_of(
        self, family: str | int | None, table: str | None, handle: int | None
    ) -> str | None:
        """The text of a rule."""
        rule = self._model.find_rule(family, table, handle)
        if rule is not None and rule.text is None:  # it names a chain that was renamed
            self._texts.put(rule)
        return None if rule is None else rule.text

    def with_text(self, record: RulesetRecord | TraceRecord) -> Record:
        """The record, which the ruleset follows, with the text of its entity."""
        if isinstance(record, TraceRecord):
            text = self.text_of(record.family, record.table, record.handle)
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
