"""A text log that grows and is rotated, as the source of a pipeline that is started again."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines import lines, running, until

LINE = (
    "Nov 28 20:57:{:02} fw kernel: IN=eth0 OUT= MAC= SRC=192.0.2.7 DST=198.51.100.1 LEN=60 TOS=0x00"
    " PREC=0x00 TTL=64 ID={} DF PROTO=TCP SPT=4000 DPT=22 WINDOW=64240 RES=0x00 SYN URGP=0 \n"
)
CONFIGURATION = """
[pylog]
journal = "{0}/j"

[sources.fw]
from = "{0}/fw.log"
follow = true
log_tz = "UTC"
year = 2026

[[stacks]]
name = "file"
from = ["fw"]
to = "json"
target = "{0}/out.json"
columns = "ip_id"
"""


def logged(*numbers: int) -> str:
    return "".join(LINE.format(number % 60, number) for number in numbers)


def test_a_log_that_is_rotated_is_read_once_also_after_a_restart(tmp_path: Path) -> None:
    log, out = tmp_path / "fw.log", tmp_path / "out.json"
    text = CONFIGURATION.format(tmp_path)

    def given() -> list[int]:
        return [json.loads(line)["ip_id"] for line in lines(out)]

    log.write_text(logged(*range(5)))
    with running(text) as (_, end):
        until(lambda: len(given()) == 5)
        with log.open("a") as file:
            file.write(logged(5, 6))
        until(lambda: len(given()) == 7)
        log.rename(tmp_path / "fw.log.1")
        log.write_text(logged(7, 8))
        until(lambda: len(given()) == 9)
        end()
    with log.open("a") as file:
        file.write(logged(9))
    with running(text) as (_, end):
        until(lambda: len(given()) == 10)
        end()
    log.rename(tmp_path / "fw.log.2")  # while pylog does not run
    log.write_text(logged(10))
    with running(text) as (_, end):
        until(lambda: len(given()) == 11)
        end()
    log.rename(tmp_path / "fw.log.3")
    log.write_text(logged(11, 12, 13))  # more records than were read of the file before
    with running(text) as (_, end):
        until(lambda: len(given()) == 14)
        end()
    assert given() == list(range(14))
