"""A campaign of any size as it lies in its run folder, a million rows in a few minutes."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mithridate.store import Store
from tests.report.fabricate import COMMAND, ENVIRONMENT, add_craft, experiment, scenario

CLASSES = tuple(f"class {k}" for k in range(10))
ATTACKS = {"gradient-matching": 0.7, "bullseye-polytope": 0.5, "feature-collisions": 0.3, "random-noise": 0.02}
SCENARIOS = ((8 / 255, 0.01), (16 / 255, 0.01), (4 / 255, 0.01), (8 / 255, 0.02), (8 / 255, 0.005))
VICTIMS = ("resnet18, 40 epochs", "convnet, 25 epochs")
EPIC = "epic (fraction=0.1, repeats=4)"
DEFENSES = {
    "none": 1.0, EPIC: 0.3, f"random-drop (like {EPIC})": 0.9, f"top-loss-drop (like {EPIC})": 0.8, "dp-sgd": 0.1,
    "mixup": 0.7,
}  # fmt: skip
"""What each leaves of an attack's success."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything there is."""

    trials: int = 1000
    runs: int = 3
    """Poisoned networks a trial; there is one with noise in the place of the poison, and as many clean ones in all."""
    pictures: int = 3
    """Poison sets of each attack and scenario that lie in the folder as files."""

    @property
    def networks(self) -> int:
        """Rows of networks."""
        cells = len(ATTACKS) * len(SCENARIOS) * len(VICTIMS) * len(DEFENSES)
        return self.trials * (cells * (self.runs + 1) + len(VICTIMS) * len(DEFENSES) * self.runs)


Row = tuple[str, str, dict[str, Any]]
"""Key, kind, and what the store keeps. What stands before a dash in a key is the job."""


def fabricate_large(folder: Path, size: Size | None = None) -> Path:
    """The run folder."""
    size = size or Size()
    with Store(folder, create=True) as store:
        names = [scenario(radius, budget) for radius, budget in SCENARIOS]
        jobs = size.trials * len(ATTACKS) * len(SCENARIOS) * (1 + len(VICTIMS) * len(DEFENSES) * (size.runs + 1))
        jobs += len(VICTIMS) * len(DEFENSES) * size.runs
        store.describe(
            experiment=experiment(name="large", trials=size.trials, runs=size.runs),
            environment=ENVIRONMENT,
            command=COMMAND,
            classes=list(CLASSES),
            jobs=jobs,
            names={"attack": [*ATTACKS], "scenario": names, "victim": [*VICTIMS], "defense": [*DEFENSES]},
        )
        for attack, (radius, budget), trial in itertools.product(ATTACKS, SCENARIOS, range(size.pictures)):
            add_craft(store, trial, radius=radius, budget=budget, attack=attack, **_craft(trial))
        rows = itertools.chain(_crafts(size), _clean(size), _attacked(size))
        while lot := list(itertools.islice(rows, 5000)):
            store.add_all(lot)
    with closing(sqlite3.connect(folder / "store.sqlite")) as base, base:
        base.execute(
            "INSERT OR IGNORE INTO jobs (key, place, kind, job, state, attempts, started, ended) "
            "SELECT job, id, iif(kind = 'craft', kind, control), '{}', 'done', 1, 1.7e9 + id, 1.7e9 + id + seconds "
            "FROM results WHERE true"
        )
    return folder


def _crafts(size: Size) -> Iterator[Row]:
    for attack, (radius, budget), trial in itertools.product(ATTACKS, SCENARIOS, range(size.pictures, size.trials)):
        key = f"craft.{[*ATTACKS].index(attack)}.{radius:.4f}.{budget}.{trial}"
        row = {
            "attack": attack,
            "scenario": scenario(radius, budget),
            "trial": trial,
            "rows": 160,
            "budget": budget,
            "radius": f"linf {radius * 255:.3g}/255",
            "radius_value": radius,
            "folder": f"poisons/{key}",
        }
        yield key, "craft", row | _craft(trial)


def _craft(trial: int) -> dict[str, Any]:
    trace = {"loss": [round(0.25 + 0.75 * math.exp(-step / 20), 4) for step in range(80)]}
    return {"seconds": 12.0 + trial % 7, "peak_memory": 500_000_000, "trace": trace, "training_rows": 5000}


def _attacked(size: Size) -> Iterator[Row]:
    """Poisoned networks and those with noise, trial by trial."""
    grid = itertools.product(range(size.trials), ATTACKS, SCENARIOS, VICTIMS, DEFENSES, range(size.runs + 1))
    for trial, attack, where, victim, defense, run in grid:
        noise = run == size.runs
        chance = 0.01 if noise else ATTACKS[attack] * DEFENSES[defense] * (where[0] * 255 / 8) ** 0.5
        place = {"attack": attack, "scenario": scenario(*where), "box": "grey-box" if victim == VICTIMS[0] else None}
        row = _network(trial, victim, defense, 0 if noise else run, chance, len(attack) + int(1000 * sum(where)))
        numbers = ([*ATTACKS].index(attack), SCENARIOS.index(where), VICTIMS.index(victim), [*DEFENSES].index(defense))
        key = f"{trial}.{'.'.join(map(str, numbers))}.{run}"
        yield key, "victim", {**row, **place, "control": "noise" if noise else "attack", "training": key}


def _clean(size: Size) -> Iterator[Row]:
    """Clean networks, each judged on the targets of all trials."""
    for victim, defense, run, trial in itertools.product(VICTIMS, DEFENSES, range(size.runs), range(size.trials)):
        key = f"clean.{VICTIMS.index(victim)}.{[*DEFENSES].index(defense)}.{run}"
        row = _network(trial, victim, defense, run, 0.01, 3)
        place = {"attack": None, "scenario": None, "box": None, "control": "clean", "training": key}
        yield f"{key}-{trial}", "victim", {**row, **place, "poison_rows": 0, "dropped_poison": 0}


def _network(trial: int, victim: str, defense: str, run: int, chance: float, salt: int) -> dict[str, Any]:
    draw = (trial * 0.618034 + salt * 0.137) % 1 * 0.7 + (trial * 31 + run * 17 + salt * 7) % 101 / 101 * 0.3
    hit, drops = draw < chance, "epic" in defense
    own, wanted = trial % 10, (trial + 3) % 10
    chances = [0.03] * 10
    chances[own], chances[wanted] = (0.15, 0.61) if hit else (0.65, 0.11)
    target = {"id": trial, "true": own, "wanted": wanted, "predicted": wanted if hit else own}
    return {
        "defense": defense,
        "victim": victim,
        "trial": trial,
        "run": run,
        "success": float(hit),
        "clean_accuracy": round(
            0.85 + 0.01 * ((trial * 7 + run * 3 + salt) % 13) / 13 - 0.05 * (defense == "dp-sgd"), 4
        ),
        "judged": 1,
        "seconds": 20.0 + trial % 11,
        "reused": 2.5 if drops else 0.0,
        "peak_memory": 400_000_000 + trial,
        "training_rows": 5000,
        "poison_rows": 160,
        "dropped": 500 if drops else 0,
        "dropped_poison": (120 if defense == EPIC else 16) if drops else 0,
        "control_of": [EPIC] if "(like" in defense else None,
        "oracle": False,
        "targets": [target | {"probabilities": chances, "hit": hit, "radius": None}],
        "curve": _curves(run),
        "facts": {"epsilon": 3.0 + trial % 5} if defense == "dp-sgd" else {},
        "removals": [{"by": EPIC, "epoch": 10, "rows": 500, "poison": 120, "by_class": [50] * 10}] if drops else [],
        "class_rows": [500] * 10,
    }


@cache
def _curves(run: int) -> dict[str, list[float]]:
    loss = [round(2.2 * math.exp(-epoch / 7) + 0.1 + 0.02 * run, 4) for epoch in range(15)]
    return {"loss": loss, "test accuracy": [round(0.9 - 0.2 * value, 4) for value in loss]}
