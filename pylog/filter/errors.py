"""The error of a filter, which shows the expression with a caret under the place."""

from __future__ import annotations

WIDTH = 100
"""At most so many characters of an expression are shown: those around the place."""


class FilterError(ValueError):
    """An expression that cannot be a filter.

    expression   its text
    column       of the first character that is wrong, from 1
    reason       what is wrong there
    """

    def __init__(self, expression: str, at: int, reason: str) -> None:
        super().__init__(expression, at, reason)
        self.expression, self.column, self.reason = expression, at + 1, reason

    def __str__(self) -> str:
        return f"{self.reason}, at column {self.column}\n{pointed(self.expression, self.column)}"


def pointed(expression: str, column: int) -> str:
    """The expression, and in a second line a caret under a column; a long one only around it.

    Each character that is not printable is shown as a question mark, so that the caret stays under
    its place.
    """
    text = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in expression)
    start = max(0, min(column - 1 - WIDTH // 2, len(text) - WIDTH))
    shown = text[start : start + WIDTH]
    before = "..." if start else ""
    after = "..." if start + WIDTH < len(text) else ""
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + column - 1 - start)}^"
