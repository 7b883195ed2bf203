"""The Python examples of README.md, docs/ and docstrings, for type checkers."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pylog", "backends", "formats")


def of_pages() -> dict[str, str]:
    """The Python blocks of README.md and of the pages of docs/, by page and number."""
    examples: dict[str, str] = {}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        page = re.sub(r"\W", "_", path.relative_to(ROOT).with_suffix("").as_posix())
        blocks = re.findall(r"^```(?:python|py)\n(.*?)^```", path.read_text(), re.M | re.S)
        examples |= {f"{page}_{number}": block for number, block in enumerate(blocks, 1)}
    return examples


def of_docstrings() -> dict[str, str]:
    """The programs in docstrings: indented text that begins with an import of pylog."""
    examples: dict[str, str] = {}
    for path in [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] in (("pylog", "backends"), ("pylog", "formats")):
            continue  # links to the folders of these names
        for number, code in enumerate(_programs(path), 1):
            examples[f"{'_'.join(parts)}_{number}"] = code
    return examples


def _programs(path: Path) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        docstring = ast.get_docstring(node) if isinstance(node, kinds) else None
        for block in re.findall(r"(?:^(?:    .*)?\n)+", f"{docstring or ''}\n", re.M):
            code = textwrap.dedent(block).strip("\n")
            if re.match(r"import pylog|from pylog", code):
                yield f"{code}\n"
