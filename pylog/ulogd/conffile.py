"""The grammar of ulogd.conf, exactly as ulogd 2.0.8 reads it.

ulogd reads the file again from its start for every section. A line has at most 253 bytes and must
end with a newline; an error counts only if it is met before the end of the section that is being
read. `read` does the same for one section: it gives the values of the declared options, where each
stands, the error that ended the reading, and everything that ulogd 2.0.9, which is strict, would
refuse. Source: src/conffile.c, measured with 154 files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

LINE = 254
"""How many bytes fgets() gives at a time, the newline included."""
LONGEST_TEXT = 224
"""The longest value of a text option, in bytes."""
IN_SECTION = b" =\t\n\r"
AROUND_NAMES = b" \t\n\r[]"
"""Delimiters of words: within a section, and where a section is looked for."""

_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")


class Option(NamedTuple):
    """An option of a section.

    kind       "number", "text", or "list": may stand several times, each value is acted upon
    default    its value if it is not given
    mandatory  whether a section without it is an error
    """

    name: str
    kind: str
    default: int | str = ""
    mandatory: bool = False
    help: str = ""


class Given(NamedTuple):
    """A value that the file gives: `text` as it stands there, from line `line` on (1 is first)."""

    value: int | bytes
    text: bytes
    line: int


class Complaint(NamedTuple):
    """What ulogd 2.0.8 accepts, and 2.0.9 refuses or ignores: the line, the key and the reason.

    meant   the key that was probably meant, "" if nothing is near
    """

    line: int
    key: str
    text: str
    meant: str = ""


class Section(NamedTuple):
    """A section as it was read.

    given       the options that stand there; of a list the last
    error       why the reading ended early, "" if it did not
    found       whether there is such a section
    complaints  what ulogd 2.0.9 would not accept
    """

    given: dict[str, Given]
    error: str
    found: bool
    complaints: list[Complaint]


def word(line: bytes, start: int, delimiters: bytes) -> tuple[bytes, int] | None:
    """The next word of a line and where the search for the one after it begins; None: no word.

    A word in quotes ends at the next quote. One that never ends is no word.
    """
    end = line.find(b"\0", start)
    line = line if end < 0 else line[:end]
    while start < len(line) and line[start] in delimiters:
        start += 1
    if start >= len(line):
        return None
    if line[start] == 0x22:
        end = line.find(b'"', start + 1)
        return None if end < 0 else (line[start + 1 : end], end + 1)
    end = start
    while end < len(line) and line[end] not in delimiters:
        end += 1
    return None if end == len(line) else (line[start:end], end)


def number_of(text: bytes) -> int:
    """A number as strtoul(3) with base 0 reads it, kept in 32 bits; 0 without one."""
    match = _NUMBER.match(text)
    if match is None:
        return 0
    sign, digits = match.groups()
    value = int(digits, 16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" else 10)
    value = min(value, 0xFFFFFFFFFFFFFFFF)
    return (-value if sign == b"-" else value) & 0xFFFFFFFF


def _strict_number(text: bytes) -> str:
    """What 2.0.9 has against a number, "" if nothing."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return "integer has invalid format"
    sign, digits = match.groups()
    value = int(digits, 16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" else 10)
    value = -value if sign == b"-" else value
    return "" if -0x80000000 <= value <= 0x7FFFFFFF else "integer is out of range"


def meant_by(name: str, names: Iterable[str]) -> str:
    """The one of `names` that was probably meant, "" if none is near."""
    from difflib import get_close_matches  # only for errors

    by_letters = {other.lower().replace("_", ""): other for other in names}
    near = get_close_matches(name.lower().replace("_", ""), by_letters, 1, 0.7)
    return by_letters[near[0]] if near else ""


class Conffile:
    """The bytes of a configuration.

    path   for messages
    """

    def __init__(self, data: bytes, path: str = "ulogd.conf") -> None:
        self.path = path
        self._lines = list(_pieces(data))
        self._heads: dict[bytes, int] = {}
        """By the name of each section, the first line after its head."""
        self._unreadable: int | None = None
        """The number of the line that ends the search for a section; None: there is none."""
        self._read: dict[tuple[str, tuple[str, ...]], Section] = {}
        """The sections that were read, by their names and the names of their options."""
        self._index()

    def _index(self) -> None:
        """Find the heads of all sections."""
        for at, (number, line) in enumerate(self._lines, 1):
            if line[:1] == b"#":
                continue
            if not line.endswith(b"\n") or b"\0" in line:
                self._unreadable = number
                return
            first = word(line, 0, AROUND_NAMES)
            if first is not None:
                self._heads.setdefault(first[0], at)

    def read(
        self,
        name: str,
        options: Iterable[Option],
        act: Callable[[Option, Given], None] | None = None,
    ) -> Section:
        """Read the first section of that name; one that was read before is the same object.

        act   is called for each value of a list, and of other options, where it stands
        """
        declared = {option.name: option for option in options}
        key = (name, tuple(declared))
        if act is not None:
            return self._section(name, declared, act)
        if key not in self._read:
            self._read[key] = self._section(name, declared, None)
        return self._read[key]

    def _section(
        self, name: str, declared: dict[str, Option], act: Callable[[Option, Given], None] | None
    ) -> Section:
        section = Section({}, "", True, [])
        encoded = name.encode("utf-8", "surrogateescape")
        begin = self._heads.get(encoded)
        if begin is None:
            error = f"line {self._unreadable} too long."
            if self._unreadable is None:
                error = f'section "{encoded.decode("utf-8", "backslashreplace")}" not found'
            return Section({}, error, False, [Complaint(0, "", error)])
        for number, line in itertools.islice(self._lines, begin, None):
            if line[:1] == b"#":
                continue
            if not line.endswith(b"\n") or b"\0" in line:
                return section._replace(error=f"line {number} too long.")
            first = word(line, 0, IN_SECTION)
            if first is None:
                continue
            if first[0][:1] == b"[":
                break
            error = self._entry(declared, section, number, line, first, act)
            if error:
                return section._replace(error=error)
        for option in declared.values():
            if option.mandatory and option.name not in section.given:
                return section._replace(error=f'mandatory option "{option.name}" not found')
        return section

    def _entry(
        self,
        declared: dict[str, Option],
        section: Section,
        number: int,
        line: bytes,
        first: tuple[bytes, int],
        act: Callable[[Option, Given], None] | None,
    ) -> str:
        """Take a line `key value` into the section; the error that ends its reading, or ""."""
        key = first[0].decode("utf-8", "surrogateescape")
        complain = section.complaints.append
        option = declared.get(key)
        if option is None:
            complain(Complaint(number, key, "unknown config key", meant_by(key, declared)))
            return ""
        second = word(line, first[1], IN_SECTION)
        text = first[0] if second is None else second[0]
        if second is None:
            complain(Complaint(number, key, "ignoring malformed config directive"))
        if key in section.given and option.kind != "list":
            complain(Complaint(number, key, "option occurred more than once"))
            return f'option "{key}" occurred more than once'
        value: int | bytes = text
        if option.kind == "number":
            value = number_of(text)
            if second is not None and (flaw := _strict_number(text)):
                complain(Complaint(number, key, flaw))
        elif option.kind == "text" and len(text) > LONGEST_TEXT:
            return f'string value of "{key}" is too long'
        section.given[key] = given = Given(value, text, number)
        if act is not None:
            act(option, given)
        return ""

    def sections(self) -> list[tuple[int, str]]:
        """The lines `[name]`, with their numbers: what a reader takes for sections."""
        heads = []
        for number, line in self._lines:
            first = word(line, 0, IN_SECTION)
            if line[:1] != b"#" and first is not None and first[0][:1] == b"[":
                name = word(line, 0, AROUND_NAMES)
                if name is not None:
                    heads.append((number, name[0].decode("utf-8", "surrogateescape")))
        return heads

    def entries(self) -> Iterator[tuple[int, str, str, str]]:
        """Every `key value` of the file: line number, section ("" before the first), key, value."""
        section = ""
        for number, line in self._lines:
            first = word(line, 0, IN_SECTION)
            if line[:1] == b"#" or first is None:
                continue
            if first[0][:1] == b"[":
                name = word(line, 0, AROUND_NAMES)
                section = "" if name is None else name[0].decode("utf-8", "surrogateescape")
                continue
            second = word(line, first[1], IN_SECTION)
            value = b"" if second is None else second[0]
            yield (
                number, section, first[0].decode("utf-8", "surrogateescape"),
                value.decode("utf-8", "surrogateescape"),
            )  # fmt: skip


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """What fgets() gives, one after the other, each with the number of its line."""
    start, number = 0, 1
    while start < len(data):
        end = data.find(b"\n", start, start + LINE)
        ended = end >= 0
        end = end + 1 if ended else min(start + LINE, len(data))
        yield number, data[start:end]
        start, number = end, number + ended
