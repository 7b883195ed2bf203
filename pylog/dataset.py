"""One Parquet data set, written by many: a directory with a file for each split, in their order.

A reader never sees a part of it. On a file system the files are written to a hidden directory in
the same folder, which is renamed when all of them are complete. An object store cannot rename, but
shows an object only when it is complete: there the files get their names at once, and `_SUCCESS`
follows the last of them, as with Hadoop and Spark. A reader must wait for it.

Each file is written under a unique name and then renamed. So it may be written twice, even at the
same time, after a machine seemed to have died: the copies are equal, and the last one stays.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import uuid
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

from pylog.backends.files import is_url, system_of
from pylog.batch import Batch
from pylog.errors import BackendError, as_backend_error
from pylog.outputs import Target, parquet
from pylog.table.select import Selection
from pylog.table.splits import Decoded, End, Split

COMPLETE = "_SUCCESS"
"""The object that marks a data set in an object store as complete."""


class DataSet:
    """The context of writing a data set: at its end it is complete, or nothing of it exists.

    folder   the folder for `write_part`
    """

    def __init__(self, target: str, force: bool = False) -> None:
        """`force`: replace what exists; in an object store it is deleted at once.

        Raises BackendError when it exists and `force` is not given.
        """
        self._target, self._force = target.rstrip("/"), force
        if is_url(target):
            self._system, self._path = system_of(self._target)
            self.folder = self._target
            with as_backend_error("write", target):
                exists = self._system.exists(self._path)
        else:
            self._target = os.path.abspath(target)
            parent, name = os.path.split(self._target)
            self.folder = os.path.join(parent, f".{name}.{uuid.uuid4().hex}")
            exists = os.path.lexists(target)
        if exists and not force:
            raise BackendError(f"{target} is there already")

    def __enter__(self) -> Self:
        with as_backend_error("write", self._target):
            if is_url(self._target):
                self._remove()
                self._system.makedirs(self._path)  # if the store has directories
            else:
                self._make_folder()
        return self

    def _make_folder(self) -> None:
        """Make the hidden folder, with the permissions of the data set that it will replace."""
        mode = None
        if os.path.isdir(self._target):
            mode = stat.S_IMODE(os.stat(self._target).st_mode)
        os.mkdir(self.folder, 0o777 if mode is None else 0o700)
        if mode is not None:
            os.chmod(self.folder, mode)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if kind is not None:
            with suppress(OSError):
                self._remove()
            return
        with as_backend_error("write", self._target):
            if is_url(self._target):
                self._system.pipe_file(f"{self._path}/{COMPLETE}", b"")
                return
            for name in os.listdir(self.folder):
                if name.startswith("."):  # a worker died while it wrote it
                    os.unlink(os.path.join(self.folder, name))
            before = f"{self.folder}.before"
            if os.path.lexists(self._target) and self._force:
                os.rename(self._target, before)
            os.rename(self.folder, self._target)
            shutil.rmtree(before, ignore_errors=True)
            if os.path.lexists(before):  # it was a file
                os.unlink(before)

    def _remove(self) -> None:
        """Delete what has been written; a worker that still writes then fails."""
        if is_url(self._target):
            if self._system.exists(self._path):
                self._system.rm(self._path, recursive=True)
            return
        away = f"{self.folder}.away"
        os.rename(self.folder, away)
        shutil.rmtree(away, ignore_errors=True)


def write_part(split: Split, number: int, folder: str, selection: Selection, rows: int) -> End:
    """Write the records of a split as the file of that number."""
    name = f"part-{number:06}.parquet"
    if not is_url(folder):
        beside = os.path.join(folder, f".{name}.{uuid.uuid4().hex}")
        with as_backend_error("write", os.path.join(folder, name)):
            end = _write(split, beside, selection, rows)
            os.replace(beside, os.path.join(folder, name))
        return end
    system, path = system_of(folder)
    with tempfile.TemporaryDirectory() as here:
        beside = os.path.join(here, name)
        end = _write(split, beside, selection, rows)
        with as_backend_error("write", f"{folder}/{name}"):
            system.put_file(beside, f"{path}/{name}")
    return end


def _write(split: Split, path: str, selection: Selection, rows: int) -> End:
    decoded = Decoded(split, selection, rows)
    columns = ",".join(selection.result.names)
    with open(path, "wb") as stream:
        output = parquet.Output(Target(stream), kind=selection.kind, columns=columns)
        with closing(output):
            for columns_of in decoded:
                output.write(Batch.of_columns({selection.kind: columns_of}))
    return decoded.end
