"""An open log: a backend, the input that receives from it, and the decoder of its bytes.

Input detects what the bytes are, Decoder makes records of them. A Reader reads an open log record
by record, and Bulk in columns; what both report of a log, such as its layout and counts, is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self, get_args

from pylog.backends.base import Backend
from pylog.backends.capture import Capture
from pylog.decoder import Decoder
from pylog.detect import UNDECIDED, Detection, stream_for
from pylog.formats.textlog_times import LogTimes
from pylog.input import Input
from pylog.log_times import Months, times_of
from pylog.losses import Losses
from pylog.origins import NOWHERE, Origin

OnError = Literal["resync", "strict"]
"""What to do about damage: report it and go on, or stop."""


class OpenLog:
    """An open log: its backend, the decoder of its bytes, and the counts so far.

    decoder   makes the records
    input     receives for the decoder
    origin    the origin and host of its records
    """

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        raw: bool = False,
        placed: bool = True,
        losses: Losses | None = None,
        detection: Detection | None = None,
        origin: Origin = NOWHERE,
    ) -> None:
        """Reads the first bytes and detects what they are, unless the backend is deferred.

        layout      the layout's name, in place of detection
        on_error    "resync": report damage as a LossRecord and go on; "strict": raise DecodeError
        raw         give each record the bytes it was made of, as `record.raw`
        placed      give each record its offset in the input
        losses      what to expect after records that were read elsewhere
        detection   what the bytes are, in place of detection
        origin      the origin and host of the records
        Raises DecodeError (not a log, or more than one answer), BackendError, ValueError.
        """
        if on_error not in get_args(OnError):
            allowed = ", ".join(get_args(OnError))
            raise ValueError(f"on_error is {on_error!r}, but must be one of {allowed}")
        if backend.layout is not None:
            if layout not in (None, backend.layout):
                raise ValueError(f"{backend.name} has the layout {backend.layout}, not {layout}")
            layout, detection = backend.layout, stream_for(backend.layout)
        self.backend, self.origin = backend, origin
        times = times_of(backend)
        self.decoder = Decoder(
            UNDECIDED if detection is None else detection,
            name=backend.name,
            layout=layout,
            strict=on_error == "strict",
            raw=raw,
            live=backend.live,
            placed=placed,
            losses=Losses(backend.logs, backend.numbered or backend.counts_losses)
            if losses is None
            else losses,
            interface_name=backend.interface_name,
            process=backend.process if backend.live else None,
            scope=backend.scope,
            origin=origin.origin,
            host=origin.host,
            times=times,
            prompt=not backend.regular,
        )
        self.input = Input(backend, self.decoder, layout)
        self.decoder.peek = self.input.peek
        if detection is None and not backend.deferred:
            self.input.detect(None)
            if self.detection.container == "text" and times.zone is not None:
                self._count_years(times)

    def _count_years(self, times: LogTimes) -> None:
        """Count how often the year changes in a file, which is read for that once before."""
        if times.year is not None or self.backend.size is None:
            return
        months = Months()
        months.feed(self.input.head)
        while more := self.backend.receive():
            months.feed(more)
        times.steps = months.steps
        if isinstance(self.backend, Capture):
            self.backend.rewind()
            self.input.head = b""

    @property
    def detection(self) -> Detection:
        """What the source is; UNDECIDED for a deferred backend until records came."""
        return self.decoder.detection

    @property
    def layout(self) -> str:
        """The layout in use; for a capture that of its first packet, or else its container."""
        return self.decoder.layout

    @property
    def received(self) -> int:
        """Records read so far."""
        return self.decoder.received

    @received.setter
    def received(self, count: int) -> None:
        self.decoder.received = count

    @property
    def malformed(self) -> int:
        """Damaged places so far: stretches of bytes that no record could be made of, and values
        that records were decoded without.
        """
        return self.decoder.damages.malformed

    @property
    def flaws(self) -> Counter[str]:
        """How many values records were decoded without, by field."""
        return self.decoder.damages.flaws

    @property
    def dropped(self) -> int | None:
        """Records lost so far, by sequence numbers or the capture's own count; None as long as the
        source has neither, and nobody can tell.
        """
        return self.decoder.losses.dropped

    @property
    def uncounted(self) -> int:
        """Losses so far of an unknown number of records; if any, more than `dropped` were lost."""
        return self.decoder.losses.uncounted

    @property
    def other(self) -> int:
        """Messages so far that carry no record: acks, other link types, unknown blocks."""
        return self.decoder.other

    @property
    def cut_off(self) -> int | None:
        """Where the last record begins, if the input ended within it or within its compression."""
        return self.decoder.damages.cut_off

    @property
    def ending(self) -> str | None:
        """Where the input is cut off, and what to do about it; None if it is not cut off."""
        if self.cut_off is None:
            return None
        record = "last" if self.received else "first"
        text = f"cut off at offset {self.cut_off}, within its {record} record"
        compression = getattr(self.backend, "compression", None)
        if compression and self.backend.failure is not None:
            return f"{text}; the {compression} file is not complete: copy it again"
        if not self.input.may_grow:
            return text
        return f"{text}; if the file grows, pylog read --follow waits for the rest"

    def pass_messages(self) -> None:
        """Give each message's record as it comes, for a capture, see Decoder.pass_messages."""
        self.decoder.pass_messages()

    def readers(self) -> Sequence[OpenLog]:
        """This log alone; readers of several logs give each."""
        return [self]

    def stop(self) -> None:
        """Ask for the end: reading gives what the source still has, then ends."""
        self.backend.stop()

    def close(self) -> None:
        """Close the source; a second call does nothing. A read that waits gives None."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
