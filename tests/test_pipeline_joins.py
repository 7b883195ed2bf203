"""The joins of a pipeline: what `pylog read` gives, whatever is killed and started again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import effort
import inprocess
import pipelines
import pytest
from pipelines import lines, until

from pylog.pipeline import joined_feeds
from pylog.pipeline import stack as stack_module
from pylog.pipeline.config import ConfigError, Source, parsed
from pylog.pipeline.feeds import Feed, Lot
from pylog.pipeline.joined_feeds import JoinedFeeds
from pylog.pipeline.joins import Settings
from pylog.pipeline.positions import Position
from pylog.record import FlowRecord, Record, to_json
from pylog.testing import packet

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "COMMIT_S", 0.05)
    monkeypatch.setattr(stack_module, "IDLE_COMMIT_S", 0.02)
    monkeypatch.setattr(stack_module, "REPORT_S", 0.02)


JOINS = {
    "rules": ("nft/fw.pcapng.gz", ["--rules"]),
    "with_flows": ("nfct/forwarded.pcapng.gz", ["--with-flows"]),
    "flows": ("nfct/kinds.bin", ["--flows"]),
}


def test_files_are_joined_as_read_joins_them(tmp_path: Path) -> None:
    text = f'[pylog]\nsocket = "{tmp_path}/s"\n'
    for join, (log, _) in JOINS.items():
        text += f'[sources.{join}]\nfrom = "{FIXTURES / log}"\n'
        text += f'[[stacks]]\nname = "{join}"\nfrom = "{join}"\n{join} = true\n'
        text += f'target = "{tmp_path}/{join}.jsonl"\n'
    text += f'[[stacks]]\nname = "csv"\nfrom = "rules"\nrules = true\ntarget = "{tmp_path}/c.csv"\n'
    text += "set = { rule_text = 'hidden' }\nwhere = 'rule_handle'\n"
    with pipelines.running(text) as (run, end):
        until(lambda: run._is_done())
        assert end() == 0
    for join, (log, options) in JOINS.items():
        done = inprocess.run("read", "--to", "json", *options, FIXTURES / log)
        assert done.returncode == 0 and done.stdout == (tmp_path / f"{join}.jsonl").read_bytes()
    header, first, *_ = lines(tmp_path / "c.csv")
    assert header.endswith(b"rule_match,rule_unknown,rule_candidates") and b",hidden," in first


# Positions


class Lots(Feed):
    """Gives lots of records; its place is how many of them were given."""

    def __init__(self, lots: list[list[Record]]) -> None:
        self._lots = lots

    def seek(self, place: int) -> None:
        self.place = place
        for lot in self._lots[:place]:
            assert self.warm is not None
            self.warm(lot)

    def read(self) -> Lot | None:
        if self.place >= len(self._lots):
            self.ended = True
            return None
        self.place += 1
        return Lot(self._lots[self.place - 1])

    def end(self) -> None:
        """Nothing: it ends with the last lot."""


def log_of(chance: Any) -> list[list[Record]]:
    """Lots of packets and of flows, whose events come later than their packets."""
    records: list[Record] = []
    at = 10**18
    for number in range(chance.randrange(5, 40)):
        at += chance.choice((1, 50_000_000, 150_000_000))
        ends: dict[str, Any] = {
            "saddr": "10.0.0.1",
            "daddr": "10.0.0.2",
            "sport": number // 3,
            "dport": 80,
        }
        records.append(packet(timestamp_ns=at, **ends))
        event = chance.choice(("new", "update", "destroy"))
        records.append(FlowRecord(
            "nfct", "ctnetlink-le", timestamp_ns=at + 5, event=event, id=number // 3, family="ipv4",
            protocol=6, packets={"orig": number}, **ends,
        ))  # fmt: skip
    cuts = sorted(chance.sample(range(len(records)), chance.randrange(1, 5)))
    return [records[a:b] for a, b in itertools.pairwise([0, *cuts, len(records)])]


def feeds_of(lots: list[list[Record]], settings: Settings, position: Position) -> JoinedFeeds:
    source = Source("a", "a.pcapng")
    feeds = JoinedFeeds(None, {"a": Lots(lots)}, "", settings, [source])
    feeds.seek(position)
    return feeds


def read_of(feeds: JoinedFeeds, most: int | None = None) -> list[bytes]:
    """What feeds give, up to the end, or for so many lots. The flows that live are left out: each
    end of reading reports them.
    """
    given: list[bytes] = []
    for _ in itertools.count() if most is None else range(most):
        if feeds.ended:
            break
        lot = feeds.read()
        records = () if lot is None else lot.records
        given += [to_json(r) for r in records if getattr(r, "end_reason", "") != "open"]
    return given


@pytest.mark.parametrize("joins", [("with_flows",), ("flows",), ("rules", "with_flows", "flows")])
def test_who_begins_again_at_a_position_gives_the_same_records(
    joins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_feeds, "HELD_S", 1000.0)
    chance = effort.chance(str(joins))
    for _ in range(effort.number(200)):
        lots = log_of(chance)
        settings = Settings(**dict.fromkeys(joins, True))
        expected = read_of(feeds_of(lots, settings, Position("", 0)))
        assert expected
        given, position, ended = [], Position("", 0), False
        while not ended:
            feeds = feeds_of(lots, settings, position)
            given += read_of(feeds, chance.randrange(1, 9))
            position, ended = feeds.position(), feeds.ended
        assert given == expected


def test_packets_that_the_kernel_gives_their_flow_need_no_other_source() -> None:
    text = "[sources.fw]\nfrom = 'nflog:5'\nconntrack = true\n[[stacks]]\nname = 'a'\nfrom = 'fw'\n"
    (stack,) = parsed(f"{text}with_flows = true\ntarget = 'a.jsonl'\n").stacks
    assert stack.joins == Settings(with_flows=True)


def test_a_file_of_one_kind_has_the_kind_that_there_is() -> None:
    text = "[sources.ct]\nfrom = 'nfct:'\n[sources.fw]\nfrom = 'nflog:5'\n"
    for name, stack in (("a", "from = 'ct'"), ("b", "from = ['ct', 'fw']"),
                        ("c", "from = ['ct', 'fw']\nflows = true"),
                        ("d", "from = 'ct'\nkind = 'counter'")):  # fmt: skip
        text += f"[[stacks]]\nname = '{name}'\nto = 'parquet'\npartition = 'day'\n"
        text += f"target = '/tmp/{name}'\n{stack}\n"
    assert [stack.options.get("kind") for stack in parsed(text).stacks] == [
        "flow", None, "flow", "counter",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stack", "problem"),
    [
        ("rules = true", "rules: no source of the stack has the ruleset: add one with from ="),
        ("with_flows = true", 'with_flows: no source of the stack has the flows: add one with from'
         ' = "nfct:"'),
        ("flows = true", "flows: no source of the stack has events of flows"),
        ("flows = 1", "flows is 1, but must be true or false"),
        ("active_timeout = '1m'", "active_timeout needs flows = true"),
        ("flow_limit = 0", "flow_limit is 0, but must be a whole number above 0"),
        ("rules = true\nformat = 'kernel'\nto = 'syslog'", "rules: syslog has no fields for it;"
         " these outputs and formats have: cef, csv, ecs, ipfix, json, template, text"),
        ("rules = true\nto = 'pcapng'", "rules is not for pcapng, which is made of the"),
        ("from = ['fw', 'ct']\nflows = true", "flows needs the events destroy, but nfct: has events"
         " = 'new'"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_an_error_of_the_configuration(stack: str, problem: str) -> None:
    text = "[sources.fw]\nfrom = 'nflog:5'\n[sources.ct]\nfrom = 'nfct:'\nevents = 'new'\n"
    text += "[[stacks]]\nname = 'a'\n"
    text += "" if "from" in stack else "from = 'fw'\n"
    text += "target = 'udp://127.0.0.1'\n" if "syslog" in stack else "target = '/tmp/a'\n"
    text += "" if "to =" in stack else "to = 'json'\n"
    with pytest.raises(ConfigError) as caught:
        parsed(text + stack, "fw.toml")
    assert any(f"fw.toml: stack 'a': {problem}" in each for each in caught.value.problems)
