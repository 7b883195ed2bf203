"""The address and the options of Kafka, and the settings of librdkafka that they become."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pylog.options import Option
from pylog.secrets import hidden
from pylog.transports import tls

PORT = 9092
_TLS = tuple(option for option in tls.OPTIONS if option.name != "server_name")
OPTIONS = (
    Option("key", ("flow", "host", "none"), "flow", "what chooses the partition: flow (the"
           " Community ID, the same for both directions on all machines), or the machine that"
           " logged it"),
    Option("compression", ("none", "gzip", "snappy", "lz4", "zstd"), "zstd",
           "how batches are compressed"),
    Option("user", str, None, "the user, for SASL", metavar="NAME"),
    Option("password", str, None, "the password of that user", secret=True),
    Option("mechanism", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "SCRAM-SHA-512",
           "how the user is authenticated"),
    *_TLS,
    Option("settings", dict, None, "more settings of librdkafka, as linger.ms=50",
           metavar="KEY=VALUE"),
)  # fmt: skip

_OWN = {
    "bootstrap.servers": "name the brokers in the address",
    "metadata.broker.list": "name the brokers in the address",
    "acks": "each record is acknowledged by all replicas",
    "request.required.acks": "each record is acknowledged by all replicas",
    "enable.idempotence": "it is always on, so that nothing is written twice in a session",
    "sasl.password": "use the option password",
    "ssl.key.password": "use the option private_key_password",
    "compression.type": "use the option compression",
    "compression.codec": "use the option compression",
}
"""Settings that are not for the user, and why."""


class Cluster(NamedTuple):
    """Where records go.

    brokers   HOST:PORT,...: of which one is enough to learn of the others
    topic     its name
    tls       whether brokers are reached with TLS
    """

    brokers: str
    topic: str
    tls: bool

    def __str__(self) -> str:
        return f"{'kafkas' if self.tls else 'kafka'}://{self.brokers}/{self.topic}"


def cluster_of(address: str) -> Cluster:
    """The cluster and topic at kafka://HOST[:PORT][,HOST[:PORT]...]/TOPIC; ValueError."""
    match = re.fullmatch(r"kafka(s?)://([^/@\s]+)/([\w.-]{1,249})", address, re.ASCII)
    if match is None or match[3] in (".", ".."):
        form = "kafka://HOST[:PORT][,HOST...]/TOPIC, with TLS kafkas://"
        raise ValueError(f"{hidden(address)!r} is no topic of Kafka: {form}")
    brokers = []
    for broker in match[2].split(","):
        parts = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", broker)
        port = int(parts[2] or PORT) if parts else 0
        if parts is None or not 0 < port < 1 << 16:
            raise ValueError(f"no broker {broker!r}: HOST or HOST:PORT")
        brokers.append(f"{parts[1]}:{port}")
    return Cluster(",".join(brokers), match[3], bool(match[1]))


def check_settings(options: dict[str, Any]) -> None:
    """ValueError for options that contradict each other, or settings that are pylog's own."""
    for name in options.get("settings") or ():
        if name in _OWN:
            raise ValueError(f"settings has {name}: {_OWN[name]}")
    if (options.get("user") is None) != (options.get("password") is None):
        raise ValueError("user and password are given together, or none of them")


def settings_of(cluster: Cluster, options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a producer that delivers at least once."""
    made: dict[str, Any] = {
        "bootstrap.servers": cluster.brokers,
        "client.id": "pylog",
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": options["compression"],
        "partitioner": "murmur2_random",  # as clients in Java have it
        "queue.buffering.max.kbytes": 1 << 16,
        "log_level": 0,  # what matters comes as an error
    }
    user = options["user"]
    if user is not None:
        made |= {
            "sasl.username": user, "sasl.password": options["password"],
            "sasl.mechanism": options["mechanism"],
        }  # fmt: skip
    protocol = "ssl" if cluster.tls else "plaintext"
    made["security.protocol"] = protocol if user is None else f"sasl_{protocol}"
    if cluster.tls:
        named = {
            "ssl.ca.location": options["ca"], "ssl.certificate.location": options["certificate"],
            "ssl.key.location": options["private_key"] or options["certificate"],
            "ssl.key.password": options["private_key_password"],
        }  # fmt: skip
        made |= {name: value for name, value in named.items() if value is not None}
        made["enable.ssl.certificate.verification"] = options["verify"]
    return made | dict(options["settings"] or {})
