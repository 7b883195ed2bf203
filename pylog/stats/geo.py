"""Countries and networks of addresses, from local files in the format mmdb (GeoLite2, DB-IP...).

Several files may be given, as one of countries and one of autonomous systems: an address gets what
the first of them says. pylog never asks the network. Needs the extra `geo` (maxminddb).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pylog.errors import BackendError, missing_extra
from pylog.memo import Memo

PARTS = ("country", "asn", "network")
"""What a file says of an address: the ISO code of its country, the number of its autonomous system,
and who runs that."""


class Geo:
    """The answers of mmdb files: `geo.parts("country")["192.0.2.1"]`."""

    def __init__(self, paths: Sequence[str]) -> None:
        """BackendError for a file that cannot be read, BackendUnavailable without the extra."""
        try:
            import maxminddb
        except ImportError as error:
            raise missing_extra("the country of an address", "geo") from error
        self._readers = []
        for path in paths:
            try:
                self._readers.append(maxminddb.open_database(path))
            except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
                raise BackendError(f"cannot read {path} as an mmdb file: {error}") from error
        self._memo = Memo(self._look_up)

    def part(self, name: str, address: str) -> str | None:
        """A part of an address, see PARTS; None: the files do not say."""
        return self._memo[address][PARTS.index(name)]

    def _look_up(self, address: str) -> tuple[str | None, str | None, str | None]:
        country = asn = network = None
        for reader in self._readers:
            try:
                entry: Any = reader.get(address)
            except Exception:  # of a damaged file; an IPv6 address in a file of IPv4
                continue
            if not isinstance(entry, dict):
                continue
            country = country or _country(entry)
            number = entry.get("autonomous_system_number") or entry.get("asn")
            asn = asn or (None if number is None else f"AS{str(number).removeprefix('AS')}")
            network = network or _text(
                entry.get("autonomous_system_organization") or entry.get("as_name")
            )
        return country, asn, network


def _country(entry: dict[str, Any]) -> str | None:
    for name in ("country", "registered_country"):
        of = entry.get(name)
        if isinstance(of, dict) and isinstance(of.get("iso_code"), str):
            return _text(of["iso_code"])
        if isinstance(of, str):
            return of
    return _text(entry.get("country_code"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
