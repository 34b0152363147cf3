"""A campaign as it lies in its run folder, made up in seconds: attacks against stacks of defenses and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mithridate.jobqueue import Entry
from mithridate.store import Failure, Store
from tests.report.fabricate import COMMAND, ENVIRONMENT, add_craft, experiment, scenario
from tests.report.fabricate_defenses import EPIC, NONE, Made, add_defended, controls, filtered

STACKS = (
    EPIC,
    filtered("spectral-signatures (oracle)", 0.55, 240, 20, oracle=True),
    filtered("deep-knn", 0.15, 300, 130),
    Made(name="mixup + epic", success=0.05, accuracy=0.838, rounds=EPIC.rounds, seconds=30.0),
    Made(name="dp-sgd", success=0.05, accuracy=0.55, facts=(("epsilon", 3.14159),), seconds=90.0),
)
DROPPING = STACKS[:4]
ALL = (
    NONE,
    *STACKS,
    *(control for each in DROPPING for control in controls(each)),
    filtered("oracle-filter", 0.0, 160, 160, oracle=True, control_of=tuple(each.name for each in DROPPING)),
)
ATTACKS = {"gradient-matching": 1.0, "bullseye-polytope": 0.8, "feature-collisions": 0.45, "random-noise": 0.0}
"""Names, and how strong they are as a factor of what each defense lets through."""
SOURCE = "Table 2 of a made-up paper, version 1"
VICTIM = "convnet, 25 epochs"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is made up."""

    attacks: Mapping[str, float] = field(default_factory=lambda: dict(ATTACKS))
    made: Sequence[Made] = ALL
    victims: Sequence[str] = (VICTIM,)
    scenarios: Sequence[tuple[float, float]] = ((32 / 255, 0.04), (16 / 255, 0.04))
    trials: int = 5
    runs: int = 2
    holes: bool = True
    """Whether some places were not run and some jobs failed."""
    published: bool = True
    data: str = "made-up"
    name: str = "campaign"
    oracle_attack: str = ""
    """An attack that is told what no attacker can know."""
    runs_reuse: float = 0.0
    """Seconds of each training that were found done."""


def fabricate_grid(folder: Path, grid: Grid | None = None, **settings: Any) -> Path:
    """The run folder; ``settings`` are those of the experiment that differ."""
    grid = grid or Grid()
    with Store(folder, create=True) as store:
        store.describe(**_about(grid, settings))
        if grid.holes:
            _fail(store, grid)  # first, because rows outside the queue are no part of the experiment when it is filled
        for k, (radius, budget) in enumerate(grid.scenarios):
            for j, (attack, strength) in enumerate(grid.attacks.items()):
                for trial in range(grid.trials):
                    add_craft(store, trial, radius=radius, budget=budget, attack=attack)
                    _victims(store, grid, attack, strength * (0.6 if k else 1.0), trial, (radius, budget), last=j == 2)
        for made in grid.made:
            for victim in grid.victims if not made.control_of else ():
                for trial in range(grid.trials):
                    add_defended(store, "clean", trial, made, victim=victim)
    return folder


def _fail(store: Store, grid: Grid) -> None:
    """The third attack under DP-SGD: in the first scenario its jobs failed, in the others their turn has not come."""
    place = {"attack": 2, "victim": 0, "defense": [each.name for each in grid.made].index("dp-sgd"), "needs": []}
    keys = [(f"job{k}-{number}", k) for k in range(len(grid.scenarios)) for number in range(grid.trials)]
    entries = [Entry(key=key, kind="attack", job=place | {"scenario": k}) for key, k in keys]
    store.queue.fill([*entries, Entry(key="lost", kind="noise")])
    for key, k in keys:
        if k == 0:
            message = "out of memory" if key.endswith("-0") else f"the loss of victim {key[-1]} became NaN at epoch 4"
            store.fail(Failure(key=key, kind="attack", message=message, trace=f"Traceback of {key}\n  <x>"))
            store.queue.release(key, state="failed")
    store.queue.release("lost", state="lost")


def _about(grid: Grid, settings: Mapping[str, Any]) -> dict[str, Any]:
    asked = [[{"name": part} for part in each.name.split(" + ")] for each in grid.made if not each.control_of]
    published = [{"attack": next(iter(grid.attacks)), "victim": VICTIM, "rate": 0.9, "trials": 8, "source": SOURCE}]
    published += [{"attack": "bullseye-polytope", "victim": VICTIM, "rate": 0.5, "trials": None, "source": SOURCE}]
    return {
        "experiment": experiment(name=grid.name, trials=grid.trials, runs=grid.runs, defenses=[[], *asked[1:]])
        | {"data": {"name": grid.data}}
        | settings,
        "environment": ENVIRONMENT,
        "command": COMMAND,
        "classes": ["ankle boot", "shirt", "bag", "sandal", "coat"],
        "names": {
            "attack": list(grid.attacks),
            "scenario": [scenario(*each) for each in grid.scenarios],
            "victim": list(grid.victims),
            "defense": [each.name for each in grid.made],
        },
        "published": published if grid.published else [],
    }


def _victims(
    store: Store, grid: Grid, attack: str, strength: float, trial: int, place: tuple[float, float], *, last: bool
) -> None:
    """The networks of one poison; some places of the third attack stay empty, or lack their last trials."""
    for made in grid.made:
        if grid.holes and last and made.name == "dp-sgd":
            continue
        if grid.holes and last and made.name == "deep-knn" and trial > 2:
            continue
        weaker = Made(**{**vars(made), "success": made.success * strength})
        for victim in grid.victims:
            for run in range(grid.runs):
                where = {"radius": place[0], "budget": place[1], "run": run, "attack": attack, "victim": victim}
                told = {"oracle": True} if attack == grid.oracle_attack else {}
                add_defended(store, "attack", trial, weaker, **where, **told, reused=grid.runs_reuse)
