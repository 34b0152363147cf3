"""An experiment is a grid of trials: its settings, its jobs, and what decides the result of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from mithridate import config
from mithridate.attack import Attack
from mithridate.defense import Defense, protect
from mithridate.errors import ConfigError
from mithridate.goal import Misclassify
from mithridate.job import BARE as BARE  # those who speak of experiments find jobs here
from mithridate.job import Job as Job
from mithridate.job import JobKind as JobKind
from mithridate.job import result_keys as result_keys
from mithridate.knowledge import Box, box
from mithridate.learner import Learner
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import Trained
from mithridate.loading import data_digest
from mithridate.naming import label, scenario_name
from mithridate.protocol import Protocol, Published, changes
from mithridate.sampling import parts
from mithridate.seeding import Seed
from mithridate.settings import LATER, METHOD, distinct, fingerprint, plain
from mithridate.setups import set_up, setups
from mithridate.source import Source, Split
from mithridate.stacks import Controls, Stack, stacks
from mithridate.stacks import names as stack_names
from mithridate.threat import ThreatModel
from mithridate.trial import Trial
from mithridate.variation import varied

MOST_JOBS = 100_000
"""Jobs in one experiment: listing them takes half a minute by then, and running them would take months."""


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
    """What the attacker trains (several: an ensemble); empty: the same as the first victim."""
    ensemble: int = 0
    """Number of surrogates, cycling through ``surrogates``; 0: one of each."""
    share_surrogates: bool = True
    """Train the surrogates once for all trials (they see the same clean data), or anew for each trial. Where
    trials have rows of their own (``resample``) they are always trained for each."""
    defenses: tuple[tuple[Defense, ...], ...] = ((),)
    """Stacks of defenses tried, the first of a stack innermost; the empty stack (``none``) is no defense. The controls
    of those that drop rows come by themselves (``controls.drops``)."""
    adaptive: bool = False
    """The attacker knows the defense: it trains its surrogates inside the stack that the victim wears."""
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
    """Fixed trials instead of drawn ones: ``benchmark-scratch``, ``benchmark-transfer``, ``convex-polytope-2019``, or
    a JSON file of set-ups."""
    training_rows: int = 0
    """How many rows victims train on: the first of each class, equally many, the trial's base rows among them (the
    benchmark's transfer track: 2500). 0: all. ``threat.budget`` is a share of these."""
    resample: bool = field(default=False, metadata=LATER)
    """Each trial has training rows of its own: ``training_rows`` of them, any number, drawn at random with every class
    among them (0: all that are left), and validation rows of its own where the goal asks for some. Its clean victims
    train on the same rows as its poisoned ones. Else all trials share one draw."""
    protocol: Protocol | None = None
    """The published protocol that this follows; where a setting that it fixes was changed, the report says so."""
    published: tuple[Published, ...] = ()
    """Numbers that others published, to stand beside ours."""
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
        for what in ("ensemble", "first_trial", "vary_trials", "training_rows"):
            if getattr(self, what) < 0:
                raise ConfigError(f"{what} must be at least 0, but it is {getattr(self, what)}")
        for what in ("attacks", "victims", "defenses"):
            _check_different(what, getattr(self, what))
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that contradict each other."""
        if self._size() > MOST_JOBS:
            raise ConfigError(
                f"the grid has {self._size()} jobs, but at most {MOST_JOBS} can be run together; "
                "lower trials, runs or controls, or vary less"
            )
        if self.resample and (self.setups or self.threat.base_ids):
            raise ConfigError(
                "resample draws the training rows of each trial, but setups or threat.base_ids fix some; choose one"
            )
        if self.targets == "correct" and (self.setups or self.resample or not self.share_surrogates):
            raise ConfigError(
                "targets can be 'correct' only where trials share surrogates and training rows and are no fixed set-ups"
            )
        if self.targets == "correct" and isinstance(self.threat.goal, Misclassify) and self.threat.goal.ids:
            raise ConfigError("targets can be 'correct' only where they are drawn, but threat.goal.ids fixes them")
        kinds = self.surrogates or self.victims[:1]
        alike = all(isinstance(each, SGD) and each.start.frozen for each in kinds)
        if self.ensemble > len(kinds) and alike and all(each.in_feature_space for each in self.attacks):
            raise ConfigError(
                f"an ensemble of {self.ensemble} over {len(kinds)} surrogates repeats frozen features, which adds "
                "nothing; name as many surrogates as it has, each with weights of its own"
            )
        if self.adaptive and any(defense.oracle for stack in self.defenses for defense in stack):
            raise ConfigError("an adaptive attacker cannot wear a defense that is told the truth (expected: true)")
        for each in self.published:
            if not 0 <= each.victim < len(self.victims):
                raise ConfigError(f"published names victim {each.victim}, but there are {len(self.victims)} (from 0)")

    def _size(self) -> int:
        """How many jobs there are, counted without listing them; a repeated variation counts again."""
        bouts = len(self.victims) * len(self.defenses)
        varied = sum(len(values) for values in self.vary.values())
        trials = (self.trials + varied * len(self.numbers(1))) * len(self.attacks)
        judged = self.runs * len(self.victims) * len(self.stacks()) + self.controls.noise * bouts
        crafts = len(self.defenses) if self.adaptive else 1
        surrogates = (self.ensemble or len(self.surrogates)) * (1 + crafts)
        clean = self.controls.clean * bouts * (self.trials if self.resample else 1)
        return len(self.pretrainings()) + surrogates + clean + trials * (crafts + judged)

    def stacks(self) -> tuple[Stack, ...]:
        """The stacks of defenses, and the controls of those that drop rows."""
        return self._named_stacks[0]

    def defense_names(self) -> list[str]:
        """A name for each stack, for tables."""
        return self._named_stacks[1]

    @cached_property
    def _named_stacks(self) -> tuple[tuple[Stack, ...], list[str]]:
        found = stacks(self.defenses, self.controls)
        return found, stack_names(found)

    def crew(self, stack: int = BARE) -> tuple[Learner, ...]:
        """The surrogate learners, as many as the ensemble has, inside the stack of this number."""
        kinds = self.surrogates or self.victims[:1]
        found = itertools.islice(itertools.cycle(kinds), self.ensemble or len(kinds))
        worn = () if stack == BARE else self.stacks()[stack].defenses
        return tuple(protect(learner, worn) for learner in found)

    def pretrainings(self) -> tuple[Trained, ...]:
        """The networks to be pretrained here, each once, in the order of victims and surrogates."""
        return _pretrainings([*self.victims, *self.surrogates])

    def box(self, attack: int, victim: int, *, scenario: int = 0) -> Box | None:
        """What an attack's surrogates share with a victim; None where it has none here, so that nothing is known."""
        if not self.attacks[attack].needs_surrogate:
            return None
        crew, knows = self.attacks[attack].crew(self.crew()), self.scenarios()[scenario].knows
        return box(crew, self.victims[victim], knows=knows)

    def deviations(self) -> list[str]:
        """Where this leaves the protocol it names."""
        if self.protocol is None:
            return []
        text = config.load_preset(self.protocol.name)
        fixed = config.parse(Experiment, config.read_yaml(text, where=self.protocol.name))
        version = fixed.protocol.version if fixed.protocol else None
        other = [] if version == self.protocol.version else [f"version: {version} -> {self.protocol.version}"]
        return other + changes(plain(self), plain(fixed))

    def published_beside(self) -> list[dict[str, Any]]:
        """The numbers published by others, under the names that tables give our attacks and victims."""
        kinds, attacks, victims = [each.name for each in self.attacks], self.attack_names(), self.victim_names()
        return [
            {**plain(each), "attack": attacks[k], "victim": victims[each.victim]}
            for each in self.published
            for k, kind in enumerate(kinds)
            if kind == each.attack
        ]

    def faced(self, stack: int) -> int:
        """The stack that the attacker reckons with; a control meets the same poison as what it controls."""
        return next(iter(self.stacks()[stack].control_of), stack) if self.adaptive else BARE

    def scenarios(self) -> list[ThreatModel]:
        """The base threat model, then each variation of it."""
        return list(self._named_scenarios)

    @cached_property
    def _named_scenarios(self) -> dict[ThreatModel, str]:
        """Each scenario and its name, which depends on the base and the variation alone, never on other variations."""
        named = {self.threat: scenario_name(self.threat)}
        for place, values in self.vary.items():
            for value in values:
                threat = varied(self.threat, place, value)
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
        return list(self._named_scenarios.values())

    def numbers(self, scenario: int = 0) -> range:
        """The numbers of the trials of a scenario."""
        count = min(self.vary_trials or self.trials, self.trials) if scenario else self.trials
        return range(self.first_trial, self.first_trial + count)

    def threat_of(self, job: Job) -> ThreatModel:
        """The threat model of a job's trial."""
        threat = self.scenarios()[job.scenario]
        return set_up(threat, setups(self.setups), job.trial) if self.setups else threat

    def trial(self, job: Job) -> Trial:
        """The trial a job belongs to."""
        return Trial(
            attack=self.attacks[job.attack],
            threat=self.threat_of(job),
            surrogates=self.crew(self.faced(job.defense)),
            victim=self.victims[job.victim],
            defenses=self.stacks()[job.defense].defenses,
            seed=self._seed(job),
            victims=self.runs,
        )

    def _seed(self, job: Job) -> Seed:
        return Seed(self.seed).child("trial", job.trial)

    def rows(self, job: Job, data: Split) -> Split:
        """The rows of the source's ``data`` that a job may touch, cut by what decides it.

        Surrogates and clean victims of all trials have those without the base rows that set-ups fix for each trial.
        Raises :class:`ConfigError` where there are too few rows.
        """
        threat, goal, fixed = self.threat_of(job), self.threat.goal, ("craft", "attack", "noise")
        own = "own-rows" in (self.threat.knows, threat.knows)
        if own and not self.training_rows:
            raise ConfigError("knows: own-rows needs training_rows, as many for the victim as for the attacker")
        found = parts(
            data.train,
            size=self.training_rows,
            validation=goal.validation_rows(len(data.train)),
            own=self.training_rows if own else 0,
            at_random=self.resample,
            base_ids=threat.base_ids if job.kind in fixed or goal.holds_out else (),
            seed=(self._seed(job) if self.resample else Seed(self.seed)).child("rows"),
        )
        return Split(train=found.train, test=data.test, validation=found.validation, own=found.own)

    def jobs(self) -> list[Job]:
        """All jobs, those that matter first: surrogates, a clean victim, then trial by trial, base scenario first.

        The other clean victims come one after each trial, so that an early stop has both sides; where trials have rows
        of their own, those of a trial before it.
        """
        bouts = list(itertools.product(range(len(self.victims)), range(len(self.defenses))))
        before = self._pretraining_jobs()
        early = tuple(job.key for job in before)
        firsts = [replace(job, needs=early) for job in self._surrogate_jobs()]
        first_keys = tuple(job.key for job in firsts if job.defense == BARE) if self.targets == "correct" else ()
        clean = self._clean_jobs(bouts, needs=(*early, *first_keys))
        trials = [
            [
                job
                for attack in range(len(self.attacks))
                for job in self._trial_jobs(scenario, number, attack, bouts, needs=[*before, *firsts])
            ]
            for scenario in range(len(self.scenarios()))
            for number in self.numbers(scenario)
        ]
        turns = itertools.zip_longest(clean, trials, fillvalue=())
        return [*before, *firsts, *(job for turn in turns for part in turn for job in part)]

    def _clean_jobs(self, bouts: Sequence[tuple[int, int]], *, needs: tuple[str, ...]) -> list[list[Job]]:
        """Clean victims in turns: one of each kind for all trials, or all of one trial with rows of its own."""
        turns: list[list[dict[str, int]]] = [[{"run": run}] for run in range(self.controls.clean)]
        if self.resample:
            turns = [[{"run": run, "trial": k} for run in range(self.controls.clean)] for k in self.numbers()]
        return [
            [self._job("clean", **place, victim=v, defense=d, needs=needs) for place in turn for v, d in bouts]
            for turn in turns
        ]

    def _pretraining_jobs(self) -> list[Job]:
        """The networks to be pretrained; one that starts from another of them waits for those before it."""
        found: list[Job] = []
        for k, weights in enumerate(self.pretrainings()):
            needs = tuple(job.key for job in found) if weights.learner.beginnings() else ()
            found.append(self._job("pretraining", run=k, needs=needs))
        return found

    def _surrogate_jobs(self) -> list[Job]:
        """The shared surrogates: bare ones where they are needed, and an adaptive attacker's inside each stack."""
        if not self._shares():
            return []
        faced = {self.faced(number): None for number in range(len(self.stacks()))}
        wanted = [*([BARE] if self.targets == "correct" else []), *faced]
        jobs = [self._job("surrogate", defense=stack, run=k) for stack in wanted for k in range(len(self.crew()))]
        return list({job.key: job for job in reversed(jobs)}.values())[::-1]  # the first of equal ones

    def _trial_jobs(
        self, scenario: int, number: int, attack: int, bouts: Sequence[tuple[int, int]], *, needs: Sequence[Job]
    ) -> list[Job]:
        """Crafting, then the victims of one trial, attack and noise in turn."""
        place = {"scenario": scenario, "trial": number, "attack": attack}
        keys = tuple(job.key for job in needs)
        faced = dict.fromkeys(self.faced(stack) for stack in range(len(self.stacks())))
        crafts = {each: self._job("craft", **place, defense=max(each, 0), needs=keys) for each in faced}
        poisoned = [
            job
            for run in range(self.runs)
            for v in range(len(self.victims))
            for job in self._defended(crafts, {**place, "victim": v, "run": run})
        ]
        noisy = [
            self._job("noise", **place, victim=v, defense=d, run=run, needs=(crafts[self.faced(d)].key,))
            for run in range(self.controls.noise)
            for v, d in bouts
        ]
        return [*crafts.values(), *poisoned, *noisy]

    def _defended(self, crafts: Mapping[int, Job], place: Mapping[str, int]) -> list[Job]:
        """One victim under every stack. Those that begin with another's training come after it, and find it done."""
        found: list[Job] = []
        by_stack: dict[str, Job] = {}
        for number, stack in enumerate(self.stacks()):
            before = [found[each].key for each in stack.control_of[:1] if each < number]
            before += [job.key for job in (by_stack.get(fingerprint(stack.defenses[:-1])),) if job and stack.defenses]
            craft = crafts[self.faced(number)]
            job = self._job("attack", **place, defense=number, needs=(craft.key, *dict.fromkeys(before)))
            by_stack[fingerprint(stack.defenses)] = job
            found.append(job)
        return found

    def _shares(self) -> bool:
        needed = self.targets == "correct" or any(attack.needs_surrogate for attack in self.attacks)
        return self.share_surrogates and needed and not self.resample  # other rows, other networks

    def _job(self, kind: JobKind, **place: Any) -> Job:
        job = Job(kind=kind, **place)
        return replace(job, key=fingerprint(METHOD, self._decides(job)))

    def _decides(self, job: Job) -> list[Any]:
        """Everything that decides a job's result."""
        if job.kind == "pretraining":
            return [job.kind, self.pretrainings()[job.run], self.pretrainings()[job.run].identity()]
        base: list[Any] = [job.kind, data_digest(self.data), self.seed, job.run]
        base += [self.training_rows] if self.training_rows else []
        base += [cut] if (cut := self._cut(job)) else []
        base += [list(each) for learner in self._starting(job) if (each := learner.beginnings())]
        if job.kind == "surrogate":
            return [*base, self.crew(job.defense)[job.run]]
        if self.targets != "any":
            base += [self.targets, self.crew()]
        if job.kind == "clean":
            judged = setups(self.setups) if self.setups else self.threat.goal
            return [*base, self.victims[job.victim], self.stacks()[job.defense].defenses, judged]
        trial = replace(self.trial(job), victims=1)
        return [*base, trial, job.trial, self.share_surrogates]

    def _cut(self, job: Job) -> dict[str, Any]:
        """What decides which rows a job has, beside the number of training rows and the base rows of its trial."""
        goal, found = self.threat.goal, dict[str, Any]()
        if self.resample:
            found["trial of the rows"] = job.trial
        if goal.holds_out:
            found["held out"] = goal
        if job.kind == "surrogate" and self.threat.knows != "training-rows":
            found["knows"] = self.threat.knows
        return found

    def _starting(self, job: Job) -> list[Learner]:
        """The learners, bare of defenses, that a job's result depends on."""
        crew = [] if job.kind == "clean" and self.targets == "any" else [*self.crew()]
        return crew[job.run : job.run + 1] if job.kind == "surrogate" else [*crew, self.victims[job.victim]]


def _pretrainings(learners: Sequence[Learner]) -> tuple[Trained, ...]:
    """The trainings done here whose weights the learners start from, each once, after those that it starts from."""
    sources = [each.start.source() for each in learners if isinstance(each, SGD)]
    own = {fingerprint(each): each for each in sources if isinstance(each, Trained)}
    before = _pretrainings([each.learner for each in own.values()]) if own else ()
    return tuple(({fingerprint(each): each for each in before} | own).values())


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
