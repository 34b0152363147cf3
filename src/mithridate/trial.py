"""The referee: who knew what, whether the poison kept to the rules, and what freshly trained victims then did."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mithridate.attack import Attack, craft
from mithridate.attack import problems as attack_problems
from mithridate.dataset import Dataset
from mithridate.defense import Defense, Truth, protect
from mithridate.detection import detection, recall
from mithridate.errors import MithridateError
from mithridate.goal import Aims, Goal
from mithridate.learner import Learner, Progress, Removal, predictions
from mithridate.model import Classifier
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one victim did."""

    victim: int
    """Number of the victim within its trial, from 0."""
    metrics: Mapping[str, float]
    """``success`` (fraction of targets hit) and ``clean_accuracy`` (of the test set), both in [0, 1], and ``seconds``.
    Where rows were removed: ``poison_recall`` and ``clean_drop``, in [0, 1]. And what defenses report (``epsilon``)."""
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

    def goal(self, data: Split) -> Goal:
        """The goal of this trial, drawn from its seed."""
        return self.threat.goal.draw(data.train, data.test, self.seed.child("goal"))

    def problems(self, data: Split) -> list[str]:
        """Everything that would stop this trial, found without training anything."""
        found = attack_problems(self.attack, self.threat, surrogates=self.surrogates)
        return found + rows_problems(self.threat, data, seed=self.seed)

    def run(self, data: Split, *, watch: Watch = silent) -> list[Outcome]:
        """Craft, train the victims, judge each."""
        goal = self.goal(data)
        poison = craft(
            self.attack,
            data.train,
            threat=self.threat,
            aims=goal.known,
            surrogates=self.surrogates,
            seed=self.seed.child("craft"),
            watch=watch,
        )
        return list(self.judged(data, poison, goal, watch=watch))

    def judged(self, data: Split, poison: Poison, goal: Goal, *, watch: Watch = silent) -> Iterator[Outcome]:
        """Train victims on the poisoned set and judge each on what the attacker never saw."""
        poisoned, truth = poison.apply(data.train), Truth(poison_ids=poison.rows.ids)
        learner = protect(self.victim, [defense.told(truth) for defense in self.defenses])
        for number in range(self.victims):
            found = observed_training(learner, poisoned, seed=self.seed.child("victim", number), watch=watch)
            metrics, targets = judge(found.model, goal.judged, data.test)
            metrics |= {"seconds": found.seconds, **found.facts}
            if found.removals:
                metrics |= recall(detection(found.removals, poisoned, poison.rows.ids), len(poisoned))
            yield Outcome(victim=number, metrics=metrics, targets=targets, curve=found.curve)


def judge(model: Classifier, aims: Aims, test: Dataset) -> tuple[dict[str, float], tuple[dict[str, Any], ...]]:
    """What a trained network calls the attacker's inputs, and how good it is on the test set.

    Returns ``success`` (fraction of inputs called what was wanted) and ``clean_accuracy`` (fraction of test rows
    called their label, the targets themselves left out), and a description of each input, up to 16.
    """
    device = next(model.parameters()).device
    aims = aims.to(device)
    logits = predictions(model, aims.seen())
    probabilities, predicted = logits.softmax(1).nan_to_num(0.0), called(logits)  # JSON knows no NaN
    hits = aims.hits(predicted)
    rest = test if aims.ids is None or aims.trigger is not None else _others(test, aims.ids)
    metrics = {"success": float(hits.float().mean()), "clean_accuracy": accuracy(model, rest.to(device))}
    few = range(min(len(aims), 16))  # a backdoor is judged on thousands; the report shows a few
    radii = model.certificate(aims.seen())
    proven = [{} if radii is None else {"radius": int(radii[k])} for k in few]
    described = tuple(
        {**_described(aims, k, probabilities[k], predicted[k], hits[k]), **more}
        for k, more in zip(few, proven, strict=True)
    )
    return metrics, described


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
    parts = torch.split(torch.arange(len(data), device=data.device), 1024)
    hits = sum(int((called(predictions(model, data.take(part)[0])) == data.labels[part]).sum()) for part in parts)
    return hits / max(len(data), 1)


def noise_control(data: Dataset, *, threat: ThreatModel, ids: Tensor, seed: Seed) -> Poison:
    """Random noise on the same rows, with the same radius: what every crafted poison must beat."""
    rows = data.rows(ids)
    clean = rows.all_inputs()
    noisy = threat.perturbation.noise(clean, data.space, seed.generator(data.device))
    loud = Poison(rows=Dataset(inputs=noisy, labels=rows.labels, ids=rows.ids, space=rows.space))
    return loud.towards(rows) if data.space.levels else loud


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A finished training."""

    model: Classifier
    """The network, in evaluation mode."""
    curve: Mapping[str, tuple[float, ...]]
    """``loss`` and ``accuracy`` after each epoch."""
    seconds: float
    """What it costs: work found done is charged as if it had been done here."""
    reused: float
    """Seconds of it that were found done."""
    removals: tuple[Removal, ...]
    """What defenses took out."""
    facts: Mapping[str, float]
    """Numbers that defenses report."""


def observed_training(
    learner: Learner, data: Dataset, *, seed: Seed, watch: Watch = silent, stage: str = "victim"
) -> Training:
    """Train to the end, reporting every epoch to ``watch``."""
    losses: list[float] = []
    accuracies: list[float] = []
    started = time.perf_counter()
    last: Progress | None = None
    for last in learner.train(data, seed=seed):
        losses.append(last.loss)
        accuracies.append(last.accuracy)
        watch(Step(stage, last.epoch, last.epochs, {"loss": last.loss, "accuracy": last.accuracy}))
    assert last is not None
    return Training(
        model=last.model.eval(),
        curve={"loss": tuple(losses), "accuracy": tuple(accuracies)},
        seconds=time.perf_counter() - started + last.reused,
        reused=last.reused,
        removals=last.removals,
        facts=last.facts,
    )


def rows_problems(threat: ThreatModel, data: Split, *, seed: Seed) -> list[str]:
    """Why goal and poison rows cannot be drawn from this data; empty where they can."""
    try:
        goal = threat.goal.draw(data.train, data.test, seed.child("goal"))
        threat.pick(data.train, goal.known, seed.child("craft").child("pick"))
    except MithridateError as error:
        return [str(error)]
    return _empty_threats(threat, data)


def _empty_threats(threat: ThreatModel, data: Split) -> list[str]:
    """Why this threat model lets the attacker do nothing at all; empty where it lets it."""
    space, found = data.train.space, []
    if threat.count(data.train) == 0:
        found.append(f"budget of {threat.budget:g} pays for no row of {len(data.train)}: nothing would be poisoned")
    radius = getattr(threat.perturbation, "radius", None)
    step = (space.bounds[1] - space.bounds[0]) / (space.levels - 1) if space.levels else 0.0
    if threat.perturbation.name == "linf" and radius is not None and radius < step * (1 - 1e-6):
        found.append(
            f"perturbation.radius of {radius:g} is less than one of the {space.levels} levels of stored values"
        )
    return found


@contextmanager
def peak_memory(device: torch.device, found: Callable[[int], None]) -> Iterator[None]:
    """Report the peak memory in bytes once the block ends: of the GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        found(int(torch.cuda.max_memory_allocated(device)))
    else:
        found(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def feature_map(
    model: Classifier, data: Dataset, *, aims: Aims, poison_ids: Tensor, limit: int = 150
) -> dict[str, Any] | None:
    """Where the first target lies among two classes, seen by the network: points in a plane, for the report.

    The first axis leads from the centre of the target's true class to that of the intended class; the second is the
    direction of largest variance at right angles to it. Features are penultimate and unaugmented. None where one of
    the classes has no clean row left, or features are not finite.
    """
    if aims.wanted is None or not len(aims):
        return None
    device = next(model.parameters()).device
    true, wanted = int(aims.labels[0]), int(aims.wanted[0])
    is_poison = torch.isin(data.ids, poison_ids.to(data.ids.device))
    groups = {
        "target class": (data.labels == true) & ~is_poison,
        "intended class": (data.labels == wanted) & ~is_poison,
        "poison": is_poison,
    }
    if not (bool(groups["target class"].any()) and bool(groups["intended class"].any())):
        return None
    picked = {name: mask.nonzero().flatten()[:limit] for name, mask in groups.items()}
    inputs = [data.take(index)[0] for index in picked.values()] + [aims.seen()[:1].to(data.device)]
    with torch.no_grad():
        features = model.features(torch.cat(inputs).to(device)).float().cpu()
    if not bool(torch.isfinite(features).all()):
        return None
    names = [name for name, index in picked.items() for _ in range(len(index))] + ["target"]
    points = _plane(features, [name == "target class" for name in names], [name == "intended class" for name in names])
    rounded = [[round(x, 4), round(y, 4)] for x, y in points.tolist()]
    axes = ["from the target's class to the intended class", "largest variance across"]
    return {"points": rounded, "groups": names, "axes": axes}


def _plane(features: Tensor, start: Sequence[bool], end: Sequence[bool]) -> Tensor:
    """Features ``(n, D)`` in the plane of the class axis and the widest direction across it, ``(n, 2)``."""
    first, second = features[torch.tensor(start)].mean(0), features[torch.tensor(end)].mean(0)
    axis = (second - first) / (second - first).norm().clamp_min(1e-12)
    centred = features - (first + second) / 2
    along = centred @ axis
    across = centred - along[:, None] * axis
    widest = torch.linalg.svd(across - across.mean(0), full_matrices=False).Vh[0]
    widest = widest * (1 if float(widest[widest.abs().argmax()]) > 0 else -1)
    return torch.stack([along, across @ widest], dim=1)


def _others(test: Dataset, ids: Tensor) -> Dataset:
    """The test set without the targets; all of it where nothing would be left."""
    rest = test.without(ids)
    return rest if len(rest) else test


def _described(aims: Aims, k: int, probabilities: Tensor, predicted: Tensor, hit: Tensor) -> dict[str, Any]:
    return {
        "id": None if aims.ids is None else int(aims.ids[k]),
        "true": int(aims.labels[k]),
        "wanted": None if aims.wanted is None else int(aims.wanted[k]),
        "predicted": int(predicted) if int(predicted) >= 0 else None,
        "probabilities": [round(p, 5) for p in probabilities.tolist()],
        "hit": bool(hit),
    }
