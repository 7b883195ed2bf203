"""`pylog ulogd --to-toml`: the configuration of `pylog run` that stands for a ulogd.conf.

ulogd's forms of text are the output `ulogd` there, which writes the same bytes to the same files
and sockets. Where pylog has no such output, the nearest one of its own is named, with a comment
that says what is different.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pylog.record import escape
from pylog.ulogd.build import Stack
from pylog.ulogd.check import Checked
from pylog.ulogd.form import FORMS
from pylog.ulogd.inputs import PROTOCOLS, buffer, networks, words
from pylog.ulogd.plugins import SINK, SOURCE
from pylog.ulogd.worker import Instance

_FORM_OF = {plugin: form for form, plugin in FORMS.items()}
OTHERS = {
    "PCAP": ("pcapng", "", "pcapng, with everything that the kernel said, in place of pcap"),
    "SQLITE3": ("sqlite", "", "tables of pylog in place of the given one"),
    "MYSQL": ("mysql", "mysql://", "tables of pylog in place of the given one"),
    "PGSQL": ("postgresql", "postgresql://", "tables of pylog in place of the given one"),
    "IPFIX": ("ipfix", "", "templates of pylog, with IPv6"),
}  # fmt: skip
"""The outputs of pylog that are nearest to plugins: name, target, what is different."""


def converted(checked: Checked, exact: bool) -> Iterator[str]:
    """The lines of the configuration."""
    yield f"# made from {_safe(checked.conffile.path)} by `pylog ulogd --to-toml`"
    for line, text, why in checked.failures:
        yield f"# left out, as it cannot run: line {line}: {_safe(text)}: {_safe(why)}"
    sources: dict[str, Instance] = {}
    for stack in checked.stacks:
        for element in stack.elements:
            if element.instance.plugin.place == SOURCE:
                sources.setdefault(element.instance.id, element.instance)
    for instance in sources.values():
        yield ""
        yield from _source(instance)
    names: set[str] = set()
    for stack in checked.stacks:
        yield ""
        yield from _stack(stack, names, exact)


def _safe(text: str) -> str:
    """A text for a comment, in which control characters may not stand."""
    return _unicode(escape(text.replace("\n", " ")))


def _unicode(text: str) -> str:
    """A text that is Unicode; bytes that are not UTF-8 as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _value(value: Any) -> str:
    if isinstance(value, str):
        # DEL may not stand in a string of TOML, either
        return json.dumps(_unicode(value)).replace("\x7f", "\\u007f")
    return json.dumps([_unicode(v) for v in value] if isinstance(value, list) else value)


def _pair(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}"


def _table(name: str) -> str:
    is_bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if is_bare else _value(name)


def _source(instance: Instance) -> Iterator[str]:
    options, kind = instance.options, instance.plugin.name
    if kind not in ("NFLOG", "NFCT"):
        yield f"# {_safe(instance.id)}: pylog run has no source like {kind}"
        return
    yield f"[sources.{_table(instance.id)}]"
    if kind == "NFLOG":
        yield _pair("from", f"nflog:{options['group'] & 0xFFFF}")
        if options["netlink_qthreshold"]:
            yield _pair("qthresh", options["netlink_qthreshold"])
        if options["netlink_qtimeout"]:
            yield _pair("timeout_s", options["netlink_qtimeout"] / 100)
        for name in ("seq_global", "attach_conntrack"):
            if options[name]:
                yield _pair(name.replace("attach_", ""), True)
        if options["group"] & 0xFFFF == 0:
            yield _pair("pf_bind", "ipv4,ipv6,bridge")
        yield from _socket(options)
    else:
        yield _pair("from", "nfct:")
        events = ["new"] if options["hash_enable"] or options["event_mask"] & 1 else []
        events += ["destroy"] if options["hash_enable"] or options["event_mask"] & 4 else []
        yield _pair("events", ",".join(events or ["destroy"]))
        yield _pair("snapshot", bool(options["hash_enable"] or options["pollinterval"]))
        if options["pollinterval"]:
            yield _pair("poll_s", float(options["pollinterval"]))
        if options["reliable"]:
            yield _pair("reliable", True)
        yield from _socket(options)


def _stack(stack: Stack, names: set[str], exact: bool) -> Iterator[str]:
    yield f"# line {stack.line}: {_safe(stack.text)}"
    sink = stack.elements[-1].instance
    filters = [e.instance for e in stack.elements if e.instance.plugin.place not in (SOURCE, SINK)]
    source = next(e.instance for e in stack.elements if e.instance.plugin.place == SOURCE)
    kind = sink.plugin.name
    if source.plugin.name not in ("NFLOG", "NFCT") or (kind not in _FORM_OF and kind not in OTHERS):
        yield f"# left out: pylog run has nothing like {source.plugin.name} and {kind}"
        return
    name, number = sink.id, 2
    while name in names:
        name, number = f"{sink.id}-{number}", number + 1
    names.add(name)
    yield "[[stacks]]"
    yield _pair("name", name)
    yield _pair("from", [source.id])
    marks = [f.options for f in filters if f.plugin.name == "MARK"]
    parts = [_marked(options["mark"], options["mask"]) for options in marks]
    if source.plugin.name == "NFCT":
        parts += _of_flows(source.options)
    if parts:
        yield _pair("where", " and ".join(f"({part})" for part in parts))
    if kind in _FORM_OF:
        yield from _form(sink, source, filters, exact)
    else:
        yield from _other(sink)


def _socket(options: dict[str, Any]) -> Iterator[str]:
    """The namespace and the buffer of a source."""
    if options["network_namespace_path"]:
        yield _pair("netns", options["network_namespace_path"])
    for name, size in buffer(options).items():
        yield _pair(name, size)


def _of_flows(options: dict[str, Any]) -> Iterator[str]:
    """The filters of NFCT, whose networks of one family say nothing of flows of the other."""
    for name, field in (("accept_src_filter", "saddr"), ("accept_dst_filter", "daddr")):
        given = networks(options[name], name)
        for version in (4, 6):
            own = ", ".join(str(n) for n in given if n.version == version)
            if own:
                yield f"family != ipv{version} or {field} in {{{own}}}"
    numbers = [str(PROTOCOLS[word.lower()]) for word in words(options["accept_proto_filter"])]
    if numbers:
        yield f"protocol in {{{', '.join(numbers)}}}"


def _marked(value: int, mask: int) -> str:
    """The filter of MARK; ulogd takes a packet without a mark for one with mark 0."""
    field = "mark" if mask == 0xFFFFFFFF else f"mark & {mask:#x}"
    return f"{field} == {value}" if value else f"not ({field} != 0)"


def _form(sink: Instance, source: Instance, filters: list[Instance], exact: bool) -> Iterator[str]:
    options, kind = sink.options, sink.plugin.name
    yield _pair("to", "ulogd")
    yield _pair("form", _FORM_OF[kind])
    yield _pair("target", _target(kind, options))
    words = [f.plugin.name for f in filters if f.plugin.name != "MARK"]
    is_flows = source.plugin.name == "NFCT"
    yield _pair("flow_filters" if is_flows else "filters", ",".join(words))
    if is_flows and source.options["hash_enable"]:
        yield _pair("flow_starts", min(max(source.options["hash_max_entries"], 1), 1 << 24))
    elif not is_flows:
        if source.options["seq_local"] or source.options["seq_global"]:
            yield _pair("numbers", True)
        if source.options["numeric_label"]:
            yield _pair("raw_label", source.options["numeric_label"] & 0xFF)
    if exact:
        yield _pair("compat", "exact")
    if kind == "JSON":
        for name in ("eventv1", "boolean_label"):
            if options[name]:
                yield _pair(name, True)
        if options["device"] != "Netfilter":
            yield _pair("device", options["device"])
    if kind == "SYSLOG":
        yield _pair("log_facility", options["facility"])
        yield _pair("log_level", options["level"])
    if kind in ("JSON", "GPRINT") and bool(options["timestamp"]) != (kind == "JSON"):
        yield _pair("stamp", "on" if options["timestamp"] else "off")


def _target(kind: str, options: dict[str, Any]) -> str:
    """The file or the address that a form is written to."""
    if kind == "SYSLOG":
        return "unix:/dev/log"
    if kind == "XML" and not options["stdout"]:
        return f"{options['directory'].rstrip('/')}/ulogd.xml"
    mode = options["mode"].lower() if kind == "JSON" else "file"
    if mode in ("tcp", "udp"):
        host = options["host"]
        return f"{mode}://{f'[{host}]' if ':' in host else host}:{options['port']}"
    file: str = options.get("file", "-")
    return f"unix:{file}" if mode == "unix" else file


def _other(sink: Instance) -> Iterator[str]:
    name, target, why = OTHERS[sink.plugin.name]
    options = sink.options
    yield f"# {why}"
    yield _pair("to", name)
    if sink.plugin.name == "IPFIX":
        target = f"{options['proto']}://{options['host']}:{options['port']}"
        yield _pair("domain", options["oid"])
    elif sink.plugin.name in ("MYSQL", "PGSQL"):
        port = f":{options['port']}" if options["port"] else ""
        target += f"{options['user']}@{options['host']}{port}/{options['db']}"
        yield '# its password: password = { file = "..." }'
    yield _pair("target", target or options.get("file") or options.get("db"))
