"""What a stream finds in bytes: messages, damage, flaws and reports of losses.

`Stream.split` gives these items in the order of the input. Together the messages and the damage
cover all bytes. A message is only a place in the data; `Stream.decode` makes its record. The other
items carry all that a reader has to report, so that nothing has to be looked up again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pylog.errors import DecodeError
from pylog.formats.interface_names import InterfaceNames
from pylog.record import LossRecord, PacketRecord

MAXIMUM_COUNT = 2**63 - 1
"""No file can have counted more of anything: at 10^9 a second this takes 292 years. A larger number
is a negative one, or was never a count."""


class Message(msgspec.Struct, gc=False):
    """A complete message: data[start:end] of the data given to the call of `split`.

    origin   where a capture file says it was captured (formats.pcap_interfaces.Origin), or None
    """

    start: int
    end: int
    origin: Any = None


class Damage(msgspec.Struct, gc=False):
    """Bytes that make no message: `offset` in the input, `size` in bytes, and why.

    origin   as of a Message: where the packet was captured that the bytes are in
    """

    offset: int
    size: int
    error: DecodeError
    origin: Any = None


class Flaw(msgspec.Struct, gc=False):
    """A value at `offset` in the input that makes no sense: the next message is read without it."""

    offset: int
    error: DecodeError


class Dropped(msgspec.Struct, gc=False):
    """A report that `count` records (None: unknown) were lost before what follows at `offset`.

    interface   of a capture: Interface.number of formats.pcap_interfaces
    """

    offset: int
    count: int | None
    reason: str
    interface: int | None = None


class DroppedInAll(msgspec.Struct, gc=False):
    """A capture reports at its end that an interface lost `count` records in total.

    interface        Interface.number of formats.pcap_interfaces
    source, layout   of the interface's messages; None if there were none
    """

    offset: int
    count: int
    reason: str
    interface: int
    source: str | None
    layout: str | None


class Reported(msgspec.Struct, gc=False):
    """A loss before `offset` that the program that wrote a capture file had reported.

    interface   that lost the records, as in Dropped
    """

    offset: int
    loss: LossRecord
    interface: int | None = None


class NewSection(msgspec.Struct, gc=False):
    """Another recording begins here: sequence numbers start anew."""


Item = Message | Damage | Flaw | Dropped | DroppedInAll | Reported | InterfaceNames | NewSection


class RawBatch(msgspec.Struct):
    """Messages for a capture file, received together and not decoded.

    order         the byte order that the file must have
    observed_ns   when the messages were received
    templates     for each message a record with what the packet itself does not say, and extra
                  {"ifindex": interface numbers by the field that has the name}; messages that agree
                  in this share one template
    packets       what the capture file holds of each message
    """

    order: str
    observed_ns: int
    templates: list[PacketRecord] = []
    packets: list[bytes] = []
