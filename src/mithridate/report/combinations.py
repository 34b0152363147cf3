"""Combinations of attack, scenario, victim and defense, each with every result that bears on it."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mithridate.report.load import Control, Craft, Run, Victim
from mithridate.report.means import average
from mithridate.report.remembering import Networks, is_sequential, once, remembered, successes
from mithridate.report.values import items, mapping
from mithridate.sequential import confidence_sequence
from mithridate.stats import Estimate, mean_interval, rate

T = TypeVar("T")
_Place = tuple[str, str | None, str | None, str, str]
"""Control, attack, scenario, victim and defense."""


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
    control_of: tuple[str, ...] = ()
    """The defenses whose numbers this one controls; empty for ordinary defenses."""
    oracle: bool = False
    """Whether the defense, or the attack it meets, uses what nobody can know outside an experiment."""
    asked: tuple[str, ...] | None = None
    """Controls that the experiment asks for beside every defense that drops rows; None where the run does not say."""

    def group(self, control: Control) -> tuple[Victim, ...]:
        """The networks of one control."""
        return {"attack": self.poisoned, "noise": self.noise, "clean": self.clean}[control]

    @property
    def graded(self) -> bool:
        """Whether success is a mean share of test rows, and no count of hits."""
        return any(victim.graded for group in (self.poisoned, self.noise, self.clean) for victim in group[:1])

    @property
    def box(self) -> str | None:
        """What the attacker knows of these victims, in one word; None where that was not recorded."""
        return next((each.box for each in (*self.poisoned, *self.noise) if each.box), None)


def cells(run: Run) -> list[Cell]:
    """Every combination of what was crafted with what was trained, in the order of the experiment.

    Scenarios (the base first), attacks, victims; in runs of older releases in the order in which they were first seen.
    The undefended come first, and every control after the defense it is the control of. The experiment is a grid, so
    a combination without results was not run (or not yet), and is listed as such.
    """
    return list(run.remember("cells", lambda: _cells(run)))


def _cells(run: Run) -> list[Cell]:
    index, crafts, controls, asked = _index(run), _crafts(run), controls_of(run), _asked(run)
    told = {(victim.attack, victim.defense) for victim in run.victims if victim.treatment.oracle}
    untold = {victim.defense for victim in run.victims if victim.whole and not victim.treatment.oracle}
    always = {defense for _, defense in told} - untold
    setups = _distinct((victim, defense) for *_, victim, defense in index)
    places = {name: place for place, name in enumerate(_arranged(run))}
    setups.sort(key=lambda setup: places[setup[1]])
    judged = [(attack, scenario) for control, attack, scenario, *_ in index if control == "attack"]
    poisoners = _distinct([*crafts, *((attack, scenario) for attack, scenario in judged if attack and scenario)])
    if run.grid.names:
        scenarios = run.grid.ordered("scenario", (scenario for _, scenario in poisoners))
        attacks = run.grid.ordered("attack", (attack for attack, _ in poisoners))
        poisoners.sort(key=lambda each: (scenarios.index(each[1]), attacks.index(each[0])))
    groups = _Groups(run, index)
    return [
        groups.cell(
            (attack, scenario, victim, defense),
            crafts=crafts.get((attack, scenario), ()),
            control_of=controls[defense],
            oracle=(attack, defense) in told
            or defense in always
            or any(fact.oracle for fact in run.ledger.of(attack, scenario, victim, defense)),
            asked=asked,
        )
        for attack, scenario in poisoners
        for victim in run.grid.ordered("victim", (name for name, _ in setups))
        for name, defense in setups
        if name == victim
    ]


def controls_of(run: Run) -> dict[str, tuple[str, ...]]:
    """For every stack of defenses, in the order of the experiment, those it is a control of (itself it controls not).

    Rows written before another defense was asked for know less than later ones, so what all of them say is joined.
    """
    return dict(run.remember("controls", lambda: _controls_of(run)))


def _controls_of(run: Run) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {name: {} for name in dict.fromkeys([each.defense for each in run.victims])}
    for defense, others in [(each.defense, names) for each in run.victims if (names := each.treatment.control_of)]:
        found[defense].update((name, None) for name in others if name != defense)
    return {name: tuple(found[name]) for name in run.grid.ordered("defense", found)}


def _arranged(run: Run) -> list[str]:
    """All stacks of defenses in the order of the tables: each control after the last defense that it controls."""
    controls = controls_of(run)
    found = sorted((name for name, of in controls.items() if not of), key=lambda name: name != "none")
    places = {name: place for place, name in enumerate(found)}
    for control, of in controls.items():
        if of:
            places[control] = max(places.get(name, len(found)) for name in of)
    # a defense, then the controls that are its alone, then those that it shares with defenses above
    return sorted(controls, key=lambda name: (places[name], len(controls[name])))


def chosen(found: Sequence[Cell]) -> Cell | None:
    """The combination the verdict is about: the first undefended one with results, or else the first with results."""
    judged = [cell for cell in found if cell.poisoned]
    return next((cell for cell in judged if cell.defense == "none"), judged[0] if judged else None)


def success(victims: Sequence[Victim]) -> Estimate | None:
    """The rate of success with its interval, clustered by trial; None where nothing was run.

    Shares of test rows, which attacks that degrade are judged by, are averaged instead. Where trials were added until
    a rate was known well enough, the interval is the one that holds however often one looked
    (:func:`mithridate.sequential.confidence_sequence`), of the mean over trials.
    """
    return remembered(victims, "success", lambda: _success(victims))


def _success(victims: Sequence[Victim]) -> Estimate | None:
    if any(victim.graded for victim in victims):
        return average(victims)
    if victims and is_sequential(victims):
        found = confidence_sequence([sum(values) / len(values) for values in by_trial(victims)])
        return Estimate(mean=found.mean, low=found.low, high=found.high, trials=found.trials, victims=len(victims))
    return rate(by_trial(victims)) if victims else None


def accuracy(victims: Sequence[Victim]) -> Estimate | None:
    """Mean clean accuracy, None where nothing was measured.

    Every training counts once: where it was judged on several trials (each without its own targets), by its mean.
    """
    return remembered(victims, "accuracy", lambda: _accuracy(victims))


def _accuracy(victims: Sequence[Victim]) -> Estimate | None:
    means = [victim.clean_accuracy for victim in victims if victim.clean_accuracy is not None]
    if len(once(victims)) < len(victims):
        known = [(victim.training, victim.clean_accuracy) for victim in victims if victim.clean_accuracy is not None]
        trainings: dict[str, list[float]] = {}
        for training, value in known:
            trainings.setdefault(training, []).append(value)
        means = [sum(values) / len(values) for values in trainings.values()]
    if not means:
        return None
    found = mean_interval(means)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def by_trial(victims: Sequence[Victim]) -> list[list[float]]:
    """The success of each network, grouped by trial."""
    return list(successes(victims).values())


def same_attack(found: Sequence[Cell], cell: Cell) -> list[Cell]:
    """The combinations that meet the same attack with the same victim, each with another defense, in order."""
    place = (cell.attack, cell.scenario, cell.victim)
    return [each for each in found if (each.attack, each.scenario, each.victim) == place]


def seconds(cell: Cell) -> float:
    """Computing time of the crafts and the poisoned trainings; every training is counted once."""
    trainings = remembered(cell.poisoned, "seconds", lambda: sum([each.seconds for each in once(cell.poisoned)]))
    return sum(craft.seconds for craft in cell.crafts) + trainings


def planned(run: Run, cell: Cell) -> int | None:
    """How many poisoned networks the experiment plans for a combination, where some are left; else None."""
    count, runs, varied = (run.experiment.get(name) for name in ("trials", "runs", "vary_trials"))
    if not isinstance(count, int) or not isinstance(runs, int):
        return None
    if not in_base_scenario(run, cell) and isinstance(varied, int) and varied > 0:
        count = min(count, varied)
    note = mapping(run.sequential)
    if note.get("reached"):  # it stopped on purpose
        count = min(count, int(note["trials"]))
    return count * runs if count * runs > len(cell.poisoned) else None


def in_base_scenario(run: Run, cell: Cell) -> bool:
    """Whether a combination is in the scenario that the others vary; that one is crafted first."""
    return not run.crafts or cell.scenario == next(iter(run.grid.names.get("scenario", ())), run.crafts[0].scenario)


def peak_memory(cell: Cell) -> int | None:
    """The most memory that one job of the cell took, in bytes; None where it was not measured."""
    found = [craft.peak_memory for craft in cell.crafts]
    found += remembered(cell.poisoned, "memory", lambda: {each.peak_memory for each in cell.poisoned})
    return max((each for each in found if each is not None), default=None)


class _Groups:
    """The networks of every combination. Combinations that share controls share one group of them."""

    def __init__(self, run: Run, index: Mapping[_Place, Sequence[int]]) -> None:
        self._run, self._index = run, defaultdict(list, index)
        self._found: dict[tuple[Any, ...], Networks] = {}

    def cell(
        self,
        place: tuple[str, str, str, str],
        *,
        crafts: Sequence[Craft],
        control_of: tuple[str, ...],
        oracle: bool,
        asked: tuple[str, ...] | None,
    ) -> Cell:
        """One combination: attack, scenario, victim, defense."""
        attack, scenario, victim, defense = place
        poisoned = self._networks([("attack", *place)], None)
        tried = frozenset(
            each.trial for each in poisoned or crafts
        )  # controls count on the targets of the attack alone
        controls: list[Networks] = []
        for control in ("noise", "clean"):  # one that names no attack or scenario holds for all
            both = itertools.product((attack, None), (scenario, None))
            controls.append(self._networks([(control, *each, victim, defense) for each in both], tried))
        return Cell(
            attack=attack,
            scenario=scenario,
            victim=victim,
            defense=defense,
            crafts=tuple(crafts),
            poisoned=poisoned,
            noise=controls[0],
            clean=controls[1],
            control_of=control_of,
            oracle=oracle,
            asked=asked,
        )

    def _networks(self, places: Sequence[_Place], trials: frozenset[int] | None) -> Networks:
        """The networks of some places that were judged on one of the trials, in the order of the run."""
        there = tuple(place for place in places if place in self._index) or (places[0],)
        if (there, trials) not in self._found:
            numbers = heapq.merge(*(self._index[place] for place in there))
            found = map(self._run.victims.__getitem__, numbers if len(there) > 1 else self._index[there[0]])
            kept = found if trials is None else (each for each in found if each.trial in trials)
            self._found[there, trials] = Networks(kept)
            self._found[there, trials].sequential = self._run.sequential is not None
        return self._found[there, trials]


def _index(run: Run) -> dict[_Place, list[int]]:
    """Where in the run the networks of every place lie."""
    return remembered(run.victims, "index", lambda: _indexed(run.victims))


def _indexed(victims: Sequence[Victim]) -> dict[_Place, list[int]]:
    found: dict[_Place, list[int]] = {}
    for k, each in enumerate(victims):
        place = (each.control, each.attack, each.scenario, each.victim, each.defense)
        if place in found:
            found[place].append(k)
        else:
            found[place] = [k]
    return found


def _crafts(run: Run) -> dict[tuple[str, str], list[Craft]]:
    """The crafts of every attack in every scenario."""
    found: dict[tuple[str, str], list[Craft]] = {}
    for craft in run.crafts:
        found.setdefault((craft.attack, craft.scenario), []).append(craft)
    return found


def _asked(run: Run) -> tuple[str, ...] | None:
    drops = mapping(run.experiment.get("controls")).get("drops")
    return None if drops is None else tuple(str(name) for name in items(drops))


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
