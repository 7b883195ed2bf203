"""The devices of a base chain or flowtable, which messages add and remove.

A message about a change names only the devices that it adds or removes. The kernel allows 256
(NFT_NETDEVICE_MAX), so more are not held: damaged messages must not make a record grow for ever.
"""

from __future__ import annotations

import msgspec

from pylog.record.ruleset import RulesetRecord

_MOST_DEVICES = 512


def with_devices(record: RulesetRecord, old: list[str] | None) -> RulesetRecord:
    """The record with the devices of both; its own text names only its own."""
    if not old or (record.devices and set(old) <= set(record.devices)):
        return record
    devices = list(dict.fromkeys([*old, *(record.devices or ())]))[:_MOST_DEVICES]
    return msgspec.structs.replace(record, devices=devices, text=None)


def without_devices(record: RulesetRecord, gone: list[str] | None) -> RulesetRecord:
    """The record without these devices."""
    removed = set(gone or ())
    devices = [name for name in record.devices or () if name not in removed][:_MOST_DEVICES]
    return msgspec.structs.replace(record, devices=devices, text=None)
