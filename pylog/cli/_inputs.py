"""What the sources of a command line stand for: the files of directories, globs and URLs.

`expand` puts the files in place of what names them, so that commands see single files. Live sources
and standard input stay as they are. With --skip-unknown each file is opened once before, and those
that no format reads are left out. An empty file among several is left out with a note: a log that
was just rotated is one.
"""

from __future__ import annotations

import argparse
import os

import pylog
from pylog import backends
from pylog.backends.files import files_of, is_url, size
from pylog.cli import say
from pylog.errors import EMPTY, BackendError, DecodeError

LEAST = 512
"""A larger file is not empty, even if it is compressed."""


def add_input_arguments(parser: argparse._ActionsContainer) -> None:
    """The arguments of commands that read files."""
    parser.add_argument(
        "--skip-unknown", action="store_true",
        help="pass over files that are no logs, and captures of other link types, as in a"
        " directory; -v lists them",
    )  # fmt: skip


def expand(arguments: argparse.Namespace) -> None:
    """Put files in place of the sources that name several. Labels of those are labels of each.

    `arguments.expanded` are the files that were not named one by one.

    Empty files are left out, unless there is a single source, or it is to be followed.

    Raises BackendError for a source that names no file, or no log with --skip-unknown,
    BackendUnavailable for a URL without fsspec, ValueError for standard input as one of several.
    """
    labels = dict(getattr(arguments, "label", ()))
    sources: list[str] = []
    arguments.expanded = []
    skipped: list[str] = []
    for source in arguments.source:
        named = backends.named(source)
        if source == "-" or (named is not None and named[0] != "capture"):
            sources.append(source)
            continue
        prefix = "" if named is None else "capture:"
        files = [prefix + file for file in files_of(source[len(prefix) :])]
        if files != [source]:
            arguments.expanded += files
        if arguments.skip_unknown:
            logs = [file for file in files if not _is_unknown(file)]
            skipped += [file for file in files if file not in logs]
            if files != [source] and not logs:
                raise BackendError(f"{source}: none of its {len(files)} files is a log")
            files = logs
        if source in labels and files != [source]:
            label = labels.pop(source)
            labels |= {file: label for file in files}
        sources += files
    if (arguments.expanded or len(sources) > 1) and not getattr(arguments, "follow", None):
        empty = [source for source in dict.fromkeys(sources) if _is_empty(source)]
        if empty:
            say(f"{', '.join(empty)}: empty, and passed over")
            arguments.origin = len(sources) > 1 or getattr(arguments, "origin", False)
            sources = [source for source in sources if source not in empty]
            labels = {source: label for source, label in labels.items() if source not in empty}
    if skipped:
        count = "1 file is no log" if len(skipped) == 1 else f"{len(skipped)} files are no logs"
        verbose = getattr(arguments, "verbose", False) or getattr(arguments, "explain", False)
        say(f"{count}, and passed over" + (": " + ", ".join(skipped) if verbose else ""))
    if not sources:
        raise BackendError("no log is left to be read")
    arguments.source = sources
    if hasattr(arguments, "label"):
        arguments.label = list(labels.items())


def _is_unknown(file: str) -> bool:
    """Whether no format reads a regular file: none recognizes it, or it is a capture of link types
    that none reads.
    """
    if not (os.path.isfile(file.removeprefix("capture:")) or is_url(file)):
        return False
    try:
        pylog.open(file).close()
    except DecodeError as error:
        return error.field in ("input", "link type")
    return False


def _is_empty(source: str) -> bool:
    """Whether it is a regular file without a byte, or a compressed one of nothing."""
    path = source.removeprefix("capture:")
    if source == "-" or not (os.path.isfile(path) or is_url(path)):
        return False
    try:
        if size(path) > LEAST:
            return False
        pylog.open(source).close()
    except DecodeError as error:
        return error.found == EMPTY
    except BackendError:  # reported when it is read
        return False
    return False
