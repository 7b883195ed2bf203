"""Documents of ECS by Elastic's own list of its fields."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from all_kinds import documents, flat

from pylog.outputs import ecs


def elastic() -> Path | None:
    """The folder of the package @elastic/ecs: PYLOG_ECS, or where npm installs for all."""
    places = [os.environ.get("PYLOG_ECS", ""), *(
        f"{root}/node_modules/@elastic/ecs" for root in ("/usr/lib", "/usr/local/lib")
    )]  # fmt: skip
    there = [Path(place) for place in places if place and Path(place, "package.json").exists()]
    return there[0] if there and shutil.which("node") else None


@pytest.mark.skipif(elastic() is None, reason="needs node and the npm package @elastic/ecs")
def test_the_fields_of_ecs_are_those_of_elastic() -> None:
    script = f"""const {{EcsFlat, EcsVersion}} = require({str(elastic())!r});
        const fields = Object.entries(EcsFlat).map(([name, f]) => [name, [f.type,
            f.normalize.includes("array"), (f.allowed_values || []).map(v =>
                [v.name, v.expected_event_types || []])]]);
        console.log(JSON.stringify([EcsVersion, Object.fromEntries(fields)]))"""
    done = subprocess.run(["node", "-e", script], capture_output=True, check=True)
    version, fields = json.loads(done.stdout)
    assert version.split(".")[0] == ecs.VERSION.split(".")[0]
    texts = ("keyword", "wildcard", "match_only_text", "ip", "date")
    types: dict[str, Any] = dict.fromkeys(texts, str) | {"long": (int, str)}
    seen = set()
    for document in documents():
        category = document["event"].get("category", [None])[0]
        for name, value in flat(document):
            if name.startswith("pylog."):
                continue
            seen.add(name)
            assert name in fields, name
            kind, is_list, allowed = fields[name]
            assert isinstance(value, list) == is_list, name
            for part in value if is_list else [value]:
                assert isinstance(part, types[kind]), (name, part)
                assert kind != "long" or int(part) is not None
                assert kind != "date" or re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{6,9}Z", part)
                if words := dict(allowed):
                    assert part in words, (name, part)
                if name == "event.category":
                    assert set(document["event"]["type"]) <= set(words[part])
        assert category or document["event"]["kind"] == "pipeline_error"
    assert {"source.nat.ip", "rule.description", "process.command_line", "error.message"} <= seen
