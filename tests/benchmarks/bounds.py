"""What logs cost that were made to be hard: CPU time for each MB, and memory.

For every format, layout generation and byte order a process of its own reads a valid beginning
that is followed by each of the fillings of `hostile`; the row has the worst of them.

    read      for record in pylog.open(...)
    columns   iter_batches of the losses, each after the layout was named and when it was detected
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import hostile
from measure import Row, Scale, Table

import pylog
from pylog.errors import DecodeError

MOST_S, MOST_MB = 1.0, 150
"""The targets: CPU seconds for a MB, and MB of memory."""


def table(scale: Scale) -> Table:
    """The rows of all formats; of little work, of a few of them."""
    few = scale.records < 10_000
    names = list(hostile.MAKERS)[:: 48 if few else 1]
    found = Table("Logs that were made to be hard", unit="CPU s/MB, the worst input")
    for name in names:
        command = [sys.executable, __file__, name, str(1_000 if few else 1_000_000)]
        paths = {"PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=paths)
        for way, (seconds, filling, memory) in json.loads(done.stdout).items():
            note = f"{filling}; peak {memory} MB of {MOST_MB}"
            found.rows.append(Row(f"{name}: {way}", [seconds], below=MOST_S, note=note))
    return found


def read(data: bytes, layout: str | None) -> None:
    with pylog.open(io.BytesIO(data), layout=layout) as reader:
        while reader.read_batch():
            pass


def columns(data: bytes, layout: str | None) -> None:
    for _ in pylog.iter_batches(io.BytesIO(data), kind="loss", layout=layout):
        pass


def main() -> None:
    """What one format costs, as JSON: of each way seconds a MB, the worst filling, peak MB."""
    name, size = sys.argv[1], int(sys.argv[2])
    log = hostile.log(name)
    found = {}
    for way in (read, columns):
        for layout in (log.layout, None):
            way(log.begun, layout)  # imports and plans are made once
            worst = 0.0, ""
            for filling, made in list(hostile.FILLINGS.items())[:: 1 if size > 100_000 else 4]:
                data = log.begun + made(log, size) + log.record
                before = time.process_time()
                try:
                    way(data, layout)
                except DecodeError as error:
                    filling += f" ({error.field})"
                worst = max(worst, ((time.process_time() - before) * 1e6 / len(data), filling))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            how = "named" if layout else "detected"
            found[f"{way.__name__}, {how}"] = (*worst, peak)
    print(json.dumps(found))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))
    main()
