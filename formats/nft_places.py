"""Where base chains stand, by hook and devices, as bits: which of them lead to a chain is a number.

A table can have thousands of base chains, one for each device, that all jump into thousands of
chains. As bits, all that lead to a chain fit into a few hundred bytes, and are joined at once.
"""

from __future__ import annotations

from typing import Any

from pylog.record import PacketRecord
from pylog.record.ruleset import RulesetRecord


class Places:
    """The bits of the places that were asked for."""

    __slots__ = ("_all", "_bits", "_of_device", "_of_hook")

    def __init__(self) -> None:
        self._bits: dict[tuple[Any, ...], int] = {}
        self._all: dict[Any, int] = {}
        """By hook, its bits."""
        self._of_hook: dict[Any, int] = {}
        """By hook, the bits of places without devices."""
        self._of_device: dict[tuple[Any, str], int] = {}

    def __len__(self) -> int:
        return len(self._bits)

    def bit(self, base: RulesetRecord) -> int:
        """The bit of a base chain; those with the same hook and devices have the same."""
        hook, devices = base.hook, base.devices or ()
        bit = self._bits.get((hook, *devices))
        if bit is None:
            bit = self._bits[hook, *devices] = 1 << len(self._bits)
            self._all[hook] = self._all.get(hook, 0) | bit
            if not devices:
                self._of_hook[hook] = self._of_hook.get(hook, 0) | bit
            for device in devices:
                self._of_device[hook, device] = self._of_device.get((hook, device), 0) | bit
        return bit

    def of(self, packet: PacketRecord) -> int:
        """The bits of the places where the packet can be: as `passes` of nft_loggers says."""
        bits = 0
        for hook in self._all if packet.hook is None else (packet.hook,):
            device = packet.outdev if hook == "egress" else packet.indev
            if isinstance(device, str):
                bits |= self._of_hook.get(hook, 0) | self._of_device.get((hook, device), 0)
            else:
                bits |= self._all.get(hook, 0)
        return bits
