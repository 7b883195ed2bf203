"""Goes on in a file of IPFIX messages: where its last complete message ends, and for each
observation domain the templates that it has and the next sequence number.

Only the structure of messages, sets and templates is read, which pylog has written itself; no
value is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pylog.errors import BackendError
from pylog.outputs._ipfix_elements import VARIABLE
from pylog.outputs._ipfix_messages import (
    FIRST,
    HEADER,
    OPTIONS_TEMPLATES,
    VERSION,
    Before,
    Definition,
)
from pylog.transports.packing import unpacked


def resume(path: str) -> tuple[dict[int, Before], int, int]:
    """What a file of IPFIX holds: what comes before the next message of each domain, where the last
    complete message ends, and how many bytes are left behind it.

    BackendError for a file that holds something else, OSError.
    """
    domains: dict[int, Before] = {}
    end = 0
    try:
        with unpacked(path) as file:
            while True:
                header = file.read(HEADER.size)
                if len(header) < HEADER.size:
                    return domains, end, len(header)
                version, length, _, sequence, domain = HEADER.unpack(header)
                if version != VERSION or length < HEADER.size:
                    raise BackendError(f"cannot append to {path}: no IPFIX at offset {end}")
                body = file.read(length - HEADER.size)
                if len(body) < length - HEADER.size:
                    return domains, end, len(header) + len(body)
                before = domains.setdefault(domain, Before())
                before.sequence = (sequence + sum(_records(body, before))) & 0xFFFFFFFF
                end += length
    except (struct.error, IndexError, KeyError):
        problem = f"the message at offset {end} is damaged"
        raise BackendError(f"cannot append to {path}: {problem}") from None
    except EOFError as error:
        raise BackendError(f"cannot append to {path}: its compression is not complete") from error


def _records(body: bytes, before: Before) -> Iterator[int]:
    """How many data records each set of a message has. Its templates are added to `before`."""
    sizes = {number: _sizes(definition) for definition, number in before.templates.items()}
    at = 0
    while at < len(body):
        number, length = struct.unpack_from(">HH", body, at)
        if length < 4 or at + length > len(body):
            raise IndexError
        content = body[at + 4 : at + length]
        if number >= FIRST:
            yield _count(content, sizes[number])
        else:
            for template, definition in _templates(content, number):
                before.templates[definition] = template
                sizes[template] = _sizes(definition)
        at += length


def _templates(content: bytes, set_id: int) -> Iterator[tuple[int, Definition]]:
    """The number and the definition of each template of a set."""
    at = 0
    while at < len(content):
        number, count = struct.unpack_from(">HH", content, at)
        begin, at = at + 2, at + 4
        at += 2 if set_id == OPTIONS_TEMPLATES else 0
        for _ in range(count):
            at += 8 if content[at] & 0x80 else 4
        yield number, (set_id, content[begin:at])


def _sizes(definition: Definition) -> list[int]:
    """The length of each field of a template, VARIABLE of one whose values have their own."""
    set_id, content = definition
    at = 4 if set_id == OPTIONS_TEMPLATES else 2
    sizes = []
    while at < len(content):
        element, size = struct.unpack_from(">HH", content, at)
        sizes.append(size)
        at += 8 if element & 0x8000 else 4
    return sizes


def _count(content: bytes, sizes: list[int]) -> int:
    """How many records of a template there are."""
    fixed = sum(size for size in sizes if size != VARIABLE)
    variable = sizes.count(VARIABLE)
    if not variable:
        return len(content) // fixed
    at = count = 0
    while at < len(content):
        for size in sizes:
            if size == VARIABLE:
                size = content[at]
                at += 1
                if size == 255:
                    (size,) = struct.unpack_from(">H", content, at)
                    at += 2
            at += size
        count += 1
    return count
