"""Prints the table of all fields for README.md: `python -m pylog.record.reference`."""

from __future__ import annotations

from pylog.record.fields import JSON_FORMS, Field, fields_of, json_name
from pylog.record.registry import KINDS, ON_REQUEST


def table() -> str:
    """A Markdown table of the names in the JSON, with their kinds, forms and meanings."""
    kinds: dict[str, dict[str, Field]] = {}
    for kind, record in KINDS.items():
        for name, field in fields_of(record).items():
            if field.column is not None:
                kinds.setdefault(json_name(name), {})[kind] = field
    words = ", ".join(KINDS)
    rows = [("name", "records", "JSON", "meaning"), ("---",) * 4, ("`kind`", "all", "text", words)]
    rows += [(f"`{name}`", *_cells(fields)) for name, fields in kinds.items()]
    for kind, headers in ON_REQUEST.items():
        for name, field in fields_of(headers).items():
            rows.append((f"`{name}`", f"{kind}, on request", *_cells({kind: field})[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(fields: dict[str, Field]) -> tuple[str, str, str]:
    """The kinds that have a field, its form, and its meaning for each kind where they differ."""
    forms = {JSON_FORMS[field.column] for field in fields.values() if field.column is not None}
    widest = max(forms, key=len)  # "text or number" has "text" in it
    meanings: dict[str, list[str]] = {}
    for kind, field in fields.items():
        meanings.setdefault(field.meaning, []).append(kind)
    texts = [
        meaning if i == 0 else f"of a {' or '.join(kinds)}: {meaning}"
        for i, (meaning, kinds) in enumerate(meanings.items())
    ]
    records = "all" if len(fields) == len(KINDS) else ", ".join(fields)
    return records, widest, "; ".join(texts)


if __name__ == "__main__":
    print(table(), end="")
