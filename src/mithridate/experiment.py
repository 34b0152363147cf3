"""An experiment is a grid of trials: its settings, the axes that follow from them, and the trial of each job."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mithridate import config
from mithridate.attack import Attack
from mithridate.contradictions import refuse_contradictions
from mithridate.defense import Defense, protect
from mithridate.errors import ConfigError
from mithridate.job import BARE as BARE  # those who speak of experiments find jobs here
from mithridate.job import Job as Job
from mithridate.job import JobKind as JobKind
from mithridate.job import result_keys as result_keys
from mithridate.knowledge import Box, box
from mithridate.learner import Learner
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import Trained
from mithridate.listing import listed
from mithridate.naming import label, scenario_name, with_crew
from mithridate.protocol import Protocol, Published, changes
from mithridate.sampling import parts
from mithridate.seeding import Seed
from mithridate.settings import LATER, distinct, fingerprint, plain
from mithridate.setups import set_up, setups
from mithridate.source import Source, Split
from mithridate.stacks import Controls, Stack, stacks
from mithridate.stacks import names as stack_names
from mithridate.threat import ThreatModel
from mithridate.trial import Trial
from mithridate.variation import varied


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Attacks x crews x scenarios x victims x defenses, each over the same trials."""

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
    crews: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=LATER)
    """Sets of these surrogates, each with a name, by number from 0 (``{one: [0], four: [0, 1, 2, 3]}``): each attack
    that trains surrogates crafts with each set. Empty: with all of them."""
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
    seeds: int = field(default=1, metadata=LATER)
    """Poisons crafted for the targets of each trial, each from a seed of its own and with ``runs`` victims of its own:
    what chance does to an attack that has all else given."""
    runs: int = 2
    """Victims a poison."""
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
        """Refuse an empty grid, one too large to list, things named twice, and settings that contradict each other."""
        refuse_contradictions(self)

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
        """All surrogate learners, as many as the ensemble has, inside the stack of this number."""
        kinds = self.surrogates or self.victims[:1]
        found = itertools.islice(itertools.cycle(kinds), self.ensemble or len(kinds))
        worn = () if stack == BARE else self.stacks()[stack].defenses
        return tuple(protect(learner, worn) for learner in found)

    def members(self, job: Job) -> tuple[int, ...]:
        """Numbers of the surrogates that a job's attack crafts with: its crew, or all where it trains none."""
        named = self.attacks[job.attack].needs_surrogate and self.crews
        return list(self.crews.values())[job.crew] if named else self.everybody

    @property
    def everybody(self) -> tuple[int, ...]:
        """Numbers of all surrogates."""
        return tuple(range(self.ensemble or len(self.surrogates) or 1))

    def attackers(self) -> list[tuple[int, int]]:
        """Each attack with each crew that it crafts with, by number; one that trains no surrogate has one crew."""
        crews = len(self.crews) or 1
        numbered = enumerate(self.attacks)
        return [(k, crew) for k, attack in numbered for crew in range(crews if attack.needs_surrogate else 1)]

    def pretrainings(self) -> tuple[Trained, ...]:
        """The networks to be pretrained here, each once, in the order of victims and surrogates."""
        return _pretrainings([*self.victims, *self.surrogates])

    def box(self, attack: int, victim: int, *, scenario: int = 0, crew: int = 0) -> Box | None:
        """What an attack's surrogates share with a victim; None where it has none here, so that nothing is known."""
        if not self.attacks[attack].needs_surrogate:
            return None
        everybody, members = self.crew(), self.members(Job(kind="craft", attack=attack, crew=crew))
        taking_part = self.attacks[attack].crew([everybody[number] for number in members])
        return box(taking_part, self.victims[victim], knows=self.scenarios()[scenario].knows)

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
        victims = self.victim_names()
        return [
            {**plain(each), "attack": name, "victim": victims[each.victim]}
            for each in self.published
            for (attack, _), name in self._named_attackers.items()
            if self.attacks[attack].name == each.attack
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

    def attack_kinds(self) -> list[str]:
        """A name for each attack, whatever crew it crafts with."""
        return distinct(self.attacks, [attack.name for attack in self.attacks])

    def attack_names(self) -> list[str]:
        """A name for each attack, for tables; where there are several crews, for each attack with each of its crews."""
        return list(self._named_attackers.values())

    def attack_name(self, job: Job) -> str:
        """What tables call a job's attack."""
        return self._named_attackers[job.attack, job.crew]

    @cached_property
    def _named_attackers(self) -> dict[tuple[int, int], str]:
        names, several = self.attack_kinds(), len(self.crews) > 1
        return {
            (attack, crew): with_crew(names[attack], self.crew_name(attack, crew) if several else None)
            for attack, crew in self.attackers()
        }

    def crew_name(self, attack: int, crew: int) -> str | None:
        """The name of a crew that an attack crafts with; None where crews have no names, or it has none."""
        return list(self.crews)[crew] if self.crews and self.attacks[attack].needs_surrogate else None

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
        crew = self.crew(self.faced(job.defense))
        return Trial(
            attack=self.attacks[job.attack],
            threat=self.threat_of(job),
            surrogates=tuple(crew[number] for number in self.members(job)),
            victim=self.victims[job.victim],
            defenses=self.stacks()[job.defense].defenses,
            seed=self._seed(job),
            victims=self.runs,
            poison=job.seed,
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
        """All jobs, in the order they are done: a first complete table early, and then narrower intervals."""
        return listed(self)


def _pretrainings(learners: Sequence[Learner]) -> tuple[Trained, ...]:
    """The trainings done here whose weights the learners start from, each once, after those that it starts from."""
    sources = [each.start.source() for each in learners if isinstance(each, SGD)]
    own = {fingerprint(each): each for each in sources if isinstance(each, Trained)}
    before = _pretrainings([each.learner for each in own.values()]) if own else ()
    return tuple(({fingerprint(each): each for each in before} | own).values())
