"""Messages as kernels write them, and pcap files: built from the schemas, for tests."""

from __future__ import annotations

from typing import Any

from construct import Construct, ConstructError, Struct, Terminated

from pylog.errors import DecodeError
from pylog.formats.netlink import NFGENMSG, Table, attributes, build, nlmsghdr
from pylog.formats.nfulnl_attributes import ATTRIBUTES, CONFIG, NFULNL_MSG_PACKET
from pylog.formats.pcap_blocks import MAGIC_NSEC, MAGIC_USEC, MAXIMUM_SNAPLEN, plans, schemas


def message(table: Table, order: str) -> Struct:
    """The construct schema of a complete message of a netfilter subsystem."""
    return Struct(
        "nlmsghdr" / nlmsghdr(order),
        "nfgenmsg" / NFGENMSG,
        "attributes" / attributes(table, order),
        Terminated,
    )


def log_message(order: str) -> Struct:
    """The construct schema of a complete log message; the reference that tests compare with."""
    return message(ATTRIBUTES, order)


def config_message(order: str) -> Struct:
    """The construct schema of a complete config message."""
    return message(CONFIG, order)


def log(order: str, group: int, attrs: list[tuple[int, Any]], **head: int) -> bytes:
    """A log message as the kernel would send it; `attrs` are (number, value)."""
    return build(ATTRIBUTES, order, NFULNL_MSG_PACKET, group, attrs, **head)


def parse(schema: Construct[Any, Any], data: bytes, what: str = "message") -> Any:
    """construct's parse with its errors as DecodeError; the slow, reference way to read."""
    try:
        return schema.parse(data + bytes(-len(data) % 4))
    except ConstructError as error:
        raise DecodeError(what, str(error).splitlines()[0], "a complete message", 0) from error


def pcap_header(
    linktype: int, *, snaplen: int = MAXIMUM_SNAPLEN, order: str = "<", nanoseconds: bool = True
) -> bytes:
    """The head of a pcap file."""
    return schemas(order)["pcap"].build(
        {"magic": MAGIC_NSEC if nanoseconds else MAGIC_USEC, "major": 2, "minor": 4, "thiszone": 0,
         "sigfigs": 0, "snaplen": snaplen, "network": linktype}
    )  # fmt: skip


def pcap_packet(
    data: bytes, observed_ns: int, *, length: int | None = None, order: str = "<",
    nanoseconds: bool = True,
) -> bytes:  # fmt: skip
    """A packet of a pcap file; `length` is the one before it was cut, if it was."""
    second, fraction = divmod(observed_ns, 10**9)
    head = {"sec": second, "fraction": fraction if nanoseconds else fraction // 1000,
            "caplen": len(data), "len": len(data) if length is None else length}  # fmt: skip
    return plans(order)["pcap packet"].pack(head) + data
