"""Kafka with the brokers that librdkafka has built in: every record is there, in its partition."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import inprocess
import pytest
import samples

from pylog import FlowRecord, LossRecord, Record, outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.outputs._community_id import community_id
from pylog.testing import packet

kafka = pytest.importorskip("confluent_kafka", reason="needs the extra kafka")

WAIT_S = 20.0


class Brokers:
    """A cluster of mock brokers in this process.

    address   of a topic
    """

    def __init__(self) -> None:
        self._cluster = kafka.Producer({"test.mock.num.brokers": "2", "log_level": 0})
        brokers = self._cluster.list_topics(timeout=WAIT_S).brokers.values()
        self.brokers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def address(self, topic: str) -> str:
        return f"kafka://{self.brokers}/{topic}"

    def messages(self, topic: str) -> list[Any]:
        """All messages of a topic."""
        consumer = kafka.Consumer({
            "bootstrap.servers": self.brokers, "group.id": f"of {topic}", "log_level": 0,
        })  # fmt: skip
        try:
            partitions = consumer.list_topics(topic, WAIT_S).topics[topic].partitions
            begin = kafka.OFFSET_BEGINNING
            places = [kafka.TopicPartition(topic, number, begin) for number in partitions]
            count = sum(consumer.get_watermark_offsets(place, WAIT_S)[1] for place in places)
            consumer.assign(places)
            got: list[Any] = []
            while len(got) < count:
                more = consumer.consume(count - len(got), WAIT_S)
                assert more
                got += [message for message in more if message.error() is None]
            return got
        finally:
            consumer.close()


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    yield Brokers()


def test_records_are_there_in_the_partition_of_their_flow(brokers: Brokers) -> None:
    place = outputs.Place(brokers.address("flows"), "a stack")
    output = outputs.open("kafka", place)
    assert output.position() is None and output.confirmed() is None
    there = [packet(saddr="10.0.0.1", daddr="10.0.0.2", sport=n, dport=80) for n in range(100)]
    back = [packet(saddr="10.0.0.2", daddr="10.0.0.1", sport=80, dport=n) for n in range(100)]
    other: list[Record] = [LossRecord("nflog", "x", count=3), FlowRecord("nfct", "x", event="new")]
    output.write(Batch([*there, *back, *other]))
    output.commit("1")
    output.write(Batch(there))
    output.commit("2")
    output.close()
    assert output.confirmed() == "2"
    messages = brokers.messages("flows")
    assert len(messages) == 302
    partitions: dict[Any, set[int]] = defaultdict(set)
    for message in messages:
        record = json.loads(message.value())
        if record["kind"] == "packet":
            partitions[message.key().decode()].add(message.partition())
            assert message.timestamp()[1] == 1_700_000_000_000
        else:
            assert message.key() is None
    assert partitions.keys() == {community_id(record) for record in there}
    assert all(len(places) == 1 for places in partitions.values())
    assert len({place for places in partitions.values() for place in places}) > 1


def test_read_writes_to_a_topic_in_any_format(brokers: Brokers) -> None:
    log = samples.FIXTURES / "nflog/seq.bin"
    done = inprocess.text("read", "--to", "kafka", "--target", brokers.address("ecs"), "-n", "20",
                          "--format", "ecs", "--settings", "linger.ms=1", log)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    messages = brokers.messages("ecs")
    assert len(messages) == 20
    assert all("event" in json.loads(message.value()) for message in messages)


def test_a_message_that_is_too_large_is_refused_and_blocks_nothing(brokers: Brokers) -> None:
    refused = []
    place = outputs.Place(brokers.address("large"), refuse=lambda *args: refused.append(args))
    output = outputs.open("kafka", place, {"settings": {"message.max.bytes": "1500"}})
    big = packet(prefix="p" * 2000)
    output.write(Batch([packet(), big, packet()]))
    output.commit("3")
    output.close()
    assert output.confirmed() == "3"
    ((record, reason),) = refused
    assert record is big and "size" in reason.lower()
    assert len(brokers.messages("large")) == 2


def test_brokers_that_are_not_there_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs._module("kafka"), "CONNECT_S", 0.5)
    with pytest.raises(BackendError, match=r"cannot write to kafka://127\.0\.0\.1:1/t: "):
        outputs.open("kafka", outputs.Place("kafka://127.0.0.1:1/t"))
    with pytest.raises(BackendError, match="No such configuration property"):
        place = outputs.Place("kafka://127.0.0.1:1/t")
        outputs.open("kafka", place, {"settings": {"no.such": "1"}})


def test_what_is_not_acknowledged_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brokers go away: an error in time, and a new output writes all of it again."""
    monkeypatch.setattr(outputs, "LONGEST_S", 1.0)
    gone = Brokers()
    options = {"settings": {"queue.buffering.max.messages": "10", "message.timeout.ms": "60000"}}
    output = outputs.open("kafka", outputs.Place(gone.address("gone")), options)
    output.write(Batch([packet()]))
    output.commit("1")
    while output.confirmed() != "1":
        pass
    del gone._cluster
    with pytest.raises(BackendError, match=r"acknowledge nothing|not acknowledged"):
        for n in range(100):
            output.write(Batch([packet(sport=n)]))
            output.commit(str(n + 2))
    assert output.confirmed() == "1"
    with pytest.raises(BackendError, match="not acknowledged"):
        output.close()


def test_delivered_is_what_was_confirmed_or_written_again(brokers: Brokers) -> None:
    """A session that is cut off anywhere, and one that goes on after its confirmed position."""
    for cut in (1, 7, 30):
        topic, place = f"cut{cut}", outputs.Place(brokers.address(f"cut{cut}"))
        records = [packet(sport=n) for n in range(40)]
        first = outputs.open("kafka", place)
        for n, record in enumerate(records[:cut]):
            first.write(Batch([record]))
            first.commit(str(n + 1))
        begin = int(first.confirmed() or 0)
        del first  # as after a crash
        second = outputs.open("kafka", place)
        second.write(Batch(records[begin:]))
        second.close()
        ports = {json.loads(m.value())["sport"] for m in brokers.messages(topic)}
        assert ports == set(range(40))
