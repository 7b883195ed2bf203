"""Secrets: passwords and addresses with passwords, which come from elsewhere and are never shown.

A configuration names the place of a secret, not the secret: a file, an environment variable, or a
credential that systemd passes to the service (LoadCredential=). It is read when it is used, so that
a changed password counts after a restart of the connection. `hidden` takes the password out of an
address before an error, a status or a drawing shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pylog.errors import BackendError

PLACES = ("file", "env", "credential")
"""Where a secret may be."""

LARGEST = 1 << 16
"""The most bytes of a secret."""

_USERINFO = re.compile(r"(?<=://)([^/?#@\s]*:)[^/?#\s]*(?=@)")
_KEYWORD = re.compile(r"(?i)\b(pass(?:word|wd)?|sslpassword)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;]+)")


@dataclass(frozen=True)
class Secret:
    """The place of a secret.

    place   "file", "env" or "credential"
    name    the path of the file, or the name of the variable or credential
    """

    place: str
    name: str

    def __str__(self) -> str:
        return f"{{ {self.place} = {self.name} }}"

    def value(self) -> str:
        """The secret, without the line end that an editor leaves; BackendError if it is not there
        or empty.
        """
        if self.place == "env":
            text = os.environ.get(self.name, "")
            problem = "it is not set, or empty"
        else:
            text, problem = self._of_file()
        if not text:
            raise BackendError(f"no secret in {self.place} {self.name}: {problem}")
        return text

    def _of_file(self) -> tuple[str, str]:
        """The text of the file, and the problem if that is empty."""
        path = self.name
        if self.place == "credential":
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                return "", "systemd passes none to this process (LoadCredential=)"
            path = os.path.join(folder, os.path.basename(self.name))
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(LARGEST).rstrip("\r\n"), "the file is empty"
        except (OSError, UnicodeDecodeError) as error:
            return "", getattr(error, "strerror", None) or str(error)


def secret_of(value: Any) -> Secret | None:
    """The secret that a value of a configuration names: { file = "/etc/pylog/password" }; None for
    a value that is no table.

    ValueError for a table that names no place, or several.
    """
    if not isinstance(value, Mapping):
        return None
    if len(value) != 1 or next(iter(value)) not in PLACES:
        raise ValueError(f"a secret is a table with one of {', '.join(PLACES)}")
    ((place, name),) = value.items()
    if not isinstance(name, str) or not name:
        raise ValueError(f"{place} of a secret must be a text")
    return Secret(place, name)


def secret_of_text(text: str) -> Secret:
    """The secret that an argument of the command line names: file:PATH, env:NAME or
    credential:NAME; ValueError for another text, which is not repeated.
    """
    place, colon, name = text.partition(":")
    if not colon or place not in PLACES or not name:
        raise ValueError(
            "a password is not given on the command line, where others can see it, but as"
            " file:PATH, env:NAME or credential:NAME"
        )
    return Secret(place, name)


def hidden(address: str) -> str:
    """The address as it may be shown: *** in place of a password.

    It knows the passwords of URLs (scheme://user:password@host, ?password=...) and of the DSNs of
    databases (password=... between spaces).
    """
    return _KEYWORD.sub(r"\1\2***", _USERINFO.sub(r"\1***", address))
