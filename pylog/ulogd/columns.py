"""Which keys the columns of a table stand for: `oob_time_sec` is oob.time.sec."""

from __future__ import annotations

from pylog.errors import BackendError
from pylog.ulogd.conffile import meant_by
from pylog.ulogd.keys import Key


def columns_of(names: list[str], offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
    """The key and cell of each column; BackendError for one that no plugin offers."""
    keys: dict[str, tuple[Key, int]] = {}
    for key, at in offered:
        keys.setdefault(key.name, (key, at))
    found = []
    for name in names:
        pair = keys.get(name.replace("_", "."))
        if pair is None:
            near = meant_by(name.replace("_", "."), keys)
            hint = f"; the nearest is {near}" if near else ""
            raise BackendError(f"no plugin of the stack gives the column {name}{hint}")
        found.append(pair)
    return found
