"""Whether the trials of two runs are the same, so that their results compare trial by trial, and what else differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate.report.load import Run, read
from mithridate.report.values import mapping
from mithridate.store import Store

_DRAWS = ("seed", "setups", "training_rows", "resample", "targets")
"""Settings that decide which target and which rows a trial of a number draws."""
_UNSAID = {"seed": 0, "setups": "", "training_rows": 0, "resample": False, "targets": "any"}
"""What they are where a run does not say."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run, with what its folder says of it."""

    run: Run
    digest: str | None
    """Of its data."""
    methods: Mapping[str, Any]
    """Versions of its methods."""
    left: int
    """Jobs that are not done."""


@dataclass(frozen=True, kw_only=True)
class Sameness:
    """What two runs share."""

    unpaired: tuple[str, ...]
    """Why trials of one number are not the same in both; empty where they are."""
    other: tuple[str, ...]
    """What else differs between the runs, which a reader must know."""


def opened(folder: Path) -> Opened:
    """Read a run. Raises :class:`StoreError`."""
    run = read(folder)
    with Store(folder) as store:
        meta, (_, left) = store.meta(), store.queue.count()
    digest = meta.get("data_digest")
    return Opened(run=run, digest=str(digest) if digest else None, methods=mapping(meta.get("methods")), left=left)


def sameness(first: Opened, second: Opened) -> Sameness:
    """What two runs share: by their settings, and by the targets that their networks were judged on."""
    one, two = first.run.experiment, second.run.experiment
    apart = ["they have other data"] if first.digest != second.digest else []
    ours, theirs = mapping(one.get("threat")), mapping(two.get("threat"))
    if ours.get("goal") != theirs.get("goal"):
        apart.append("the poisoner has another goal")
    for name in _DRAWS:
        values = [each.get(name, _UNSAID[name]) for each in (one, two)]
        if values[0] != values[1]:
            apart.append(f"{name} is {values[0]!r} in one and {values[1]!r} in the other")
    if not apart and _other_targets(first.run, second.run):
        apart.append("trials of the same number have other targets")
    other = [
        f"threat.{name} differs" for name in sorted({*ours, *theirs} - {"goal"}) if ours.get(name) != theirs.get(name)
    ]
    shared = first.methods.keys() & second.methods.keys()
    other += [f"the code of {name} differs" for name in sorted(shared) if first.methods[name] != second.methods[name]]
    return Sameness(unpaired=tuple(apart), other=tuple(other))


def _other_targets(first: Run, second: Run) -> bool:
    """Whether any trial that both have was judged on other targets, where those were kept."""
    known = [
        {
            victim.trial: tuple(target.id for target in victim.targets)
            for victim in run.victims
            if victim.control == "attack" and victim.targets and victim.whole
        }
        for run in (first, second)
    ]
    return any(known[0][trial] != known[1][trial] for trial in known[0].keys() & known[1].keys())
