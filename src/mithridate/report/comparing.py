"""Runs side by side: the same cells over the same trials, with differences, intervals and adjusted chances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mithridate.errors import ConfigError
from mithridate.pairing import Bootstrap, McNemar, bootstrap, holm, mcnemar, single_hits, unpaired
from mithridate.report.combinations import Cell, cells, same_attack, success
from mithridate.report.means import average, gap
from mithridate.report.remembering import like, networks
from mithridate.report.sameness import Opened, Sameness, opened, sameness
from mithridate.report.stopped import notice
from mithridate.report.verdict import standing
from mithridate.stats import Difference, Estimate, paired

_AXES = ("attack", "scenario", "victim", "defense")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One cell in two runs."""

    first: Cell
    second: Cell
    one: Estimate
    """Success in the first run, over the trials compared."""
    two: Estimate
    difference: Difference
    """Success in the second run less that in the first; ``chance`` is two-sided and adjusted over the table."""
    test: str
    """What the chance is of, in words."""
    bootstrap: Bootstrap | None
    """The interval by drawing trials anew; None where trials are not the same."""
    unlanded: tuple[int, ...]
    """Places (0, 1) of the runs where the attack has not landed without the defense: there it has no credit."""

    @property
    def clear(self) -> bool:
        """Whether they differ: the interval leaves 0 out, and the adjusted chance is at most 5 %."""
        found = self.difference
        return (found.high < 0 or found.low > 0) and found.chance <= 0.05


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Two runs side by side."""

    first: Path
    second: Path
    sameness: Sameness
    renamed: tuple[str, ...]
    """Parts of the grid that have other names and are compared all the same, each run having but one."""
    pairs: tuple[Pair, ...]
    alone: int
    """Cells with results that only one of the runs has."""
    left: tuple[int, int]
    """Jobs not done in each; none are missing where it stopped on purpose."""
    stopped: tuple[str, str] = ("", "")
    """Why each stopped before all of its trials; empty where it did not on purpose."""
    looked: tuple[bool, bool] = (False, False)
    """Whether the number of trials of each was chosen by looking at results."""


def compare(folders: Sequence[Path]) -> list[Beside]:
    """The first run beside each of the others; chances are adjusted over all rows of all tables (Holm 1979).

    Raises :class:`StoreError` where a folder holds no run, :class:`ConfigError` for fewer than two, or one twice.
    """
    if len(folders) < 2:
        raise ConfigError("compare needs two run folders or more")
    if len({Path(each).resolve() for each in folders}) < len(folders):
        raise ConfigError("compare needs different run folders, but one is named twice")
    first, *others = [opened(each) for each in folders]
    return _adjusted([_beside(first, each) for each in others])


def attacks(found: Sequence[Cell]) -> list[Pair]:
    """Every two attacks of one run over their shared trials, by scenario and victim, where no defense is worn.

    ``found`` are the combinations of the run; chances are adjusted over all pairs (Holm 1979).
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for each in found:
        if each.defense == "none" and each.poisoned:
            groups.setdefault((each.scenario, each.victim), []).append(each)
    same = Sameness(unpaired=(), other=())
    two = [both for group in groups.values() for both in itertools.combinations(group, 2)]
    pairs = [made for both in two if (made := _pair(*both, (), (), same))]
    chances = holm([pair.difference.chance for pair in pairs])
    return [
        replace(pair, difference=replace(pair.difference, chance=each, family=len(pairs)))
        for pair, each in zip(pairs, chances, strict=True)
    ]


def discordant(pair: Pair) -> McNemar | None:
    """On how many trials one side alone hit, where there is one victim a trial; None elsewhere."""
    if pair.test != "McNemar":
        return None
    sides = [networks(each.poisoned).trials for each in (pair.first, pair.second)]
    one, two = ([side[trial][0].success for trial in sides[0]] for side in sides)
    return mcnemar(one, two)


def _adjusted(found: Sequence[Beside]) -> list[Beside]:
    chances = iter(holm([pair.difference.chance for each in found for pair in each.pairs]))
    family = sum(len(each.pairs) for each in found)

    def settled(pair: Pair) -> Pair:
        return replace(pair, difference=replace(pair.difference, chance=next(chances), family=family))

    return [replace(each, pairs=tuple(settled(pair) for pair in each.pairs)) for each in found]


def _beside(first: Opened, second: Opened) -> Beside:
    same, ours, theirs = sameness(first, second), cells(first.run), cells(second.run)
    if bool(first.run.degradation) != bool(second.run.degradation):
        raise ConfigError(
            f"'{first.run.folder}' and '{second.run.folder}' measure other things: in one the attack degrades, in the "
            "other it hits targets; they have nothing to compare"
        )
    mine, its = ([each for each in side if each.poisoned] for side in (ours, theirs))
    names = _renamed(mine, its)
    places = {_place(each, names): each for each in mine}
    matched = [(places[place], each) for each in its if (place := _place(each, {})) in places]
    pairs = [found for one, two in matched if (found := _pair(one, two, ours, theirs, same))]
    return Beside(
        first=first.run.folder,
        second=second.run.folder,
        sameness=same,
        renamed=tuple(f"{axis}: {old} in the first, {new} in the second" for axis, (old, new) in names.items()),
        pairs=tuple(pairs),
        alone=len(mine) + len(its) - 2 * len(matched),
        left=(_missing(first), _missing(second)),
        stopped=(notice(first.run), notice(second.run)),
        looked=(first.run.sequential is not None, second.run.sequential is not None),
    )


def _missing(one: Opened) -> int:
    """Jobs not done; those that a run which stopped on purpose does without are not missing."""
    return 0 if notice(one.run) else one.left


def _renamed(ours: Sequence[Cell], theirs: Sequence[Cell]) -> dict[str, tuple[str, str]]:
    """Axes on which both runs have a single name, and not the same."""
    found = {}
    for axis in _AXES:
        names = [{getattr(each, axis) for each in side} for side in (ours, theirs)]
        if len(names[0]) == len(names[1]) == 1 and names[0] != names[1]:
            found[axis] = (names[0].pop(), names[1].pop())
    return found


def _place(cell: Cell, renamed: dict[str, tuple[str, str]]) -> tuple[str, ...]:
    """Where a cell stands, in the names of the second run."""
    return tuple(renamed[axis][1] if axis in renamed else getattr(cell, axis) for axis in _AXES)


def _pair(one: Cell, two: Cell, ours: Sequence[Cell], theirs: Sequence[Cell], same: Sameness) -> Pair | None:
    """Two cells compared; None where they are to be paired and share no trial."""
    groups = [networks(each.poisoned).trials for each in (one, two)]
    if same.unpaired:
        return _of(one, two, ours, theirs, *_apart(one, two))
    shared = sorted(groups[0].keys() & groups[1].keys())
    if not shared:
        return None
    if groups[0].keys() != groups[1].keys():
        kept = set(shared)
        one, two = (
            replace(each, poisoned=like((v for v in each.poisoned if v.trial in kept), each.poisoned))
            for each in (one, two)
        )
    return _of(one, two, ours, theirs, *_together(one, two, shared))


def _of(
    one: Cell,
    two: Cell,
    ours: Sequence[Cell],
    theirs: Sequence[Cell],
    difference: Difference,
    test: str,
    drawn: Bootstrap | None,
) -> Pair:
    left, right = success(one.poisoned), success(two.poisoned)
    assert left is not None
    assert right is not None
    sides = ((one, ours), (two, theirs))
    return Pair(
        first=one,
        second=two,
        one=left,
        two=right,
        difference=difference,
        test=test,
        bootstrap=drawn,
        unlanded=tuple(place for place, side in enumerate(sides) if _unlanded(*side)),
    )


def _together(one: Cell, two: Cell, trials: Sequence[int]) -> tuple[Difference, str, Bootstrap | None]:
    """The second less the first over the same trials."""
    groups = [networks(each.poisoned).trials for each in (one, two)]
    first, second = ([[victim.success for victim in side[trial]] for trial in trials] for side in groups)
    gaps = [_mean(b) - _mean(a) for a, b in zip(first, second, strict=True)]
    drawn = bootstrap(gaps, seed=0)
    if one.graded:
        found = gap(two.poisoned, one.poisoned)
        assert found is not None
        return replace(found, chance=min(1.0, 2 * found.chance)), "Student's t", drawn
    found = paired(second, first)
    if single_hits(first) and single_hits(second):
        flat = [[values[0] for values in side] for side in (first, second)]
        return replace(found, chance=mcnemar(*flat).chance), "McNemar", drawn
    return replace(found, chance=min(1.0, 2 * found.chance)), "sign flips", drawn


def _apart(one: Cell, two: Cell) -> tuple[Difference, str, None]:
    """The second less the first over trials that are not the same."""
    first, second = (list(_by_trial(each)) for each in (one, two))
    found = unpaired(second, first)
    if one.graded:
        found = _between_means(found, average(two.poisoned), average(one.poisoned))
    single = single_hits(first) and single_hits(second)
    return found, "Fisher, unpaired" if single else "permutation, unpaired", None


def _between_means(found: Difference, one: Estimate | None, two: Estimate | None) -> Difference:
    """The same with an interval put together from Student's of each mean; of a single trial nothing is known."""
    assert one is not None
    assert two is not None
    if min(one.trials, two.trials) < 2:
        return replace(found, low=-1.0, high=1.0)
    down, up = math.hypot(one.mean - one.low, two.high - two.mean), math.hypot(one.high - one.mean, two.mean - two.low)
    return replace(found, low=max(-1.0, found.mean - down), high=min(1.0, found.mean + up))


def _by_trial(cell: Cell) -> Iterator[list[float]]:
    for victims in networks(cell.poisoned).trials.values():
        yield [victim.success for victim in victims]


def _unlanded(cell: Cell, every: Sequence[Cell]) -> bool:
    if cell.defense == "none":
        return False
    plain = next((each for each in same_attack(every, cell) if each.defense == "none" and each.poisoned), None)
    return plain is None or standing(plain) != "landed"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
