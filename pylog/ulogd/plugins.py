"""The table of ulogd's plugins: what each takes and gives, and its options with their defaults.

The table is data; what a plugin does is in the class that `work` names, which is imported when a
stack needs it. Source: `ulogd -i PLUGIN.so` of 2.0.8, which lists keys and options.
"""

from __future__ import annotations

from typing import NamedTuple

from pylog.ulogd import keys
from pylog.ulogd.conffile import Option
from pylog.ulogd.keys import Key

SOURCE, FILTER, SINK = "source", "filter", "sink"
ANY = "*"
"""In `needs`: every key of every earlier plugin."""


class Plugin(NamedTuple):
    """A plugin.

    takes    the kinds of data it accepts: raw, packet, flow, sum
    gives    the kinds of data it passes on
    needs    the keys it wants from the plugins before it, a mark "?" behind those it can do
             without; ANY: all
    keys     the keys it gives
    options  of its section
    strict   whether an error in its section ends the stack
    work     module and class below pylog.ulogd, "" if the plugin is refused
    refused  why and the way out
    """

    name: str
    place: str
    takes: frozenset[str]
    gives: frozenset[str]
    needs: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    options: tuple[Option, ...] = ()
    strict: bool = True
    work: str = ""
    refused: str = ""


def _kinds(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _number(name: str, default: int, help: str) -> Option:
    return Option(name, "number", default, help=help)


def _text(name: str, default: str, help: str, mandatory: bool = False) -> Option:
    return Option(name, "text", default, mandatory, help)


def _file(default: str) -> tuple[Option, ...]:
    return (
        _text("file", default, "the file to append to"),
        _number("sync", 0, "1: flush after each record"),
    )


_BUFFER = (
    _number("netlink_socket_buffer_size", 0, "bytes of the socket's buffer; used only if it is less"
            " than the maximum"),
    _number("netlink_socket_buffer_maxsize", 0, "bytes to which the buffer grows after losses"),
)  # fmt: skip
_ADDRESSES = ("oob.family", "oob.protocol", *(f"{name}?" for name in keys.ENDS))
_DATABASE = (
    _text("table", "", "the table or view; its columns are the keys, `_` for `.`", True),
    _number("reconnect", 2, "seconds until the next attempt to connect; 0: none"),
    _number("connect_timeout", 0, "seconds that connecting may take; 0: no limit"),
    _text("procedure", "", "INSERT, INSERT INTO table, CALL procedure, or a function", True),
    _number("backlog_memcap", 0, "bytes of statements kept while the database is away"),
    _number("backlog_oneshot_requests", 10, "how many of those are sent at once"),
    _number("ring_buffer_size", 0, "records kept for a thread of their own"),
)
_PRINTED = (
    "oob.family", "oob.prefix", "oob.in", "oob.out", "oob.uid?", "oob.gid?", "oob.mark", "raw.mac",
    "raw.mac_len", "ip.saddr.str", "ip.daddr.str", "ip.totlen", "ip.tos", "ip.ttl", "ip.id",
    "ip.fragoff", "ip.protocol", "ip6.payloadlen", "ip6.priority", "ip6.hoplimit",
    "ip6.flowlabel", "ip6.nexthdr", "ip6.fragoff", "ip6.fragid", "tcp.sport", "tcp.dport",
    "tcp.seq", "tcp.ackseq", "tcp.window", "tcp.syn", "tcp.ack", "tcp.psh", "tcp.rst", "tcp.fin",
    "tcp.urg", "tcp.urgp", "udp.sport", "udp.dport", "udp.len", "icmp.type", "icmp.code",
    "icmp.echoid", "icmp.echoseq", "icmp.gateway", "icmp.fragmtu", "icmpv6.type", "icmpv6.code",
    "icmpv6.echoid", "icmpv6.echoseq", "ahesp.spi", "oob.protocol", "arp.hwtype",
    "arp.protocoltype", "arp.operation", "arp.shwaddr", "arp.saddr.str", "arp.dhwaddr",
    "arp.daddr.str", "sctp.sport", "sctp.dport",
)  # fmt: skip
_TUPLES = tuple(
    f"{end}.{name}"
    for end in ("orig", "reply")
    for name in ("ip.saddr.str", "ip.daddr.str", "ip.protocol", "l4.sport", "l4.dport",
                 "raw.pktlen", "raw.pktcount")
)  # fmt: skip

_ROWS = (
    Plugin(
        "NFLOG", SOURCE, _kinds(""), _kinds("raw"), keys=keys.PACKET, strict=False,
        work="inputs:Nflog", options=(
            _number("bufsize", 150000, "bytes of the buffer that a message is received into"),
            _number("group", 0, "the group, 0 to 65535"),
            _number("unbind", 1, "1: take the kernel's loggers from their holder"),
            _number("bind", 0, "1: become the kernel's logger of IPv4, IPv6 and bridges, as with"
                    " group 0"),
            _number("seq_local", 0, "1: number the packets of the group"),
            _number("seq_global", 0, "1: number the packets of all groups"),
            _number("numeric_label", 0, "the number that becomes raw.label"),
            *_BUFFER,
            _number("netlink_qthreshold", 0, "packets that the kernel gathers; 0: its 100"),
            _number("netlink_qtimeout", 0, "1/100 s that it gathers them; 0: its 1 s"),
            _number("attach_conntrack", 0, "1: add the conntrack entry"),
            _text("network_namespace_path", "", "the namespace to listen in (ulogd 2.0.10)"),
        ),
    ),
    Plugin(
        "NFCT", SOURCE, _kinds(""), _kinds("flow"), keys=keys.FLOW, work="inputs:Nfct", options=(
            _number("pollinterval", 0, "seconds between listings; 0: events"),
            _number("hash_enable", 1, "1: one record per flow, at its end"),
            _number("hash_buckets", 8192, "size of that table"),
            _number("hash_max_entries", 32768, "flows that it holds at most"),
            _number("event_mask", 5, "1 new, 2 update, 4 destroy"),
            *_BUFFER,
            _number("netlink_resync_timeout", 60, "seconds after a loss until a listing"),
            _number("reliable", 0, "1: the kernel sends again what was not received"),
            _text("accept_src_filter", "", "networks of sources"),
            _text("accept_dst_filter", "", "networks of destinations"),
            _text("accept_proto_filter", "", "tcp, udp, ..."),
            _text("network_namespace_path", "", "the namespace to listen in (ulogd 2.0.10)"),
        ),
    ),
    Plugin(
        "NFACCT", SOURCE, _kinds(""), _kinds("sum"), keys=keys.COUNTER, work="inputs:Nfacct",
        options=(
            _number("pollinterval", 0, "seconds between readings; must be given"),
            _number("zerocounter", 1, "1: set counters to zero at each reading"),
            _number("timestamp", 0, "1: note the time of each reading"),
            _text("network_namespace_path", "", "the namespace to listen in (ulogd 2.0.10)"),
        ),
    ),
    Plugin(
        "UNIXSOCK", SOURCE, _kinds(""), _kinds("raw"), keys=keys.SOCKET, work="inputs:Unixsock",
        options=(
            _text("socket_path", "/var/run/ulogd/ulogd2.sock", "where clients connect"),
            _number("bufsize", 0, "bytes of the socket's buffer"),
            _number("perms", 0o600, "the socket's permissions"),
            _text("owner", "", "its owner"),
            _text("group", "", "its group"),
        ),
    ),
    Plugin(
        "ULOG", SOURCE, _kinds(""), _kinds("raw"), keys=tuple(
            key._replace(name=key.name.replace("ifindex_", "")) for key in keys.PACKET[:15]
        ), options=(
            _number("bufsize", 150000, ""), _number("nlgroup", 32, ""),
            _number("rmem", 131071, ""), _number("numeric_label", 0, ""),
        ),
        refused="Linux has had no ULOG since 3.17; use NFLOG, and `log group N` or -j NFLOG in the"
        " rules",
    ),
    Plugin(
        "BASE", FILTER, _kinds("raw"), _kinds("packet"),
        ("raw.pkt", "raw.pktlen", "oob.family", "oob.protocol"), keys.HEADERS, work="base:Base",
    ),
    Plugin(
        "IFINDEX", FILTER, _kinds("packet"), _kinds("packet"),
        ("oob.ifindex_in", "oob.ifindex_out"), keys.NAMES, work="filters:Ifindex",
    ),
    Plugin(
        "IP2STR", FILTER, _kinds("packet flow"), _kinds("packet flow"),
        (*_ADDRESSES, "arp.saddr?", "arp.daddr?"), keys.ADDRESS_TEXTS, work="filters:Ip2str",
    ),
    Plugin(
        "IP2BIN", FILTER, _kinds("packet flow"), _kinds("packet flow"), _ADDRESSES,
        keys.ADDRESS_LITERALS, work="filters:Ip2bin",
    ),
    Plugin(
        "IP2HBIN", FILTER, _kinds("packet flow"), _kinds("packet flow"), _ADDRESSES,
        keys.ADDRESS_NUMBERS, work="filters:Ip2hbin",
    ),
    Plugin(
        "HWHDR", FILTER, _kinds("packet raw"), _kinds("packet"),
        ("raw.type?", "oob.protocol", "raw.mac?", "raw.mac_len?", "raw.mac.saddr?",
         "raw.mac.addrlen?"), keys.LINK, work="filters:Hwhdr",
    ),
    Plugin(
        "MARK", FILTER, _kinds("packet flow"), _kinds("packet flow"), ("ct.mark?", "oob.mark?"),
        options=(
            _number("mark", 0, "the mark that passes"),
            _number("mask", 0xFFFFFFFF, "the bits that are compared"),
        ), strict=False, work="filters:Mark",
    ),
    Plugin(
        "PRINTPKT", FILTER, _kinds("packet"), _kinds("packet"), _PRINTED, keys.PRINT,
        work="printpkt:Printpkt",
    ),
    Plugin(
        "PRINTFLOW", FILTER, _kinds("flow"), _kinds("flow"),
        (*_TUPLES, "icmp.code", "icmp.type", "ct.event"), keys.PRINT, work="printflow:Printflow",
    ),
    Plugin(
        "PWSNIFF", FILTER, _kinds("packet raw"), _kinds("packet"), ("raw.pkt",), keys.PASSWORDS,
        refused="it never passed a record; leave it out of the stack",
    ),
    Plugin(
        "LOGEMU", SINK, _kinds("packet flow"), _kinds(""), ("print", "oob.time.sec?"),
        options=_file("/var/log/ulogd_syslogemu.log"), work="text:Logemu",
    ),
    Plugin(
        "SYSLOG", SINK, _kinds("packet flow"), _kinds(""), ("print",), options=(
            _text("facility", "LOG_KERN", "LOG_DAEMON, LOG_USER, LOG_LOCAL0 ..."),
            _text("level", "LOG_NOTICE", "LOG_EMERG ... LOG_DEBUG"),
        ), strict=False, work="syslog:Syslog",
    ),
    Plugin(
        "OPRINT", SINK, _kinds("packet flow"), _kinds(""), (ANY,),
        options=_file("/var/log/ulogd_oprint.log"), work="text:Oprint",
    ),
    Plugin(
        "GPRINT", SINK, _kinds("raw packet flow sum"), _kinds(""), (ANY,), options=(
            *_file("/var/log/ulogd_gprint.log"),
            _number("timestamp", 0, "1: begin with the local time"),
        ), work="text:Gprint",
    ),
    Plugin(
        "XML", SINK, _kinds("raw packet flow sum"), _kinds(""), ("ct?", "raw?", "sum?"), options=(
            _text("directory", "/var/log/", "the folder of the file, which is named by the time"),
            _number("sync", 0, "1: flush after each record"),
            _number("stdout", 0, "1: write to standard output"),
        ), work="xml:Xml",
    ),
    Plugin(
        "JSON", SINK, _kinds("raw packet flow sum"), _kinds(""), (ANY,), options=(
            *_file("/var/log/ulogd.json"),
            _number("timestamp", 1, "0: leave out the time"),
            _number("eventv1", 0, "1: @timestamp and @version, as Logstash wants them"),
            _text("device", "Netfilter", "the value of `dvc`"),
            _number("boolean_label", 0, "1: raw.label becomes `action`"),
            _text("mode", "file", "file, tcp, udp or unix"),
            _text("host", "127.0.0.1", "of tcp and udp"),
            _text("port", "12345", "of tcp and udp"),
        ), work="json:Json",
    ),
    Plugin(
        "PCAP", SINK, _kinds("packet"), _kinds(""),
        ("raw.pkt", "raw.pktlen", "ip.totlen", "oob.time.sec", "oob.time.usec", "oob.family",
         "ip6.payloadlen"), options=_file("/var/log/ulogd.pcap"), work="pcap:Pcap",
    ),
    Plugin(
        "NACCT", SINK, _kinds("flow"), _kinds(""),
        ("orig.ip.saddr.str", "orig.ip.daddr.str", "orig.ip.protocol", "orig.l4.sport",
         "orig.l4.dport", "reply.raw.pktlen", "reply.raw.pktcount", "icmp.code", "icmp.type",
         "flow.start.sec", "flow.end.sec"), options=_file("/var/log/ulogd_nacct.log"),
        work="text:Nacct",
    ),
    Plugin(
        "GRAPHITE", SINK, _kinds("sum"), _kinds(""),
        ("sum.name", "sum.pkts", "sum.bytes", "oob.time.sec"), options=(
            _text("host", "", "of Carbon"), _text("port", "", "its TCP port"),
            _text("prefix", "", "of every name"),
        ), work="graphite:Graphite",
    ),
    Plugin(
        "IPFIX", SINK, _kinds("flow"), _kinds(""),
        ("orig.ip.saddr", "orig.ip.daddr", "orig.raw.pktcount", "orig.raw.pktlen",
         "reply.raw.pktcount", "reply.raw.pktlen", "flow.start.sec", "flow.start.usec",
         "flow.end.sec", "flow.end.usec", "orig.l4.sport", "orig.l4.dport", "orig.ip.protocol",
         "ct.mark"), options=(
            _number("oid", 0, "the observation domain, not 0"),
            _text("host", "", "the collector's IPv4 address"),
            _number("port", 4739, "its port"),
            _text("proto", "tcp", "tcp or udp"),
            _number("mtu", 512, "bytes of a message at most"),
            _text("send_template", "once", "once, always or never"),
        ), work="ipfix:Ipfix",
    ),
    Plugin(
        "SQLITE3", SINK, _kinds("packet flow"), _kinds(""), (ANY,), options=(
            _text("db", "", "the database file", True), _text("table", "", "the table", True),
        ), strict=False, work="sqlite:Sqlite3",
    ),
    Plugin(
        "MYSQL", SINK, _kinds("raw packet flow sum"), _kinds(""), (ANY,), options=(
            *_DATABASE, _text("db", "", "the database", True), _text("host", "", "its host", True),
            _text("user", "", "the user", True), _text("pass", "", "the password", True),
            _number("port", 0, "the port; 0: 3306"),
        ), work="mysql:Mysql",
    ),
    Plugin(
        "PGSQL", SINK, _kinds("raw packet flow sum"), _kinds(""), (ANY,), options=(
            *_DATABASE, _text("db", "", "the database", True),
            _text("host", "", "its host, or the folder of its socket"),
            _text("user", "", "the user", True), _text("pass", "", "the password"),
            _number("port", 0, "the port; 0: 5432"),
            _text("schema", "public", "the schema of the table"),
            _text("connstring", "", "in place of db, host, user, pass and port"),
        ), work="pgsql:Pgsql",
    ),
    Plugin(
        "DBI", SINK, _kinds("raw packet flow sum"), _kinds(""), (ANY,),
        refused="use PGSQL, MYSQL or SQLITE3",
    ),
)  # fmt: skip
PLUGINS = {plugin.name: plugin for plugin in _ROWS}
"""All plugins by name."""
