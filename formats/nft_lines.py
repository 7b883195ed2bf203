"""Entities of a ruleset as lines for people: what it is, where, and its content in nft's words.

    rule inet fw input handle 5: tcp dport 22 accept
    chain inet fw input { type filter hook input priority filter; policy drop; }

Records have the text of their entity (formats.nft_text), which for a rule is its content alone. A
record without text, as one made by hand, gets what can be written without the ruleset.
"""

from __future__ import annotations

from typing import Any

from pylog.record.ruleset import RulesetRecord

_NOUNS = {"set_element": "element", "obj": "object"}
DATA_DIFFERS = "[the data differs]"
"""Stands behind a text that does not show a change."""


def mark_of(record: Any) -> str:
    """The sign in a diff: + for what is new, - for what is gone, ~ for what is updated."""
    if record.change == "update":
        return "~"
    return "-" if str(record.op).startswith("del_") else "+"


def noun_of(record: Any) -> str:
    """What kind of entity a record is about, in nft's words."""
    text = _declaration(record)
    if text is not None:
        return text.partition(f" {record.family} {record.table}")[0]
    noun = str(record.op).partition("_")[2]
    if noun == "obj" and isinstance(record.type, str):
        return record.type.replace("_", " ")
    return _NOUNS.get(noun, noun)


def subject(record: Any) -> str:
    """What a record is about: its kind, and where it is."""
    words = [noun_of(record), record.family, record.table, record.chain, record.name]
    text = " ".join(str(word) for word in words if word is not None)
    is_rule = str(record.op).endswith("_rule")
    return f"{text} handle {record.handle}" if is_rule and record.handle is not None else text


def content(record: Any) -> str:
    """The text of a rule; of any other entity its block in braces. "" if there is none."""
    if str(record.op).endswith("_rule"):
        if record.text is not None or record.expressions is None:
            return record.text or ""
        words = " ".join(f"[{expression.get('name')}]" for expression in record.expressions)
        return f'{words} comment "{record.comment}"' if record.comment else words
    text = _declaration(record)
    return "" if text is None else text.removeprefix(subject(record)).strip()


def entity_line(record: Any, old_name: str | None = None) -> str:
    """A record in a line: the subject, and the content if there is any.

    old_name   of a chain that is renamed
    """
    if record.op == "new_chain" and old_name not in (None, record.chain):
        line, place = entity_line(record), f"chain {record.family} {record.table} "
        return f"{place}{old_name} => {line.removeprefix(place)}"
    if record.op == "new_table" and record.change == "update" and not record.flags:
        return f"{subject(record)} {content(record)}".rstrip() + " [no flags]"
    if record.text is not None and not record.op.endswith("_rule"):
        return str(record.text)  # it has both
    text, separator, place = content(record), " ", ""
    if str(record.op).endswith("_rule"):
        separator = ": "
        if record.op == "new_rule" and record.change == "insert":
            place = f" after {record.position}" if record.position else " first"
    return f"{subject(record)}{place}{separator}{text}" if text else f"{subject(record)}{place}"


def differ_unseen(old: Any, new: Any) -> bool:
    """Whether two rules differ in a part that their texts, which are equal, have in brackets."""
    if old is None or old.expressions == new.expressions:
        return False
    text = content(new)
    return "[" in text and text == content(old)


def who(record: Any) -> str:
    """Who made a change, as far as that is available."""
    if record.process is None and record.pid is None:
        return ""
    facts = [] if record.pid is None else [f"pid {record.pid}"]
    if record.uid is not None:
        facts.append(f"uid {record.uid}")
    text = f"{'?' if record.process is None else record.process} ({', '.join(facts)})"
    if record.cmdline is not None:
        text += f": {record.cmdline}"
    # a process of the root cgroup is in none in particular
    return text if record.cgroup in (None, "/") else f"{text} in cgroup {record.cgroup}"


def statements(text: str) -> list[str]:
    """The statements of a block, each for a line of its own: `{ type filter; policy drop; }`.

    A semicolon in a quoted text ends nothing, and neither does one in inner braces.
    """
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    parts, start, depth, quoted = [], 0, 0, False
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "{}":
            depth += 1 if character == "{" else -1
        elif character == ";" and not quoted and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    parts = [part for part in (*parts, text[start:].strip()) if part]
    if parts and parts[0].startswith("type ") and " hook " in parts[0]:
        # nft writes the hook and the policy of a base chain in a line
        policy = [part for part in parts[1:2] if part.startswith("policy ")]
        parts[: 1 + len(policy)] = ["; ".join([parts[0], *policy]) + ";"]
    return parts


def _declaration(record: Any) -> str | None:
    """The text of an entity that is not a rule."""
    if str(record.op).endswith("_rule"):
        return None
    if record.text is not None or not isinstance(record, RulesetRecord):
        return str(record.text) if record.text is not None else None
    from pylog.formats.nft_text import record_text  # only here: with all that reads rules

    return record_text(record, lambda name: None)
