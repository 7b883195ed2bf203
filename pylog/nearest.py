"""What an error says after a name that does not exist: the nearest names, and where all are listed.

A list of every layout or column takes hundreds of characters and hides the error, so only a short
list is shown in full. difflib is imported here when there is an error, because that takes a while.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_CHARACTERS = 200
"""A longer list is not shown."""

LAYOUTS = "pylog help layouts"
COLUMNS = "pylog help columns"
"""The commands that list them."""


def advice(word: str, names: Iterable[str], listing: str = "") -> str:
    """The names that are like a mistyped word, to be appended to an error; "" if there are none.

    listing   the command that lists all names, for a list that is too long for the error
    """
    from difflib import SequenceMatcher, get_close_matches

    def likeness(name: str) -> float:
        return SequenceMatcher(None, name, wanted).ratio()

    names = list(dict.fromkeys(names))
    wanted = word.lstrip("-")  # the dashes of options would make all of them alike
    spelled = {name.lstrip("-"): name for name in names}
    near = get_close_matches(wanted, spelled, 3, 0.6)  # the best one first
    near = [spelled[name] for name in near if likeness(name) > likeness(near[0]) - 0.1]
    text = ", ".join(names)
    parts = []
    if near:
        parts.append(f"; did you mean {' or '.join(near)}?")
    elif len(names) == 1:
        parts.append(f"; there is {text}")
    elif names and len(text) <= MOST_CHARACTERS:
        parts.append(f"; there are {text}")
    if len(text) > MOST_CHARACTERS and listing:
        parts.append(f" ({listing} lists all)")
    return "".join(parts)
