"""Writes each record as a message of a Kafka topic: JSON or any other line format.

The key of a message is the Community ID of its flow, so that all records of a flow, from all
machines, are in one partition, in the order of each machine. Every message is acknowledged by all
replicas that are in sync. After a failure what was not acknowledged is written again: each record
is there at least once.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import Any

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError, missing_extra
from pylog.notes import notes
from pylog.outputs._community_id import community_id
from pylog.outputs._kafka_settings import OPTIONS as KAFKA_OPTIONS
from pylog.outputs._kafka_settings import check_settings, cluster_of, settings_of
from pylog.outputs._lines import FORMAT_OPTIONS
from pylog.outputs._sent_lines import check_lines, given_lines, lines_need_raw, lines_show_joins
from pylog.record import Record
from pylog.transports.tls import check_tls, tls_options

NAME = "kafka"
EXTRA = "kafka"
PLACE = True
DELIVERY = "at least once"
ADDRESS = "kafka://HOST[:PORT][,HOST...]/TOPIC, with TLS kafkas://"
OPTIONS = (*FORMAT_OPTIONS, *KAFKA_OPTIONS)
needs_raw = lines_need_raw
shows_joins = lines_show_joins

CONNECT_S = 5.0
"""How long the brokers may take to answer at first."""
ERROR_S = 30.0
"""How often the same error is noted."""


def check(**options: Any) -> None:
    """ValueError for a format that does not exist, or options that contradict each other."""
    check_lines(**options)
    check_settings(options)


def check_address(address: str, **options: Any) -> None:
    """ValueError for an address of another kind, or options that are not for it."""
    cluster = cluster_of(address)
    check_tls("tls" if cluster.tls else "kafka", tls_options(options))


class _Mark:
    """The messages before a commit, since the one before it.

    left       how many are not acknowledged
    position   of the commit; None: it is to come
    """

    def __init__(self) -> None:
        self.left = 0
        self.position: str | None = None


class Output(outputs.Output):
    """Produces messages."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        try:
            import confluent_kafka as kafka
        except ImportError as error:
            raise missing_extra("the output kafka", "kafka") from error
        self._place, self._cluster = place, cluster_of(place.address)
        self._lines = given_lines(options)
        self._key_of = {"flow": community_id, "host": _host, "none": _none}[options["key"]]
        self._too_large = (
            kafka.KafkaError.MSG_SIZE_TOO_LARGE,
            kafka.KafkaError.RECORD_LIST_TOO_LARGE,
            kafka.KafkaError.INVALID_RECORD,
        )
        self._KafkaException: type[Exception] = kafka.KafkaException
        self._marks = deque([_Mark()])
        self._failure: str | None = None
        self._noted: dict[str, float] = {}
        settings = settings_of(self._cluster, options)
        try:
            self._producer = kafka.Producer({**settings, "error_cb": self._note})
            topic = self._producer.list_topics(self._cluster.topic, CONNECT_S).topics
        except kafka.KafkaException as error:
            raise self._error(_reason(error.args[0])) from error
        problem = topic[self._cluster.topic].error
        if problem is not None:
            raise self._error(_reason(problem))

    def _error(self, problem: str) -> BackendError:
        return BackendError(f"cannot write to {self._cluster}: {problem}")

    def _note(self, error: Any) -> None:
        """An error that librdkafka reports: it goes on by itself unless the error is fatal."""
        text = _reason(error)
        if error.fatal():
            self._failure = text
        elif time.monotonic() >= self._noted.get(error.name(), 0.0):
            self._noted[error.name()] = time.monotonic() + ERROR_S
            notes.warning("%s: %s", self._cluster, text)

    def _delivered(self, mark: _Mark, record: Record, error: Any, message: Any) -> None:
        """The report of a message."""
        if error is None:
            mark.left -= 1
        elif error.code() in self._too_large:
            mark.left -= 1
            self._place.refuse(record, _reason(error))
        else:
            self._failure = _reason(error)

    def _serve(self, seconds: float = 0) -> None:
        """Take reports of messages; BackendError if one was not delivered."""
        self._producer.poll(seconds)
        if self._failure is not None:
            raise self._error(self._failure)

    def write(self, batch: Batch) -> None:
        deadline = time.monotonic() + outputs.LONGEST_S
        mark = self._marks[-1]
        for record in batch.records():
            text = self._lines.line(record)
            if not text:
                continue
            key = self._key_of(record)
            time_ms = (record.timestamp_ns or record.observed_ns or 0) // 1_000_000
            for line in text.split("\n"):
                if line:
                    value = line.encode("utf-8", "backslashreplace")
                    self._produce(mark, record, key, value, max(time_ms, 0), deadline)
        self._serve()

    def _produce(
        self, mark: _Mark, record: Record, key: str | None, value: bytes, time_ms: int,
        deadline: float,
    ) -> None:  # fmt: skip
        """Queue a message, and wait for room; BackendError after the deadline."""
        while True:
            try:
                self._producer.produce(
                    self._cluster.topic, value, key, timestamp=time_ms,
                    on_delivery=partial(self._delivered, mark, record),
                )  # fmt: skip
            except BufferError:
                self._serve(0.1)
                if time.monotonic() >= deadline:
                    raise self._error(
                        f"brokers acknowledge nothing: {len(self._producer)} messages wait"
                    ) from None
            except self._KafkaException as error:
                problem = error.args[0]
                if problem.code() not in self._too_large:
                    raise self._error(_reason(problem)) from error
                self._place.refuse(
                    record, f"{_reason(problem)}: the message has {len(value)} bytes"
                )
                return
            else:
                mark.left += 1
                return

    def flush(self) -> None:
        self._serve()

    def commit(self, position: str) -> None:
        self._marks[-1].position = position
        self._marks.append(_Mark())
        self._serve()

    def confirmed(self) -> str | None:
        self._serve()
        while len(self._marks) > 1 and not self._marks[0].left:
            self._committed = self._marks.popleft().position
        return self._committed

    def close(self) -> None:
        """Wait until all is acknowledged; BackendError if it is not in time."""
        try:
            if self._failure is None and self._producer.flush(outputs.LONGEST_S):
                raise self._error(f"{len(self._producer)} messages are not acknowledged")
            self._serve()
        finally:
            self._producer.purge()
            self._producer.poll(0)
            for sentence in self._lines.report():
                notes.warning("%s", sentence)


def _host(record: Record) -> str | None:
    return record.host


def _none(record: Record) -> None:
    return None


def _reason(error: Any) -> str:
    """Why librdkafka could not do something, without its thread names."""
    text: str = error.str() or error.name()
    return text
