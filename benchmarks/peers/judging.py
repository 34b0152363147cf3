"""What a result is worth, beside what it cost: a verdict for every piece, and their summary over pieces."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from problems import Arrays, quickstart, transfer_data, transfer_source, wide

Verdict = dict[str, Any]
VICTIMS = 1
"""Victims of a poison that are trained from scratch (a head, where the rest is not trained)."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one side made of one problem."""

    number: int
    problem: Arrays
    made: Arrays
    reference: Arrays
    """What the baseline made of it; the same where this is the baseline."""
    folder: Path
    """Where networks are kept."""


def brewed(piece: Piece) -> Verdict:
    """Victims trained from scratch on the poison, which must keep to the threat model; and the objective it reached."""
    from mithridate.ops.criteria import CRITERIA
    from mithridate.ops.gradients import parameter_gradient
    from mithridate.ops.matching import cosine

    known = quickstart(piece.folder)
    rows = checked(piece, known.train)
    aims, model, criterion = aims_of(piece.problem), known.model, CRITERIA["cross-entropy"]
    towards = parameter_gradient(model, aims.inputs, aims.wanted, criterion=criterion)
    led = parameter_gradient(model, rows.all_inputs(), rows.labels, criterion=criterion)
    poisoned = known.train.updated(rows)
    return {"objective": 1 - float(cosine(led, towards)), **victims(piece, known.victim, poisoned, known.test, VICTIMS)}


def brewed_wide(piece: Piece) -> Verdict:
    """The objective alone: the distance left between the gradients."""
    from mithridate.ops.criteria import CRITERIA
    from mithridate.ops.gradients import parameter_gradient
    from mithridate.ops.matching import cosine

    known = wide(piece.folder)
    rows, aims, criterion = checked(piece, known.train), aims_of(piece.problem), CRITERIA["cross-entropy"]
    towards = parameter_gradient(known.model, aims.inputs, aims.wanted, criterion=criterion)
    led = parameter_gradient(known.model, rows.all_inputs(), rows.labels, criterion=criterion)
    return {"objective": 1 - float(cosine(led, towards))}


def placed(piece: Piece) -> Verdict:
    """A head trained anew on the poisoned rows, and how far the poisons' mean is from the target, over its length."""
    import torch

    known, data = transfer_source(piece.folder), transfer_data()
    rows, aims = checked(piece, data.train), aims_of(piece.problem)
    with torch.no_grad():
        mean, target = known.model.features(rows.all_inputs()).mean(0), known.model.features(aims.inputs)[0]
    far = float((mean - target).norm() / target.norm())
    return {"objective": far, **victims(piece, known.victim, data.train.updated(rows), data.test, VICTIMS)}


def checked(piece: Piece, train: Any) -> Any:
    """The poison as it would be released: 8-bit, and within the threat model, or an error."""
    import torch

    from mithridate.attack import released
    from mithridate.dataset import Dataset
    from mithridate.poison import Poison
    from mithridate.threat import Linf, ThreatModel

    ids = torch.from_numpy(piece.problem["base_ids"])
    threat = ThreatModel(
        budget=len(ids) / len(train),
        perturbation=Linf(radius=float(piece.problem["eps"])),
        base_ids=tuple(ids.tolist()),
    )
    inputs = torch.from_numpy(np.asarray(piece.made["poison"], dtype=np.float32))
    labels = torch.from_numpy(piece.problem["base_labels"])
    poison = released(Poison(rows=Dataset(inputs=inputs, labels=labels, ids=ids, space=train.space)), train, threat)
    threat.check(train, poison)
    return poison.rows


def aims_of(problem: Arrays) -> Any:
    """The target, and what it is to be called."""
    import torch

    from mithridate.goal import Aims

    target, true, wanted = (torch.from_numpy(problem[name]) for name in ("target", "true", "wanted"))
    return Aims(inputs=target, labels=true, wanted=wanted)


def victims(piece: Piece, learner: Any, poisoned: Any, test: Any, count: int) -> Verdict:
    """Hits and accuracies of freshly trained victims; all sides' are trained alike."""
    from mithridate.trial import judge

    hits, accuracies = [], []
    for victim in range(count):
        model = learner.fit(poisoned, seed=_seed(piece.number).child("victim", victim)).model
        metrics, _ = judge(model, aims_of(piece.problem), test)
        hits.append(metrics["success"])
        accuracies.append(metrics["clean_accuracy"])
    return {"hits": hits, "clean_accuracy": float(np.mean(accuracies))}


def brewed_control(number: int, problem: Arrays, folder: Path) -> Verdict:
    """What victims of the quickstart's kind call the target without poison."""
    return unpoisoned(problem, unpoisoned_victims(folder), quickstart(folder).test)


def placed_control(number: int, problem: Arrays, folder: Path) -> Verdict:
    """What a head trained on clean rows calls the target."""
    data = transfer_data()
    model = transfer_source(folder).victim.fit(data.train, seed=_seed(number).child("victim", 0)).model
    return unpoisoned(problem, [model], data.test)


@cache
def unpoisoned_victims(folder: Path) -> list[Any]:
    """Two victims of no poison, the same for all targets."""
    known = quickstart(folder)
    return [known.victim.fit(known.train, seed=_seed(k).child("clean")).model for k in range(2)]


def unpoisoned(problem: Arrays, models: Sequence[Any], test: Any) -> Verdict:
    """What these networks call the target."""
    from mithridate.trial import judge

    found = [judge(model, aims_of(problem), test)[0] for model in models]
    return {
        "hits": [each["success"] for each in found],
        "clean_accuracy": float(np.mean([each["clean_accuracy"] for each in found])),
    }


def _seed(number: int) -> Any:
    from mithridate.seeding import Seed

    return Seed(number)


def filtered(piece: Piece) -> Verdict:
    """What was found, what was taken for poison, and whether our side says the same of every row."""
    flagged, poisoned = piece.made["flagged"], piece.problem["poisoned"]
    return {
        "recall": float(flagged[poisoned].mean()),
        "clean_removed": float(flagged[~poisoned].mean()),
        "rows_unlike_ours": int((flagged != piece.reference["flagged"]).sum()),
    }


def selected(piece: Piece) -> Verdict:
    """The objective over ours, in float64, and the share of medoids that ours has too."""
    points = piece.problem["points"].astype(np.float64)
    mine, theirs = piece.reference["chosen"], piece.made["chosen"]
    return {
        "objective_over_ours": covered(points, theirs) / covered(points, mine),
        "shared": len(set(mine.tolist()) & set(theirs.tolist())) / len(mine),
    }


def covered(points: Any, chosen: Any) -> float:
    """The facility-location objective of a choice with the kernel ``exp(-distance / D)``."""
    square = (points**2).sum(1)
    far = square[:, None] + square[chosen][None] - 2 * points @ points[chosen].T
    return float(np.exp(-np.sqrt(np.maximum(far, 0)) / points.shape[1]).max(1).sum())


def stepped(piece: Piece) -> Verdict:
    """Without noise (problem 0): how far the gradients are from ours, over their length."""
    if float(piece.problem["noise"]):
        return {}
    mine, theirs = piece.reference["gradient"], piece.made["gradient"]
    return {"gradient_off_by": float(np.linalg.norm(theirs - mine) / np.linalg.norm(mine))}


def summarised(verdicts: Mapping[int, Verdict], ours: Mapping[int, Verdict] | None) -> dict[str, Any]:
    """Verdicts of one side over problems: rates with intervals, paired differences to ``ours``, means with ranges."""
    from mithridate.stats import paired, rate

    line: dict[str, Any] = {}
    hits = {n: each["hits"] for n, each in verdicts.items() if "hits" in each}
    if hits:
        found = rate(list(hits.values()))
        line["success_percent"] = interval(found.mean, found.low, found.high)
        line["n"] = f"{found.trials} trials x {found.victims // found.trials} victims"
        both = sorted(set(hits) & set(ours or {}))
        if both and ours is not None and all("hits" in ours[n] for n in both):
            less = paired([ours[n]["hits"] for n in both], [hits[n] for n in both])
            line["ours_less_this"] = interval(less.mean, less.low, less.high)
    for name in sorted({name for each in verdicts.values() for name in each} - {"hits"}):
        values = [each[name] for each in verdicts.values() if name in each]
        line[name] = spread(values)
    return line


def interval(mean: float, low: float, high: float) -> str:
    """In percent."""
    return f"{100 * mean:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def spread(values: Sequence[float], *, middle: Callable[[Sequence[float]], float] = statistics.mean) -> str:
    """The mean (or another middle) with the range."""
    mean, low, high = middle(values), min(values), max(values)
    return f"{mean:.4g}" if low == high else f"{mean:.4g} [{low:.4g}, {high:.4g}]"
