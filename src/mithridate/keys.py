"""The key of each job of an experiment: the hash of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from mithridate.job import BARE, Job, JobKind
from mithridate.learner import Learner
from mithridate.loading import data_digest
from mithridate.methods import outside
from mithridate.seeding import Seed
from mithridate.settings import METHOD, plain
from mithridate.setups import setups

if TYPE_CHECKING:
    from mithridate.experiment import Experiment

_MARK = re.compile(r'"\\u0001(\w+)\\u0001"')
"""What stands in the text of a trial for a part of it that others have in common."""


class Keys:
    """Hands out the keys of one experiment's jobs, and remembers the text of the parts that many jobs share.

    A key is ``fingerprint(METHOD, what decides)``, put together from the texts of the parts: a grid has a million jobs,
    but few attacks, victims and stacks.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Read no more of the experiment than its data's digest; texts are made when first asked for."""
        self._experiment, self._digest = experiment, _text(data_digest(experiment.data))
        self._stack = cache(lambda number: _text(experiment.stacks()[number].defenses))
        self._victim = cache(lambda number: _text(experiment.victims[number]))
        self._attack = cache(lambda number: _text(experiment.attacks[number]))
        self._judged = cache(self._judged_text)
        self._seed = cache(lambda trial: _text(Seed(experiment.seed).child("trial", trial)))
        self._threat = cache(lambda scenario, trial: _text(self._threat_of(scenario, trial)))
        self._surrogates = cache(self._surrogates_text)
        self._cut = cache(self._cut_texts)
        self._template = cache(self._template_pieces)
        self._beginning = cache(self._beginning_texts)
        self._strangers = cache(self._stranger_texts)
        self._chosen = cache(lambda: [_text(experiment.targets), _text(experiment.crew())])

    def of(self, job: Job) -> str:
        """The key of a job, whatever key it bears."""
        shared = job.kind in ("pretraining", "surrogate")  # numbered by ``run``
        place = (job.kind, job.scenario, job.attack, job.crew, job.victim, job.defense, job.run if shared else 0)
        text = f"[{METHOD}, [{', '.join([*self._decides(job), *self._strangers(*place)])}]]"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _decides(self, job: Job) -> list[str]:
        """Everything that decides a job's result, each as JSON text."""
        experiment = self._experiment
        if job.kind == "pretraining":
            weights = experiment.pretrainings()[job.run]
            return [_text(job.kind), _text(weights), _text(weights.identity())]
        found = [f'"{job.kind}"', self._digest, str(experiment.seed), str(job.run)]
        found += [str(experiment.training_rows)] if experiment.training_rows else []
        found += self._cut(job.trial if experiment.resample else None, job.kind == "surrogate")
        if job.kind == "surrogate":
            own = experiment.crew(job.defense)[job.run]
            return [*found, *_beginnings([experiment.crew()[job.run]]), _text(own)]
        chosen = self._chosen() if experiment.targets != "any" else []
        if job.kind == "clean":
            found += [*self._beginning((), job.victim), *chosen]
            return [*found, self._victim(job.victim), self._stack(job.defense), self._judged()]
        members = experiment.members(job)
        found += [*self._beginning(members, job.victim), *chosen, self._trial(job), str(job.trial)]
        found.append("true" if experiment.share_surrogates else "false")
        others = members != tuple(range(len(members)))  # whose seeds are those of other numbers
        return [*found, _text(members)] if others else found

    def _trial(self, job: Job) -> str:
        """The text of a job's trial, as of one victim."""
        experiment = self._experiment
        parts = {
            "attack": self._attack(job.attack),
            "threat": self._threat(job.scenario, job.trial if experiment.setups else None),
            "surrogates": self._surrogates(experiment.members(job), experiment.faced(job.defense)),
            "victim": self._victim(job.victim),
            "defenses": self._stack(job.defense),
            "seed": self._seed(job.trial),
        }
        return "".join([parts.get(piece, piece) for piece in self._template(job.seed)])

    def _template_pieces(self, seed: int) -> list[str]:
        """The text of a trial, cut where its parts belong; their names stand in their places."""
        marks: dict[str, Any] = {each: f"\x01{each}\x01" for each in _PARTS}
        trial = self._experiment.trial(Job(kind="craft", trial=self._experiment.first_trial, seed=seed))
        pieces = _MARK.split(_text(replace(trial, victims=1, **marks)))
        assert sorted(pieces[1::2]) == sorted(_PARTS), "each part stands in one place"
        return pieces

    def _threat_of(self, scenario: int, trial: int | None) -> Any:
        job = Job(kind="craft", scenario=scenario, trial=trial or 0)
        return self._experiment.scenarios()[scenario] if trial is None else self._experiment.threat_of(job)

    def _surrogates_text(self, members: tuple[int, ...], stack: int) -> str:
        crew = self._experiment.crew(stack)
        return _text([crew[number] for number in members])

    def _judged_text(self) -> str:
        experiment = self._experiment
        return _text(setups(experiment.setups) if experiment.setups else experiment.threat.goal)

    def _beginning_texts(self, members: tuple[int, ...], victim: int) -> list[str]:
        """What the data are on which the networks were pretrained that a result depends on."""
        experiment, crew = self._experiment, self._experiment.crew()
        taking_part = crew if experiment.targets != "any" else [crew[number] for number in members]
        return _beginnings([*taking_part, experiment.victims[victim]])

    def _stranger_texts(self, kind: JobKind, *place: int) -> list[str]:
        """The code versions of the methods behind a result that are not this package's, which it cannot vouch for."""
        scenario, attack, crew, victim, defense, run = place
        job = Job(kind=kind, scenario=scenario, attack=attack, crew=crew, victim=victim, defense=defense, run=run)
        found = outside(*self._methods(job))
        return [_text({"methods": found})] if found else []

    def _methods(self, job: Job) -> list[Any]:
        """The settings in which the methods stand that decide a job's result."""
        experiment, crew = self._experiment, self._experiment.crew()
        if job.kind == "pretraining":
            return [experiment.pretrainings()[job.run]]
        if job.kind == "surrogate":
            worn = () if job.defense == BARE else experiment.stacks()[job.defense].defenses
            return [crew[job.run], worn]
        chosen = [crew] if experiment.targets != "any" else []
        victim = [experiment.victims[job.victim], experiment.stacks()[job.defense].defenses]
        if job.kind == "clean":
            return [*chosen, *victim, experiment.threat.goal]
        faced = experiment.faced(job.defense)
        reckoned = [] if faced == BARE else [experiment.stacks()[faced].defenses]
        members = [crew[number] for number in experiment.members(job)]
        return [
            *chosen,
            *victim,
            *reckoned,
            members,
            experiment.attacks[job.attack],
            experiment.scenarios()[job.scenario],
        ]

    def _cut_texts(self, trial: int | None, is_surrogate: bool) -> list[str]:
        """What decides which rows a job has, beside the number of training rows and the base rows of its trial."""
        goal, found = self._experiment.threat.goal, dict[str, Any]()
        if trial is not None:
            found["trial of the rows"] = trial
        if goal.holds_out:
            found["held out"] = goal
        if is_surrogate and self._experiment.threat.knows != "training-rows":
            found["knows"] = self._experiment.threat.knows
        return [_text(found)] if found else []


_PARTS = ("attack", "threat", "surrogates", "victim", "defenses", "seed")


def _beginnings(learners: Iterable[Learner]) -> list[str]:
    return [_text(list(each)) for learner in learners if (each := learner.beginnings())]


def _text(value: Any) -> str:
    """A value as :func:`~mithridate.settings.fingerprint` writes it."""
    return json.dumps(plain(value), sort_keys=True, allow_nan=True)
