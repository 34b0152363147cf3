"""What a run lacks: failed jobs by what they say, jobs not run because of those, and jobs that were not run yet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.fates import Fates
from mithridate.report.load import Run
from mithridate.report.words import plural
from mithridate.store import Failure

_MOST = 20
"""Different messages on the page."""
_KEYS = 6
"""Jobs of one message that are named."""
_KINDS = {
    "pretraining": "pretrained network",
    "surrogate": "surrogate",
    "craft": "poison",
    "attack": "poisoned network",
    "noise": "noise control",
    "clean": "clean network",
}
"""What jobs of a kind make."""
_TRACE = 6000
"""Letters of a traceback; its end says most."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Failed jobs that say the same, numbers aside."""

    message: str
    """That of the first."""
    count: int
    kinds: str
    """As in: 11 poisoned networks, 1 poison."""
    keys: str
    """The first jobs, by key."""
    trace: str
    """That of the first."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Everything that the page says about it."""

    groups: tuple[Group, ...]
    left_out: int
    """Failed jobs whose message has no place on the page."""
    failed: int
    lost: int
    """Jobs that were not run, because one that they need failed."""
    unrun: int
    """Jobs that wait: their turn has not come."""


def missing(run: Run, fates: Fates) -> Missing | None:
    """What a run lacks; None where no job failed."""
    groups = grouped(run.failures)
    if not groups and not fates.lost:
        return None  # the head of the page says how far the run has come
    return Missing(
        groups=tuple(groups[:_MOST]),
        left_out=sum(group.count for group in groups[_MOST:]),
        failed=len(run.failures),
        lost=fates.lost,
        unrun=fates.unrun,
    )


def grouped(failures: Sequence[Failure]) -> list[Group]:
    """Failures that say the same but for their numbers and names in quotation marks, the most frequent first."""
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        found.setdefault(_pattern(failure.message), []).append(failure)
    return sorted((_group(each) for each in found.values()), key=lambda group: -group.count)


def _pattern(message: str) -> str:
    """A message without what differs from job to job."""
    return re.sub(r"0x[0-9a-f]+|'[^']*'|\d+(\.\d+)?(e[-+]?\d+)?", "#", message)


def _group(failures: Sequence[Failure]) -> Group:
    kinds: dict[str, int] = {}
    for failure in failures:
        kinds[failure.kind] = kinds.get(failure.kind, 0) + 1
    named = ", ".join(failure.key for failure in failures[:_KEYS])
    more = len(failures) - _KEYS
    trace = failures[0].trace
    return Group(
        message=failures[0].message,
        count=len(failures),
        kinds=", ".join(plural(count, _KINDS.get(kind, kind)) for kind, count in kinds.items()),
        keys=f"{named} and {plural(more, 'other')}" if more > 0 else named,
        trace=trace if len(trace) <= _TRACE else f"…\n{trace[-_TRACE:]}",
    )


def memory(run: Run) -> str:
    """What is to be said of crafts that did not fit into memory at first; empty where all did."""
    lowered = [craft for craft in run.crafts if craft.micro_batch is not None]
    if not lowered:
        return ""
    least = min(craft.micro_batch for craft in lowered if craft.micro_batch is not None)
    what = f"{plural(len(lowered), 'poison')} {'were' if len(lowered) > 1 else 'was'}"
    return (
        f"{what} crafted with a smaller micro-batch (down to {plural(least, 'row')} at once), because "
        "memory ran out. That takes longer and changes no result."
    )
