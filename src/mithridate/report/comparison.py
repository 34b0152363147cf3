"""What a defense is worth: whether it lowers success, and by more than dropping as many other rows would.

A defense is credited only where the undefended attack has landed, where its success is clearly lower over the same
trials (the 95 % interval of the difference and the exact test of :func:`mithridate.stats.paired` agree), and, if it
drops rows, where it is clearly lower than that of every control which dropped as many: of those that the experiment
asks for, and at least of one that does something else than the defense itself.

Tests are adjusted for all defenses that are compared against the same attack with the same victim (Holm 1979): with
ten that do nothing, one would look clear by chance nearly every second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from mithridate.report.adjusting import adjusted, adjusted_claims
from mithridate.report.combinations import Cell, same_attack, success
from mithridate.report.effects import Effect, drops, effect, mean
from mithridate.report.load import Victim
from mithridate.report.means import gap
from mithridate.report.remembering import Networks, like, networks, remembered, remembered_of_both, successes
from mithridate.report.verdict import standing
from mithridate.stats import Difference, Estimate, mean_interval, paired

Worth = Literal["beyond", "lower", "dropping", "unequal", "uncontrolled", "none", "worse", "unlanded", "missing"]
"""``beyond``: clearly below every control. ``lower``: clearly below no defense, and it drops nothing. ``dropping``:
clearly below no defense, but not below a control. ``unequal``: a control dropped another number of rows.
``uncontrolled``: a control was not run, or none asked for. ``none``: not clearly below no defense. ``worse``: clearly
above it. ``unlanded``: the undefended attack has not landed. ``missing``: nothing to compare with."""

CONTROLS = {"random-drop": "As many random rows dropped", "top-loss-drop": "As many of the highest-loss rows dropped"}
"""The controls that a dropping defense needs where a run does not say what it asks for, and what they do, in words."""
_TWINS = {"loss-sanitisation": "top-loss-drop"}
"""Defenses that do nearly what a control does, which they therefore need not beat."""
_SLACK = 0.02
"""How far the numbers of rows dropped may be apart and still count as equal, as a share (or 2 rows)."""


@dataclass(frozen=True, kw_only=True)
class Against:
    """A defense against one of its controls."""

    name: str
    """What the control is, in short: ``random-drop``."""
    words: str
    """What it did."""
    estimate: Estimate
    """Its success."""
    difference: Difference
    """Success of the defense less that of the control."""
    equal: bool
    """Whether it dropped as many rows."""
    graded: bool = False
    """Whether success is a mean share of test rows."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One defense against none and against its controls."""

    cell: Cell
    effect: Effect
    estimate: Estimate
    """Its success."""
    drops: bool
    landed: bool
    """Whether the undefended attack has landed: without that nothing is to a defense's credit."""
    undefended: Against | None
    controls: tuple[Against, ...]
    missing: tuple[str, ...]
    """Controls that a dropping defense needs and that were not run."""
    twins: tuple[str, ...]
    """Controls that do nearly the same as the defense, and need not be beaten."""
    worth: Worth
    accuracy: Estimate | None
    """Clean accuracy less that of undefended networks of the same trials, from -1 to 1; None where it is not known.

    It is that of poisoned networks, but of clean ones where success is a share of test rows, which is the same thing.
    """

    @property
    def graded(self) -> bool:
        """Whether success is a mean share of test rows."""
        return self.cell.graded

    @property
    def rivals(self) -> tuple[Against, ...]:
        """The controls to be beaten."""
        return tuple(each for each in self.controls if each.name not in self.twins)

    @property
    def good(self) -> bool:
        """Whether something is to its credit."""
        return self.worth in ("beyond", "lower")


def comparisons(found: Sequence[Cell], cell: Cell) -> list[Comparison]:
    """Every ordinary defense that met the same attack as ``cell`` and has results, in the order of the tables."""
    same = same_attack(found, cell)
    ordinary = [each for each in same if each.poisoned and each.defense != "none" and not each.control_of]
    return _side_by_side([_comparison(each, same) for each in ordinary])


def _side_by_side(found: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons with their chances adjusted for each other, and what they are worth by these."""
    against = [each.undefended for each in found if each.undefended]
    plain = iter(adjusted([each.difference for each in against]))
    claims = adjusted_claims([[rival.difference for rival in each.rivals] for each in found])
    return [_settled(each, plain, iter(rivals)) for each, rivals in zip(found, claims, strict=True)]


def _settled(found: Comparison, plain: Iterator[Difference], rivals: Iterator[Difference]) -> Comparison:
    undefended = replace(found.undefended, difference=next(plain)) if found.undefended else None
    controls = tuple(
        each if each.name in found.twins else replace(each, difference=next(rivals)) for each in found.controls
    )
    settled = replace(found, undefended=undefended, controls=controls)
    return replace(settled, worth=_worth(settled))


def _comparison(cell: Cell, same: Sequence[Cell]) -> Comparison:
    plain = next((each for each in same if each.defense == "none" and each.poisoned), None)
    estimate, dropping = success(cell.poisoned), drops(cell, same)
    assert estimate is not None
    beside = [each for each in same if cell.defense in each.control_of and _is_matched(each) and each.poisoned]
    controls = tuple(found for each in beside if (found := _against(cell, each)))
    twins = _twins(cell, beside)
    wanted = [name for name in CONTROLS if cell.asked is None or name in cell.asked]
    there = {each.name for each in controls} | set(twins)
    return Comparison(
        cell=cell,
        effect=effect(cell, plain),
        estimate=estimate,
        drops=dropping,
        landed=plain is not None and standing(plain) == "landed",
        undefended=_against(cell, plain) if plain else None,
        controls=controls,
        missing=tuple(name for name in wanted if name not in there) if dropping else (),
        twins=twins if dropping else (),
        worth="missing",
        accuracy=_accuracy(cell, plain) if plain else None,
    )


def _is_matched(cell: Cell) -> bool:
    """Whether a control drops as many rows as what it controls. The oracle filter is a ceiling, not to be beaten."""
    return any(name in cell.defense for name in CONTROLS)


def _twins(cell: Cell, beside: Sequence[Cell]) -> tuple[str, ...]:
    """The control that does nearly the same as the defense of ``cell``; empty where none does."""
    for name, control in _TWINS.items():
        runs = [each.defense for each in beside if control in each.defense]
        if any(f"{control} (like {name}" in each for each in runs):
            return (control,)
        if not runs and cell.defense.split(" + ")[-1].startswith(name):
            return (control,)
    return ()


def _worth(found: Comparison) -> Worth:
    """What may be said, the most cautious first."""
    if found.undefended is None:
        return "missing"
    if found.undefended.difference.above:
        return "worse"
    if not found.landed:
        return "unlanded"
    if not found.undefended.difference.below:
        return "none"
    if not found.drops:
        return "lower"
    if found.missing or not found.rivals:
        return "uncontrolled"
    if not all(each.equal for each in found.rivals):
        return "unequal"
    return "beyond" if all(each.difference.below for each in found.rivals) else "dropping"


def _against(cell: Cell, other: Cell) -> Against | None:
    """Two combinations over the trials that both have; None where there are none."""
    shared = networks(cell.poisoned).trials.keys() & networks(other.poisoned).trials.keys()
    if not shared:
        return None
    own, its = (_within(side.poisoned, shared) for side in (cell, other))
    estimate = success(its)
    assert estimate is not None
    name = next((each for each in CONTROLS if each in other.defense), other.defense)
    return Against(
        name=name,
        words=CONTROLS.get(name, f"Its control {name}") if other.control_of else "No defense",
        estimate=estimate,
        difference=_difference(own, its, shared),
        equal=_equal(own, its),
        graded=own[0].graded,
    )


def _difference(own: Sequence[Victim], its: Sequence[Victim], trials: Set[int]) -> Difference:
    """Success of one side less that of the other over the trials of both."""
    graded = gap(own, its) if own[0].graded else None
    return graded or remembered_of_both(
        own, its, "difference", lambda: paired(_by_trial(own, trials), _by_trial(its, trials))
    )


def _within(victims: Sequence[Victim], trials: Set[int]) -> Networks:
    """The networks of some trials; all of them, with what they remember, where those are all their trials."""
    found = networks(victims)
    return found if found.trials.keys() <= trials else like((each for each in found if each.trial in trials), found)


def _by_trial(victims: Sequence[Victim], trials: Set[int]) -> list[list[float]]:
    grouped = successes(networks(victims))
    return [grouped[trial] for trial in sorted(trials)]


def _equal(own: Sequence[Victim], its: Sequence[Victim]) -> bool:
    """Whether two defenses dropped the same number of rows on average; not where it is not known."""
    one, two = (_dropped(victims) for victims in (own, its))
    return one is not None and two is not None and abs(one - two) <= max(2, _SLACK * one)


def _dropped(victims: Sequence[Victim]) -> float | None:
    """The mean number of rows dropped, where it is known."""
    return remembered(victims, "mean dropped", lambda: mean([each.treatment.dropped for each in victims]))


def _accuracy(cell: Cell, plain: Cell) -> Estimate | None:
    """The difference in clean accuracy over the trials that both have, with Student's t interval over trials."""
    if cell.graded:
        found = gap(cell.clean, plain.clean, lambda victim: victim.clean_accuracy)
        if found is None:
            return None
        return Estimate(mean=found.mean, low=found.low, high=found.high, trials=found.trials, victims=found.trials)
    own, its = networks(cell.poisoned), networks(plain.poisoned)
    return remembered_of_both(own, its, "accuracy", lambda: _gaps(own, its))


def _gaps(own: Networks, its: Networks) -> Estimate | None:
    """The mean difference in clean accuracy over the trials of both."""
    known, others = _accuracies(own), _accuracies(its)
    gaps = [known[trial] - others[trial] for trial in sorted(known) if trial in others]
    return mean_interval(gaps) if gaps else None


def _accuracies(victims: Networks) -> dict[int, float]:
    """Mean clean accuracy of every trial of which it is known."""

    def found() -> dict[int, float]:
        means = {trial: mean(each.clean_accuracy for each in group) for trial, group in victims.trials.items()}
        return {trial: value for trial, value in means.items() if value is not None}

    return victims.remember("accuracies", found)
