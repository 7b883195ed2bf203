"""Options records of IPFIX: what explains the data records.

They are the names of machines and of interfaces, the types of elements of enterprises (RFC 5610),
counters of rules, and how many records were lost (RFC 7011, 4.3). They are sent in observation
domain 0, which is that of no machine, and name the domain that they are about as a scope. So the
sequence numbers of other domains count data records of packets and flows only, as nfcapd expects.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pylog.outputs import _ipfix_elements as ie
from pylog.outputs._ipfix_elements import TYPES, Element
from pylog.outputs._ipfix_messages import Before, Messages
from pylog.outputs._ipfix_parts import milliseconds, texts

DOMAIN = 0
_MOST = (1 << 64) - 1

Template = tuple[int, tuple[Element, ...]]
"""How many of the elements are the scope, and the elements."""

NAMES: Template = 1, (ie.observationDomainId, ie.observationDomainName)
INTERFACES: Template = 2, (ie.observationDomainId, ie.ingressInterface, ie.interfaceName)
ELEMENTS: Template = 2, (ie.privateEnterpriseNumber, ie.informationElementId,
                         ie.informationElementDataType, ie.informationElementName)  # fmt: skip
COUNTERS: Template = 2, (ie.observationDomainId, ie.selectorName, ie.packetTotalCount,
                         ie.octetTotalCount)  # fmt: skip
LOSSES: Template = 2, (ie.observationDomainId, ie.exportingProcessId, ie.notSentFlowTotalCount,
                       ie.notSentPacketTotalCount, ie.flowStartMilliseconds,
                       ie.flowEndMilliseconds)  # fmt: skip
MEANINGS: dict[str, Template] = {
    "the name of an observation domain": NAMES,
    "the name of an interface": INTERFACES,
    "the type and name of an element of an enterprise": ELEMENTS,
    "an nfacct counter": COUNTERS,
    "records that were lost so far, when first and when last": LOSSES,
}
"""All options templates, for the reference."""


class Options:
    """Sends options records.

    messages   in which they are gathered
    """

    def __init__(
        self, limit: int, send: Callable[[bytes], None], before: Before | None = None
    ) -> None:
        """As Messages."""
        self.messages = Messages(DOMAIN, limit, send, before)
        self._templates: dict[Template, int] = {}
        self._lasting: dict[tuple[Template, bytes], bytes] = {}
        """Records that hold until the end, or until another of the same key."""
        self._losses: dict[int, _Losses] = {}

    def _send(self, template: Template, octets: bytes) -> None:
        number = self._templates.get(template)
        if number is None:
            scopes, elements = template
            number = self._templates[template] = self.messages.template(elements, scopes)
        self.messages.record(number, octets)

    def _keep(self, template: Template, key: bytes, values: bytes) -> None:
        self._lasting[template, key] = key + values
        self._send(template, key + values)

    def name(self, domain: int, name: str) -> None:
        """The machine of a domain."""
        self._keep(NAMES, domain.to_bytes(4), texts[name])

    def interface(self, domain: int, number: int, name: str) -> None:
        """The name of an interface of a domain."""
        self._keep(INTERFACES, domain.to_bytes(4) + number.to_bytes(4), texts[name])

    def element(self, element: Element) -> None:
        """An element of an enterprise, with its type; nothing if that was sent before."""
        key = element.enterprise.to_bytes(4) + element.number.to_bytes(2)
        if (ELEMENTS, key) not in self._lasting:
            self._keep(ELEMENTS, key, bytes((TYPES[element.type][0],)) + texts[element.name])

    def counter(self, domain: int, name: str, packets: int, octets: int) -> None:
        """What was counted under a name; OverflowError for numbers beyond 64 bits."""
        self._send(
            COUNTERS,
            domain.to_bytes(4) + texts[name] + packets.to_bytes(8) + octets.to_bytes(8),
        )

    def lost(self, domain: int, records: int, packets: int, time_ns: int) -> None:
        """So many records more of a domain were not sent; so many of them stood for packets.

        time_ns   when the loss was noticed
        """
        losses = self._losses.setdefault(domain, _Losses(time_ns))
        losses.add(records, packets, time_ns)
        self._keep(LOSSES, domain.to_bytes(4) + _process(), losses.octets())

    def repeat(self) -> None:
        """Send all templates, and what holds still, again."""
        self.messages.repeat_templates()
        for (template, _), octets in self._lasting.items():
            self._send(template, octets)


class _Losses:
    """What was lost of a domain so far."""

    def __init__(self, time_ns: int) -> None:
        self._records = self._packets = 0
        self._first = self._last = milliseconds(time_ns) or bytes(8)

    def add(self, records: int, packets: int, time_ns: int) -> None:
        self._records = min(self._records + records, _MOST)
        self._packets = min(self._packets + packets, _MOST)
        self._last = milliseconds(time_ns) or bytes(8)

    def octets(self) -> bytes:
        counts = self._records.to_bytes(8) + self._packets.to_bytes(8)
        return counts + self._first + self._last


def _process() -> bytes:
    """The exporting process."""
    return (os.getpid() & 0xFFFFFFFF).to_bytes(4)
