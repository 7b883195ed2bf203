"""Makes the output of a stack: of a place, of files that follow each other, or of a data set."""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

from pylog import engine, outputs
from pylog.outputs._files import OutputFiles
from pylog.pipeline.config import PARTITIONED_S, PARTITIONED_SIZE, Stack
from pylog.pipeline.joins import completed
from pylog.pipeline.parts import Parts
from pylog.pipeline.positions import file_name
from pylog.secrets import Secret
from pylog.transports.rotation import File, Files


def revealed(value: Any) -> Any:
    """The value; of a Secret what it is. BackendError if it is not there."""
    return value.value() if isinstance(value, Secret) else value


def needs_raw(stack: Stack) -> bool:
    """Whether the output of a stack needs records with their raw bytes."""
    plain = {n: value for n, value in stack.options.items() if not isinstance(value, Secret)}
    return outputs.needs_raw(stack.to, plain)


def line_form(stack: Stack) -> outputs.Output | None:
    """An output like that of a stack, whose lines are made and not written; None: it writes no
    file of lines for which columns are faster.
    """
    if stack.is_place or stack.partition is not None or not engine.installed():
        return None
    options = {name: revealed(value) for name, value in stack.options.items()}
    options = completed(stack.joins, stack.to, options)
    if not outputs.makes_lines(stack.to, options):
        return None
    return outputs.open(stack.to, outputs.Target(io.BytesIO()), options)


def delivery(stack: Stack, durable: bool) -> outputs.Delivery:
    """What is promised of each record.

    durable   whether there is a journal
    """
    if not durable:
        return "best effort"
    if stack.partition is not None:
        return "exactly once"
    if not stack.is_place:
        return "at least once"
    if isinstance(stack.target, Secret):
        return outputs.description(stack.to).delivery
    return outputs.delivery(stack.to, str(stack.target))


def opened(stack: Stack, refuse: outputs.Refuse, durable: bool) -> outputs.Output:
    """The output of a stack, opened. Raises BackendError, ValueError.

    refuse    takes records that the peer refuses
    durable   whether what is written and not confirmed can be read again
    """
    options = {name: revealed(value) for name, value in stack.options.items()}
    options = completed(stack.joins, stack.to, options)
    target = str(revealed(stack.target))
    if stack.is_place:
        return outputs.open(stack.to, outputs.Place(target, stack.name, refuse), options)

    if stack.partition is not None:

        def part(stream: BinaryIO, path: str) -> outputs.Output:
            return outputs.open(stack.to, outputs.Target(stream, path), options)

        return Parts(
            target, part,
            partition=stack.partition,
            ending=next(iter(outputs.description(stack.to).endings), ""),
            suffix=stack.suffix,
            stream=file_name(stack.name),
            size=stack.rotate_size or PARTITIONED_SIZE,
            age_s=stack.rotate_time or PARTITIONED_S,
            durable=durable,
        )  # fmt: skip

    def made(file: File) -> outputs.Output:
        named = None if target == "-" else file.path
        return outputs.open(
            stack.to, outputs.Target(file.stream, named, False, file.appending), options
        )

    standard = sys.stdout.buffer if target == "-" else None
    files = Files(
        target, "append", suffix=stack.suffix, size=stack.rotate_size, age_s=stack.rotate_time,
        standard=standard, keep_pipe=True,
    )  # fmt: skip
    if standard is None:
        outputs.check_appending(stack.to, files.before(), options)
    return OutputFiles(files, made)
