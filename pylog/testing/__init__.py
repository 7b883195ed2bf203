"""Doubles for tests of programs that read firewall logs, on machines without such a firewall.

`Device` is a log device of IPFilter, `Nflog` the NFLOG of a Linux kernel. A test logs records, and
the program reads them with a Reader, as it reads ipl:/dev/ipl or nflog:5. `packet` makes records
with sensible defaults. For pytest there are fixtures, see pylog.testing.plugin.

    from pylog.testing import Nflog, packet

    with Nflog() as nflog, nflog.open("5") as reader:
        nflog.log(packet(saddr="192.0.2.7", dport=22))
        print(reader.read(timeout=5))
"""

from pylog.testing.device import Device
from pylog.testing.factory import packet
from pylog.testing.nflog import Nflog

__all__ = ["Device", "Nflog", "packet"]
