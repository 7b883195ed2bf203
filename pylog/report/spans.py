"""Spans of time in which a log may lack records: losses, and hours without a record.

A loss with a time was seen there. What was lost came after the last record before it, so empty
buckets just before a loss belong to it. A silent span is one without any record where at least MANY
were to be expected: the firewall logged nothing, or nobody logged it. What is to be expected is the
mean, or the rate of most of the time if that is less: a flood is no reason to expect more. A span
before the first or after the last record is outside of the log.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from pylog.report.timeline import Numbers

MANY = 30
"""As many records are missing by chance with a probability of e^-30."""
LEAST_BUCKETS = 2
QUARTER, GAMMA_QUARTER = 0.25, 0.9613
"""A share of the time, and the quantile of a gamma distribution of shape 2 for it."""

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


def _expected(records: Numbers) -> float:
    """How many records a bucket has without floods.

    For each moment take the mean time between the records around it. Where records come at random,
    a quarter of the time is in gaps shorter than 0.96 times the mean gap (a gamma distribution).
    """
    mean = float(records.mean())
    places = np.flatnonzero(records)
    if len(places) < 2:
        return mean
    lengths = np.diff(places)
    gaps = lengths / records[places[:-1]]
    order = np.argsort(gaps, kind="stable")
    passed = np.cumsum(lengths[order])
    quarter = gaps[order][np.searchsorted(passed, passed[-1] * QUARTER)]
    return min(mean, GAMMA_QUARTER / float(quarter))


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
    expected = _expected(records[first:last])
    made: list[Span] = []

    def add_empty(begin: int, end: int, kind: Kind) -> None:
        if end - begin >= LEAST_BUCKETS and expected * (end - begin) >= MANY:
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
