"""The schemas of records as Arrow tables, and all that makes such tables of logs.

`pylog.read_table` and `pylog.iter_batches` (pylog.arrow) are the way in. The columns are described
in pylog.table.schemas. Needs the extra `arrow` (NumPy and pyarrow).
"""

from __future__ import annotations

from pylog.errors import missing_extra

try:
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise missing_extra("a table", "arrow") from error

from pylog.table.schemas import schema

__all__ = ["schema"]
