"""Information elements of IPFIX: the names, numbers and types of what a record can hold.

They are those of IANA's registry "IPFIX Information Elements", the reverse ones of RFC 5103, and
those that ulogd2 defined under the number of the netfilter project (ulogd/ipfix_protocol.h). pylog
has no enterprise number of its own, and invents no element.
"""

from __future__ import annotations

from typing import NamedTuple

VARIABLE = 0xFFFF
"""The length in a template of an element whose values have different lengths (RFC 7011, 7)."""

REVERSE, NETFILTER = 29305, 21373
"""Private enterprise numbers: reverse elements (RFC 5103), the netfilter project."""

TYPES = {
    "octetArray": (0, VARIABLE), "unsigned8": (1, 1), "unsigned16": (2, 2), "unsigned32": (3, 4),
    "unsigned64": (4, 8), "macAddress": (12, 6), "string": (13, VARIABLE),
    "dateTimeMilliseconds": (15, 8), "dateTimeNanoseconds": (17, 8), "ipv4Address": (18, 4),
    "ipv6Address": (19, 16),
}  # fmt: skip
"""The number of each abstract data type (RFC 5610, 3.1), and how many bytes it has."""


class Element(NamedTuple):
    """An information element.

    name         as IANA or its enterprise has it
    number       without the enterprise bit
    type         the abstract data type, of TYPES
    enterprise   0: IANA
    """

    name: str
    number: int
    type: str
    enterprise: int = 0

    @property
    def size(self) -> int:
        """The length in templates."""
        return TYPES[self.type][1]

    def specifier(self) -> bytes:
        """The field specifier of a template (RFC 7011, 3.2)."""
        number = self.number | (0x8000 if self.enterprise else 0)
        start = number.to_bytes(2) + self.size.to_bytes(2)
        return start + self.enterprise.to_bytes(4) if self.enterprise else start


def reverse(element: Element) -> Element:
    """The element for the other direction of the same flow."""
    name = f"reverse{element.name[0].upper()}{element.name[1:]}"
    return Element(name, element.number, element.type, REVERSE)


octetDeltaCount = Element("octetDeltaCount", 1, "unsigned64")
packetDeltaCount = Element("packetDeltaCount", 2, "unsigned64")
protocolIdentifier = Element("protocolIdentifier", 4, "unsigned8")
ipClassOfService = Element("ipClassOfService", 5, "unsigned8")
tcpControlBits = Element("tcpControlBits", 6, "unsigned16")
sourceTransportPort = Element("sourceTransportPort", 7, "unsigned16")
sourceIPv4Address = Element("sourceIPv4Address", 8, "ipv4Address")
ingressInterface = Element("ingressInterface", 10, "unsigned32")
destinationTransportPort = Element("destinationTransportPort", 11, "unsigned16")
destinationIPv4Address = Element("destinationIPv4Address", 12, "ipv4Address")
egressInterface = Element("egressInterface", 14, "unsigned32")
sourceIPv6Address = Element("sourceIPv6Address", 27, "ipv6Address")
destinationIPv6Address = Element("destinationIPv6Address", 28, "ipv6Address")
flowLabelIPv6 = Element("flowLabelIPv6", 31, "unsigned32")
icmpTypeCodeIPv4 = Element("icmpTypeCodeIPv4", 32, "unsigned16")
fragmentIdentification = Element("fragmentIdentification", 54, "unsigned32")
sourceMacAddress = Element("sourceMacAddress", 56, "macAddress")
ipVersion = Element("ipVersion", 60, "unsigned8")
flowDirection = Element("flowDirection", 61, "unsigned8")
destinationMacAddress = Element("destinationMacAddress", 80, "macAddress")
interfaceName = Element("interfaceName", 82, "string")
octetTotalCount = Element("octetTotalCount", 85, "unsigned64")
packetTotalCount = Element("packetTotalCount", 86, "unsigned64")
fragmentOffset = Element("fragmentOffset", 88, "unsigned16")
forwardingStatus = Element("forwardingStatus", 89, "unsigned8")
flowEndReason = Element("flowEndReason", 136, "unsigned8")
observationPointId = Element("observationPointId", 138, "unsigned64")
icmpTypeCodeIPv6 = Element("icmpTypeCodeIPv6", 139, "unsigned16")
exportingProcessId = Element("exportingProcessId", 144, "unsigned32")
flowId = Element("flowId", 148, "unsigned64")
observationDomainId = Element("observationDomainId", 149, "unsigned32")
flowStartMilliseconds = Element("flowStartMilliseconds", 152, "dateTimeMilliseconds")
flowEndMilliseconds = Element("flowEndMilliseconds", 153, "dateTimeMilliseconds")
flowStartNanoseconds = Element("flowStartNanoseconds", 156, "dateTimeNanoseconds")
flowEndNanoseconds = Element("flowEndNanoseconds", 157, "dateTimeNanoseconds")
notSentFlowTotalCount = Element("notSentFlowTotalCount", 166, "unsigned64")
notSentPacketTotalCount = Element("notSentPacketTotalCount", 167, "unsigned64")
icmpTypeIPv4 = Element("icmpTypeIPv4", 176, "unsigned8")
icmpTypeIPv6 = Element("icmpTypeIPv6", 178, "unsigned8")
tcpSequenceNumber = Element("tcpSequenceNumber", 184, "unsigned32")
tcpAcknowledgementNumber = Element("tcpAcknowledgementNumber", 185, "unsigned32")
tcpWindowSize = Element("tcpWindowSize", 186, "unsigned16")
ipTTL = Element("ipTTL", 192, "unsigned8")
fragmentFlags = Element("fragmentFlags", 197, "unsigned8")
udpMessageLength = Element("udpMessageLength", 205, "unsigned16")
ipTotalLength = Element("ipTotalLength", 224, "unsigned64")
postNATSourceIPv4Address = Element("postNATSourceIPv4Address", 225, "ipv4Address")
postNATDestinationIPv4Address = Element("postNATDestinationIPv4Address", 226, "ipv4Address")
postNAPTSourceTransportPort = Element("postNAPTSourceTransportPort", 227, "unsigned16")
postNAPTDestinationTransportPort = Element("postNAPTDestinationTransportPort", 228, "unsigned16")
natEvent = Element("natEvent", 230, "unsigned8")
firewallEvent = Element("firewallEvent", 233, "unsigned8")
VRFname = Element("VRFname", 236, "string")
biflowDirection = Element("biflowDirection", 239, "unsigned8")
dot1qVlanId = Element("dot1qVlanId", 243, "unsigned16")
dot1qPriority = Element("dot1qPriority", 244, "unsigned8")
dot1qCustomerVlanId = Element("dot1qCustomerVlanId", 245, "unsigned16")
dot1qCustomerPriority = Element("dot1qCustomerPriority", 246, "unsigned8")
ingressPhysicalInterface = Element("ingressPhysicalInterface", 252, "unsigned32")
egressPhysicalInterface = Element("egressPhysicalInterface", 253, "unsigned32")
ethernetType = Element("ethernetType", 256, "unsigned16")
collectionTimeMilliseconds = Element("collectionTimeMilliseconds", 258, "dateTimeMilliseconds")
postNATSourceIPv6Address = Element("postNATSourceIPv6Address", 281, "ipv6Address")
postNATDestinationIPv6Address = Element("postNATDestinationIPv6Address", 282, "ipv6Address")
observationDomainName = Element("observationDomainName", 300, "string")
informationElementId = Element("informationElementId", 303, "unsigned16")
ipHeaderPacketSection = Element("ipHeaderPacketSection", 313, "octetArray")
observationTimeNanoseconds = Element("observationTimeNanoseconds", 325, "dateTimeNanoseconds")
selectorName = Element("selectorName", 335, "string")
informationElementDataType = Element("informationElementDataType", 339, "unsigned8")
informationElementName = Element("informationElementName", 341, "string")
privateEnterpriseNumber = Element("privateEnterpriseNumber", 346, "unsigned32")
userName = Element("userName", 371, "string")
internalAddressRealm = Element("internalAddressRealm", 464, "octetArray")
externalAddressRealm = Element("externalAddressRealm", 465, "octetArray")

prefix = Element("prefix", 3, "string", NETFILTER)
mark = Element("mark", 4, "unsigned32", NETFILTER)
hook = Element("hook", 5, "unsigned8", NETFILTER)
seqLocal = Element("seqLocal", 7, "unsigned32", NETFILTER)
