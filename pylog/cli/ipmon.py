"""Print IPFilter's logs as ipmon(8) does, with its options; also those of Linux.

Without -a, -f, -N, -S or -o, the packet log is read: /dev/ipl, /dev/ipf on Solaris. A FILE may be a
device, a dump, a capture, - for standard input, or a source of pylog such as nflog:5. Text goes to
standard output, or is appended to the file named last, which may exist, as it is with ipmon; times
are in the zone of TZ, or of --tz.

SIGHUP opens the files anew that are written, and reads the configuration again.
"""

from __future__ import annotations

import argparse

from pylog.cli._daemon import PID_FILE
from pylog.cli._outputs import add_action_argument

USAGE = "[options] [OUTPUT]"
EPILOG = """examples:
  pylog ipmon -f fw.dump                          a dump of /dev/ipl
  pylog ipmon -f fw.dump --tz Europe/Oslo
  pylog ipmon -f nflog:5 --action 'drop*=block'   live (as root)
  pylog ipmon -a ipmon.log                        all logs of this machine, to a file
"""
HELP = "print logs as IPFilter's ipmon does, with its options"
LETTERS = {"I": "ipf", "N": "nat", "S": "state"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog ipmon`."""
    add = parser.add_argument
    add("file", nargs="?", metavar="OUTPUT", help="append the text to that file")
    add("-?", action="help", help="show this help message and exit")
    add("-a", dest="all", action="store_true", help="read all three logs")
    add("-b", dest="body", action="store_true",
        help="dump the packet's body as hex, for rules with `log body`")  # fmt: skip
    add("-B", dest="copy", metavar="FILE", help="append each record's bytes to a file")
    add("-C", dest="conf", metavar="FILE", help="do what that ipmon.conf says")
    add("-D", dest="daemon", action="store_true",
        help="run in the background, with OUTPUT or -s")  # fmt: skip
    add("-f", "-I", dest="ipf", metavar="FILE", help="read the packet log from there")
    add("-F", dest="flush", action="store_true", help="flush the log buffers first")
    add("-L", dest="facility", metavar="FACILITY", default="local0",
        help="facility for syslog (default: local0)")  # fmt: skip
    add("-n", dest="names", action="store_true",
        help="show hosts and services by name, which asks the resolver")  # fmt: skip
    add("-N", dest="nat", metavar="FILE", help="read the NAT log from there")
    add("-o", dest="on", metavar="LETTERS", action="append", type=_letters, default=[],
        help="read these logs: N (NAT), S (state), I (packets)")  # fmt: skip
    add("-O", dest="off", metavar="LETTERS", action="append", type=_letters, default=[],
        help="do not read these logs")  # fmt: skip
    add("-p", dest="port_numbers", action="store_true", help="with -n, show ports as numbers")
    add("-P", dest="pid_file", metavar="FILE",
        help=f"write the process id there (default with -D: {PID_FILE})")  # fmt: skip
    add("-s", dest="syslog", action="store_true", help="send the text to syslog")
    add("-S", dest="state", metavar="FILE", help="read the state log from there")
    add("-t", dest="tail", action="store_true", help="wait for more at the end of a file")
    add("-v", dest="verbose", action="store_true", help="show TCP sequence numbers and windows")
    add("-x", dest="packet", action="store_true", help="dump the packet as hex")
    add("-X", dest="header", action="store_true", help="dump the record's head as hex")
    add("--layout", metavar="NAME", help="the layout of what is read, in place of detection")
    add("--compat", choices=("safe", "exact"), default="exact",
        help="safe: escape every character of names and tags that is not printable; exact: only"
        " line breaks, and all of them at a terminal and for syslog (default:"
        " %(default)s)")  # fmt: skip
    add("--ipmon-version", metavar="RELEASE",
        help="print as that release of ipmon, as 4.1.20 (default: that of the layout)")  # fmt: skip
    add("--netns", metavar="NAME", help="the network namespace of nflog:GROUP")
    add("--syslog-to", metavar="PLACE", default="",
        help="for -s and the configuration, another syslog: a socket's path, udp:HOST[:PORT] or"
        " tcp:HOST[:PORT] (RFC 5424)")  # fmt: skip
    add("--tz", metavar="NAME", default="local",
        help="time zone of the times, as Europe/Oslo or UTC (default: that of TZ)")  # fmt: skip
    add("--where", metavar="EXPR",
        help="only records for which this holds; `pylog help filter` explains it")  # fmt: skip
    add_action_argument(parser)


def _letters(text: str) -> set[str]:
    unknown = set(text) - set(LETTERS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no log {sorted(unknown)[0]!r}; there are N, S and I")
    return {LETTERS[letter] for letter in text}


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog ipmon`."""
    from pylog.cli import _ipmon  # only here: --help would take twice as long

    return _ipmon.run(arguments)
