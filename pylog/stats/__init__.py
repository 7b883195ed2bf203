"""Counts, sums and distinct values of records by group: what `pylog stats` and `top` show.

    import pylog
    from pylog.stats import Question, Summary

    summary = Summary([Question(by=("saddr",))])
    with pylog.open("fw.dump") as reader:
        while batch := reader.read_batch():
            summary.add_records(batch)
    for group in summary.answer().top(10):
        print(group.keys[0], group.count)

A `Question` says what is counted (`question`, `keys`). A `Summary` counts the
answers to several in one pass: in columns (`columns`) or record by record (`counted`), exactly up
to a number of groups. Parts that several processes counted are merged. `passes` reads files, and
`losses` has what is not in the counts. `reports` are the ready questions.
"""

from __future__ import annotations

from pylog.stats.losses import LossTally
from pylog.stats.question import Plan, Question
from pylog.stats.result import Answer, Group
from pylog.stats.summary import Aggregate, Summary

__all__ = ["Aggregate", "Answer", "Group", "LossTally", "Plan", "Question", "Summary"]
