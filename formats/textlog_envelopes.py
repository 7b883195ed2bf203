"""Envelopes of text logs: what stands before a message, by the program that stored the line.

dmesg, syslog daemons and journalctl each put time, host and program before a message, in several
forms. `opened` takes a line apart. The form of a line without an envelope is `none`. journalctl's
JSON has the kernel's own time, of its monotonic clock, beside the moment when journald read the
message.

Source: RFC 3164, RFC 5424, dmesg(1), journalctl(1), systemd.journal-fields(7), the kernel's
Documentation/ABI/testing/dev-kmsg; rsyslog 8.2302, systemd 252 and util-linux 2.38 were run.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from pylog.formats.textlog_times import NEVER, When, dated, fraction_ns, month_of, yearless

PROGRAMS = ("kernel", "ipmon", "filterlog", "ulogd", "ipfw", "pf", "tcpdump")
"""Programs whose messages are read."""


class Envelope(NamedTuple):
    """What a line says around its message.

    form      its name, which becomes a part of the layout's
    message   where the message begins in the line, or the message itself if it is no part of it
    repeated  how many times the line stands for, where it says so
    escaped   whether bytes that are not printable ASCII are written as \\xHH
    """

    form: str
    message: str
    when: When = NEVER
    host: str | None = None
    program: str = ""
    repeated: int | None = None
    escaped: bool = False


_PRI = re.compile(r"<\d{1,3}>")
_KMSG = re.compile(r"\d+,\d+,(\d+),[^;]{0,64};")
_CALLER = r"(?:\[ *[TC]\d+\])?"
"""Who wrote the message: a task or a processor (CONFIG_PRINTK_CALLER)."""
_UPTIME = re.compile(rf"\[ *(\d+\.\d+)(?: <[ \d.]+>)?\]{_CALLER} ")
_RELATIVE = re.compile(r"\[(?:[A-Z][a-z]{2} ?\d{1,2} \d\d:\d\d| *[+<] *\d+\.\d+>?)\] ")
_DECODED = re.compile(r"\w+ *:\w+ *: (?=\[|\d{4}-)")
_NAME = r"[A-Za-z\x80-\xff]{2,10}\.?"
"""A day of the week or a month, in any language."""
_CTIME = re.compile(rf"\[{_NAME} ({_NAME}) ([ \d]\d) (\d\d:\d\d:\d\d) (\d{{4}})\]{_CALLER} ")
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d:\d\d:\d\d)(?:([.,])(\d{1,9}))?(Z|[+-]\d\d:?\d\d)? "
)
_BSD = re.compile(
    rf"(?:(\d{{4}}) )?({_NAME}) ([ \d]\d) (?:(\d{{4}}) )?(\d\d:\d\d:\d\d)(?:\.(\d{{1,9}}))?"
    r"(?: (\d{4}))? "
)
"""The year stands in any of three places, as routers and syslog-ng write it, or nowhere."""
_FULL = re.compile(
    rf"{_NAME} " r"(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,9}))? ([A-Z]{2,5}|[+-]\d\d) "
)
_LOGREAD = re.compile(rf"{_NAME} ({_NAME}) " r"([ \d]\d) (\d\d:\d\d:\d\d) (\d{4}) (?:\w+\.\w+ )?")
_UNIX = re.compile(r"(\d{9,11})\.(\d{6}) ")
_5424 = re.compile(
    r"1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|(?:\[(?:[^\]\"\\]|\"(?:[^\"\\]|\\.)*\")*\])+)(?: |$)"
)
_FACILITY = re.compile(r"<\w+\.\w+> ")
"""As syslogd -v of FreeBSD writes it before the host, and without brackets that of BusyBox."""
_KNOWN = re.compile(
    rf"(?:(\S*[^\s:]) )?(?:[a-z]+\d?\.[a-z]+ )?({'|'.join(PROGRAMS)})(?:\[\d+\])?: "
    r"(?:\[ID \d{1,9} \w{1,10}\.\w{1,10}\] )?"
)
"""Solaris puts an identifier of the message behind the program."""
_OTHER = re.compile(r"(\S+) ")
_REPEATED = re.compile(r"message repeated (\d{1,9}) times: \[ ?")
LAST_REPEATED = re.compile(r"last message repeated (\d{1,9}) times?\s*$")
"""The message of syslogd in place of lines that were equal to the one before."""
_ENTRY = re.compile(r"(?:\x1e|data: )?(?=\{)")
"""Before an entry of JSON, as journalctl -o json-seq and json-sse write it."""
_FIELD = re.compile(r'\s*(?:MESSAGE=|"(?:MESSAGE"|msg") ?: (?="))')
_RSYSLOG_ESCAPE = re.compile(r"#(0[0-3][0-7])")


def opened(line: str) -> Envelope:
    """The envelope of a line, which has no line end."""
    first = line[:1]
    if first in "{\x1ed" and (match := _ENTRY.match(line)):
        return _journal(line[match.end() :]) or Envelope("none", line)
    if first.isdecimal() and (match := _KMSG.match(line)):
        usec = match[1]
        written = f"{usec[:-6] or '0'}.{usec[-6:]:0>6}"
        return Envelope("kmsg", line[match.end() :], When(written), escaped=True)
    if first in " \tM" and (match := _FIELD.match(line)):
        return _field(line[match.end() :])
    at, form = 0, ""
    if match := _PRI.match(line):
        at, form = match.end(), "pri"
    if match := _5424.match(line, at):
        return _rfc5424(line, match)
    decoded = _DECODED.match(line, at)
    if decoded:
        at = decoded.end()
    if match := _UPTIME.match(line, at):
        name = "dmesg-x" if decoded else "dmesg-r" if form else "dmesg"
        known = _KNOWN.match(line, match.end())
        if known and known[1]:  # journalctl -o short-monotonic
            return _named("journal-monotonic", line, match.end(), When(match[1]))
        return Envelope(name, line[match.end() :], When(match[1]), escaped=line.isascii())
    if match := _CTIME.match(line, at):
        when = dated(
            match[0][1:-2], (int(match[4]), month_of(match[1]), int(match[2])), match[3],
            None, None,
        )  # fmt: skip
        return Envelope("dmesg-T", line[match.end() :], when, escaped=line.isascii())
    if match := _ISO.match(line, at):
        when = dated(
            match[0][:-1], (int(match[1]), int(match[2]), int(match[3])), match[4], match[6],
            match[7],
        )  # fmt: skip
        if match[5] == ",":
            return Envelope("dmesg-iso", line[match.end() :], when, escaped=line.isascii())
        offset = match[7] or ""
        iso = len(offset) == 5  # journald writes +0000, rsyslog +00:00
        return _named("journal-iso" if iso else "rsyslog", line, match.end(), when)
    if match := _RELATIVE.match(line, at):
        return Envelope("dmesg-e", line[match.end() :], escaped=line.isascii())
    if match := _BSD.match(line, at):
        first, month, day, second, clock, digits, third = match.groups()
        if year := first or second or third:
            date = int(year), month_of(month), int(day)
            when = dated(line[at : match.end() - 1], date, clock, digits, None)
        else:
            when = yearless(match[0][:-1], month, day, clock, digits)
        form = "journal-precise" if digits and not year else "rfc3164"
        return _named(form, line, match.end(), when)
    if match := _FULL.match(line, at):
        zone = match[6] if match[6][0] in "+-" else "Z" if match[6] in ("UTC", "GMT") else None
        zone = f"{zone}00" if zone and len(zone) == 3 else zone
        when = dated(
            match[0][:-1], (int(match[1]), int(match[2]), int(match[3])), match[4], match[5], zone
        )
        return _named("journal-full", line, match.end(), when)
    if match := _LOGREAD.match(line, at):
        when = dated(
            match[0].rsplit(" ", 1)[0][:24],
            (int(match[4]), month_of(match[1]), int(match[2])), match[3], None, None,
        )  # fmt: skip
        return _named("logread", line, match.end(), when)
    if match := _UNIX.match(line, at):
        when = When(match[0][:-1], int(match[1]), fraction_ns(match[2]), True)
        return _named("journal-unix", line, match.end(), when)
    if form:
        return _named("rfc3164", line, at, NEVER)
    return Envelope("none", line)


def _named(form: str, line: str, at: int, when: When) -> Envelope:
    """The envelope whose host and program begin at `at`, either of which may be missing."""
    host, program = None, ""
    if match := _FACILITY.match(line, at):
        at = match.end()
    if match := _KNOWN.match(line, at):
        host, program, at = match[1], match[2], match.end()
        if program == "kernel" and (uptime := _UPTIME.match(line, at)):
            at = uptime.end()
    elif match := _OTHER.match(line, at):
        host, at = match[1], match.end()
    message, repeated = line[at:], None
    if match := _REPEATED.match(message):
        repeated = int(match[1])
        message = message[match.end() :].removesuffix("]")
    escaped = form in ("rsyslog", "rfc3164") and line.isascii()
    if escaped and "#0" in message:
        message = _RSYSLOG_ESCAPE.sub(lambda m: chr(int(m[1], 8)), message)
    return Envelope(form, message, when, host, program, repeated, escaped)


def _rfc5424(line: str, match: re.Match[str]) -> Envelope:
    """The envelope of RFC 5424, in which - stands for nothing."""
    stamp, host, program = match[1], match[2], match[3]
    when = NEVER
    if (iso := _ISO.match(stamp + " ")) and iso[7]:
        when = dated(stamp, (int(iso[1]), int(iso[2]), int(iso[3])), iso[4], iso[6], iso[7])
    message = line[match.end() :].removeprefix("\xef\xbb\xbf")
    if program == "kernel" and (uptime := _UPTIME.match(message)):
        message = message[uptime.end() :]
    escaped = line.isascii()
    return Envelope("rfc5424", message, when, None if host == "-" else host,
                    "" if program == "-" else program, None, escaped)  # fmt: skip


def _journal(line: str) -> Envelope | None:
    """The envelope of an entry of journalctl -o json; None for another object."""
    try:
        entry: Any = msgspec.json.decode(line.encode("latin-1"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(entry, dict) or "MESSAGE" not in entry:
        return None
    message = entry["MESSAGE"]
    if isinstance(message, list):  # bytes that are not UTF-8
        if not all(isinstance(byte, int) and 0 <= byte < 256 for byte in message):
            return None
        message = bytes(message).decode("latin-1")
    elif isinstance(message, str):
        message = message.encode("utf-8", "surrogatepass").decode("latin-1")
    else:
        return None
    host, program = entry.get("_HOSTNAME"), entry.get("SYSLOG_IDENTIFIER")
    return Envelope(
        "journal-json", message, _journal_time(entry), host if isinstance(host, str) else None,
        program if isinstance(program, str) else "",
    )  # fmt: skip


def _journal_time(entry: dict[str, Any]) -> When:
    """The kernel's time of an entry: when journald read it, less the delay by the monotonic clock.

    The clock of wall time may be set in between, the monotonic one may not.
    """
    times = []
    for name in ("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "_SOURCE_MONOTONIC_TIMESTAMP"):
        value = entry.get(name)
        text = str(value) if isinstance(value, str | int) else ""
        times.append(int(text) if text.isdecimal() and len(text) < 20 else None)
    read, monotonic, source = times
    if read is None:
        return NEVER
    if monotonic is not None and source is not None and source <= monotonic:
        read -= monotonic - source
    return When(str(entry["__REALTIME_TIMESTAMP"]), read // 10**6, read % 10**6 * 1000, True)


def _field(text: str) -> Envelope:
    """The envelope of the field MESSAGE of journalctl -o export, verbose or json-pretty, or msg
    of dmesg --json."""
    if text.startswith('"'):
        try:
            decoded: Any = msgspec.json.decode(text.rstrip(" ,").encode("latin-1"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = text
        text = str(decoded).encode("utf-8", "surrogatepass").decode("latin-1")
    return Envelope("journal-field", text)
