"""Spans of time in which a log may lack records: losses, and hours without a record.

A loss with a time was seen there. What was lost came after the last record before it, so empty
buckets just before a loss belong to it. A silent span is one without any record where, by the mean
of all others, at least MANY were to be expected: the firewall logged nothing, or nobody logged it.
A span before the first or after the last record is outside of the log.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from pylog.report.timeline import Numbers

MANY = 30
"""As many records are missing by chance with a probability of e^-30."""
LEAST_BUCKETS = 2

Kind = Literal["loss", "silent", "outside"]


class Span(NamedTuple):
    """A span in seconds since 1970.

    kind        loss: records were lost; silent: there is no record between others; outside: the
                log begins later or has ended
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

    records   packets and flows by bucket
    losses    lost records, and losses without a count, by bucket: shape (buckets, 2)
    start     the first second of the first bucket
    width     of a bucket, in seconds
    """
    lossy = losses.sum(axis=1) > 0
    present = np.flatnonzero((records > 0) | lossy)
    if not len(present):
        return []
    first, last = int(present[0]), int(present[-1]) + 1
    mean = float(records[first:last].mean())
    made: list[Span] = []

    def add_empty(begin: int, end: int, kind: Kind) -> None:
        if end - begin >= LEAST_BUCKETS and mean * (end - begin) >= MANY:
            made.append(Span(start + begin * width, start + end * width, kind))

    add_empty(0, first, "outside")
    number, empty = first, first  # from where on there is no record
    while number < last:
        if lossy[number]:
            end = number + 1
            while end < last and lossy[end]:
                end += 1
            lost, uncounted = losses[number:end].sum(axis=0).tolist()
            made.append(Span(start + empty * width, start + end * width, "loss", lost, uncounted))
            number = empty = end
        elif records[number]:
            add_empty(empty, number, "silent")
            number += 1
            empty = number
        else:
            number += 1
    add_empty(last, len(records), "outside")
    return made
