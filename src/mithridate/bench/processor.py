"""Which share of the processor others used while something was measured (Linux; elsewhere it is not known)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: all but idle and waiting for disks


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Seconds since some moment in the past."""

    wall: float
    busy: float
    """Of all cores together."""
    own: float
    """Of one process and those below it."""
    cores: int


def usage(process: int | None = None, *, system: Path = Path("/proc")) -> Usage | None:
    """The usage now, with ``own`` that of a process (default: this one); None where the system does not tell."""
    try:
        lines = (system / "stat").read_text(encoding="utf-8").splitlines()
        ticks = [int(word) for word in lines[0].split()[1:]]
        cores = sum(line[:3] == "cpu" and line[3].isdigit() for line in lines)
        grain = os.sysconf("SC_CLK_TCK")
        own = _below(os.getpid() if process is None else process, system) / grain
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return Usage(wall=time.monotonic(), busy=sum(ticks[k] for k in _BUSY) / grain, own=own, cores=max(cores, 1))


def foreign(before: Usage | None, after: Usage | None) -> float | None:
    """The share of all cores' time that others used between two moments, in [0, 1]."""
    if before is None or after is None or after.wall - before.wall < 0.05:  # a tick is 0.01 s
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(max(others / ((after.wall - before.wall) * after.cores), 0.0), 1.0)


def _below(process: int, system: Path) -> int:
    """Ticks that a process, its descendants and those of them that have ended have used."""
    parents, spent = {}, {}
    for place in system.iterdir():
        if place.name.isdecimal():
            try:
                words = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(place.name)] = int(words[1])
            spent[int(place.name)] = sum(int(word) for word in words[11:15])
    total, group = 0, [process]
    while group:
        total += sum(spent.get(each, 0) for each in group)
        group = [each for each, parent in parents.items() if parent in group]
    return total
