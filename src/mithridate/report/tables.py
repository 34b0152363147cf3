"""The result table: one row for each attack, scenario, victim and defense, with its controls and intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mithridate.report.load import Control, Craft, Run, Victim, read
from mithridate.stats import Estimate, mean_interval, rate
from mithridate.store import write_atomically

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination, with every result that bears on it. Empty groups were not run, or not yet."""

    attack: str
    scenario: str
    victim: str
    defense: str
    crafts: tuple[Craft, ...]
    poisoned: tuple[Victim, ...]
    noise: tuple[Victim, ...]
    clean: tuple[Victim, ...]

    def group(self, control: Control) -> tuple[Victim, ...]:
        """The networks of one control."""
        return {"attack": self.poisoned, "noise": self.noise, "clean": self.clean}[control]


def cells(run: Run) -> list[Cell]:
    """Every combination of what was crafted with what was trained, in the order in which it was first seen.

    The experiment is a grid, so a combination without results was not run (or not yet), and is listed as such.
    """
    setups = _distinct((victim.victim, victim.defense) for victim in run.victims)
    setups.sort(key=lambda setup: setup[1] != "none")  # stable: the undefended come first
    poisoners = _distinct(
        [(craft.attack, craft.scenario) for craft in run.crafts]
        + [(v.attack, v.scenario) for v in run.victims if v.control == "attack" and v.attack and v.scenario]
    )
    return [
        _cell(run, attack, scenario, victim, defense)
        for attack, scenario in poisoners
        for victim in _distinct(name for name, _ in setups)
        for name, defense in setups
        if name == victim
    ]


def chosen(found: Sequence[Cell]) -> Cell | None:
    """The combination the verdict is about: the first undefended one with results, or else the first with results."""
    judged = [cell for cell in found if cell.poisoned]
    return next((cell for cell in judged if cell.defense == "none"), judged[0] if judged else None)


def success(victims: Sequence[Victim]) -> Estimate | None:
    """The rate of success with its interval, clustered by trial; None where nothing was run."""
    return rate(by_trial(victims)) if victims else None


def accuracy(victims: Sequence[Victim]) -> Estimate | None:
    """Mean clean accuracy, None where nothing was measured.

    Every training counts once: where it was judged on several trials (each without its own targets), by its mean.
    """
    trainings: dict[str, list[float]] = {}
    for victim in victims:
        if victim.clean_accuracy is not None:
            trainings.setdefault(victim.training, []).append(victim.clean_accuracy)
    means = [sum(values) / len(values) for values in trainings.values()]
    return mean_interval(means) if means else None


def by_trial(victims: Sequence[Victim]) -> list[list[float]]:
    """The success of each network, grouped by trial."""
    return [[v.success for v in victims if v.trial == trial] for trial in _distinct(v.trial for v in victims)]


def seconds(cell: Cell) -> float:
    """Computing time of the crafts and the poisoned trainings; every training is counted once."""
    trainings = {victim.training: victim.seconds for victim in cell.poisoned}
    return sum(craft.seconds for craft in cell.crafts) + sum(trainings.values())


def peak_memory(cell: Cell) -> int | None:
    """The most memory that one job of the cell took, in bytes; None where it was not measured."""
    found = [craft.peak_memory for craft in cell.crafts] + [victim.peak_memory for victim in cell.poisoned]
    return max((each for each in found if each is not None), default=None)


def summary(run: Run) -> dict[str, Any]:
    """The table as JSON-able rows. Combinations without a judged network are left out: they are no zeros.

    ``success``, ``base_rate`` (networks trained on clean data, judged on the same targets) and ``noise_control`` (the
    same rows with random noise of the same size) are rates in [0, 1] with 95 % intervals clustered by trial;
    ``base_rate`` and ``noise_control`` are null where they were not run. Accuracies are means in [0, 1] with
    Student's t intervals; ``seconds`` adds up crafts and poisoned trainings; ``peak_memory`` is in bytes.
    """
    return {"rows": [_row(cell) for cell in cells(run) if cell.poisoned]}


def write_summary(folder: Path) -> Path:
    """Write ``summary.json`` into a run folder. Raises :class:`~mithridate.errors.StoreError`."""
    path = Path(folder) / "summary.json"
    write_atomically(path, json.dumps(summary(read(folder)), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _row(cell: Cell) -> dict[str, Any]:
    hit, base, noise = success(cell.poisoned), success(cell.clean), success(cell.noise)
    assert hit is not None
    craft = cell.crafts[0] if cell.crafts else None
    return {
        "attack": cell.attack,
        "defense": cell.defense,
        "victim": cell.victim,
        "scenario": cell.scenario,
        "trials": hit.trials,
        "victims": hit.victims,
        "success": _interval(hit),
        "base_rate": base.mean if base else None,
        "base_rate_interval": _spread(base),
        "noise_control": noise.mean if noise else None,
        "noise_interval": _spread(noise),
        "clean_accuracy": _mean(accuracy(cell.poisoned)),
        "accuracy_without_poison": _mean(accuracy(cell.clean)),
        "seconds": seconds(cell),
        "peak_memory": peak_memory(cell),
        "radius": craft.radius if craft else None,
        "eps": craft.radius_value if craft else None,
        "budget": craft.budget if craft else None,
        "poisoned_rows": craft.rows if craft else None,
    }


def _cell(run: Run, attack: str, scenario: str, victim: str, defense: str) -> Cell:
    crafts = tuple(craft for craft in run.crafts if (craft.attack, craft.scenario) == (attack, scenario))

    def found(control: Control) -> tuple[Victim, ...]:
        """Networks of one control; a control that names no attack or scenario holds for all."""
        return tuple(
            each
            for each in run.victims
            if (each.control, each.victim, each.defense) == (control, victim, defense)
            and each.attack in ((attack,) if control == "attack" else (attack, None))
            and each.scenario in ((scenario,) if control == "attack" else (scenario, None))
        )

    poisoned = found("attack")
    tried = {each.trial for each in poisoned or crafts}  # controls count on the targets of the attack, on no others
    return Cell(
        attack=attack,
        scenario=scenario,
        victim=victim,
        defense=defense,
        crafts=crafts,
        poisoned=poisoned,
        noise=tuple(each for each in found("noise") if each.trial in tried),
        clean=tuple(each for each in found("clean") if each.trial in tried),
    )


def _interval(estimate: Estimate | None) -> dict[str, float] | None:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high} if estimate else None


def _mean(estimate: Estimate | None) -> dict[str, float | None] | None:
    """A mean with its interval; of a single training nothing is known but its value."""
    if estimate is not None and estimate.victims < 2:
        return {"mean": estimate.mean, "low": None, "high": None}
    return dict(_interval(estimate) or {}) or None


def _spread(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {"low": estimate.low, "high": estimate.high, "trials": estimate.trials, "victims": estimate.victims}


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
