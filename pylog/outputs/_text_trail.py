"""The text of a trail: what a packet went through, for people.

    e13e2085 #2 icmp 10.77.1.2 -> 10.77.1.1 type 8 code 0 len 60: accept by inet tr input handle 19
      inet tr pre
        handle 14 -> jump pre_sub
          pre_sub handle 17: icmp type echo-request meta mark set 0x00000007
        policy accept

The first line has the packet, the verdict and what decided it. Below are the base chains with the
rules that matched, those of chains jumped to with the chain's name. Ends of chains are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from pylog.outputs._text_words import PROTOCOLS, colour_of, end_text
from pylog.record import escape, rfc3339
from pylog.trails import Step, Trail
from pylog.zones import Clock

_ACTIONS = {"accept": "pass", "drop": "block"}


def trail_lines(trail: Trail, colour: bool, clock: Clock | None = None) -> Iterator[str]:
    """The lines of a trail; names from the log are escaped."""
    yield _headline(trail, colour, clock)
    place: tuple[object, ...] | None = None
    for step in trail.steps:
        base = (step.family, step.table, step.chain)
        if step.depth == 0 and base != place:
            place = base
            hook = "" if step.hook is None else f" ({step.hook})"
            yield escape(f"  {step.family} {step.table} {step.chain}{hook}")
        if step.type == "policy":
            yield escape(f"    policy {step.policy}")
        elif step.handle is not None:
            yield escape("    " + "  " * min(step.depth, 16) + rule_text(step))


def rule_text(step: Step) -> str:
    """A rule that matched, in its chain."""
    text = f"{f'{step.chain} ' if step.depth else ''}handle {step.handle}"
    if step.text:
        text += f": {step.text}"
    if step.verdict in ("continue", None) or (step.text and str(step.verdict) in step.text):
        return text
    return f"{text} -> {step.verdict}{f' {step.target}' if step.target else ''}"


def _headline(trail: Trail, colour: bool, clock: Clock | None) -> str:
    words = [str(trail.id)]
    if trail.observed_ns is not None:
        time = rfc3339(trail.observed_ns)
        words.insert(0, time if clock is None else clock.text(time))
    devices = [f"#{d}" if isinstance(d, int) else d for d in (trail.indev, trail.outdev)
               if d is not None]  # fmt: skip
    words += [">".join(devices)] if devices else []
    words += _packet(trail)
    verdict = "?" if trail.verdict is None else str(trail.verdict)
    if colour:
        verdict = colour_of(_ACTIONS.get(verdict, ""), verdict)
    by = "" if trail.by is None else f" by {_decision(trail.by)}"
    note = " (incomplete: steps are missing)" if trail.incomplete else ""
    return f"{escape(' '.join(words))}: {verdict}{escape(by + note)}"


def _decision(step: Step) -> str:
    place = f"{step.family} {step.table} {step.chain}"
    if step.type == "policy":
        return f"the policy of {place}"
    return f"{place} handle {step.handle}" + (f": {step.text}" if step.text else "")


def _packet(trail: Trail) -> Iterator[str]:
    if trail.protocol is not None:
        yield PROTOCOLS.get(trail.protocol, f"proto {trail.protocol}")
    if trail.saddr is not None or trail.daddr is not None:
        yield f"{end_text(trail.saddr, trail.sport)} -> {end_text(trail.daddr, trail.dport)}"
    if trail.tcp_flags:
        yield trail.tcp_flags
    if trail.icmp_type is not None:
        yield f"type {trail.icmp_type} code {trail.icmp_code}"
    if trail.length is not None:
        yield f"len {trail.length}"
