"""Text logs: what lines of the kernel's LOG cost, beside a plain loop over the lines of the file.

    split              for line in file: line.split(), the measure of all others
    loop               for record in pylog.open(path), looking at the addresses
    loop, grammar      the same without the fast path of regular lines (formats/textlog_fast.py)
    iter_batches       Arrow record batches of all columns
    five columns       of time, addresses, port and prefix
    read --to json     the whole command, writing a file

Four in five lines are TCP, the others ICMP, in the envelope of syslog, dmesg or rsyslog; `distinct`
has no address and port twice, `prefixes` another prefix in each line.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from measure import Log, Row, Scale, Table, cpu_us, interleaved, scratch
from traffic import packets

import pylog
from pylog.cli import main
from pylog.formats.textlog_fast import Fast

MOST_US = 1e6 / 300_000
"""The target: of five columns."""
LOGS = ("syslog", "dmesg", "rsyslog", "syslog, distinct", "syslog, prefixes")
MAC = "02:50:01:00:00:01:02:50:01:00:00:02:08:00"
CLOCK = "{:02}:{:02}:{:02}"


def start(form: str, number: int) -> str:
    """What stands before the prefix of a line; 50 lines a second."""
    second, step = divmod(number, 50)
    clock = CLOCK.format(second // 3600 % 24, second // 60 % 60, second % 60)
    if form == "dmesg":
        return f"[{second:5}.{step * 20000:06}] "
    if form == "rsyslog":
        return f"2026-11-28T{clock}.{step * 20000:06}+01:00 fw kernel: "
    return f"Nov 28 {clock} fw kernel: "


def lines(name: str, count: int) -> Iterator[str]:
    """The lines of a log."""
    form, _, kind = name.partition(", ")
    for number, packet in enumerate(packets(count, kind == "distinct")):
        length, ident, protocol, source, target, one, two, word = struct.unpack_from(
            "!xxHHxxxBxxIIHHI", packet
        )
        head = f"PF {number}: " if kind == "prefixes" else ("drop ", "[UFW BLOCK] ")[number % 2]
        if protocol == 6:
            rest = f"PROTO=TCP SPT={one} DPT={two} WINDOW=1024 RES=0x00 SYN URGP=0 "
        else:
            rest = f"PROTO=ICMP TYPE=8 CODE=0 ID={word >> 16} SEQ={word & 0xFFFF} "
        yield (
            f"{start(form, number)}{head}IN=eth0 OUT= MAC={MAC} SRC={IPv4Address(source)}"
            f" DST={IPv4Address(target)} LEN={length} TOS=0x00 PREC=0x00 TTL=52 ID={ident} DF"
            f" {rest}\n"
        )


def split(path: Path) -> None:
    with path.open() as file:
        for line in file:
            line.split()


def loop(path: Path) -> None:
    with pylog.open(path, layout="text") as reader:
        for record in reader:
            assert isinstance(record, pylog.PacketRecord) and record.saddr and record.daddr


def by_grammar(path: Path) -> None:
    """The loop, in a process of its own, without the fast path."""
    fast = Fast.records
    Fast.records = lambda _, lines, *__: [None] * len(lines)  # type: ignore[method-assign]
    try:
        loop(path)
    finally:
        Fast.records = fast  # type: ignore[method-assign]


def batches(path: Path) -> None:
    for _ in pylog.iter_batches(path, layout="text"):
        pass


COLUMNS = ("timestamp", "saddr", "daddr", "dport", "prefix")


def five_columns(path: Path) -> None:
    for _ in pylog.iter_batches(path, layout="text", columns=COLUMNS):
        pass


def command(path: Path) -> None:
    """The command, less Python's start."""
    options = ("--layout", "text", "--to", "json", "--force", "-w", f"{path}.json")
    assert main(["read", str(path), *options]) == 0


STAGES = {"split": split, "loop": loop, "loop, grammar": by_grammar, "iter_batches": batches,
          "five columns": five_columns, "read --to json": command}  # fmt: skip


def table(scale: Scale) -> Table:
    """All stages of all logs."""
    rows, work = [], {}
    with scratch() as folder:
        for name in LOGS:
            log = Log(Path(folder, name), scale.records, Path(folder, f"{name} short"), scale.few)
            log.path.write_text("".join(lines(name, log.records)))
            log.short.write_text("".join(lines(name, log.short_records)))
            for stage, run in STAGES.items():
                below = MOST_US if stage == "five columns" and ", " not in name else None
                rows.append(Row(f"{name}: {stage}", than=f"{name}: split", below=below))
                work[rows[-1].name] = partial(cpu_us, run, log)
            rows[-len(STAGES)].than = ""
        found, _ = interleaved(work, scale.rounds)
    for row in rows:
        row.values = found[row.name]
    return Table("Text logs", rows)
