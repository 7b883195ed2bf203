"""Files, here and elsewhere: paths, directories, globs, and fsspec's URLs of any of them.

`files` lists what such names stand for, `opened` opens one. A directory stands for all files below
it, sorted by name, so that numbered and dated logs come in their order. A glob is expanded here for
those that no shell expanded, as in quotes, in a service or on another machine. fsspec is imported
for the first URL.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from pylog.backends.base import check_source
from pylog.errors import BackendError, BackendUnavailable, as_backend_error, missing_extra

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def files(paths: Paths) -> list[str]:
    """The files that paths name, in their order.

    Of a directory these are all files below it, of a glob those that match, both sorted by name.
    Names that begin with a dot are left out of directories. Any path may be an fsspec URL. Raises
    BackendError for a path that names no file, BackendUnavailable for a URL when fsspec, or a
    package that it needs, is not installed, ValueError for standard input.
    """
    in_memory = isinstance(paths, bytes | bytearray | memoryview)
    if isinstance(paths, str | os.PathLike) or in_memory or not isinstance(paths, Iterable):
        paths = [paths]  # type: ignore[list-item]
    names: list[str] = []
    for path in paths:
        check_source(path)
        path = os.fspath(path)
        if path == "-":
            raise ValueError("standard input cannot be read by several: name a file")
        names += files_of(path)
    return names


def files_of(path: str) -> list[str]:
    """The files that a path or URL names, see `files`; BackendError if it names none."""
    names = _remote_files(path) if is_url(path) else _local_files(path)
    if not names:
        raise BackendError(f"{path} names no file")
    return names


def is_url(path: str) -> bool:
    return "://" in path


def _local_files(path: str) -> list[str]:
    if os.path.isdir(path):
        below = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
        return sorted(name for name in below if not _is_hidden(name[len(path) :]))
    if os.path.exists(path):
        return [path]
    import glob

    if not glob.has_magic(path):
        return [path]
    return sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))


def _remote_files(url: str) -> list[str]:
    import glob

    system, path = system_of(url)
    with as_backend_error("list", url):
        if glob.has_magic(path):
            names = [name for name in system.glob(path) if not system.isdir(name)]
        elif system.isdir(path):
            names = [name for name in system.find(path) if not _is_hidden(name[len(path) :])]
        else:
            return [url]
        return sorted(system.unstrip_protocol(name) for name in names)


def _is_hidden(below: str) -> bool:
    return any(part.startswith(".") for part in below.replace(os.sep, "/").split("/"))


def system_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path there; BackendUnavailable without it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise missing_extra("a URL", "fsspec") from error
    try:
        system: tuple[Any, str] = url_to_fs(url)
    except ImportError as error:  # the driver: s3fs, gcsfs, adlfs...
        raise BackendUnavailable(f"{url}: {error}") from error
    return system


def size(path: str) -> int:
    """The size of a file in bytes; 0 if it has none, as a pipe, or does not report it."""
    with as_backend_error("open", path):
        if is_url(path):
            system, inside = system_of(path)
            return system.size(inside) or 0
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file or URL, opened; BackendError when it cannot be."""
    with ExitStack() as stack:
        with as_backend_error("open", path):
            if is_url(path):
                file = stack.enter_context(open_url(path))
            else:
                file = stack.enter_context(open(path, "rb", buffering=0))
        yield file


def open_url(url: str) -> Any:
    """The file of a URL, for reading; OSError, BackendUnavailable."""
    system, path = system_of(url)
    return system.open(path, "rb")
