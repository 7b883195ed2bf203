"""The netlink socket against the running kernel, with messages of other subsystems than NFLOG's."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import netlab
import pytest

from pylog import BackendError
from pylog.backends.base import HOST_ORDER
from pylog.backends.links import Links
from pylog.backends.netlink_socket import NetlinkSocket
from pylog.backends.netlink_source import OPTIONS, NetlinkSource
from pylog.backends.netns import Namespace
from pylog.formats.netlink import NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, align, nlmsghdr

pytestmark = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))

NFNLGRP_CONNTRACK_NEW, NFNLGRP_NFTABLES = 1, 7
NFT_MSG_NEWTABLE, NFT_MSG_NEWRULE = 0, 6


@pytest.fixture
def namespace() -> Iterator[netlab.Namespace]:
    with netlab.Namespace() as made:
        yield made


def opened(namespace: netlab.Namespace, rcvbuf: int, limit: int) -> NetlinkSocket:
    """A socket that has joined the multicast group of nftables."""
    own = Namespace(namespace.name)
    try:
        return NetlinkSocket("nft", own, NETLINK_NETFILTER, groups=[NFNLGRP_NFTABLES],
                             rcvbuf=rcvbuf, rcvbuf_max=limit)  # fmt: skip
    finally:
        own.close()


def types(data: bytes | None) -> list[int]:
    """The nlmsg_types of the messages."""
    found, pos = [], 0
    while pos < len(data or b""):
        head = nlmsghdr(HOST_ORDER).parse((data or b"")[pos : pos + 16])
        found.append(head.nlmsg_type)
        pos += align(head.nlmsg_len)
    return found


def drain(socket: NetlinkSocket) -> list[int]:
    """The nlmsg_types of all messages that have arrived."""
    found: list[int] = []
    while (data := socket.receive()) is not None:
        found += types(data)
    return found


def nft_type(message: int) -> int:
    return NFNL_SUBSYS_NFTABLES << 8 | message


def test_a_multicast_group_gives_its_messages(namespace: netlab.Namespace) -> None:
    socket = opened(namespace, 1 << 20, 1 << 20)
    try:
        assert socket.receive() is None
        namespace.nft("add table inet a")
        assert drain(socket)[0] == nft_type(NFT_MSG_NEWTABLE)
        assert socket.overrun is None and socket.foreign == 0
    finally:
        socket.close()


def test_an_overrun_is_counted_and_lets_the_buffer_grow(
    namespace: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    socket = opened(namespace, 4608, 1 << 20)
    try:
        namespace.nft("add table inet a; add chain inet a c")
        drain(socket)
        for _ in range(60):  # a datagram each
            namespace.nft("add rule inet a c counter")
        rules = drain(socket).count(nft_type(NFT_MSG_NEWRULE))
        assert 0 < rules < 60
        assert socket.overrun is not None and socket.overrun.endswith(" lost")
        lost = int(socket.overrun.split(": ")[1].split()[0])
        assert rules + lost >= 60  # NEWGEN may be a datagram of its own
        assert socket.rcvbuf > 4608 and "overran" in caplog.text
        socket.overrun = None
        namespace.nft("add rule inet a c counter")
        assert drain(socket).count(nft_type(NFT_MSG_NEWRULE)) == 1
        assert socket.overrun is None
    finally:
        socket.close()


def test_a_request_is_acknowledged_and_data_before_the_answer_is_kept(
    namespace: netlab.Namespace,
) -> None:
    socket = opened(namespace, 1 << 20, 1 << 20)
    try:
        namespace.nft("add table inet a")
        head = {"nlmsg_len": 20, "nlmsg_type": 0x3F00}
        assert socket.request(nlmsghdr(HOST_ORDER).build(head) + bytes(4)) == errno.EINVAL
        assert drain(socket)[0] == nft_type(NFT_MSG_NEWTABLE)
    finally:
        socket.close()


def test_a_group_that_does_not_exist_is_an_error(namespace: netlab.Namespace) -> None:
    own = Namespace(namespace.name)
    try:
        with pytest.raises(BackendError, match="nft: cannot join multicast group 99 of netfilter"):
            NetlinkSocket("nft", own, NETLINK_NETFILTER, groups=[99])
    finally:
        own.close()


def test_names_of_interfaces_are_listed_anew_after_lost_messages(
    namespace: netlab.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    own = Namespace(namespace.name)
    links = Links(own)
    try:
        namespace.ip("link add v0 type veth peer name v1")
        links.watch()
        (index,) = (number for number, name in links.names.items() if name == "v0")
        changes = [f"link set v1 mtu {mtu}" for mtu in range(1000, 1200)]  # a message each
        namespace.ip(*changes, "link set v0 name last")
        links.watch()
        assert "names of interfaces: the receive buffer" in caplog.text
        assert links.names[index] == "last"
    finally:
        links.close()
        own.close()


class Ruleset(NetlinkSource):
    """All that a source needs whose messages the kernel multicasts."""

    layout = "nft"

    def __init__(self, netns: str) -> None:
        options = {option.name: option.default for option in OPTIONS} | {"netns": netns}
        super().__init__("nft:", options, groups=[NFNLGRP_NFTABLES])


def test_a_source_of_multicast_messages_is_a_small_class(namespace: netlab.Namespace) -> None:
    source = Ruleset(namespace.name)
    try:
        assert not source.wait(0)
        namespace.nft("add table inet a")
        assert source.wait(5)
        assert types(source.receive())[0] == nft_type(NFT_MSG_NEWTABLE)
        source.stop()
        assert source.receive() == b""
    finally:
        source.close()
