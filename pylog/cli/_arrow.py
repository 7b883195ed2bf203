"""Arrow as commands use it: without pandas, and with the allocator of the system.

Arrow imports pandas with its first array, where that is installed. That takes 0.3 s and 45 MB, more
than a million records take to be counted, and no command makes data frames. Arrow tries the import
once in a process, so it is refused once. Arrow's own allocator keeps memory that is free: 50 MB
with many groups.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class _Refuse:
    """A finder of modules that refuses pandas."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("no command makes data frames", name=name)
        return None


def spare_arrow() -> None:
    """Let Arrow do so in this process; without the extra `arrow` there is nothing to do."""
    if find_spec("pyarrow") is None:
        return
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    refuse = _Refuse()
    sys.meta_path.insert(0, refuse)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(refuse)
