"""A run folder with defenses and their controls, as the campaign writes it, made up in a few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mithridate.store import Store
from tests.report.fabricate import CLASSES, COMMAND, ENVIRONMENT, add_craft, add_victim, experiment, images

ROWS = 4000
POISON = 160
CLASS_ROWS = [900, 850, 800, 750, 700]
EPOCHS = 25


@dataclass(frozen=True, kw_only=True)
class Made:
    """One made-up stack of defenses."""

    name: str
    success: float
    """Share of the networks hit."""
    accuracy: float = 0.85
    rounds: tuple[tuple[int, int, int], ...] = ()
    """Epochs done, rows and poisoned rows of each round."""
    control_of: tuple[str, ...] = ()
    oracle: bool = False
    facts: tuple[tuple[str, float], ...] = ()
    certified: bool = False
    seconds: float = 20.0


NONE = Made(name="none", success=0.7)
EPIC_ROUNDS = tuple((epoch, 60, 30 if epoch < 12 else 4) for epoch in range(3, 21, 3))
EPIC = Made(name="epic", success=0.05, accuracy=0.842, rounds=EPIC_ROUNDS, seconds=28.0)


def filtered(name: str, success: float, rows: int, poison: int, **more: Any) -> Made:
    return Made(name=name, success=success, rounds=((0, rows, poison),), seconds=41.0, **more)


def controls(made: Made, random: float = 0.65, top_loss: float = 0.6) -> list[Made]:
    """The controls of a dropping defense: as many rows in the same rounds, with the poison that chance finds there."""
    rounds = tuple((epoch, rows, round(rows * POISON / ROWS)) for epoch, rows, _ in made.rounds)
    return [
        Made(name=f"{kind} (like {made.name})", success=rate, rounds=rounds, control_of=(made.name,), seconds=45.0)
        for kind, rate in (("random-drop", random), ("top-loss-drop", top_loss))
    ]


def twenty() -> list[Made]:
    """No defense and twenty stacks: those asked for first, then their controls."""
    dropping = [
        EPIC,
        filtered("spectral-signatures (oracle)", 0.55, 240, 20, oracle=True),
        filtered("activation-clustering", 0.3, 1500, 150, accuracy=0.79),
        filtered("deep-knn", 0.15, 300, 130),
        Made(name="mixup + epic", success=0.05, accuracy=0.838, rounds=EPIC_ROUNDS, seconds=30.0),
    ]
    others = [
        Made(name="mixup", success=0.4, accuracy=0.853),
        Made(name="jpeg", success=0.1, accuracy=0.82),
        Made(name="dp-sgd", success=0.05, accuracy=0.55, facts=(("epsilon", 3.14159),), seconds=90.0),
        Made(name="partition-aggregation", success=0.0, accuracy=0.6, certified=True, seconds=120.0),
    ]
    oracle = filtered("oracle-filter", 0.0, POISON, POISON, oracle=True, control_of=tuple(d.name for d in dropping))
    own = [control for each in dropping for control in controls(each, 0.65, 0.6 if each is EPIC else 0.3)]
    return [NONE, *dropping, *others, *own, oracle]


def fabricate_defenses(
    folder: Path,
    made: Sequence[Made],
    *,
    trials: int = 10,
    runs: int = 2,
    size: int = 28,
    classes: tuple[str, ...] = CLASSES,
    clean: bool = True,
    scenarios: tuple[tuple[float, float], ...] = ((32 / 255, 0.04),),
) -> Path:
    """A finished run of these stacks; noise and clean networks for those that are no controls, as in real runs."""
    asked = [each for each in made if not each.control_of]
    with Store(folder, create=True) as store:
        defenses = [[{"name": part} for part in each.name.split(" + ")] for each in asked[1:]]
        store.describe(
            experiment=experiment(trials=trials, runs=runs, defenses=[[], *defenses]),
            environment=ENVIRONMENT,
            command=COMMAND,
            classes=list(classes),
        )
        for radius, budget in scenarios:
            for trial in range(trials):
                add_craft(store, trial, radius=radius, budget=budget, size=size)
                for each in made:
                    for run in range(runs):
                        where = {"radius": radius, "budget": budget, "run": run}
                        add_defended(store, "attack", trial, each, size=size, folder=folder, **where)
                for each in asked:
                    add_defended(store, "noise", trial, each, radius=radius, budget=budget)
        for each in asked if clean else ():
            for trial in range(trials):
                add_defended(store, "clean", trial, each)
    return folder


def add_defended(
    store: Store,
    control: str,
    trial: int,
    made: Made,
    *,
    run: int = 0,
    folder: Path | None = None,
    size: int = 28,
    **changes: Any,
) -> None:
    """One judged network under a stack; a trial that is hard for one stack is hard for all."""
    draws = np.random.default_rng([trial, run, len(made.name)])
    hard = trial * 0.618 % 1 * 0.8 + draws.random() * 0.2
    poisoned = control == "attack"
    rounds = made.rounds if poisoned else tuple((epoch, rows, 0) for epoch, rows, _ in made.rounds)
    pictures = f"dropped/{''.join(each if each.isalnum() else '-' for each in made.name)}-{trial}.npz"
    kept = bool(folder and poisoned and rounds and run == 0)
    row = {
        "control_of": list(made.control_of) or None,
        "oracle": made.oracle,
        "removals": [removal(made.name, *each, draws) for each in rounds],
        "dropped": sum(rows for _, rows, _ in rounds),
        "dropped_poison": sum(poison for _, _, poison in rounds),
        "poison_rows": POISON if poisoned else 0,
        "training_rows": ROWS,
        "class_rows": CLASS_ROWS,
        "facts": dict(made.facts),
        "certified": certificate(made.accuracy) if made.certified else None,
        "dropped_images": pictures if kept else None,
        "reused": 20.0 if made.seconds > 40 else 0.0,
        "clean_accuracy": made.accuracy + 0.01 * float(draws.normal()),
        "seconds": made.seconds + float(draws.random()),
    }
    if kept and folder:
        add_pictures(folder / pictures, trial, size=size)
    hit = poisoned and hard < made.success
    add_victim(store, control, trial, hit=hit, defense=made.name, run=run, **(row | changes))


def removal(name: str, epoch: int, rows: int, poison: int, draws: np.random.Generator) -> dict[str, Any]:
    shares = draws.dirichlet([4, 1, 2, 1, 2])
    by_class = [int(rows * share) for share in shares]
    by_class[0] += rows - sum(by_class)
    last = name.split(" + ")[-1].split(" (")[0]
    return {"by": last, "epoch": epoch, "rows": rows, "poison": poison, "by_class": by_class, "seconds": 0.4}


def certificate(accuracy: float) -> dict[str, list[float]]:
    return {"radius": list(range(12)), "accuracy": [max(0.0, accuracy - 0.05 * radius) for radius in range(12)]}


def add_pictures(path: Path, trial: int, *, count: int = 24, size: int = 28) -> None:
    """The first rows dropped, every third one poison."""
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path,
        images=images(count, trial, size).transpose(0, 2, 3, 1),
        ids=np.arange(count) + 500,
        labels=np.arange(count) % 5,
        poison=np.arange(count) % 3 == 0,
    )
