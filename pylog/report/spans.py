"""Spans of time in which a log may lack records: losses, and hours without a record.

A loss with a time was seen there. What was lost came after the last record before it, so empty
buckets just before a loss belong to it. A silent span is one without any record where, by the mean
of all others, at least MANY were to be expected: the firewall logged nothing, or nobody logged it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pylog.report.timeline import Numbers

MANY = 30
"""As many records are missing by chance with a probability of e^-30."""
LEAST_BUCKETS = 2

Kind = Literal["loss", "silent"]


class Span(NamedTuple):
    """A span in seconds since 1970.

    kind        loss: records were lost; silent: there is no record
    lost        how many records were lost, of those losses that have a count
    uncounted   losses without a count
    """

    start: int
    end: int
    kind: Kind
    lost: int = 0
    uncounted: int = 0


def spans(records: Numbers, losses: Numbers, start: int, width: int) -> list[Span]:
    """The spans in a timeline, in their order; adjacent losses are one.

    records   packets and flows by bucket, from the first to the last bucket that has any
    losses    lost records, and losses without a count, by bucket: shape (buckets, 2)
    start     the first second of the first bucket
    width     of a bucket, in seconds
    """
    made: list[Span] = []
    mean = float(records.mean()) if len(records) else 0.0
    lossy = losses.sum(axis=1) > 0
    number = 0
    while number < len(records):
        end = number + 1
        if lossy[number]:
            begin = number
            while begin > 0 and not records[begin - 1] and not lossy[begin - 1]:
                begin -= 1
            while end < len(records) and lossy[end]:
                end += 1
            lost, uncounted = losses[number:end].sum(axis=0).tolist()
            span = Span(start + begin * width, start + end * width, "loss", lost, uncounted)
            while made and made[-1].start >= span.start:
                made.pop()  # the silence that the loss explains
            made.append(span)
        elif not records[number]:
            while end < len(records) and not records[end] and not lossy[end]:
                end += 1
            if end - number >= LEAST_BUCKETS and mean * (end - number) >= MANY:
                made.append(Span(start + number * width, start + end * width, "silent"))
        number = end
    return made
