"""A run folder as the campaign writes it, made up in a second: no network is trained for these tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mithridate.jobqueue import Entry
from mithridate.store import Failure, Store

CLASSES = ("ankle boot", "shirt", "bag", "sandal", "coat")
ENVIRONMENT = {"mithridate": "0.1.0", "python": "3.11.2", "torch": "2.9.0", "device": "cpu", "cores": 2}
COMMAND = "mithridate run quickstart --trials 4"


def experiment(**changes: Any) -> dict[str, Any]:
    """Settings with every kind of value in them."""
    settings = {
        "name": "quickstart",
        "about": "Gradient matching on small pictures.",
        "data": {"name": "made-up", "rows": 4000},
        "threat": {"budget": 0.04, "perturbation": {"name": "linf", "radius": 32 / 255}},
        "attacks": [{"name": "gradient-matching", "steps": 80, "restarts": 1, "augment": True, "init": None}],
        "victims": [{"model": {"name": "convnet", "widths": [16, 32]}, "epochs": 25}],
        "trials": 4,
        "runs": 3,
        "seed": 7,
    }
    return settings | changes


def fabricate(
    folder: Path,
    *,
    trials: int = 4,
    runs: int = 3,
    classes: tuple[str, ...] = CLASSES,
    scenarios: tuple[tuple[float, float], ...] = ((32 / 255, 0.04),),
    defenses: tuple[str, ...] = ("none",),
    noise: bool = True,
    clean: bool = True,
    maps: bool = True,
    base: bool = True,
    strength: float = 0.75,
    size: int = 28,
) -> Path:
    """A finished run: every trial its target and classes; ``strength`` is about the share of networks hit."""
    with Store(folder, create=True) as store:
        jobs = trials * len(scenarios) * (1 + len(defenses) * runs * (2 if noise else 1)) + 2 * len(defenses) * clean
        store.describe(
            experiment=experiment(trials=trials, runs=runs),
            environment=ENVIRONMENT,
            command=COMMAND,
            classes=list(classes),
            jobs=jobs,
            notes=["Radius, budget and steps were chosen on trials 100 to 109, which are not shown here."],
        )
        for k, (radius, budget) in enumerate(scenarios):
            for trial in range(trials):
                add_craft(store, trial, radius=radius, budget=budget, base=base, size=size)
                for defense in defenses:
                    for run in range(runs):
                        chance = strength * (1 if k == 0 else 0.5) * (1 if defense == "none" else 0.3)
                        hit = (trial * runs + run) * 0.618 % 1 < chance
                        where = {"radius": radius, "budget": budget, "defense": defense, "run": run}
                        add_victim(store, "attack", trial, hit=hit, maps=maps and run == 0, **where)
                        if noise:
                            add_victim(store, "noise", trial, hit=False, **where)
        for defense in defenses if clean else ():
            for trial in range(trials):
                for run in range(2):
                    add_victim(store, "clean", trial, hit=False, maps=maps, defense=defense, run=run)
    return folder


def scenario(radius: float, budget: float) -> str:
    return f"{100 * budget:.3g} % of rows, linf {radius * 255:.3g}/255"


def add_craft(
    store: Store,
    trial: int,
    *,
    radius: float = 32 / 255,
    budget: float = 0.04,
    base: bool = True,
    size: int = 28,
    **changes: Any,
) -> str:
    """One poison set of twelve rows, with its row in the store; its key."""
    key = f"craft-{changes.get('attack', '')}{trial}-{radius:.4f}-{budget}"
    folder = store.poison_folder(key)
    folder.mkdir(parents=True)
    clean = images(12, trial, size)
    changed = clean.astype(int) + np.random.default_rng(trial).choice([-1, 1], clean.shape) * round(radius * 255)
    tensors = {
        "inputs": np.clip(changed, 0, 255).astype(np.uint8),
        "ids": np.arange(12) + 100,
        "labels": np.full(12, wanted(trial)),
        "target_inputs": images(1, 1000 + trial, size),
        "target_labels": np.array([true(trial)]),
        "target_wanted": np.array([wanted(trial)]),
        "target_ids": np.array([trial]),
    }
    save_file(tensors | ({"base": clean} if base else {}), folder / "poison.safetensors")
    steps = range(80)
    row = {
        "attack": "gradient-matching",
        "scenario": scenario(radius, budget),
        "trial": trial,
        "rows": 160,
        "budget": budget,
        "radius": f"linf {radius * 255:.3g}/255",
        "radius_value": radius,
        "seconds": 12.0,
        "peak_memory": 500_000_000,
        "trace": {
            "loss": [0.25 + 0.75 * math.exp(-step / 20) + 0.01 * trial for step in steps],
            "alignment": [0.75 - 0.75 * math.exp(-step / 20) for step in steps],
        },
        "folder": f"poisons/{key}",
    }
    store.add(key, "craft", row | changes)
    return key


def add_victim(
    store: Store,
    control: str,
    trial: int,
    *,
    hit: bool,
    radius: float = 32 / 255,
    budget: float = 0.04,
    defense: str = "none",
    run: int = 0,
    maps: bool = False,
    **changes: Any,
) -> None:
    """One judged network. Clean ones are trained once and judged on every trial."""
    place = f"{control}-{changes.get('attack') or ''}{changes.get('victim', '')}{defense}-{run}"
    training = place if control == "clean" else f"{place}-{trial}-{radius:.4f}-{budget}"
    own, aim = true(trial), wanted(trial)
    chance = [0.04] * 5
    chance[own], chance[aim] = (0.2, 0.68) if hit else (0.7, 0.18)
    epochs = range(1, 26)
    row = {
        "training": training,
        "control": control,
        "attack": None if control == "clean" else "gradient-matching",
        "scenario": None if control == "clean" else scenario(radius, budget),
        "defense": defense,
        "victim": "convnet, 25 epochs",
        "trial": trial,
        "run": run,
        "success": float(hit),
        "clean_accuracy": 0.85 + 0.01 * (run % 3) + (0.002 if control == "clean" else 0),
        "targets": [
            {
                "id": trial,
                "true": own,
                "wanted": aim,
                "predicted": aim if hit else own,
                "probabilities": chance,
                "hit": hit,
            }
        ],
        "seconds": 20.0,
        "peak_memory": 400_000_000 + run,
        "curve": {
            "loss": [2.2 * math.exp(-epoch / 7) + 0.1 + 0.02 * run for epoch in epochs],
            "test accuracy": [0.86 - 0.7 * math.exp(-epoch / 5) + 0.004 * run for epoch in epochs],
        },
        "map": feature_map(trial, moved=hit) if maps else None,
    }
    store.add(f"{training}-{trial}", "victim", row | changes)


def feature_map(trial: int, *, moved: bool) -> dict[str, Any]:
    draws = np.random.default_rng(trial)
    centres = {"target class": (-2, 0, 60), "intended class": (2, 0, 60), "poison": (1.2, 0.6, 30)}
    points, groups = [], []
    for name, (x, y, count) in centres.items():
        points += [[round(float(a), 3), round(float(b), 3)] for a, b in draws.normal((x, y), 0.7, (count, 2))]
        groups += [name] * count
    axes = ["from the target's class to the intended class", "largest variance across"]
    return {"points": [*points, [1.0 if moved else -1.2, 0.3]], "groups": [*groups, "target"], "axes": axes}


def images(count: int, seed: int, size: int) -> np.ndarray:
    """Smooth coloured blobs on a gradient, ``(count, 3, size, size)`` uint8."""
    draws = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    found = []
    for _ in range(count):
        centre, width = draws.uniform(0.3, 0.7, 2), draws.uniform(0.12, 0.25)
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / width**2)
        ground, colour = draws.uniform(0.3, 0.8, (2, 3, 1, 1))
        found.append(ground * (0.7 + 0.3 * y) * (1 - blob) + colour * blob)
    return (np.stack(found).clip(0, 1) * 255).astype(np.uint8)


def true(trial: int) -> int:
    return trial % 5


def wanted(trial: int) -> int:
    return (trial + 2) % 5


def fail(store: Store, message: str = "the loss of victim 3 became NaN at epoch 4") -> None:
    store.fail(Failure(key="abc123", kind="attack", message=message, trace="Traceback ...\n  <here>"))


def plan(store: Store, keys: Sequence[str]) -> None:
    """Let the experiment ask for these rows alone."""
    store.queue.fill(Entry(key=key, kind="attack", rows=(key,)) for key in keys)
