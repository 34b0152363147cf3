"""The jobs of an experiment in the order they are done: a first complete table early, and then narrower intervals."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mithridate.errors import MithridateError
from mithridate.job import BARE, Job, JobKind
from mithridate.keys import Keys
from mithridate.settings import fingerprint

if TYPE_CHECKING:
    from mithridate.experiment import Experiment


def listed(experiment: Experiment) -> list[Job]:
    """All jobs: the first trial of every cell, then the next trial, and further victims after the first of all trials.

    The clean victims of a turn come before its trials. Shared surrogates come just before the first that needs them.
    What one poison's victims do stands together, because some begin with another's training and find it done.
    """
    return list(_Listing(experiment).jobs())


class _Listing:
    """One pass over the grid of an experiment; made fresh for each."""

    def __init__(self, experiment: Experiment) -> None:
        self._grid, self._keys = experiment, Keys(experiment)
        self._attackers, self._scenarios = experiment.attackers(), range(len(experiment.scenarios()))
        self._bouts = list(itertools.product(range(len(experiment.victims)), range(len(experiment.defenses))))
        self._faced = [experiment.faced(stack) for stack in range(len(experiment.stacks()))]
        self._before = begun_by(experiment)
        self._early: tuple[str, ...] = ()
        self._surrogates: dict[tuple[int, int], Job] = {}
        self._crafts: dict[tuple[int, ...], Job] = {}

    def jobs(self) -> Iterator[Job]:
        """Pretrainings, then turn by turn: the clean victims, and each trial."""
        grid = self._grid
        for job in self._pretrainings():
            self._early = (*self._early, job.key)
            yield job
        for turn in range(max(grid.seeds * grid.runs, grid.controls.clean, grid.controls.noise)):
            if not grid.resample:
                yield from self._clean(turn, trial=0)
            for trial in grid.numbers():
                if grid.resample:
                    yield from self._clean(turn, trial=trial)
                for scenario, (attack, crew) in itertools.product(self._scenarios, self._attackers):
                    if trial in grid.numbers(scenario):
                        place = Job(kind="craft", scenario=scenario, trial=trial, attack=attack, crew=crew)
                        yield from self._poisoned(place, turn)

    def _pretrainings(self) -> Iterator[Job]:
        """The networks to be pretrained; one that starts from another of them waits for those before it."""
        for number, weights in enumerate(self._grid.pretrainings()):
            needs = self._early if weights.learner.beginnings() else ()
            yield self._keyed(Job(kind="pretraining", run=number, needs=needs))

    def _clean(self, turn: int, *, trial: int) -> Iterator[Job]:
        """One clean victim of each kind, where there are so many; ``targets: correct`` asks the surrogates first."""
        if turn >= self._grid.controls.clean:
            return
        judges: list[str] = []
        if self._grid.targets == "correct":
            judges = yield from self._shared(range(len(self._grid.crew())), BARE)
        needs = (*self._early, *judges)
        for victim, defense in self._bouts:
            yield self._keyed(Job(kind="clean", trial=trial, victim=victim, defense=defense, run=turn, needs=needs))

    def _poisoned(self, place: Job, turn: int) -> Iterator[Job]:
        """One attack on one trial: what is crafted, one victim of each kind on it, and the noise that stands beside."""
        seed = turn // self._grid.runs
        if seed < self._grid.seeds:
            for victim in range(len(self._grid.victims)):
                yield from self._defended(replace(place, victim=victim, seed=seed, run=turn))
        if turn < self._grid.controls.noise:
            for victim, defense in self._bouts:
                craft = yield from self._crafted(place, defense)
                yield self._keyed(_at(place, "noise", victim, defense, 0, turn, (craft.key,)))

    def _defended(self, place: Job) -> Iterator[Job]:
        """One victim under every stack. Those that begin with another's training come after it, and find it done."""
        found: list[str] = []
        for stack, before in enumerate(self._before):
            craft = yield from self._crafted(place, stack)
            needs = (craft.key, *dict.fromkeys(found[each] for each in before))
            job = self._keyed(_at(place, "attack", place.victim, stack, place.seed, place.run, needs))
            found.append(job.key)
            yield job

    def _crafted(self, place: Job, stack: int) -> Generator[Job, None, Job]:
        """The poison that a stack meets, once; returned by ``yield from``."""
        faced = self._faced[stack]
        where = (place.scenario, place.trial, place.attack, place.crew, place.seed, faced)
        if where not in self._crafts:
            needs = list(self._early)
            if self._grid.targets == "correct":
                needs += yield from self._shared(range(len(self._grid.crew())), BARE)
            if self._grid.attacks[place.attack].needs_surrogate:
                needs += yield from self._shared(self._grid.members(place), faced)
            wants = tuple(dict.fromkeys(needs))
            craft = self._keyed(_at(place, "craft", 0, max(faced, 0), place.seed, 0, wants))
            self._crafts[where] = craft
            yield craft
        return self._crafts[where]

    def _shared(self, members: Sequence[int], stack: int) -> Generator[Job, None, list[str]]:
        """Those of these surrogates inside a stack that were not listed yet; the keys of all, by ``yield from``."""
        if not _shares(self._grid):
            return []
        bare = BARE if stack == BARE or not self._grid.stacks()[stack].defenses else stack
        for number in members:
            if (number, bare) not in self._surrogates:
                job = self._keyed(Job(kind="surrogate", defense=stack, run=number, needs=self._early))
                self._surrogates[number, bare] = job
                yield job
        return [self._surrogates[number, bare].key for number in members]

    def _keyed(self, job: Job) -> Job:
        return replace(job, key=self._keys.of(job))


def _at(
    place: Job, kind: JobKind, victim: int, defense: int, seed: int, run: int, needs: tuple[str, ...]
) -> Job:  # ten times as fast as replacing
    """A job of one attack on one trial."""
    return Job(
        kind=kind,
        scenario=place.scenario,
        trial=place.trial,
        attack=place.attack,
        crew=place.crew,
        victim=victim,
        defense=defense,
        seed=seed,
        run=run,
        needs=needs,
    )


def begun_by(experiment: Experiment) -> list[tuple[int, ...]]:
    """For each stack, those before it with whose training its own begins: what it controls, and itself less the last.

    A filter's probe is the undefended network of the same seed, and a control does what its filter did first.
    """
    found: list[tuple[int, ...]] = []
    places: dict[str, int] = {}
    for number, stack in enumerate(experiment.stacks()):
        before = [each for each in stack.control_of[:1] if each < number]
        inner = places.get(fingerprint(stack.defenses[:-1])) if stack.defenses else None
        found.append(tuple(dict.fromkeys([*before, *([] if inner is None else [inner])])))
        places[fingerprint(stack.defenses)] = number
    return found


def sizes(experiment: Experiment) -> Counter[JobKind]:
    """How many jobs there are of each kind, counted without listing them or reading any data.

    Where a variation cannot be made (which preflight says), each value counts as a scenario of its own.
    """
    grid, stacks = experiment, range(len(experiment.stacks()))
    bouts = len(grid.victims) * len(grid.defenses)
    faced = set(map(grid.faced, stacks))
    poisons = _trials(grid) * len(grid.attackers())
    found: dict[JobKind, int] = {
        "pretraining": len(grid.pretrainings()),
        "surrogate": _surrogates(grid, faced),
        "clean": grid.controls.clean * bouts * (grid.trials if grid.resample else 1),
        "craft": poisons * grid.seeds * len(faced),
        "attack": poisons * grid.seeds * grid.runs * len(grid.victims) * len(stacks),
        "noise": poisons * grid.controls.noise * bouts,
    }
    return Counter({kind: count for kind, count in found.items() if count})


def _trials(grid: Experiment) -> int:
    """Trials of all scenarios together."""
    try:
        scenarios = len(grid.scenarios())
    except MithridateError:
        scenarios = 1 + sum(len(values) for values in grid.vary.values())
    return len(grid.numbers()) + (scenarios - 1) * len(grid.numbers(1))


def _surrogates(grid: Experiment, faced: set[int]) -> int:
    """Surrogates that trials share: each once bare where targets are chosen, and inside each stack reckoned with."""
    if not _shares(grid):
        return 0
    crafting = [Job(kind="craft", attack=attack, crew=crew) for attack, crew in grid.attackers()]
    members = {k for job in crafting if grid.attacks[job.attack].needs_surrogate for k in grid.members(job)}
    worn = {BARE if stack == BARE or not grid.stacks()[stack].defenses else stack for stack in faced}
    asked = {(number, stack) for number in members for stack in worn}
    if grid.targets == "correct":
        asked |= {(number, BARE) for number in range(len(grid.crew()))}
    return len(asked)


def _shares(grid: Experiment) -> bool:
    """Whether trials share surrogates: not where they have other rows, and so other networks."""
    needed = grid.targets == "correct" or any(attack.needs_surrogate for attack in grid.attacks)
    return grid.share_surrogates and needed and not grid.resample
