"""The live screen of `pylog top`: what is logged now, by source, target, port, rule and more.

A thread reads and counts (`reading`, `counts`), and the screen (`screen`) takes a `Picture` of the
counts twice a second. So drawing never waits for reading, and no queue can grow between them: a
live source that is faster than this thread loses records in the kernel, which are counted and
shown. `picture` makes text of a Picture, for the screen and for `--once`.
"""

from __future__ import annotations
