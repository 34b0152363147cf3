"""The scan itself: probe the data, plant poison in copies, measure the methods there, and rank the rows of the data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from mithridate.errors import ConfigError
from mithridate.scan.calibration import Bools, Copy, Integers, Measured, above, measured, threshold
from mithridate.scan.methods import Floats, Method
from mithridate.scan.planting import KINDS, planted
from mithridate.scan.probing import Probe, Views
from mithridate.scan.ranking import ranked
from mithridate.scan.reading import Material
from mithridate.scan.verdict import Verdict, verdict
from mithridate.seeding import Seed
from mithridate.watch import Watch, silent

PLANTED, COPIES = 25, 4
"""Rows of each kind that are planted, in all copies together, where no more than so many copies are needed."""
SHARE, FEWEST, MOST = 0.005, 8, 100
"""Share of the rows that is planted in one copy, of each kind, and the fewest and most rows."""
CROWDED = 30
"""Rows that a copy has, at least, for each planted row of a kind, however few are then planted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What a scan found. Everything with ``(N,)`` is by row of the data."""

    material: Material
    rate: float
    """False-alarm rate that thresholds were set by."""
    scores: Mapping[str, Floats]
    """By method, ``(N,)``, higher is more suspect; NaN for a row not looked at."""
    thresholds: Mapping[str, float]
    """By method, the score that a share ``rate`` of the rows exceeds."""
    flagged: Bools
    """Rows above the threshold of a method that can tell some kind of planted poison, ``(N,)``."""
    order: Integers
    """The rows, most suspect first, ``(N,)``."""
    evidence: Floats
    """How many times as often planted rows lie so far out as others, ``(N,)``."""
    predicted: Integers
    """Class that the probe, trained without the row, gives it, ``(N,)``."""
    confidence: Floats
    """Probability it gives that class, ``(N,)``."""
    likelihood: Floats
    """Probability it gives the row's label, ``(N,)``."""
    measured: Sequence[Measured]
    """What each method did with planted poison."""
    copies: int
    """Copies that poison was planted in."""
    verdict: Verdict
    seconds: float
    """Time it took."""

    @property
    def accuracy(self) -> float:
        """Share of the rows whose label the probe, trained without them, gives."""
        return float(np.mean(self.predicted == self.material.data.labels.cpu().numpy()))


def scan(
    material: Material,
    *,
    probe: Probe,
    methods: Sequence[Method],
    rate: float = 0.01,
    seed: Seed,
    device: torch.device | str = "cpu",
    watch: Watch = silent,
) -> Findings:
    """Rank the rows of ``material`` by how suspect they are, and say how well that works on them.

    ``rate`` is the share of unplanted rows that may lie above a threshold, in (0, 0.5). Raises :class:`ConfigError`
    for one that no row can meet.
    """
    check_rate(rate, len(material.data))
    started = time.perf_counter()
    data, judged = material.data.to(device), material.judged
    views = probe.views(data, seed=seed.child("probe"), stage="your data", watch=watch)
    scores = _scores(methods, views, material, seed)
    count, copies = amounts(len(data), int(judged.sum()))
    sown = []
    for k in range(copies):
        own = seed.child("copy", k)
        planting = planted(data, eligible=judged.to(device), count=count, model=views.model, seed=own.child("planting"))
        stage = f"copy {k + 1} of {copies}" if copies > 1 else "planted copy"
        seen = probe.views(planting.data, seed=own.child("probe"), stage=stage, watch=watch)
        copy = _scores(methods, seen, material, own, planting.data.labels)
        sown.append(Copy(scores=copy, rows={kind: planting.rows[kind].numpy() for kind in KINDS}))
    found = measured(sown, rate=rate, seed=seed.child("halves"))
    able = [each for each in found if each.able and each.method in scores]
    order, evidence = ranked(scores, sown, able)
    thresholds = {name: threshold(each[judged.numpy()], rate) for name, each in scores.items()}
    flagged = np.zeros(len(data), dtype=bool)
    for name in {each.method for each in able}:
        flagged |= above(scores[name], thresholds[name])
    chances = functional.softmax(views.unseen.double(), 1)
    confidence, predicted = chances.max(1)
    return Findings(
        material=material,
        rate=rate,
        scores=scores,
        thresholds=thresholds,
        flagged=flagged,
        order=order,
        evidence=evidence,
        predicted=predicted.numpy(),
        confidence=confidence.numpy(),
        likelihood=chances.gather(1, data.labels.cpu()[:, None])[:, 0].numpy(),
        measured=found,
        copies=copies,
        verdict=verdict({each.name: scores[each.name] for each in methods if each.steady}, sown, found),
        seconds=time.perf_counter() - started,
    )


def amounts(rows: int, judged: int) -> tuple[int, int]:
    """How many rows of each kind are planted in a copy, and in how many copies."""
    count = max(1, min(max(round(SHARE * rows), FEWEST), MOST, judged // CROWDED))
    return count, min(math.ceil(PLANTED / count), COPIES)


def check_rate(rate: float, rows: int) -> None:
    """Raise :class:`ConfigError` for a false-alarm rate outside (0, 0.5), or of less than one of ``rows``."""
    if not 0 < rate < 0.5:
        raise ConfigError(f"--false-alarm-rate must lie between 0 and 0.5, but it is {rate:g}; 0.01 is usual")
    if rate * rows < 1:
        raise ConfigError(
            f"--false-alarm-rate {rate:g} of {rows} rows is less than one row, so nothing could be flagged; "
            f"use at least {1 / rows:.2g}"
        )


def _scores(
    methods: Sequence[Method], views: Views, material: Material, seed: Seed, labels: torch.Tensor | None = None
) -> dict[str, Floats]:
    """Scores by method; NaN in classes that are too small to be judged."""
    data = material.data if labels is None else replace(material.data, labels=labels.cpu())
    found = {}
    for each in methods:
        scores = each.scores(views, data, seed=seed.child("methods")).copy()
        scores[~material.judged.numpy()] = np.nan
        found[each.name] = scores
    return found
