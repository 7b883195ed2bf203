"""Budgets: what work may cost that a message makes necessary again and again.

Each message adds to a budget, so that all the work stays in proportion to what was received,
whatever the bytes are. A ruleset that a kernel has announced never exhausts one.
"""

from __future__ import annotations

from pylog.record.ruleset import RulesetRecord


class Budget:
    """An amount of work that is left.

    left         at the beginning
    of_message   what each message adds
    of_element   what each element of a set in it adds
    """

    __slots__ = ("_of_element", "_of_message", "left")

    def __init__(self, left: int, of_message: int, of_element: int) -> None:
        self.left = left
        self._of_message, self._of_element = of_message, of_element

    def earn(self, record: RulesetRecord) -> None:
        """Add what the message of a record is worth."""
        self.left += self._of_message
        if record.elements is not None:
            self.left += self._of_element * len(record.elements)

    def spend(self, cost: int) -> bool:
        """Take the cost off; False, and nothing is taken, if there is not enough."""
        if cost > self.left:
            return False
        self.left -= cost
        return True

    def copy(self) -> Budget:
        """The same budget, which is spent independently."""
        return Budget(self.left, self._of_message, self._of_element)
