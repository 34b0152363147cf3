"""The referee: who knew what, whether the poison kept to the rules, and what freshly trained victims then did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mithridate.attack import Attack, craft
from mithridate.attack import problems as attack_problems
from mithridate.dataset import Dataset
from mithridate.defense import Defense, Truth, protect
from mithridate.detection import detection, recall
from mithridate.errors import ConfigError, MithridateError, ThreatModelError
from mithridate.goal import Aims, Goal
from mithridate.learner import Learner, predictions
from mithridate.model import Classifier
from mithridate.notes import Notes, no_notes
from mithridate.poison import Poison
from mithridate.sampling import parts
from mithridate.seeding import Seed
from mithridate.settings import LATER
from mithridate.source import Split
from mithridate.threat import ThreatModel
from mithridate.training import observed_training
from mithridate.watch import Watch, silent

CONFUSED_CLASSES = 20
"""Classes up to which a confusion matrix is kept: it has their square of numbers, for each victim."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one victim did."""

    victim: int
    """Number of the victim within its trial, from 0."""
    metrics: Mapping[str, float]
    """``success`` (fraction of targets hit), ``clean_accuracy`` (of the test rows that are no targets) and ``error``
    (of the whole test set), all in [0, 1], and ``seconds``. Where rows were removed: ``poison_recall`` and
    ``clean_drop``, in [0, 1]. And what defenses report (``epsilon``)."""
    targets: tuple[Mapping[str, Any], ...] = ()
    """For each target: ``true``, ``wanted``, ``predicted`` (None for a tie or NaN), ``probabilities``, ``hit``."""
    curve: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Training ``loss`` and ``accuracy`` after each epoch."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One draw of target and poison rows, one crafting, and several victims."""

    attack: Attack
    threat: ThreatModel
    surrogates: tuple[Learner, ...]
    """What the attacker trains; an ensemble where there are several."""
    victim: Learner
    """What the victim trains."""
    seed: Seed = Seed(0)
    """Decides everything that is random in the trial."""
    defenses: tuple[Defense, ...] = ()
    """What the victim wears, innermost first."""
    victims: int = 1
    """How many victims are trained, each from a seed of its own."""
    poison: int = field(default=0, metadata=LATER)
    """Number of the poison among those crafted for the same targets, each from a seed of its own."""

    @property
    def crafting(self) -> Seed:
        """Decides the rows poisoned and what they become."""
        return self.seed.child("craft", self.poison) if self.poison else self.seed.child("craft")

    def rows(self, data: Split) -> Split:
        """The data as this trial uses them: validation rows are held out, where its goal asks for some and none are."""
        goal = self.threat.goal
        if data.validation is not None or not goal.holds_out:
            return data
        count, seed = goal.validation_rows(len(data.train)), self.seed.child("rows")
        found = parts(data.train, validation=count, base_ids=self.threat.base_ids, seed=seed)
        return replace(data, train=found.train, validation=found.validation)

    def goal(self, data: Split) -> Goal:
        """The goal of this trial, drawn from its seed."""
        rows, seed = self.rows(data), self.seed.child("goal")
        return self.threat.goal.draw(rows.train, rows.test, seed, validation=rows.validation)

    def known_rows(self, data: Split) -> Dataset:
        """The rows that the attacker crafts on: those that victims train on, or others of its own.

        Raises :class:`ConfigError` where it is to know others and the data hold none.
        """
        if self.threat.knows == "training-rows":
            return self.rows(data).train
        if data.own is None:
            raise ConfigError(
                "knows is 'own-rows', but these data hold no rows of the attacker's own; set training_rows in the "
                "experiment, or give Split.own"
            )
        return data.own

    def craft(
        self,
        data: Split,
        goal: Goal,
        *,
        surrogates: Sequence[Learner] | None = None,
        watch: Watch = silent,
        notes: Notes = no_notes,
    ) -> Poison:
        """The poison of this trial, crafted on what its attacker knows, and allowed in what its victims train on.

        ``surrogates`` stand in for those of the trial (the same learners with a memory, say). Attacks that are
        ``resumable`` go on from ``notes``.
        """
        known = self.known_rows(data)
        poison = craft(
            self.attack,
            known,
            threat=self.threat,
            aims=goal.known,
            surrogates=self.surrogates if surrogates is None else surrogates,
            seed=self.crafting,
            watch=watch,
            notes=notes,
        )
        if self.threat.knows != "training-rows":
            _check_strange(self.threat, self.rows(data).train, poison)
        return poison

    def problems(self, data: Split) -> list[str]:
        """Everything that would stop this trial, found without training anything."""
        found = attack_problems(self.attack, self.threat, surrogates=self.surrogates)
        return found + self.rows_problems(data)

    def rows_problems(self, data: Split) -> list[str]:
        """Why goal and poison rows cannot be drawn from this data; empty where they can."""
        try:
            known, goal = self.known_rows(data), self.goal(data)
            self.threat.pick(known, goal.known, self.crafting.child("pick"))
        except MithridateError as error:
            return [str(error)]
        return _empty_threats(self.threat, known)

    def run(self, data: Split, *, watch: Watch = silent) -> list[Outcome]:
        """Craft, train the victims, judge each."""
        data = self.rows(data)
        goal = self.goal(data)
        poison = self.craft(data, goal, watch=watch)
        return list(self.judged(data, poison, goal, watch=watch))

    def judged(self, data: Split, poison: Poison, goal: Goal, *, watch: Watch = silent) -> Iterator[Outcome]:
        """Train victims on the poisoned set and judge each on what the attacker never saw."""
        data = self.rows(data)
        poisoned, truth = poison.apply(data.train), Truth(poison_ids=poison.rows.ids)
        learner = protect(self.victim, [defense.told(truth) for defense in self.defenses])
        for number in range(self.victims):
            found = observed_training(learner, poisoned, seed=self.seed.child("victim", number), watch=watch)
            metrics, targets = judge(found.model, goal.judged, data.test)
            metrics |= {"seconds": found.seconds, **found.facts}
            if found.removals:
                metrics |= recall(detection(found.removals, poisoned, poison.rows.ids), len(poisoned))
            yield Outcome(victim=number, metrics=metrics, targets=targets, curve=found.curve)


def _check_strange(threat: ThreatModel, train: Dataset, poison: Poison) -> None:
    """Refuse poison that was crafted on other rows, where it replaces or outnumbers what the budget allows of these."""
    if len(poison.rows) > threat.count(train):
        raise ThreatModelError(
            f"the poison has {len(poison.rows)} rows, but a budget of {threat.budget:g} pays for {threat.count(train)}"
        )
    if bool(torch.isin(poison.rows.ids, train.ids.to(poison.rows.device)).any()):
        raise ThreatModelError("the poison replaces training rows, but may only append new ones")


def judge(
    model: Classifier, aims: Aims, test: Dataset, *, calls: Tensor | None = None
) -> tuple[dict[str, float], tuple[dict[str, Any], ...]]:
    """What a trained network calls the attacker's inputs, and how good it is on the test set.

    Returns ``success`` (fraction of inputs called what was wanted), ``clean_accuracy`` (fraction of test rows called
    their label, the targets themselves left out unless any error of theirs counts) and ``error`` (fraction of the whole
    test set called anything else), and a description of each input, up to 16. ``calls`` are the :func:`calls_of`
    the network on ``test``, where they are at hand.
    """
    aims = aims.to(_device(model, test))
    logits = predictions(model, aims.seen())
    probabilities, predicted = logits.softmax(1).nan_to_num(0.0), called(logits)  # JSON knows no NaN
    hits, others = aims.hits(predicted), _others(test, aims)
    right = (calls_of(model, test) if calls is None else calls) == test.labels
    metrics = {
        "success": int(hits.sum()) / max(len(aims), 1),  # a float32 mean is not exact
        "clean_accuracy": int(right[others].sum()) / max(int(others.sum()), 1),
        "error": int((~right).sum()) / max(len(test), 1),
    }
    few = range(min(len(aims), 16))  # a backdoor is judged on thousands; the report shows a few
    radii = model.certificate(aims.seen())
    proven = [{} if radii is None else {"radius": int(radii[k])} for k in few]
    described = tuple(
        {**_described(aims, k, probabilities[k], predicted[k], hits[k]), **more}
        for k, more in zip(few, proven, strict=True)
    )
    return metrics, described


def calls_of(model: Classifier, data: Dataset) -> Tensor:
    """What a network calls each row, ``(N,)`` int64 on the device of the data; -1 where it names no class."""
    parts = torch.split(torch.arange(len(data), device=data.device), 1024)
    device = _device(model, data)
    return torch.cat([called(predictions(model, data.take(part)[0].to(device))).to(data.device) for part in parts])


def confusion(calls: Tensor, data: Dataset) -> list[list[int]] | None:
    """How many rows of each class (first index) are called each class (second), those called none left out.

    ``calls`` are the :func:`calls_of` a network on ``data``. None where there are more than 20 classes.
    """
    classes = data.space.num_classes
    if classes > CONFUSED_CLASSES:
        return None
    named = calls >= 0
    pairs = data.labels[named] * classes + calls[named]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist()


def _device(model: Classifier, data: Dataset) -> torch.device:
    """Where a network is; where the data are, for one without parameters."""
    return next((each.device for each in model.parameters()), data.device)


def called(logits: Tensor) -> Tensor:
    """The class of the one largest logit ``(N,)``; -1 where there is none: a tie for the first place, or NaN.

    A network that cannot tell classes apart has not been led to the wanted one, though argmax might name it.
    """
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return torch.where(first > second, logits.argmax(1), -1)


def certified(model: Classifier, data: Dataset) -> dict[str, list[float]] | None:
    """Share of the rows called by their label for certain, against the number of rows an attacker may touch.

    ``radius`` (rows inserted or removed in all) and ``accuracy`` in [0, 1]; None for a network that proves nothing.
    """
    parts = torch.split(torch.arange(len(data), device=data.device), 1024)
    found = []
    for part in parts:
        inputs, labels = data.take(part)
        radii = model.certificate(inputs)
        if radii is None:
            return None
        found.append(torch.where(called(predictions(model, inputs)) == labels, radii, -1))
    radii = torch.cat(found)
    steps = sorted({0, *radii.clamp_min(0).tolist()})
    return {"radius": [float(r) for r in steps], "accuracy": [float((radii >= r).float().mean()) for r in steps]}


def accuracy(model: Classifier, data: Dataset) -> float:
    """Fraction of rows called their label, in [0, 1]."""
    return int((calls_of(model, data) == data.labels).sum()) / max(len(data), 1)


def noise_control(data: Dataset, *, threat: ThreatModel, ids: Tensor, seed: Seed) -> Poison:
    """Random noise on the same rows, with the same radius: what every crafted poison must beat."""
    rows = data.rows(ids)
    return noise_like(Poison(rows=rows), rows, threat=threat, seed=seed)


def noise_like(poison: Poison, base: Dataset, *, threat: ThreatModel, seed: Seed) -> Poison:
    """Random noise in the place of a poison: on the clean rows it began as, under its ids and with its labels.

    ``base`` are those rows, one for each of the poison's, in their order.
    """
    noisy = threat.perturbation.noise(base.all_inputs(), base.space, seed.generator(base.device))
    rows = replace(poison.rows.to(base.device), inputs=noisy, space=base.space)
    return replace(poison, rows=rows, trace={}).towards(base)


def beginnings(poison: Poison, base: Dataset | None, data: Dataset, *, seed: Seed) -> Dataset:
    """The clean rows that a poison of ``data`` began as, one for each of its rows.

    Those that it names; else ``base``, which its poison set keeps of rows that are no training rows; else random rows.
    """
    named = poison.clean(data)
    if named is not None:
        return named
    if base is not None:
        return base.to(data.device)
    drawn = torch.randint(len(data), (len(poison.rows),), generator=seed.child("beginnings").generator())
    return data.at(drawn.to(data.device))


def _empty_threats(threat: ThreatModel, data: Dataset) -> list[str]:
    """Why this threat model lets the attacker do nothing at all; empty where it lets it."""
    space, found = data.space, []
    if threat.count(data) == 0:
        found.append(f"budget of {threat.budget:g} pays for no row of {len(data)}: nothing would be poisoned")
    radius = getattr(threat.perturbation, "radius", None)
    step = (space.bounds[1] - space.bounds[0]) / (space.levels - 1) if space.levels else 0.0
    if threat.perturbation.name == "linf" and radius is not None and radius < step * (1 - 1e-6):
        found.append(
            f"perturbation.radius of {radius:g} is less than one of the {space.levels} levels of stored values"
        )
    return found


def _others(test: Dataset, aims: Aims) -> Tensor:
    """Mask ``(N,)`` of the test rows that are no targets; all of them where nothing would be left.

    Inputs that carry a trigger are others than the test rows they come from, and where any error counts, the test rows
    are what there is to be right on.
    """
    if aims.ids is None or aims.trigger is not None or aims.wanted is None:
        return torch.ones_like(test.labels, dtype=torch.bool)
    others = ~torch.isin(test.ids, aims.ids.to(test.device))
    return others if bool(others.any()) else ~others


def _described(aims: Aims, k: int, probabilities: Tensor, predicted: Tensor, hit: Tensor) -> dict[str, Any]:
    return {
        "id": None if aims.ids is None else int(aims.ids[k]),
        "true": int(aims.labels[k]),
        "wanted": None if aims.wanted is None else int(aims.wanted[k]),
        "predicted": int(predicted) if int(predicted) >= 0 else None,
        "probabilities": [round(p, 5) for p in probabilities.tolist()],
        "hit": bool(hit),
    }
