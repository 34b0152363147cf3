"""Given poison: makes nothing and reads what others made, so that it can be judged here.

Poison sets of ours, or the three files of Schwarzschild et al., "Just How Toxic is Data Poisoning?", ICML 2021,
https://arxiv.org/abs/2006.12557, whose protocol judges submitted poison in this way.

Differences from the benchmark's own evaluation:

1. The set of a trial is found by its target and the class wanted of it, whatever its folder is called. A target from
   the benchmark's files may be one level off (they are cut off to 8 bits); one from a set of ours may not.
2. Where a trial fixes its base rows, poison on other rows is refused; there, the files decide.
3. A set of ours is known by what it is *judged* on; one made under ``views`` holds those views, not the target. Poison
   that degrades is judged on all test rows in every trial: it is known by the training rows that it was made on and by
   the seed of its trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import torch

from mithridate import poisonset
from mithridate.attack import Attack
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.facts import Fact, attacker
from mithridate.goal import Aims, Degrade, GoalSpec, Misclassify
from mithridate.learner import Learner
from mithridate.manifest import parsed
from mithridate.peers import is_for, read_benchmark
from mithridate.poison import Poison
from mithridate.poisonset import PoisonSet
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel
from mithridate.watch import Watch, silent

_PICKLES = ("base_indices.pickle", "poisons.pickle", "target.pickle")


@dataclass(frozen=True, kw_only=True)
class Given(Attack):
    """Poison that others made: of the poison sets in a folder, the one for the trial."""

    name: ClassVar[str] = "given"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker("everything", "unknown: the poison comes from elsewhere, and nobody here knows what its maker knew"),
    )
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Misclassify, Degrade)
    rows: ClassVar[tuple[str, ...]] = ("replace", "append")
    needs_surrogate: ClassVar[bool] = False
    resumable: ClassVar[bool] = False  # it only reads files

    folder: Path
    """Folder of poison sets, ours or the benchmark's three pickles: directly in it, or in one subfolder a trial."""
    digest: str = ""
    """What the poison sets must hash to; found out where it is not given, since results are kept under it."""

    def __post_init__(self) -> None:
        """Refuse other poison than that meant. A folder that is absent is a problem to be named later."""
        found = _digest(self.sets())
        if found and self.digest and found != self.digest.lower():
            raise ConfigError(
                f"the poison sets in '{self.folder}' have the digest {found[:16]}..., but the settings say "
                f"{self.digest[:16]}...; these are other poisons than those meant"
            )
        object.__setattr__(self, "digest", self.digest.lower() or found)

    def sets(self) -> list[Path]:
        """The folders that hold a poison set each."""
        if not self.folder.is_dir():
            return []
        inner = sorted(each for each in self.folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        return [each for each in (self.folder, *inner) if _files(each)]

    def problems(self) -> list[str]:
        """That there is no poison, or that some of it is missing."""
        if not self.folder.is_dir():
            return [f"there is no folder '{self.folder}' to take poison from"]
        if not self.sets():
            return [
                f"'{self.folder}' holds no poison set: neither {poisonset.MANIFEST} nor {', '.join(_PICKLES)} lie in "
                "it or in a subfolder"
            ]
        return [
            f"'{each}' is no whole poison set: it lacks {', '.join(missing)}"
            for each in self.sets()
            if (missing := sorted(set(_PICKLES) - {path.name for path in _files(each)}))
            and not (each / poisonset.MANIFEST).is_file()
        ]

    def crew(self, surrogates: Sequence[Learner]) -> Sequence[Learner]:
        """None: it trains nothing, and what others crafted with is not known here."""
        return ()

    def craft(
        self,
        data: Dataset,
        threat: ThreatModel,
        *,
        aims: Aims,
        surrogates: Sequence[Learner],
        seed: Seed,
        watch: Watch = silent,
    ) -> Poison:
        """The rows of the one set that is for these targets, or for this trial where any error counts.

        Raises :class:`ConfigError` where none is, or more than one; :class:`~mithridate.errors.FormatError` for a set
        that is damaged or does not fit ``data``; :class:`ThreatModelError` where it poisons rows other than those
        fixed.
        """
        sets, degrades = self.sets(), isinstance(threat.goal, Degrade)
        if degrades:
            read = [_of_trial(each, data, threat, aims, seed) for each in sets]
        else:
            read = [_on_targets(each, data, aims) for each in sets]
        found = [(folder, one) for folder, one in zip(sets, read, strict=True) if one is not None]
        if len(found) != 1:
            whose = _are_of_trial(sets) if degrades else _are_for(aims, data)
            raise ConfigError(f"{_how_many(found, sets)} in '{self.folder}' {whose}")
        folder, poison = found[0][0], _begun(found[0][1], data)
        if threat.base_ids and not set(poison.rows.ids.tolist()) <= set(threat.base_ids):
            raise ThreatModelError(
                f"the poison in '{folder}' changes training rows other than the {len(set(threat.base_ids))} that this "
                "trial fixes"
            )
        return poison


def _begun(found: PoisonSet, data: Dataset) -> Poison:
    """The poison on the device of the data, with what its rows began as where they are no training rows."""
    poison, base = found.poison, found.base
    appended = not bool(torch.isin(poison.rows.ids, data.ids.cpu()).any())
    strange = base if appended and poison.origins is None else None
    origins = None if poison.origins is None else poison.origins.to(data.device)
    return replace(poison, rows=poison.rows.to(data.device), origins=origins, base=strange)


def _files(folder: Path) -> list[Path]:
    """The files that decide a poison set, if one is there: a manifest holds the hash of its tensors."""
    if (folder / poisonset.MANIFEST).is_file():
        return [folder / poisonset.MANIFEST]
    return [folder / name for name in _PICKLES if (folder / name).is_file()]


def _digest(sets: Sequence[Path]) -> str:
    """SHA-256 (hex) over the poison sets, whatever their folders are called; empty where there are none."""
    hashes = [[path.name.encode() + sha256(path.read_bytes()).digest() for path in _files(each)] for each in sets]
    return sha256(b"".join(sorted(map(b"".join, hashes)))).hexdigest() if hashes else ""


def _on_targets(folder: Path, data: Dataset, aims: Aims) -> PoisonSet | None:
    """The poison set in ``folder`` if it is for these aims; else no more of it is read than shows that it is not."""
    path = folder / poisonset.MANIFEST
    if not path.is_file():
        return read_benchmark(folder, train=data) if is_for(folder, aims, train=data) else None
    goal = parsed(path, path.read_bytes()).goal
    if goal.trigger is not None or goal.wanted != _wanted(aims):
        return None
    found = poisonset.read(folder)
    shown, sought = (data.space.quantise(each.inputs.cpu()) for each in (found.aims, aims))
    return found if torch.equal(shown, sought) else None


def _of_trial(folder: Path, data: Dataset, threat: ThreatModel, aims: Aims, seed: Seed) -> PoisonSet | None:
    """The poison set in ``folder`` if it was crafted for the same confusion, in this trial, and on these rows.

    Which rows an attacker with rows of its own knew is told by the origins of its poison alone.
    """
    path = folder / poisonset.MANIFEST
    if not path.is_file():
        return None
    manifest = parsed(path, path.read_bytes())
    goal, number = manifest.goal, manifest.details.get("seed")
    if goal.trigger is not None or _confusions(goal.labels, goal.wanted) != _confusions(aims.labels, aims.wanted):
        return None
    if not isinstance(number, int) or Seed(number).child("craft") != seed:
        return None
    if threat.knows == "own-rows":
        same = bool(torch.isin(torch.tensor(manifest.origins or [], dtype=torch.int64), data.ids.cpu()).all())
    else:
        same = manifest.base_data_sha256 == data.digest()
    return poisonset.read(folder) if same else None


def _confusions(labels: Iterable[int], wanted: Iterable[int] | None) -> set[tuple[int, int]] | None:
    """The true classes with what is wanted of them; None where any error counts."""
    return None if wanted is None else set(zip(map(int, labels), map(int, wanted), strict=True))


def _wanted(aims: Aims) -> list[int] | None:
    return None if aims.wanted is None else aims.wanted.tolist()


def _how_many(found: Sequence[tuple[Path, PoisonSet]], sets: Sequence[Path]) -> str:
    if not found:
        return f"none of the {len(sets)} poison sets"
    names = ", ".join(f"'{folder.name}'" for folder, _ in found)
    return f"{len(found)} of the {len(sets)} poison sets ({names}; keep one)"


def _are_for(aims: Aims, data: Dataset) -> str:
    """What was looked for, in words."""
    ids = "" if aims.ids is None else f" with test id {', '.join(map(str, aims.ids[:3].tolist()))}"
    true, wanted = data.space.name(int(aims.labels[0])), (_wanted(aims) or [0])[0]
    return f"have the target of this trial{ids}, of class '{true}', to be called '{data.space.name(wanted)}'"


def _are_of_trial(sets: Sequence[Path]) -> str:
    """What was looked for where any error counts, and what there is."""
    paths = [each / poisonset.MANIFEST for each in sets if (each / poisonset.MANIFEST).is_file()]
    trials = dict.fromkeys(parsed(path, path.read_bytes()).details.get("trial") for path in paths)
    there = ", ".join(str(each) for each in trials if isinstance(each, int)) or "unknown"
    return (
        f"are of this trial and its training rows (trials there: {there}; trials here begin at first_trial); poison "
        "that degrades is judged with the data, training_rows, resample, goal and seed that it was crafted with"
    )
