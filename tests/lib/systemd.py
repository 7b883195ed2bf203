"""A systemd that runs nothing but the units of a test: the first process of namespaces of its own.

It has its own processes, mounts, control groups and network, and empty /run, /var/lib, /var/log and
/srv. The rest of the files is that of this machine. When the context ends, all its processes do.
"""

from __future__ import annotations

import os
import signal
import subprocess
from functools import cache
from pathlib import Path

import netlab

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = ("sysinit.target", "basic.target", "shutdown.target")
"""What every unit refers to."""
EMPTY = ("/run", "/var/lib", "/var/log", "/srv")
BOOT = f"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
for folder in {" ".join(EMPTY)}; do mount -t tmpfs -o mode=755 tmpfs $folder; done
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /run/units /run/lock
for unit in {" ".join(UNITS)}; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /run/units/$unit
done
ip link set lo up
export container=other SYSTEMD_UNIT_PATH=/run/units
exec {SYSTEMD} --system --unit=basic.target --log-target=console --show-status=no
"""


@cache
def missing() -> str:
    """Why there can be no such systemd here, "" if there can."""
    reason = netlab.missing("unshare", "nsenter", "systemctl", "nft")
    if reason or not SYSTEMD.exists():
        return reason or "needs systemd"
    try:
        with Machine() as machine:
            return "" if machine.systemctl("is-system-running").stdout else "systemd does not run"
    except AssertionError as error:
        return f"systemd does not begin: {error}"


class Machine:
    """A machine with a systemd.

    root   its files
    """

    def __enter__(self) -> Machine:
        self._process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net", "--fork",
             "--kill-child", "bash", "-c", BOOT],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            netlab.until(self._child, "namespaces", 10)
            self.root = Path(f"/proc/{self.pid}/root")
            netlab.until(lambda: (self.root / "run/systemd/private").exists(), "systemd", 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _child(self) -> int:
        """The process outside of which all this is; 0 before there is one."""
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        self.pid = int(children[0]) if children else 0
        return self.pid

    def __exit__(self, *_: object) -> None:
        if getattr(self, "pid", 0):
            os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(30)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine."""
        return subprocess.run(["nsenter", "-t", str(self.pid), "-a", *command],
                              capture_output=True, text=True, timeout=180)  # fmt: skip

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl on the machine."""
        return self.run("systemctl", *arguments)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.systemctl("show", unit, *(f"--property={name}" for name in names)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def install(self, name: str, text: str, more: str = "") -> None:
        """Install a unit, and what a test adds to it."""
        units = self.root / "run/units"
        (units / name).write_text(text)
        if more:
            (units / f"{name}.d").mkdir(exist_ok=True)
            (units / f"{name}.d/test.conf").write_text(more)
        assert self.systemctl("daemon-reload").returncode == 0
