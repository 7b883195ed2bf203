"""The lists of a report: who or what occurs most, and what is new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from pylog.report.ranking import Ranking

if TYPE_CHECKING:
    from pylog.report.figures import Axis
    from pylog.report.sums import Sums
    from pylog.stats.geo import Geo

Name = Callable[[Any], dict[str, Any]]
"""From a key of a ranking to the names that an entry has for it."""
PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
                 "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128")
]  # fmt: skip
"""Networks of RFC 1918, 6598, 3927, 4193 and 4291, which are nobody's in public."""
MANY_TRIED = 30
"""A source that has tried so many ports or addresses is listed."""


class Names:
    """The names of addresses, from a local mmdb file if there is one."""

    def __init__(self, geo: Geo | None = None) -> None:
        self._geo = geo

    def address(self, address: str) -> dict[str, Any]:
        """The address, whether it is private, and its country and network if the file has them."""
        entry: dict[str, Any] = {"name": address}
        if is_private(address):
            entry["private"] = True
        if self._geo is not None:
            for part in ("country", "network"):
                value = self._geo.part(part, address)
                if value is not None:
                    entry[part] = value
        return entry

    def countries(self, totals: Mapping[str, tuple[int, int]], most: int) -> list[dict[str, Any]]:
        """The countries of the most packets, by the sums of addresses; null is no country."""
        made: dict[str | None, list[int]] = {}
        if self._geo is None:
            return []
        for address, (packets, blocked) in totals.items():
            held = made.setdefault(self._geo.part("country", address), [0, 0])
            held[0] += packets
            held[1] += blocked
        rows = sorted(made.items(), key=lambda row: (-row[1][0], row[0] or ""))
        return [
            {"name": name, "packets": packets, "blocked": blocked}
            for name, (packets, blocked) in rows[:most]
        ]


def is_private(address: str) -> bool:
    """Whether an address belongs to no public network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in PRIVATE if network.version == parsed.version)


def reached(sums: Sums, name: Name, trend: Axis, most: int) -> list[dict[str, Any]]:
    """The sources that have tried many ports or addresses: about how many of each."""
    tried = list(sums.reach.most(MANY_TRIED, most))
    totals = sums.sources.totals()
    rows = _entries(sums.sources, {key.source: totals.get(key.source, (0, 0)) for key in tried},
                    [key.source for key in tried], {}, name, trend)  # fmt: skip
    for row, key in zip(rows, tried, strict=True):
        row |= {"ports": key.ports, "addresses": key.addresses}
        del row["before"]
    return rows


def top(
    ranking: Ranking,
    before: Mapping[Any, tuple[int, int]],
    name: Name,
    trend: Axis,
    most: int,
    verdicts: bool,
    together: bool,
) -> dict[str, Any]:
    """The most frequent keys: of blocked and of other packets where there are verdicts.

    before     the sums of the period before
    verdicts   whether packets have actions
    together   one list in any case
    """
    totals = ranking.totals()
    made: dict[str, Any] = {"distinct": len(totals)}
    if together or not verdicts:
        made["all"] = _entries(ranking, totals, list(totals)[:most], before, name, trend)
        return made
    by_blocked = sorted(totals, key=lambda key: -totals[key][1])
    by_passed = sorted(totals, key=lambda key: totals[key][1] - totals[key][0])
    blocked = [key for key in by_blocked[:most] if totals[key][1]]
    passed = [key for key in by_passed[:most] if totals[key][0] > totals[key][1]]
    made["blocked"] = _entries(ranking, totals, blocked, before, name, trend)
    made["passed"] = _entries(ranking, totals, passed, before, name, trend)
    return made


def entries(ranking: Ranking, name: Name, trend: Axis, most: int) -> list[dict[str, Any]]:
    """The first entries of a ranking of flows: flows that began, and bytes of those that ended."""
    totals = ranking.totals()
    made = _entries(ranking, totals, list(totals)[:most], {}, name, trend)
    for entry in made:
        entry["flows"], entry["bytes"] = entry.pop("packets"), entry.pop("blocked")
        del entry["before"]
    return made


def fresh(now: Ranking, before: Ranking, name: Name, most: int) -> dict[str, Any]:
    """The keys that the period before does not have.

    hidden   so many packets of a key may have been there before, because the rarest were not held
    """
    old, totals = before.totals(), now.totals()
    new = [key for key in totals if key not in old]
    return {
        "distinct": len(new),
        "packets": sum(totals[key][0] for key in new),
        "hidden": before.error,
        "entries": [
            {**name(key), "packets": totals[key][0], "blocked": totals[key][1]}
            for key in new[:most]
        ],
        "gone": [{**name(key), "packets": old[key][0]} for key in old if key not in totals][
            : most // 2
        ],
    }


def _entries(
    ranking: Ranking,
    totals: Mapping[Any, tuple[int, int]],
    keys: list[Any],
    before: Mapping[Any, tuple[int, int]],
    name: Name,
    trend: Axis,
) -> list[dict[str, Any]]:
    trends = ranking.trends(keys, trend.start, trend.width, trend.buckets)
    return [
        {
            **name(key),
            "packets": totals[key][0],
            "blocked": totals[key][1],
            "before": dict(zip(("packets", "blocked"), before.get(key, (0, 0)), strict=True)),
            "trend": points,
        }
        for key, points in zip(keys, trends, strict=True)
    ]
