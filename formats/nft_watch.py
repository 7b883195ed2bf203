"""What wants to hear how a ruleset changes, while records are applied to it.

An index of a large table must not be made anew with every commit. So a Table calls the watches that
it has with each rule, chain and element that it gets or loses; what they do not override costs
nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pylog.record.ruleset import RulesetRecord


class Watch:
    """Hears the changes of one table."""

    __slots__ = ()

    def put_rule(self, handle: int, rule: RulesetRecord) -> None:
        """A rule is new, or has a new state."""

    def drop_rule(self, handle: int) -> None:
        """A rule is gone."""

    def put_chain(self, chain: RulesetRecord) -> None:
        """A chain is new, or has a new state."""

    def drop_chain(self, name: str | None) -> None:
        """A chain is gone, or will get another name; its rules are reported by themselves."""

    def put_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """The set `members` has a new element."""

    def drop_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """An element is gone; None: it never was there, or was only a key."""

    def drop_set(self, members: str | None) -> None:
        """A set is gone with its elements."""


class Watches(ABC):
    """Hears the changes of tables as such, and has a watch for each."""

    __slots__ = ()

    @abstractmethod
    def add_table(self, family: Any, table: str | None) -> Watch:
        """A table is new and empty; it replaces one that has the same name."""

    @abstractmethod
    def drop_table(self, family: Any, table: str | None) -> None:
        """A table is gone with its content."""
