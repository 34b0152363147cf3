"""A run of feature-space attacks as the campaign writes it: polytopes, boxes, a pretraining, published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mithridate.store import Store
from tests.report.fabricate import CLASSES, COMMAND, ENVIRONMENT, add_craft, add_victim, experiment

BULLSEYE, CONVEX = "bullseye-polytope", "convex-polytope"
VICTIMS = {"resnet18, transfer": "white-box", "vgg11, transfer": "black-box"}
SOURCE = "Schwarzschild et al. 2021, table as of September 2021"
PRETRAINING = {
    "learner": "resnet18, 40 epochs, on cifar10, seed 0",
    "data": {"name": "cifar10", "classes": ["bird", "cat"], "per_class": "0:1000", "mean": [], "test_rows": None},
    "classes": ["bird", "cat"],
    "rows": 2000,
    "accuracy": 0.913,
    "seconds": 300.0,
    "reused": 290.0,
}


def fabricate_polytopes(
    folder: Path,
    *,
    trials: int = 3,
    networks: int = 2,
    rows: int = 5,
    attacks: tuple[str, ...] = (BULLSEYE, CONVEX),
    name: str = "resnet18, transfer",
    source: str = SOURCE,
) -> Path:
    """Every undefended network but those of trial 2 is hit; others published 95 % for Bullseye Polytope."""
    published = {"attack": BULLSEYE, "victim": next(iter(VICTIMS)), "rate": 0.95, "trials": 100}
    with Store(folder, create=True) as store:
        store.describe(
            experiment=experiment(trials=trials, runs=1),
            environment=ENVIRONMENT,
            command=COMMAND,
            classes=list(CLASSES),
            published=[published | {"source": source}],
        )
        store.add("pretraining", "pretraining", PRETRAINING)
        for attack in attacks:
            for trial in range(trials):
                views = [polytope(trial + k, rows, network=f"{name}, number {k}") for k in range(networks)]
                add_craft(store, trial, attack=attack, rows=rows, polytope=views, trace=trace(trial, networks))
                for victim, box in VICTIMS.items():
                    add_victim(store, "attack", trial, hit=trial != 2, attack=attack, victim=victim, box=box)
        for victim in VICTIMS:
            for trial in range(trials):
                add_victim(store, "clean", trial, hit=False, victim=victim, box=None)
    return folder


def polytope(seed: int, rows: int = 5, **changes: Any) -> dict[str, Any]:
    """One network's view: two clouds of 80, base rows, the poison around a target, and numbers."""
    draws = np.random.default_rng(seed)
    target = np.array([0.4, 0.3])
    clouds = [draws.normal((x, 0), 0.6, (80, 2)) for x in (-1.5, 1.5)]
    moved, base = target + draws.normal(0, 0.7, (rows, 2)), draws.normal((1.5, 0), 0.6, (rows, 2))
    shares = draws.dirichlet(np.ones(rows))
    counts = {"target class": 80, "intended class": 80, "base": rows, "poison": rows, "target": 1}
    return {
        "network": "resnet18, transfer",
        "hull": 0.03,
        "mean": 0.21,
        "each": [0.5] * rows,
        "clean_hull": 0.88,
        "clean_mean": 0.95,
        "coefficients": [round(float(each), 4) for each in shares],
        "points": np.concatenate([*clouds, base, moved, target[None]]).round(4).tolist(),
        "groups": [group for group, count in counts.items() for _ in range(count)],
        "axes": ["from the target's class to the intended class", "where the poison is widest across"],
    } | changes


def trace(trial: int, networks: int, steps: int = 200) -> dict[str, list[float]]:
    """A loss, and a distance that falls faster in some networks than in others."""
    found = {"loss": [float(np.exp(-step / 50)) for step in range(steps)]}
    for k in range(networks):
        curve = (0.9 + 0.05 * trial) * np.exp(-np.arange(steps) / (30 + 12 * k)) + 0.03
        found[f"distance to the target, network {k + 1}"] = curve.round(4).tolist()
    return found
