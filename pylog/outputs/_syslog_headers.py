"""The headers of syslog messages: RFC 5424, RFC 3164, and what local sockets take.

    <132>1 2026-11-21T00:11:01.267098Z fw1 pylog 811 packet - MESSAGE      RFC 5424
    <132>Nov 21 00:11:01 fw1 pylog[811]: MESSAGE                           RFC 3164
    <132>Nov 21 00:11:01 pylog[811]: MESSAGE                               syslog(3), local

The time is that of the record, and the host the one that logged it. RFC 3164 has times of the
machine's zone without the year; a record without a time has the present one there.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from datetime import datetime

from pylog.memo import Memo
from pylog.record import Record, Row, kind_of, rfc3339

HEADERS = ("rfc5424", "rfc3164", "local")
"""The kinds of headers."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECONDS, _MICROSECONDS = len("2023-11-14T22:14:21"), len("2023-11-14T22:14:21.123456")
_APP_NAME, _HOSTNAME, _TAG = 48, 255, 32  # RFC 5424 section 6, RFC 3164 section 4.1.3

_SD_NAME = r"[!#-<>-\\^-~]{1,32}"  # PRINTUSASCII without = ] and "
_SD_PARAM = rf' {_SD_NAME}="(?:[^"\\\]\x00-\x1f\x7f]|\\["\\\]])*"'
_SD = rf"(?:\[{_SD_NAME}(?:{_SD_PARAM})*\])+"


def check_header(
    header: str | None, app_name: str, hostname: str | None, structured_data: str | None
) -> None:
    """ValueError for names that a header cannot have."""
    longest = _APP_NAME if header in (None, "rfc5424") else _TAG
    form = r"[!-~]+" if longest == _APP_NAME else r"[!-9;-Z\\^-~]+"  # a tag ends at [ or :
    if len(app_name) > longest or not re.fullmatch(form, app_name):
        raise ValueError(
            f"app_name is {app_name!r}, but must be 1 to {longest} characters of ASCII without"
            f" blanks{'' if longest == _APP_NAME else ', [, ] and :'}"
        )
    if hostname is not None and _host(hostname) != hostname:
        raise ValueError(
            f"hostname is {hostname!r}, but must be 1 to {_HOSTNAME} characters of ASCII without"
            " blanks"
        )
    if structured_data is None:
        return
    if header in ("rfc3164", "local"):
        raise ValueError(f"structured_data is given, but {header} has none: only rfc5424")
    if not re.fullmatch(_SD, structured_data):
        raise ValueError(
            "structured_data is no structured data of RFC 5424, as"
            ' [name@32473 key="value"], with \\ before " \\ and ]'
        )


def _host(name: str) -> str:
    """A name as HOSTNAME may be: a record's host can be any text."""
    return re.sub(r"[^!-~]", "_", name)[:_HOSTNAME] or "-"


def header_maker(
    header: str, app_name: str, hostname: str | None, structured_data: str | None
) -> Callable[[Record | Row, int], str]:
    """A function: record or row, priority -> what stands before the message.

    hostname   None: the record's host, or else this machine
    """
    pid = os.getpid()
    here = _host(socket.gethostname())
    hosts = Memo(_host)

    def host(record: Record | Row) -> str:
        return hostname or (here if record.host is None else hosts[record.host])

    if header == "rfc5424":
        data = structured_data or "-"

        def rfc5424(record: Record | Row, priority: int) -> str:
            given = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
            text = rfc3339(given) if isinstance(given, int) else given
            when = "-" if text is None else f"{text[:_MICROSECONDS].rstrip('Z')}Z"
            return f"<{priority}>1 {when} {host(record)} {app_name} {pid} {kind_of(record)} {data} "

        return rfc5424
    seconds = Memo(_second)

    def rfc3164(record: Record | Row, priority: int) -> str:
        given = record.observed_ns if record.timestamp_ns is None else record.timestamp_ns
        if given is None:
            given = time.time_ns()
        when = seconds[given[:_SECONDS] if isinstance(given, str) else given // 1_000_000_000]
        where = f" {host(record)}" if header == "rfc3164" else ""
        return f"<{priority}>{when}{where} {app_name}[{pid}]: "

    return rfc3164


def _second(second: int | str) -> str:
    """A second in the machine's zone, as "Nov  1 00:11:01"; given as seconds since 1970, or as a
    row has it.
    """
    if isinstance(second, str):
        second = int(datetime.fromisoformat(f"{second}+00:00").timestamp())
    try:
        at = time.localtime(second)
    except (OverflowError, OSError, ValueError):
        at = time.gmtime(second)
    return (f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2} "
            f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}")  # fmt: skip
