"""Read logs and write their records in one of many forms: text, JSON lines, CSV, Parquet, pcapng...

A SOURCE is a file or - for standard input: IPFilter records (ipmon -B, dd of /dev/ipl), netlink
messages of NFLOG, nftables and conntrack, pcap or pcapng with link type NFLOG, NETLINK, IPFILTER,
PFLOG or RAW, and text logs of the kernel's LOG, ipmon, ipfw, filterlog, LOGEMU and tcpdump; each
also compressed with gzip, xz, bzip2 or zstd. A directory stands for all files below it, sorted; a
glob in quotes and an fsspec URL (s3://...) are understood, too. Or a SOURCE is live:
nflog:GROUP[,GROUP...], nftables:[+trace][+nflog:GROUP] and nfct: on Linux, ipl:[DEVICE,...] on BSD,
Solaris and illumos. Files are read one after the other. With --merge, and with any live source,
records of all sources come in the order of time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pylog import backends, outputs
from pylog.cli import say
from pylog.cli._copy import Copy
from pylog.cli._engine import by_engine, in_columns
from pylog.cli._flows import add_flows_arguments, as_flows, flows_of, prepare_flows
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._joins import add_join_arguments, prepare, with_joins
from pylog.cli._live import load
from pylog.cli._outputs import add_output_arguments, changes, needs_raw, read_options
from pylog.cli._sources import (
    TEXT_LOGS,
    AnyLog,
    Stopping,
    add_live_arguments,
    add_origin_arguments,
    add_source_arguments,
    given_options,
    labels,
    opened,
)
from pylog.cli._where import add_where_arguments

HELP = "write the records of logs as text, JSON, CSV, Parquet, pcapng, ipmon's text..."
USAGE = "[options] SOURCE ..."
EPILOG = """In a line of text the second word is what became of the packet. It is - in logs of
Linux, because NFLOG does not say: the rule's prefix, in quotes, does. --action turns a prefix
into a verdict.

examples:
  pylog read fw.dump                             records as text
  pylog read --to json -n 10 nflog.pcap          the first ten, as JSON lines
  pylog read --to csv --exclude payload,extra fw.dump
  pylog read --columns timestamp,saddr,dport --tz Europe/Oslo nflog.pcap
  pylog read --action 'drop*=block' --action '*=pass' nflog.pcap
  pylog read --color always fw.dump | less -R
  pylog read --flows fw.dump                     a record for each flow, not for its events
  pylog read --where 'action == block and dport in {22, 8000..8100}' fw.dump
  pylog read --log-tz local syslog.log           lines of the kernel's LOG and others
  pylog read nflog:5                             live, until Ctrl-C (as root)
  pylog read --flows -w flows.jsonl nfct:        the flows of conntrack, live
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog read`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE",
        help="a file, directory, glob or URL, - (standard input), nflog:GROUP[,GROUP...],"
        " nftables:[+trace][+nflog:GROUP], nfct: or ipl:[DEVICE,...]",
    )  # fmt: skip
    add_input_arguments(parser)
    add_output_arguments(parser)
    parser.add_argument(
        "--merge", action="store_true", help="read files in the order of time, not one by one"
    )
    add_where_arguments(parser)
    add_join_arguments(parser)
    add_flows_arguments(parser)
    add_origin_arguments(parser)
    add_source_arguments(parser)
    add_live_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog read`."""
    prepare_flows(arguments, outputs.form(arguments.write, arguments.to).name)
    options = read_options(arguments)  # bad ones are reported before anything is read
    expand(arguments)
    sources: list[str] = arguments.source
    labels(arguments)
    prepare(arguments, options)
    live = any(backends.is_live(source) for source in sources)
    together = arguments.merge or live or bool(arguments.follow)
    flows = flows_of(arguments, together)
    if live and arguments.count is None and not changes(arguments):
        load(arguments.to, options)
    with Stopping() as stopping, Copy(arguments, options, stopping) as copy:
        groups = [sources] if together else [[source] for source in sources]
        for group in groups:
            if copy.left == 0 or stopping.status:
                break
            with _opened(arguments, group, together, options) as records:
                joined = with_joins(arguments, records)
                copy.all(as_flows(joined, flows, group is groups[-1]))
        if arguments.verbose:
            say(copy.summary())
    return copy.exit_status


def _opened(
    arguments: argparse.Namespace,
    sources: Sequence[str],
    together: bool,
    options: Mapping[str, Any],
) -> AnyLog:
    """A reader of the sources.

    It reads in bulk if that is faster for the output, and all records of one file are wanted
    without a change.
    """
    single = (
        arguments.count is None
        and not (together or given_options(arguments).keys() - {*TEXT_LOGS} or changes(arguments))
        and not (arguments.rules or arguments.with_flows or arguments.flows)
    )
    if single and outputs.description(arguments.to).columns:
        return in_columns(arguments, sources[0])
    records = opened(arguments, sources, needs_raw(arguments))
    if arguments.raw:
        for reader in records.readers():
            reader.pass_messages()
    single = single and arguments.target is None
    return by_engine(arguments, records, sources[0], arguments.to, options, single)
