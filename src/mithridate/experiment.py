"""An experiment is a grid of trials; this module lists its jobs, finds what is wrong with it, and performs one job."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from mithridate import config, poisonset, registry
from mithridate.attack import Attack, craft
from mithridate.attack import problems as attack_problems
from mithridate.dataset import Dataset
from mithridate.defense import Defense, protect, stack_name
from mithridate.errors import ConfigError, DataError, MithridateError, ProblemsError, nearest
from mithridate.goal import Misclassify
from mithridate.learner import Learner, predictions
from mithridate.learners.cached import Cached
from mithridate.peers import Setup, read_setups
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.settings import distinct, fingerprint, plain
from mithridate.source import Source, Split
from mithridate.threat import ThreatModel
from mithridate.trial import (
    Trial,
    feature_map,
    judge,
    noise_control,
    observed_training,
    peak_memory,
    rows_problems,
)
from mithridate.watch import Watch, silent

METHOD = 1
"""Raised whenever a change makes old results incomparable with new ones; part of every job's key."""

MOST_JOBS = 100_000
"""Jobs in one experiment: listing them takes half a minute by then, and running them would take months."""

JobKind = Literal["surrogate", "clean", "craft", "attack", "noise"]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What runs beside every attack, so that its number means something. 0 switches a control off."""

    clean: int = 2
    """Victims trained on clean data and judged on every trial's targets: the base rate."""
    noise: int = 1
    """Victims a trial trained on the same rows with random noise of the same radius."""

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        if min(self.clean, self.noise) < 0:
            raise ConfigError("controls are numbers of victims, at least 0")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Attacks x scenarios x victims x defenses, each over the same trials."""

    name: str
    """What the run is called."""
    about: str = ""
    """A sentence for the report."""
    notes: tuple[str, ...] = ()
    """What a reader must know to judge the numbers (how settings were chosen, what was measured here)."""
    data: Source
    """Where training and test set come from."""
    threat: ThreatModel = field(default_factory=ThreatModel)
    """What the attacker wants and may do."""
    vary: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Threat-model settings to try one at a time beside the base: place (``budget``) to list of values."""
    vary_trials: int = 0
    """Trials for each variation, the first of the base's; 0: as many as the base has."""
    attacks: tuple[Attack, ...]
    """The attacks compared."""
    victims: tuple[Learner, ...]
    """What the victims train."""
    surrogates: tuple[Learner, ...] = ()
    """What the attacker trains (several: an ensemble); empty: the same as the first victim (grey box)."""
    ensemble: int = 0
    """Number of surrogates, cycling through ``surrogates``; 0: one of each."""
    share_surrogates: bool = True
    """Train the surrogates once for all trials (they see the same clean data), or anew for each trial."""
    defenses: tuple[tuple[Defense, ...], ...] = ((),)
    """Stacks of defenses tried; the empty stack is no defense."""
    trials: int = 5
    """Draws of target and poison rows."""
    first_trial: int = 0
    """Number of the first trial; settings are best chosen on trials that are not shown."""
    runs: int = 2
    """Victims a trial."""
    controls: Controls = field(default_factory=Controls)
    """What runs beside every attack."""
    targets: Literal["any", "correct"] = "any"
    """Draw targets from all test rows of their class (as the papers do), or only from those that every surrogate calls
    by their right name: an attacker picks a target worth attacking. Needs shared surrogates."""
    setups: str = ""
    """Fixed trials instead of drawn ones: ``benchmark-scratch``, ``benchmark-transfer``, or a JSON file of set-ups."""
    seed: int = 0
    """Decides everything that is random."""

    def __post_init__(self) -> None:
        """Refuse an empty grid, one too large to list, things named twice, and names that no folder can have."""
        if not _is_folder_name(self.name):
            raise ConfigError(
                f"name must be fit for a folder (1 to 100 characters, no slashes), but it is '{self.name[:100]}'"
            )
        for what in ("trials", "runs"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        for what in ("ensemble", "first_trial", "vary_trials"):
            if getattr(self, what) < 0:
                raise ConfigError(f"{what} must be at least 0, but it is {getattr(self, what)}")
        if self._size() > MOST_JOBS:
            raise ConfigError(
                f"the grid has {self._size()} jobs, but at most {MOST_JOBS} can be run together; "
                "lower trials, runs or controls, or vary less"
            )
        if self.targets == "correct" and (self.setups or not self.share_surrogates):
            raise ConfigError(
                "targets can be 'correct' only where surrogates are shared and trials are no fixed set-ups"
            )
        for what in ("attacks", "victims", "defenses"):
            _check_different(what, getattr(self, what))

    def _size(self) -> int:
        """How many jobs there are, counted without listing them; a repeated variation counts again."""
        bouts = len(self.victims) * len(self.defenses)
        varied = sum(len(values) for values in self.vary.values())
        crafts = (self.trials + varied * len(self.numbers(1))) * len(self.attacks)
        judged = (self.runs + self.controls.noise) * bouts
        return (self.ensemble or len(self.surrogates)) + self.controls.clean * bouts + crafts * (1 + judged)

    def crew(self) -> tuple[Learner, ...]:
        """The surrogate learners, as many as the ensemble has."""
        kinds = self.surrogates or self.victims[:1]
        return tuple(itertools.islice(itertools.cycle(kinds), self.ensemble or len(kinds)))

    def scenarios(self) -> list[ThreatModel]:
        """The base threat model, then each variation of it."""
        return list(self._named_scenarios())

    def _named_scenarios(self) -> dict[ThreatModel, str]:
        """Each scenario and its name, which depends on the base and the variation alone, never on other variations."""
        named = {self.threat: scenario_name(self.threat)}
        for place, values in self.vary.items():
            for value in values:
                threat = _varied(self.threat, place, value)
                hidden = "" if place in ("budget", "perturbation.radius") else f" ({place}={value})"
                named.setdefault(threat, scenario_name(threat) + hidden)
        return named

    def attack_names(self) -> list[str]:
        """A name for each attack, for tables."""
        return distinct(self.attacks, [attack.name for attack in self.attacks])

    def victim_names(self) -> list[str]:
        """A name for each victim, for tables."""
        return distinct(self.victims, [label(victim) for victim in self.victims])

    def scenario_names(self) -> list[str]:
        """A name for each scenario, for tables."""
        return list(self._named_scenarios().values())

    def numbers(self, scenario: int = 0) -> range:
        """The numbers of the trials of a scenario."""
        count = min(self.vary_trials or self.trials, self.trials) if scenario else self.trials
        return range(self.first_trial, self.first_trial + count)

    def trial(self, job: Job) -> Trial:
        """The trial a job belongs to."""
        threat = self.scenarios()[job.scenario]
        if self.setups:
            threat = _set_up(threat, _setups(self.setups), job.trial)
        return Trial(
            attack=self.attacks[job.attack],
            threat=threat,
            surrogates=self.crew(),
            victim=self.victims[job.victim],
            defenses=self.defenses[job.defense],
            seed=Seed(self.seed).child("trial", job.trial),
            victims=self.runs,
        )

    def jobs(self) -> list[Job]:
        """All jobs, those that matter first: surrogates, a clean victim, then trial by trial, base scenario first.

        The other clean victims come one after each trial, so that an early stop has both sides.
        """
        firsts = [self._job("surrogate", run=k) for k in range(len(self.crew()) if self._shares() else 0)]
        bouts = list(itertools.product(range(len(self.victims)), range(len(self.defenses))))
        first_keys = tuple(job.key for job in firsts) if self.targets == "correct" else ()
        clean = [
            [self._job("clean", victim=v, defense=d, run=run, needs=first_keys) for v, d in bouts]
            for run in range(self.controls.clean)
        ]
        trials = [
            [
                job
                for attack in range(len(self.attacks))
                for job in self._trial_jobs(scenario, number, attack, bouts, needs=firsts)
            ]
            for scenario in range(len(self.scenarios()))
            for number in self.numbers(scenario)
        ]
        turns = itertools.zip_longest(clean, trials, fillvalue=())
        return [*firsts, *(job for turn in turns for part in turn for job in part)]

    def _trial_jobs(
        self, scenario: int, number: int, attack: int, bouts: Sequence[tuple[int, int]], *, needs: Sequence[Job]
    ) -> list[Job]:
        """Crafting, then the victims of one trial, attack and noise in turn."""
        place = {"scenario": scenario, "trial": number, "attack": attack}
        first = self._job("craft", **place, needs=tuple(job.key for job in needs))
        kinds: list[tuple[JobKind, int]] = [("attack", run) for run in range(self.runs)]
        kinds += [("noise", run) for run in range(self.controls.noise)]
        victims = [
            self._job(kind, **place, victim=v, defense=d, run=run, needs=(first.key,))
            for kind, run in kinds
            for v, d in bouts
        ]
        return [first, *victims]

    def _shares(self) -> bool:
        needed = self.targets == "correct" or any(attack.needs_surrogate for attack in self.attacks)
        return self.share_surrogates and needed

    def _job(self, kind: JobKind, **place: Any) -> Job:
        job = Job(kind=kind, **place)
        return replace(job, key=fingerprint(METHOD, self._decides(job)))

    def _decides(self, job: Job) -> list[Any]:
        """Everything that decides a job's result."""
        base: list[Any] = [job.kind, data_digest(self.data), self.seed, job.run]
        if job.kind == "surrogate":
            return [*base, self.crew()[job.run]]
        if self.targets != "any":
            base += [self.targets, self.crew()]
        if job.kind == "clean":
            judged = _setups(self.setups) if self.setups else self.threat.goal
            return [*base, self.victims[job.victim], self.defenses[job.defense], judged]
        trial = replace(self.trial(job), victims=1)
        return [*base, trial, job.trial, self.share_surrogates]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work: its place in the grid, its key, and the keys of the jobs it waits for."""

    kind: JobKind
    scenario: int = 0
    trial: int = 0
    attack: int = 0
    victim: int = 0
    defense: int = 0
    run: int = 0
    needs: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row for the store."""

    key: str
    kind: Literal["craft", "victim", "surrogate"]
    row: Mapping[str, Any]


def problems(experiment: Experiment) -> list[str]:
    """Everything that would stop the experiment, found without training anything; empty where nothing does."""
    try:
        scenarios = experiment.scenarios()
    except ProblemsError as error:
        return [f"vary: {each}" for each in error.problems]
    except MithridateError as error:
        return [f"vary: {error}"]
    found = _attack_problems(experiment, scenarios)
    try:
        data = load(experiment.data)
    except MithridateError as error:
        return [*found, f"data: {error}"]
    found += _network_problems(experiment, data)
    return found + _trial_problems(experiment, scenarios, data)


def _attack_problems(experiment: Experiment, scenarios: Sequence[ThreatModel]) -> list[str]:
    """Attacks that cannot do what a scenario asks, the same sentence once."""
    found = [
        f"attacks[{k}]: {each}"
        for k, attack in enumerate(experiment.attacks)
        for threat in scenarios
        for each in attack_problems(attack, threat, surrogates=experiment.crew())
    ]
    return list(dict.fromkeys(found))


def _network_problems(experiment: Experiment, data: Split) -> list[str]:
    """Networks that do not fit the data."""
    found = []
    for where, learners in (("victims", experiment.victims), ("surrogates", experiment.surrogates)):
        for k, learner in enumerate(learners):
            try:
                learner.build(data.train.space, Seed(0))
            except MithridateError as error:
                found.append(f"{where}[{k}].model: {error}")
            except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # what torch says to absurd sizes
                text = str(error).partition("\n")[0]
                found.append(f"{where}[{k}].model: this network cannot be built on this machine ({text})")
    return found


def _trial_problems(experiment: Experiment, scenarios: Sequence[ThreatModel], data: Split) -> list[str]:
    """Goals and poison rows that cannot be drawn, the same sentence once."""
    found: dict[str, None] = {}
    for scenario in range(len(scenarios)):
        for number in experiment.numbers(scenario):
            try:
                trial = experiment.trial(Job(kind="craft", scenario=scenario, trial=number))
                agree = _disagreements(trial.threat, data) if experiment.setups else []
            except MithridateError as error:
                found[f"setups: {error}"] = None
                continue
            for each in agree + rows_problems(trial.threat, data, seed=trial.seed):
                found[f"threat: {each}"] = None
    return list(found)


def perform(
    experiment: Experiment, job: Job, *, folder: Path, device: torch.device, watch: Watch = silent
) -> list[Result]:
    """Do one job and return its rows. Files go to ``folder``; the store is written by the caller alone."""
    peak: list[int] = []
    data = _moved(load(experiment.data), device)
    with peak_memory(device, peak.append):
        results = _WORK[job.kind](experiment, job, data, folder, watch)
    return [replace(result, row={**result.row, "peak_memory": peak[0]}) for result in results]


def _surrogate(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch) -> list[Result]:
    """Train a shared surrogate, so that crafting finds it in the cache."""
    learner = _cached_crew(experiment, folder)[job.run]
    _, curve, seconds = observed_training(learner, data.train, seed=Seed(0), watch=watch, stage="surrogate")
    row = {"surrogate": job.run, "learner": label(experiment.crew()[job.run]), "curve": curve, "seconds": seconds}
    return [Result(key=job.key, kind="surrogate", row=row)]


def _craft(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch) -> list[Result]:
    """Craft one poison and write it as a poison set."""
    trial, started = experiment.trial(job), time.perf_counter()
    goal = trial.goal(_worth_attacking(experiment, data, folder))
    poison = craft(
        trial.attack,
        data.train,
        threat=trial.threat,
        aims=goal.known,
        surrogates=_cached_crew(experiment, folder),
        seed=trial.seed.child("craft"),
        watch=watch,
    )
    seconds = time.perf_counter() - started
    details = {"threat": plain(trial.threat), "attack": plain(trial.attack), "seed": trial.seed.value}
    details |= {"surrogates": plain(trial.surrogates), "data": plain(experiment.data), "trial": job.trial}
    poisonset.write(
        folder / "poisons" / job.key,
        poison=poison,
        base=data.train.rows(poison.rows.ids) if trial.threat.rows == "replace" else None,
        aims=goal.judged,
        details=details,
        data_digest=data.train.digest(),
    )
    row = {
        **_place(experiment, job, data.train),
        "rows": len(poison.rows),
        "seconds": seconds,
        "trace": {name: list(curve) for name, curve in poison.trace.items()},
        "folder": f"poisons/{job.key}",
    }
    return [Result(key=job.key, kind="craft", row=row)]


def _victim(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch) -> list[Result]:
    """Train and judge one victim on the poison as exported, or on noise in its place."""
    trial = experiment.trial(job)
    found = poisonset.read(folder / "poisons" / job.needs[0], triggers=registry.triggers())
    poison: Poison = found.poison
    aims = found.aims
    if job.kind == "noise":
        noise_seed = trial.seed.child("noise", job.run)
        poison = noise_control(data.train, threat=trial.threat, ids=poison.rows.ids, seed=noise_seed)
    poisoned = poison.apply(data.train)
    learner = protect(trial.victim, trial.defenses)
    seed = trial.seed.child("victim", job.run)
    model, curve, seconds = observed_training(learner, poisoned, seed=seed, watch=watch)
    metrics, targets = judge(model, aims, data.test)
    shown = job.run == 0 and job.kind == "attack"
    row = {
        **_place(experiment, job, data.train),
        **_victim_row(experiment, job),
        **metrics,
        "targets": list(targets),
        "judged": len(aims),
        "curve": {name: list(values) for name, values in curve.items()},
        "seconds": seconds,
        "training": job.key,
        "map": feature_map(model, poisoned, aims=aims, poison_ids=poison.rows.ids) if shown else None,
    }
    return [Result(key=job.key, kind="victim", row=row)]


def _clean(experiment: Experiment, job: Job, data: Split, folder: Path, watch: Watch) -> list[Result]:
    """Train one victim on clean data and judge it on the targets of every trial."""
    learner = Cached(
        learner=protect(experiment.victims[job.victim], experiment.defenses[job.defense]), folder=folder / "networks"
    )
    seed = Seed(experiment.seed).child("clean victim", job.run)
    model, curve, seconds = observed_training(learner, data.train, seed=seed, watch=watch, stage="clean victim")
    results, pool = [], _worth_attacking(experiment, data, folder)
    for number in experiment.numbers():
        trial = experiment.trial(replace(job, trial=number))
        goal = trial.goal(pool)
        metrics, targets = judge(model, goal.judged, data.test)
        picked = trial.threat.pick(data.train, goal.known, trial.seed.child("craft").child("pick"))
        row = {
            **_victim_row(experiment, job),
            **metrics,
            "attack": None,
            "scenario": None,
            "trial": number,
            "targets": list(targets),
            "judged": len(goal.judged),
            "curve": {name: list(values) for name, values in curve.items()},
            "seconds": seconds,
            "training": job.key,
            "map": feature_map(model, data.train, aims=goal.judged, poison_ids=picked) if job.run == 0 else None,
        }
        results.append(Result(key=f"{job.key}-{number}", kind="victim", row=row))
    return results


_WORK = {"surrogate": _surrogate, "craft": _craft, "attack": _victim, "noise": _victim, "clean": _clean}


def _worth_attacking(experiment: Experiment, data: Split, folder: Path) -> Split:
    """The data that goals are drawn from: with ``targets: correct``, test rows that every surrogate gets right."""
    if experiment.targets == "any":
        return data
    right = torch.ones(len(data.test), dtype=torch.bool, device=data.test.device)
    for learner in _cached_crew(experiment, folder):
        model = learner.fit(data.train, seed=Seed(0)).model
        right &= predictions(model, data.test.all_inputs()).argmax(1) == data.test.labels
    return replace(data, test=data.test.at(right))


def result_keys(experiment: Experiment, job: Job) -> list[str]:
    """The keys of the rows a job leaves behind: it is done when all are in the store."""
    if job.kind == "clean":
        return [f"{job.key}-{number}" for number in experiment.numbers()]
    return [job.key]


def load(source: Source) -> Split:
    """The data of a source, read once in this process."""
    return _loaded(source)[1]


def data_digest(source: Source) -> str:
    """SHA-256 over the training and test rows of a source: what jobs are keyed by, whatever the source is called."""
    return _loaded(source)[2]


def _loaded(source: Source) -> tuple[Source, Split, str]:
    """The source (kept, so that its objects keep their addresses), its data, and their digest."""
    key = f"{fingerprint(source)} {_live(source)}"
    if key not in _LOADED:
        _LOADED.clear()
        data = source.load()
        _LOADED[key] = (source, data, fingerprint(data.train.digest(), data.test.digest()))
    return _LOADED[key]


def _live(source: Source) -> list[int]:
    """Addresses of settings that are objects of the user's (a torch data set): their fingerprint says too little."""
    if not is_dataclass(source):
        return [id(source)]
    known = (str, int, float, tuple, Path, torch.Tensor, type(None))
    values = [getattr(source, each.name) for each in fields(source)]
    return [id(value) for value in values if not isinstance(value, known)]


_LOADED: dict[str, tuple[Source, Split, str]] = {}


def _moved(data: Split, device: torch.device) -> Split:
    if device.type == "cpu":
        return data
    return Split(train=data.train.to(device), test=data.test.to(device))


def _cached_crew(experiment: Experiment, folder: Path) -> list[Learner]:
    """The surrogate learners, each trained once for all trials, or once for each."""
    base = Seed(experiment.seed)
    return [
        Cached(
            learner=learner,
            folder=folder / "networks",
            pinned=base.child("surrogate", k) if experiment.share_surrogates else None,
        )
        for k, learner in enumerate(experiment.crew())
    ]


def _place(experiment: Experiment, job: Job, train: Dataset) -> dict[str, Any]:
    """Where a row belongs in the tables."""
    threat = experiment.scenarios()[job.scenario]
    return {
        "attack": experiment.attack_names()[job.attack],
        "scenario": experiment.scenario_names()[job.scenario],
        "trial": job.trial,
        "budget": threat.budget,
        "radius": perturbation_name(threat),
        "radius_value": getattr(threat.perturbation, "radius", None),
        "training_rows": len(train),
    }


def _victim_row(experiment: Experiment, job: Job) -> dict[str, Any]:
    return {
        "control": job.kind,
        "defense": stack_name(experiment.defenses[job.defense]),
        "victim": experiment.victim_names()[job.victim],
        "run": job.run,
    }


def label(learner: Learner) -> str:
    """A short name of a learner for tables: its network and its epochs."""
    model, epochs = getattr(learner, "model", None), getattr(learner, "epochs", None)
    if model is None:
        return learner.name
    return f"{model.name}, {epochs} epochs" if epochs else str(model.name)


def scenario_name(threat: ThreatModel) -> str:
    """A threat model in a few words, for tables."""
    return f"{threat.budget * 100:.3g} % of rows, {perturbation_name(threat)}"


def perturbation_name(threat: ThreatModel) -> str:
    """A perturbation in a few words: ``linf 8/255``."""
    radius = getattr(threat.perturbation, "radius", None)
    if radius is None:
        return threat.perturbation.name
    levels = radius * 255
    text = f"{levels:.3g}/255" if threat.perturbation.name == "linf" else f"{radius:.3g}"
    return f"{threat.perturbation.name} {text}"


def _varied(threat: ThreatModel, place: str, value: Any) -> ThreatModel:
    """The threat model with one setting changed, the place written with dots."""
    if place.split(".")[0] == "goal":
        raise ConfigError(f"{place} cannot be varied: the base rate belongs to one goal; make it a second experiment")
    return _replaced(threat, place.split("."), value)  # type: ignore[no-any-return]


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    first, *rest = path
    known = {each.name for each in fields(settings)} if is_dataclass(settings) else set()
    if first not in known:
        raise ConfigError(f"the threat model has no setting '{first}' here: {nearest(first, known)}")
    inner = _replaced(getattr(settings, first), rest, value) if rest else config.setting(type(settings), first, value)
    return replace(settings, **{first: inner})


def _is_folder_name(name: str) -> bool:
    return 0 < len(name) <= 100 and name.isprintable() and name.strip(". ") != "" and not set(name) & set("/\\")


def _check_different(what: str, kinds: Sequence[Any]) -> None:
    """Refuse none, and equal ones: their jobs would be the same."""
    keys = [fingerprint(each) for each in kinds]
    if not keys:
        raise ConfigError(f"{what} must name at least one")
    for k, key in enumerate(keys):
        if key in keys[:k]:
            raise ConfigError(f"{what} must all be different, but numbers {keys.index(key)} and {k} are equal")


@cache
def _setups(which: str) -> list[Setup]:
    """Fixed trials by bundled name or file."""
    bundled = Path(__file__).parent / "presets" / f"{which}.json"
    return list(read_setups(bundled if bundled.is_file() else Path(which)))


def _set_up(threat: ThreatModel, setups: Sequence[Setup], number: int) -> ThreatModel:
    """The threat model of one fixed trial: its target, its intended class, its rows."""
    if number >= len(setups):
        raise ConfigError(f"trial {number} was asked for, but there are {len(setups)} set-ups (0..{len(setups) - 1})")
    setup = setups[number]
    goal = Misclassify(ids=(setup.target_index,), intended=setup.base_class, target=setup.target_class)
    return replace(threat, goal=goal, base_ids=tuple(dict.fromkeys(setup.base_indices)))


def _disagreements(threat: ThreatModel, data: Split) -> list[str]:
    """Where the labels of the data are not those of a fixed trial: then the rows are not the ones meant."""
    assert isinstance(threat.goal, Misclassify)
    try:
        targets = data.test.rows(torch.tensor(threat.goal.ids))
        bases = data.train.rows(torch.tensor(threat.base_ids))
    except DataError as error:
        return [f"the set-ups name rows that this data lacks ({error}); they are made for full CIFAR-10"]
    found = []
    if targets.labels.tolist() != [threat.goal.target]:
        found.append(f"target {threat.goal.ids[0]} has another label than the set-up says; is this CIFAR-10 in order?")
    if set(bases.labels.tolist()) != {threat.goal.intended}:
        found.append("base rows have other labels than the set-up says; is this CIFAR-10 in order?")
    return found
