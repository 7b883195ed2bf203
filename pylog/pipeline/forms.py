"""In which form the records of a stack travel: as records, as rows, or packets as columns or lines.

Columns are faster for outputs that take them, such as databases. For files of lines, many packets
become lines by columns, few travel as rows. Stages and joins that need records decide against both.
"""

from __future__ import annotations

from pylog import outputs
from pylog.pipeline import sinks
from pylog.pipeline.columns import Columns, LinesWanted
from pylog.pipeline.config import Stack
from pylog.pipeline.stages import Stages


def takes_rows(output: outputs.Output, stack: Stack, stages: Stages) -> bool:
    """Whether the output gets rows: it takes them, and no stage or join needs records."""
    return output.takes_rows and stages.fit_rows and not stack.joins.any


def columns_of(output: outputs.Output, stack: Stack, stages: Stages) -> Columns | None:
    """What the output gets as columns; None: nothing, because it takes none, or a stage or join
    needs records.
    """
    if stack.joins.any or not stages.fit_columns:
        return None
    if output.wanted is None or "packet" not in output.wanted:
        return None
    return Columns(output.wanted, stages.where)


def lines_of(stack: Stack, stages: Stages) -> LinesWanted | None:
    """What the output gets as lines; None: nothing, as for `columns_of`."""
    if stack.joins.any or not stages.fit_columns:
        return None
    form = sinks.line_form(stack)
    return None if form is None else LinesWanted(form, stages.where)
