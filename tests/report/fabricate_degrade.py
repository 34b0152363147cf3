"""Run folders of attacks that degrade, as the campaign writes them, made up in seconds: a table, and small digits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mithridate.store import Store
from tests.report.fabricate import ENVIRONMENT

ROWS, TEST = 400, 1000
FIRST_APPENDED = 1 << 40
COLUMNS = (
    {"name": "age", "kind": "integer", "low": 17, "high": 90},
    {"name": "workclass=Private", "kind": "one-hot", "group": "workclass", "category": "Private"},
    {"name": "workclass=Never-worked", "kind": "one-hot", "group": "workclass", "category": "Never-worked"},
    {"name": "workclass=State-gov", "kind": "one-hot", "group": "workclass", "category": "State-gov"},
    {"name": "capital-gain", "kind": "integer", "low": 0, "high": 99999},
    {"name": "hours-per-week", "kind": "real", "low": 1, "high": 99},
    {"name": "married", "kind": "binary"},
    {"name": "sex", "kind": "binary", "mutable": False},
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """How much a made-up attack adds to the error at a budget of 10 %, and what defenses leave of that."""

    attacks: dict[str, float] = field(
        default_factory=lambda: {"back-gradient": 0.2, "random-flips": 0.05, "loss-flips": 0.09}
    )
    defenses: dict[str, float] = field(default_factory=lambda: {"none": 1.0})
    victims: dict[str, float] = field(default_factory=lambda: {"logistic-regression": 0.07})
    """Error on clean data."""
    budgets: Sequence[float] = (0.1,)
    trials: int = 5
    runs: int = 1
    spread: float = 0.008
    resample: bool = True
    """Whether each trial has clean victims of its own; without, one victim is judged on all trials."""
    clean: bool = True


def settings(*, kind: str, rows: str = "append", **goal: Any) -> dict[str, Any]:
    return {
        "name": "spam",
        "title": "How much can poison raise this error?",
        "data": {"name": "table", "file": "people.csv", "target": "income"},
        "threat": {
            "goal": {"name": "degrade", "kind": kind, "source": 0, "intended": 1, "known": 0.2} | goal,
            "budget": 0.1,
            "labels": "dirty",
            "rows": rows,
            "perturbation": {"name": "unbounded"},
        },
        "attacks": [{"name": "back-gradient", "steps": 60}],
        "runs": 1,
        "seed": 7,
    }


def scenario(budget: float) -> str:
    return f"{100 * budget:.3g} % of rows, unbounded"


def fabricate_table(folder: Path, made: Made | None = None, *, classes: tuple[str, ...] = ("ham", "spam")) -> Path:
    """Error-generic on a table of people."""
    made = made or Made()
    return _fabricate(folder, made, settings(kind="generic") | {"trials": made.trials}, classes, table_rows)


def fabricate_digits(folder: Path, made: Made | None = None) -> Path:
    """Error-specific on small digits: 8 called 3."""
    made = made or Made(attacks={"back-gradient": 0.4, "random-flips": 0.03})
    experiment = settings(kind="specific", source="8", intended="3") | {"trials": made.trials}
    return _fabricate(folder, made, experiment, tuple("0123456789"), digit_rows)


def _fabricate(folder: Path, made: Made, experiment: dict[str, Any], classes: tuple[str, ...], rows: Any) -> Path:
    wish = (8, 3) if experiment["threat"]["goal"]["kind"] == "specific" else None
    with Store(folder, create=True) as store:
        store.describe(
            experiment=experiment, environment=ENVIRONMENT, command="mithridate run spam", classes=list(classes)
        )
        for budget, attack, trial in product(made.budgets, made.attacks, range(made.trials)):
            add_craft(store, attack, budget, trial, rows(attack, trial, round(budget * ROWS)))
        poisons = [(attack, budget) for attack in made.attacks for budget in made.budgets] + [("", 0.0)] * made.clean
        for victim, defense, trial in product(made.victims, made.defenses, range(made.trials)):
            for run, (attack, budget) in product(range(made.runs), poisons):
                _add(store, made, (attack, victim, defense), budget, trial, run, len(classes), wish)
    return folder


def _add(
    store: Store,
    made: Made,
    place: tuple[str, str, str],
    budget: float,
    trial: int,
    run: int,
    count: int,
    wish: tuple[int, int] | None,
) -> None:
    """One judged victim. What makes a trial hard does so for all, so that pairing tells."""
    attack, victim, defense = place
    shared = not attack and not made.resample
    hard = 0.0 if shared else np.random.default_rng([trial]).normal() * made.spread
    own = np.random.default_rng([trial, run, len(attack), round(1000 * budget), len(defense)]).normal()
    base = made.victims[victim] + (0.004 if defense != "none" else 0.0)
    weaker = 0.6 if list(made.victims).index(victim) else 1.0
    rise = made.attacks[attack] * budget / 0.1 * made.defenses[defense] * weaker if attack else 0.0
    rate = float(np.clip(base + hard + rise + (0 if shared else own * made.spread / 4), 0, 1))
    add_victim(store, *place, budget=budget, trial=trial, run=run, rate=rate, classes=count, wish=wish, shared=shared)


def add_victim(
    store: Store,
    attack: str,
    victim: str = "logistic-regression",
    defense: str = "none",
    *,
    budget: float = 0.1,
    trial: int = 0,
    run: int = 0,
    rate: float = 0.1,
    classes: int = 2,
    wish: tuple[int, int] | None = None,
    shared: bool = False,
    **changes: Any,
) -> None:
    """One judged victim; ``rate`` is its error, or of an error-specific attack the share that is mistaken as wished."""
    control = "attack" if attack else "clean"
    name = f"{control}-{attack}-{victim}-{defense}-{budget}-{run}"
    counts = confusion(classes, rate, wish)
    error = 1 - float(np.trace(counts)) / float(counts.sum())
    dropped = (
        {"dropped": 30, "dropped_poison": 12, "poison_rows": 40, "training_rows": 440} if "slab" in defense else {}
    )
    row = {
        "training": name if shared else f"{name}-{trial}",
        "control": control,
        "attack": attack or None,
        "scenario": scenario(budget) if attack else None,
        "budget": budget,
        "radius": "unbounded",
        "defense": defense,
        "victim": victim,
        "trial": trial,
        "run": run,
        "success": rate if wish is None else float(counts[wish] / counts[wish[0]].sum()),
        "clean_accuracy": None,
        "error": error,
        "confusion": counts.tolist(),
        "targets": [{"id": 1, "true": 0, "wanted": None, "predicted": 1, "probabilities": [0.1, 0.9], "hit": True}],
        "judged": TEST,
        "box": None if not attack or "flips" in attack else "white-box" if victim.startswith("log") else "black-box",
        "seconds": 0.4,
        "peak_memory": 90_000_000,
        "curve": {"loss": [0.7, 0.5, 0.4 + rate, 0.3 + rate]},
    }
    store.add(f"{name}-{trial}", "victim", row | dropped | changes)


def confusion(classes: int, rate: float, wish: tuple[int, int] | None) -> np.ndarray:
    """``(C, C)`` counts of test rows; the first class is mistaken most, and as wished."""
    each = TEST // classes
    counts = np.eye(classes, dtype=int) * each
    for own in range(classes):
        wrong = round(each * (0.06 if wish else rate) * (1.5 if own == 0 and classes > 2 else 1))
        for k in range(wrong):
            counts[own, (own + 1 + k % max(1, min(3, classes - 1))) % classes] += 1
        counts[own, own] -= wrong
    if wish:
        wrong = round(each * rate) - counts[wish]
        counts[wish] += wrong
        counts[wish[0], wish[0]] -= wrong
    return counts


def add_craft(store: Store, attack: str, budget: float, trial: int, tensors: dict[str, Any], **changes: Any) -> str:
    """One poison set, with its row in the store; its key."""
    key = f"craft-{attack}-{budget}-{trial}"
    folder = store.poison_folder(key)
    folder.mkdir(parents=True)
    space = tensors.pop("space")
    save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, folder / "poison.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"space": space}), encoding="utf-8")
    count = len(tensors["inputs"])
    row = {
        "attack": attack,
        "scenario": scenario(budget),
        "trial": trial,
        "rows": count,
        "budget": budget,
        "total_share": count / (ROWS + count),
        "radius": "unbounded",
        "radius_value": None,
        "seconds": 1.2,
        "trace": {"validation loss": [0.3 + 0.05 * k for k in range(20)]} if "flips" not in attack else {},
        "folder": f"poisons/{key}",
        "boxes": ["white-box", "black-box"] if "flips" not in attack else [None, None],
    }
    store.add(key, "craft", row | changes)
    return key


def columns() -> list[dict[str, Any]]:
    return [{"low": 0, "high": 1, "group": "", "category": "", "mutable": True} | each for each in COLUMNS]


def table_rows(attack: str, trial: int, count: int) -> dict[str, Any]:
    """Rows of people: the attack moves age, class of work, gain and marriage, flips move nothing."""
    draws = np.random.default_rng([trial, len(attack)])
    base = np.zeros((count, len(COLUMNS)), dtype=np.float32)
    base[:, 0], base[:, 5] = draws.integers(20, 60, count), draws.uniform(20, 60, count).round(1)
    base[np.arange(count), 1 + draws.integers(0, 3, count)] = 1
    base[:, 4], base[:, 6:] = draws.integers(0, 9000, count), draws.integers(0, 2, (count, 2))
    inputs = base.copy()
    if "flips" not in attack:
        inputs[:, 0] = np.minimum(90, inputs[:, 0] + draws.integers(0, 60, count))
        inputs[: count // 2, 1:4] = (0, 1, 0)
        inputs[:, 4] = draws.integers(40000, 99999, count)
        inputs[::3, 6] = 1 - inputs[::3, 6]
        inputs[:, 5] += 0.25
    labels = draws.integers(0, 2, count)
    space = {"shape": [len(COLUMNS)], "num_classes": 2, "bounds": [0, 99999], "levels": None, "columns": columns()}
    return _tensors(base, inputs, labels, 1 - labels) | {"space": space}


def digit_rows(attack: str, trial: int, count: int) -> dict[str, Any]:
    """Digits of 8 x 8 pixels, 17 levels: rings for eights, with other pixels and another label."""
    draws = np.random.default_rng([trial, len(attack)])
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    ring = 16 * np.exp(-((np.hypot(x, 1.4 * (np.abs(y) - 0.45)) - 0.4) ** 2) / 0.03)
    base = np.clip(ring + draws.normal(0, 1.5, (count, 1, 8, 8)), 0, 16).astype(np.uint8)
    moved = draws.normal(0, 6, (count, 1, 8, 8)) if "flips" not in attack else 0
    inputs = np.clip(base + moved, 0, 16).astype(np.uint8)
    space = {"shape": [1, 8, 8], "num_classes": 10, "bounds": [0, 1], "levels": 17, "columns": []}
    return _tensors(base, inputs, np.full(count, 8), np.full(count, 3)) | {"space": space}


def _tensors(base: np.ndarray, inputs: np.ndarray, old: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    count = len(inputs)
    return {
        "inputs": inputs,
        "labels": new.astype(np.int64),
        "ids": np.arange(count, dtype=np.int64) + FIRST_APPENDED,
        "base": base,
        "base_labels": old.astype(np.int64),
        "base_ids": np.arange(count, dtype=np.int64) * 7 + 3,
        "target_inputs": inputs[:1],
        "target_labels": old[:1].astype(np.int64),
    }
