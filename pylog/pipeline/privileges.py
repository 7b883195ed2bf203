"""Gives up privileges on Linux: a pipeline keeps CAP_NET_ADMIN to open sources at a reload, and the
processes of its stacks keep none.

The calls of libc are made with ctypes: capset(2) and prctl(2) are stable, and the packages that
have them (python-prctl, pyprctl) need a compiler or are no longer kept. Capabilities belong to
threads, so they are given up before there is a second one. What is given up first is what programs
that are started would get, so that no process of a stack has a privilege even for a moment, unless
it belongs to root.

Sources: capabilities(7), include/uapi/linux/capability.h, include/uapi/linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pylog.notes import notes

CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
IN_OTHER_NAMESPACES = (CAP_SYS_PTRACE, CAP_SYS_ADMIN)
"""What setns(2) needs, and what finding the namespace of a process does."""
NAMESPACE_OPTIONS = ("netns", "all_netns")
"""Options of sources that read in other network namespaces."""

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
MOST = 64
"""Numbers of capabilities are below this."""


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct; pid 0 is the calling thread."""

    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    """struct __user_cap_data_struct: 32 capabilities; there are two of them."""

    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def needed(options: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    """The capabilities that sources with these options need."""
    elsewhere = any(own.get(name) for own in options for name in NAMESPACE_OPTIONS)
    return (CAP_NET_ADMIN, *(IN_OTHER_NAMESPACES if elsewhere else ()))


def keep(capabilities: Iterable[int]) -> None:
    """Keep of the capabilities of this thread only these; programs that it starts get none.

    What cannot be given up is noted; elsewhere than on Linux there is nothing to give up.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    kept = sum(1 << number for number in capabilities)
    try:
        _call(libc.prctl, "give up new privileges", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call(
            libc.prctl, "clear the ambient set", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0
        )
        for number in range(MOST):
            if not kept >> number & 1 and libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                # EPERM without CAP_SETPCAP, which a service does not have
                libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        _limit(libc, kept)
    except OSError as error:
        notes.warning("privileges are not given up: %s: %s", error.filename, error.strerror)


def _limit(libc: Any, kept: int) -> None:
    """Have the permitted and effective set within `kept`, and no inheritable one."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    _call(libc.capget, "read capabilities", ctypes.byref(header), ctypes.byref(data))
    for half, part in enumerate(data):
        mask = kept >> 32 * half & 0xFFFFFFFF
        part.permitted &= mask
        part.effective &= mask
        part.inheritable = 0
    _call(libc.capset, "limit capabilities", ctypes.byref(header), ctypes.byref(data))


def _call(function: Any, what: str, *arguments: Any) -> None:
    if function(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
