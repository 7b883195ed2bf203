"""Addresses of receivers: tls://HOST[:PORT], tcp://HOST[:PORT], udp://HOST[:PORT], unix:PATH.

An address of IPv6 stands in brackets: tls://[2001:db8::1]:6514. Nothing else can be in an address:
no user, path or query, because no receiver of lines has any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_HOST = r"\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^:/?#\[\]@\s]+)"
_URL = rf"([a-z0-9]+)://(?:{_HOST})(?::([0-9]+))?/?"
_UNIX = r"(?s)unix:(?://)?(.+)"


class Address(NamedTuple):
    """Where a receiver is.

    scheme   tls, tcp, udp or unix
    host     a name, or an address without brackets; "" of a local socket
    port     0 of a local socket
    path     of a local socket, "" of others
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As errors and notes show it."""
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def address_of(text: str, ports: Mapping[str, int]) -> Address:
    """The address that a text has; ValueError.

    ports   the schemes that it may have, with the port of a host without one; 0 for none
    """
    if "unix" in ports and (match := re.fullmatch(_UNIX, text)) is not None:
        if "\0" in match[1]:
            raise ValueError("the path of a local socket has no NUL")
        return Address("unix", path=match[1])
    match = re.fullmatch(_URL, text)
    if match is None or match[1] not in ports or match[1] == "unix":
        raise ValueError(f"{_shown(text)} is no address here: {' or '.join(map(_form, ports))}")
    scheme, host = match[1], match[2] or match[3]
    port = int(match[4][:6]) if match[4] else ports[scheme]
    if not match[4] and not port:
        raise ValueError(f"{_shown(text)} has no port: {scheme}://HOST:PORT")
    if not 0 < port < 1 << 16:
        raise ValueError(f"no port {match[4][:20]}, as in {_shown(text)}: 1 to 65535")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"no host {host[:80]!r}") from error
    return Address(scheme, host, port)


def _shown(text: str) -> str:
    """An address that is wrong, without what may be a password."""
    return repr(re.sub(r"//[^/@]*@", "//***@", text)[:200])


def _form(scheme: str) -> str:
    return "unix:PATH" if scheme == "unix" else f"{scheme}://HOST:PORT"
