"""loop.py SOURCE FILE [OPTION...]: read a live source's records and look at their addresses.

Each OPTION is one of pylog.open that is to be true. SIGINT ends it; then FILE is written, with the
number of records that had addresses, and what was lost is told on standard error.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pylog


def main() -> None:
    source, path, *options = sys.argv[1:]
    found = 0
    with pylog.open(source, **dict.fromkeys(options, True)) as reader:
        signal.signal(signal.SIGINT, lambda *_: reader.stop())
        for record in reader:
            if isinstance(record, pylog.PacketRecord) and record.saddr and record.daddr:
                found += 1
        print(f"lost records: {reader.dropped}", file=sys.stderr)
    Path(path).write_text(str(found))


if __name__ == "__main__":
    main()
