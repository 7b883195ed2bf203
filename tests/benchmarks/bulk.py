"""In bulk: logs as Arrow batches and as Parquet, beside the least that reading takes in C.

C               every message found, every field looked at (scan.c), nothing kept
iter_batches    all columns, as Arrow record batches
convert         the whole command, to a Parquet file
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import inputs
from measure import Log, Missing, Row, Scale, Table, compiled, cpu_us, interleaved

import pylog
from pylog import cli
from pylog.formats import ipl_layouts

MORE = 10
"""Times as many records as elsewhere: a batch has 32,768."""

LOGS = [
    (inputs.IPL_LAYOUTS[0], False),
    (inputs.IPL_LAYOUTS[0], True),
    (inputs.NFLOG_LAYOUT, False),
    (inputs.NFLOG_LAYOUT, True),
    (inputs.PCAPNG, False),
]
"""Which log, and whether of distinct traffic."""

ARROW_US = {inputs.IPL_LAYOUTS[0]: 1 / 1.5, inputs.NFLOG_LAYOUT: 1 / 0.8}
PARQUET_US = {inputs.IPL_LAYOUTS[0]: 1 / 0.8, inputs.NFLOG_LAYOUT: 1 / 0.5}


def in_c(program: Path, path: Path) -> None:
    subprocess.run([str(program), str(path)], check=True, stdout=subprocess.DEVNULL)


def scanner(name: str, folder: Path) -> Path:
    """The C program for a log; Missing."""
    if name == inputs.NFLOG_LAYOUT:
        return compiled("scan.c", folder, name)
    plan = ipl_layouts.named(name).plan("ipf")
    fields = "".join(f"X({leaf.offset},{leaf.size})" for leaf in plan.leaves)
    dsize = plan.places["ipl_dsize"].offset
    return compiled("scan.c", folder, name, SIZE=plan.size, DSIZE=dsize, FIELDS=fields)


def batches(layout: str, path: Path) -> None:
    for _ in iter_batches()(path, layout=layout):
        pass


def iter_batches() -> Callable[..., Iterable[object]]:
    """The function of pylog; Missing."""
    try:
        return pylog.iter_batches
    except AttributeError:
        raise Missing("this pylog has no iter_batches") from None
    except pylog.BackendUnavailable as error:
        raise Missing(str(error)) from error


def convert(layout: str, path: Path) -> None:
    iter_batches()
    if find_spec("pylog.cli.convert") is None:
        raise Missing("this pylog has no command convert")
    out = path.with_suffix(".parquet")
    out.unlink(missing_ok=True)
    assert cli.main(["convert", "--layout", layout, str(path), str(out)]) == 0


def table(scale: Scale) -> Table:
    """Each log by each way."""
    rows: list[Row] = []
    work: dict[str, Callable[[], float]] = {}
    with contextlib.suppress(Missing):
        iter_batches()  # imports pyarrow here, once, and not in each process that is measured
    with tempfile.TemporaryDirectory() as folder:
        for name, distinct in LOGS:
            title = f"{name}, distinct" if distinct else name
            log = inputs.log(name, Path(folder), MORE * scale.records, scale.few, distinct)
            limit = f"{title}: C"
            if name in inputs.RAW:
                rows.append(Row(limit))
                work[limit] = partial(_limit, name, Path(folder), log)
            for way, run, below in (
                ("iter_batches", batches, ARROW_US.get(name)),
                ("convert to Parquet", convert, PARQUET_US.get(name)),
            ):
                at_most = 15 if run is batches else None
                rows.append(Row(f"{title}: {way}", than=limit, at_most=at_most, below=below))
                work[rows[-1].name] = partial(cpu_us, partial(run, inputs.layout(name)), log)
        found, missing = interleaved(work, scale.rounds)
    for row in rows:
        row.values, row.note = found[row.name], missing.get(row.name, "")
    return Table("In bulk", rows)


def _limit(name: str, folder: Path, log: Log) -> float:
    return cpu_us(partial(in_c, scanner(name, folder)), log)
