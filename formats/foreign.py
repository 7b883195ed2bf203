"""Recognizes files that are not firewall logs, and says what to do with them.

The tests come in order of certainty: magics, then what has to be computed (tar, UTF-16, a single
byte repeated), then text. Text is recognized by its lines. Each of the first lines counts for the
first rule that it fits, and the rule with the most lines wins, if the first line or a quarter of
the lines fit any rule. In the advice FILE stands for the file's name.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from pylog.formats import HEAD

SAMPLE = 1 << 14
"""Text is recognized by this many of the first bytes."""

LINES = 100
"""Text is recognized by this many of its first lines."""

ENOUGH, LEAST = 64, 3
"""The least bytes that are taken for text, if more may follow, and if they are all of the file."""

REPEATED = 10
"""The least size of a file of equal bytes that is named as such."""


class Foreign(NamedTuple):
    """The name of a kind of file, with its article, and what to do.

    certain   it begins with a magic: records inside it do not make it a log
    verb      the subject and verb before the name in a sentence
    open      lines of a firewall may still follow
    """

    name: str
    advice: str
    certain: bool = False
    verb: str = "this is"
    open: bool = False


_UNPACK = "unpack it first: {} | pylog read -"
_TABLE = "pylog does not read tables back: open it with the program that it was made for"
_FLOWS = f"{_TABLE}; only pylog who reads it, if it has flows"
_EDITCAP = "convert it first: editcap -F pcapng FILE OUT.pcapng"
_NAME = "name the file that holds the log"
_NO_LINE = "no line of it is complete enough to be read"
_UTF_8 = "convert it first: iconv -f UTF-16 -t UTF-8 FILE | pylog read -"

MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", _UNPACK.format("unzip -p FILE")),
    (b"PK\x05\x06", "an empty zip archive", _NAME),
    (b"PK\x07\x08", "a zip archive in parts", _UNPACK.format("unzip -p FILE")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z e -so FILE")),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK.format("unrar p -inul FILE")),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK.format("lz4 -dc FILE")),
    (b"\x02\x21\x4c\x18", "compressed with lz4", _UNPACK.format("lz4 -dc FILE")),
    (b"\x1f\x8b\x08", "compressed with gzip", _UNPACK.format("gzip -dc FILE")),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK.format("xz -dc FILE")),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK.format("zstd -dc FILE")),
    *((b"BZh%d1AY&SY" % level, "compressed with bzip2", _UNPACK.format("bzip2 -dc FILE"))
      for level in range(1, 10)),
    *((bytes((0x1F, 0x9D, 0x80 | bits)), "compressed with compress (.Z)",
       _UNPACK.format("gzip -dc FILE")) for bits in range(9, 17)),
    (b"\x5d\x00\x00\x80\x00", "compressed with lzma", _UNPACK.format("xz -dc FILE")),
    (b"LZIP\x01", "compressed with lzip", _UNPACK.format("lzip -dc FILE")),
    (b"\x89LZO\x00\r\n\x1a\n", "compressed with lzop", _UNPACK.format("lzop -dc FILE")),
    (b"070701", "a cpio archive", "unpack it first: cpio -i <FILE"),
    (b"070707", "a cpio archive", "unpack it first: cpio -i <FILE"),
    (b"!<arch>\n", "an ar archive or a Debian package", _NAME),
    (b"\xed\xab\xee\xdb", "an RPM package", _NAME),
    (b"PAR1", "a Parquet table", _FLOWS),
    (b"ARROW1", "an Arrow table", _FLOWS),
    (b"FEA1", "an Arrow table (Feather 1)", _TABLE),
    (b"SQLite format 3\x00", "an SQLite database", _TABLE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _TABLE),
    (b"Obj\x01", "an Avro table", _TABLE),
    (b"\x7fELF", "a program (ELF)", _NAME),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)", _NAME),
    (b"%PDF-", "a PDF document", _NAME),
    (b"{\\rtf", "an RTF document", _NAME),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _NAME),
    (b"\x89PNG\r\n\x1a\n", "an image (PNG)", _NAME),
    (b"\xff\xd8\xff", "an image (JPEG)", _NAME),
    (b"GIF8", "an image (GIF)", _NAME),
    (b"LPKSHHRH", "a systemd journal",
     "write its entries first: journalctl -k -o json --file FILE | pylog read -"),
    (b"ElfFile\x00", "an event log of Windows", _NAME),
    (b"snoop\x00\x00\x00", "a capture of snoop", _EDITCAP),
    (b"btsnoop\x00", "a Bluetooth capture", _NAME),
    (b"GMBU", "a capture of Network Monitor", _EDITCAP),
    (b"RTSS", "a capture of Network Monitor", _EDITCAP),
)  # fmt: skip
"""How a file begins, what it is, and what to do."""

_DATE = r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*)"
_CLOCK = r"(?:(?:[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d+|\d+\.\d{6,9})"

LINE_RULES: tuple[tuple[str, str, str], ...] = (
    (r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{6} |missed \d+ (?:ipf|NAT|state) log entries"
     r"|.*\bipmon(?:\[\d+\])?: ",
     "text that ipmon printed", _NO_LINE),
    (r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z|-) (?:pass|block|nomatch|log|-|nat|state|flow"
     r"|LOST|CUT OFF) ",
     "text that pylog printed", "name the log that it was made from"),
    (r'\{"kind":"(?:packet|flow|loss)",',
     "a JSON lines file that pylog wrote", "name the log that it was made from"),
    (r"kind,source,layout,",
     "a CSV file that pylog wrote", "name the log that it was made from"),
    (r".*IN=\S* OUT=\S* *(?:MAC|SRC|ARP|PHYS|TUNNEL)|.*\bIN=\S* OUT=\S* .*\b(?:SRC|MAC|MARK)=",
     "text that the kernel's LOG printed", _NO_LINE),
    (_CLOCK + r" (?:rule \S*/|IP6? |ARP[, ]|[0-9a-f:]{17} |\S+ (?:In|Out|B|M|P) )",
     "text that tcpdump printed", "pylog reads that of pflog (tcpdump -e -i pflog0); of others"
     " write a capture instead: tcpdump -w FILE"),
    (r" *\d+ +\d+\.\d+ +\S+ (?:→|->) \S+ ",
     "text that tshark printed", "write a capture instead: tshark -w FILE"),
    (r"(?:0x)?[0-9a-f]{4,8}:?\s+(?:[0-9a-f]{2} ?){2}",
     "a hex dump", "turn it into bytes again (for xxd: xxd -r FILE | pylog read -)"),
    (r"(?:<\d+>)?1 " + _DATE + r" \S+ \S+ \S+ \S+ |(?:<\d+>)?" + _DATE + r" \S+.*?: "
     r"|(?:<\d+>|\w+ *:\w+ *: )?\[ *\d+\.\d+\] |\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d ",
     "a text log (syslog)", "no line at its beginning is of a firewall; if later ones are, name"
     " its layout: --layout text"),
)  # fmt: skip
"""How a line begins, what such a text is, and what to do."""

DOCUMENT_RULES: tuple[tuple[str, str, str], ...] = (
    (r"<!doctype html|<html|<head|<body",
     "a web page (HTML)", "if it was downloaded, the server sent this in place of the log"),
    (r"<\?xml|<!--|<[a-z][\w:.-]*(?:\s|/?>)", "an XML file", _NAME),
    (r'\{\s*(?:"|\}\s*$)|\[\s*[\[{"]', "a JSON file", "pylog writes JSON and does not read it"),
    (r"#!", "a script", _NAME),
)  # fmt: skip
"""How a text begins, what it is, and what to do."""

_ASCII = bytes(range(0x80))
_TEXT = Foreign("text", "no line of it is of a firewall that pylog reads", open=True)
_CSV = Foreign("a CSV file", "pylog writes CSV and does not read it")
_CONTROL = r"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]"


def recognized(head: bytes, final: bool) -> Foreign | None:
    """The kind of a file that begins with `head` and is no log; None if it is not recognized.

    final   these are all its bytes; then fewer are enough
    """
    for magic, name, advice in MAGICS:
        if head.startswith(magic):
            return Foreign(name, advice, True)
    if _is_tar(head[:512]):
        return Foreign("a tar archive", _UNPACK.format("tar -xOf FILE"), True)
    if len(head) < (LEAST if final else ENOUGH):
        return None
    complete = final or len(head) >= HEAD
    if complete and len(head) >= REPEATED and head.count(head[:1]) == len(head):
        what = "zero bytes" if head[0] == 0 else f"bytes {head[:1].hex()}"
        return Foreign(f"only {what}: it was never written or the copy failed", "copy it again",
                       verb="the file holds")  # fmt: skip
    text, encoding = _text_of(head[:SAMPLE])
    if text is None:
        return None
    kind = _kind_of(text)
    if encoding:
        return kind._replace(name=kind.name + encoding, advice=_UTF_8)
    return kind


def _is_tar(block: bytes) -> bool:
    """Whether the block is the header of a file in a tar archive, by its checksum."""
    digits = block[148:156].strip(b" \0")
    if len(block) < 512 or not re.fullmatch(rb"[0-7]{4,7}", digits):
        return False
    return sum(block) - sum(block[148:156]) + 8 * 0x20 == int(digits, 8)


def _text_of(sample: bytes) -> tuple[str | None, str]:
    """The bytes as text, and a phrase that names UTF-16; None if they are no text."""
    zeros = sample[1::2].count(0), sample[::2].count(0)
    for order, mark, odd, even in (("le", b"\xff\xfe", *zeros), ("be", b"\xfe\xff", *zeros[::-1])):
        if sample.startswith(mark) or (odd * 2 > len(sample) * 0.9 and not even):
            even_sized = sample.removeprefix(mark)[: len(sample) & ~1]
            text = even_sized.decode(f"utf-16-{order}", "replace").rstrip("\ufffd")
            return (text, ", in UTF-16") if _is_printable(text) else (None, "")
    try:
        text = sample.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start >= len(sample) - 3:  # the sample ends within a character
            text = sample[: error.start].decode("utf-8-sig")
        elif len(sample.translate(None, _ASCII)) * 8 > len(sample):
            return None, ""
        else:
            text = sample.decode("latin-1")
    return (text, "") if _is_printable(text) else (None, "")


def _is_printable(text: str) -> bool:
    """Whether nearly all characters are printable: prefixes may hold control bytes."""
    return bool(text.strip()) and len(re.findall(_CONTROL, text)) * 32 <= len(text)


def _rule_of(line: str) -> int | None:
    """The first of LINE_RULES that a line fits."""
    return next((i for i, (rule, *_) in enumerate(LINE_RULES) if re.match(rule, line)), None)


def _kind_of(text: str) -> Foreign:
    """The kind of a text."""
    lines = [line for line in text.splitlines() if line.strip()][:LINES]
    rules = [_rule_of(line) for line in lines]
    votes = Counter(rule for rule in rules if rule is not None)
    if votes and (rules[0] is not None or votes.total() * 4 >= len(lines)):
        chosen = min(votes, key=lambda rule: (-votes[rule], rule))
        return Foreign(*LINE_RULES[chosen][1:], open=True)
    for pattern, name, advice in DOCUMENT_RULES:
        if re.match(pattern, text.lstrip(), re.I):
            return Foreign(name, advice)
    for comma in ",;\t":
        counts = {line.count(comma) for line in lines[:10]}
        if len(lines) > 1 and len(counts) == 1 and counts.pop() >= 2:
            return _CSV
    return _TEXT
