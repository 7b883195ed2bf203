"""Entities of a ruleset as lines for people: what it is, where, and its content in nft's words.

    rule inet fw input handle 5: tcp dport 22 accept

`mark_of` is the sign that a change has in a diff. A rule without text has its expressions' names.
"""

from __future__ import annotations

from typing import Any

_NOUNS = {"set_element": "element", "obj": "object"}
_SHOWN = 5
"""So many elements of a set are listed in a line."""


def mark_of(record: Any) -> str:
    """The sign in a diff: + for what is new, - for what is gone, ~ for what is updated."""
    if record.change == "update":
        return "~"
    return "-" if str(record.op).startswith("del_") else "+"


def subject(record: Any) -> str:
    """What a record is about: its kind, and where it is."""
    noun = str(record.op).partition("_")[2]
    if noun == "obj" and isinstance(record.type, str):
        noun = record.type.replace("_", " ")
    words = [_NOUNS.get(noun, noun), record.family, record.table, record.chain, record.name]
    text = " ".join(str(word) for word in words if word is not None)
    return f"{text} handle {record.handle}" if noun == "rule" and record.handle else text


def content(record: Any) -> str:
    """What an entity consists of, "" if the record does not say."""
    noun = str(record.op).partition("_")[2]
    if record.text:
        return _body(record.text, record)
    if noun == "rule" and record.expressions is not None:
        words = " ".join(f"[{expression.get('name')}]" for expression in record.expressions)
        return f'{words} comment "{record.comment}"' if record.comment else words
    if noun == "set_element" and record.elements:
        keys = [_element(element) for element in record.elements[:_SHOWN]]
        more = len(record.elements) - len(keys)
        return f"{{ {', '.join(keys)}{f', {more} more' if more else ''} }}"
    if noun == "chain" and record.hook is not None:
        devices = f" devices {', '.join(record.devices)}" if record.devices else ""
        policy = f"; policy {record.policy}" if record.policy else ""
        return f"type {record.type} hook {record.hook}{devices} priority {record.priority}{policy}"
    if noun in ("chain", "flowtable") and record.devices:
        return f"devices {', '.join(record.devices)}"
    return ""


def entity_line(record: Any) -> str:
    """The subject and the content of a record in a line."""
    text = content(record)
    place = ""
    if record.op == "new_rule" and record.change == "insert":
        place = f" after {record.position}" if record.position else " first"
    return f"{subject(record)}{place}: {text}" if text else f"{subject(record)}{place}"


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
    return text if record.cgroup is None else f"{text} in {record.cgroup}"


def _body(text: str, record: Any) -> str:
    """The text of an entity without the words that `subject` has."""
    text = text.removesuffix(f" # handle {record.handle}")
    for verb in ("add", "insert", "replace", "delete", "destroy"):
        if text.startswith(f"{verb} "):
            words = [record.family, record.table, record.chain, record.name]
            names = "".join(f" {word}" for word in words if word is not None)
            start = text.find(names)
            return text[start + len(names) :].strip() if start >= 0 else text
    return text


def _element(element: dict[str, Any]) -> str:
    key, end = element.get("key"), element.get("key_end")
    text = "*" if key is None else f"0x{key}"
    return f"{text}-0x{end}" if end else text


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
