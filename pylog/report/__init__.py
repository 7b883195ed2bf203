"""Reports: one page of HTML with pictures and tables, or their numbers as JSON.

`gather` sums up record batches in one pass, in bounded memory: packets over time (`timeline`), by
port, by hour of the week, by address and rule (`ranking`), flows, changes of a ruleset, and losses.
`figures` makes the numbers of them, with the spans in which records are missing (`spans`).
`sentences` puts the main ones into words, and `page` makes the HTML. Its assets are the template,
the styles, the script that draws, and uPlot, which it draws with. Needs the extra `report`.
"""

from __future__ import annotations

from pylog.errors import missing_extra

try:
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise missing_extra("a report", "report") from error
