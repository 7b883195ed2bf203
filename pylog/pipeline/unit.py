"""The unit of systemd that runs a pipeline: the file pylog.service, fitted to a configuration.

A directive of the file is replaced, or added below [Service], where the configuration needs it: the
folders that it writes, the credentials that it names, more time to end. Nothing is weakened that
the configuration does not use. What a unit cannot give is a note for the person who installs it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import PurePosixPath

from pylog import backends
from pylog.pipeline.config import Pipeline, Stack
from pylog.pipeline.notify import SPARE_S
from pylog.pipeline.privileges import NAMESPACE_OPTIONS
from pylog.secrets import Secret

FOLDERS = {
    PurePosixPath("/var/lib"): "StateDirectory",
    PurePosixPath("/var/log"): "LogsDirectory",
    PurePosixPath("/run"): "RuntimeDirectory",
}
"""Where systemd makes folders for a service, and the directive that names them."""
HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome hides."""
TEMPORARY = ("/tmp", "/var/tmp")
"""What PrivateTmp hides."""
CREDENTIALS = "/etc/pylog"
"""Where the unit takes credentials from."""

Directives = dict[str, list[str]]
"""The values of directives of [Service]; several are several lines."""


def template() -> str:
    """The unit for /etc/pylog.toml, as it is in the package."""
    return files("pylog.pipeline").joinpath("pylog.service").read_text(encoding="utf-8")


def unit(
    config: str,
    command: Sequence[str],
    *,
    name: str = "pylog",
    user: str | None = None,
    pipeline: Pipeline | None = None,
    programs: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """The text of a unit, and notes for the person who installs it.

    config     the absolute path of the configuration
    command    what runs pylog
    user       who runs it; None: a user that exists while the service runs
    pipeline   what is in the configuration; None: it cannot be read
    programs   folders that hold Python and pylog
    """
    pylog, path = " ".join(map(_quoted, command)), _quoted(config)
    check = f"{pylog} check --quiet {path}"
    directives: Directives = {
        "ExecStartPre": [check],
        "ExecStart": [f"{pylog} run {path}"],
        "ExecReload": [check, "/bin/kill -HUP $MAINPID"],
        "SyslogIdentifier": [name],
    }
    folders = {directive: [name] for directive in FOLDERS.values()}
    notes: list[str] = []
    if user is not None:
        directives |= {"DynamicUser": ["no"], "User": [user]}
    programs = sorted(set(programs))
    needed = (*programs, config)
    closed = sorted({folder for path in programs for folder in _closed(path, programs)})
    if closed:
        directives["TemporaryFileSystem"] = [" ".join(f"{_quoted(folder)}:ro" for folder in closed)]
    if hidden := [path for path in needed if _is_below(path, (*HOMES, *TEMPORARY, *closed))]:
        directives["BindReadOnlyPaths"] = [" ".join(map(_quoted, hidden))]
    if any(_is_below(path, HOMES) for path in needed):
        directives["ProtectHome"] = ["tmpfs"]
    if pipeline is not None:
        notes += _fit(directives, folders, pipeline, user)
    directives |= {directive: [" ".join(names)] for directive, names in folders.items()}
    text = _with(template(), directives)
    return text.replace("pylog run /etc/pylog.toml. Printed", f"pylog run {config}. Printed"), notes


def _fit(
    directives: Directives, folders: dict[str, list[str]], pipeline: Pipeline, user: str | None
) -> Iterator[str]:
    """Change directives as the pipeline needs it; notes."""
    settings, sources = pipeline.settings, pipeline.sources.values()
    directives["TimeoutStopSec"] = [f"{settings.drain + SPARE_S:g}"]
    owned = []
    for folder in _written(pipeline):
        base = next((base for base in FOLDERS if base in folder.parents), None)
        if base is not None:
            relative = str(folder.relative_to(base))
            if relative not in folders[FOLDERS[base]]:
                folders[FOLDERS[base]].append(relative)
        elif folder in FOLDERS:
            yield (f"the service cannot write files into {folder} itself: name a folder below it,"
                   f" as {folder}/pylog")  # fmt: skip
        elif str(folder) not in owned:
            owned.append(str(folder))
            who = "the user of the service" if user is None else user
            yield f"{folder} must exist, and {who} must be able to write it" + (
                ": with --user that can be a user who owns it" if user is None else ""
            )
    if owned:
        directives["ReadWritePaths"] = [" ".join(map(_quoted, owned))]
    credentials, readable = set(), set()
    for secret in _secrets(pipeline):
        if secret.place == "credential":
            credentials.add(PurePosixPath(secret.name).name)
        elif secret.place == "file" and user is None:
            readable.add(secret.name)
    if credentials:
        lines = [f"{name}:{CREDENTIALS}/{name}" for name in sorted(credentials)]
        directives["LoadCredential"] = lines
    for path in sorted(readable):
        yield (f"the user of the service must be able to read {path}: {{ credential ="
               f' "{PurePosixPath(path).name}" }} needs no such permission')  # fmt: skip
    if any(source.options.get("pf_bind") for source in sources):
        directives["ProtectKernelTunables"] = ["no"]
    if any(source.options.get(name) for source in sources for name in NAMESPACE_OPTIONS):
        more = "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN"
        directives |= {"AmbientCapabilities": [more], "CapabilityBoundingSet": [more],
                       "RestrictNamespaces": ["~cgroup ipc mnt pid user uts"],
                       "SystemCallFilter": ["@system-service", "~@privileged @resources",
                                            "capset setns"]}  # fmt: skip
    if any(_name(source.address) == "nftables" for source in sources):
        directives["ProtectProc"] = ["default"]  # it shows which process changed the ruleset


def _name(address: str) -> str | None:
    named = backends.named(address)
    return None if named is None else named[0]


def _written(pipeline: Pipeline) -> Iterator[PurePosixPath]:
    """The folders that a pipeline writes, by absolute paths."""
    settings = pipeline.settings
    if settings.journal is not None:
        yield _path(str(settings.journal))
    if settings.socket is not None:
        yield _path(settings.socket).parent
    for stack in pipeline.stacks:
        if stack.dead_letters is not None:
            yield _path(stack.dead_letters).parent
        target = _target(stack)
        if target is not None:
            yield target if stack.partition is not None else target.parent


def _target(stack: Stack) -> PurePosixPath | None:
    """The file or folder that a stack writes; None: neither."""
    if isinstance(stack.target, Secret) or stack.target == "-" or "://" in stack.target:
        return None
    if stack.is_place and not stack.target.startswith("/"):
        return None  # the DSN of a database
    return _path(stack.target)


def _path(path: str) -> PurePosixPath:
    return PurePosixPath(os.path.abspath(path))


def _secrets(pipeline: Pipeline) -> Iterator[Secret]:
    for stack in pipeline.stacks:
        for value in (stack.target, *stack.options.values()):
            if isinstance(value, Secret):
                yield value


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(PurePosixPath(folder) in PurePosixPath(path).parents for folder in folders)


def _closed(path: str, shown: Sequence[str]) -> Iterator[str]:
    """The outermost folder above a path that only its owner and group may enter, if there is one.

    Only folders below those that are shown count, and none below homes and temporary folders.
    """
    found = None
    for folder in PurePosixPath(path).parents:
        if str(folder) in (*HOMES, *TEMPORARY):
            return
        if str(folder) in shown:
            break
        with suppress(OSError):
            if not os.stat(folder).st_mode & stat.S_IXOTH:
                found = str(folder)
    if found is not None:
        yield found


def _quoted(word: str) -> str:
    """A word of a command or list as systemd.syntax(7) has it; ValueError for a line end."""
    if re.search(r"[\x00-\x1f]", word):
        raise ValueError(f"{word!r} cannot stand in a unit")
    word = word.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"')
    return f'"{word}"' if re.search(r"[\s'\"\\;]", word) or not word else word


def _with(text: str, directives: Mapping[str, Sequence[str]]) -> str:
    """The unit with these values in place of its own, or below [Service] where it has none."""
    lines = text.splitlines()
    added = []
    for name, values in directives.items():
        made = [f"{name}={value}" for value in values]
        places = [i for i, line in enumerate(lines) if line.startswith(f"{name}=")]
        if not places:
            added += made
            continue
        comments = lines[places[0] : places[-1] + 1]
        same = [line for line in comments if line.startswith(f"{name}=")]
        if same != made:
            lines[places[0] : places[-1] + 1] = made
    at = lines.index("[Install]")
    if added:
        lines[at:at] = ["# what the configuration needs", *added, ""]
    return "\n".join(lines) + "\n"
