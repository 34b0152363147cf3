"""Back-gradient poisoning of a small convolutional network on MNIST's digits 1, 5 and 6, beside softmax regression.

    python benchmarks/back_gradient_cnn.py [--trials 5] [--rows 300] [--poison 10] [--steps 20]

The paper (Muñoz-González et al. 2017) has 1,000 training rows, 10 poison rows and 450 thousand parameters, and finds a
slight, not significant rise. Here rows and network are fewer, so that two cores do it in minutes: 14 thousand
parameters, full-batch descent without dropout. Each trial draws its rows; attacks start from the rows that the random
flips are. Writes ``benchmarks/results/back-gradient-cnn.json``: mean test error with 95 % t-interval over trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from scipy.stats import t as student
from torch import nn

from mithridate import runtime
from mithridate.attack import Attack, craft
from mithridate.attacks.back_gradient import BackGradient
from mithridate.attacks.random_flips import RandomFlips
from mithridate.dataset import Dataset, Space
from mithridate.datasets.named import MNIST
from mithridate.goal import Degrade
from mithridate.learner import Learner
from mithridate.learners.recipes import recipe
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Stack
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel, Unbounded
from mithridate.trial import accuracy

PLACE = Path(__file__).parent / "results" / "back-gradient-cnn.json"


@dataclass(frozen=True, kw_only=True)
class Convolutions(Architecture):
    """Two convolutions with pools and one dense layer of tanh, as the paper's network, with fewer channels."""

    name: ClassVar[str] = "convolutions"

    def build(self, space: Space) -> Stack:
        """For grey images of 28 x 28."""
        body = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(8 * 7 * 7, 32), nn.Tanh()),
        )
        return Stack(space, body=body, width=32)


def learners(rows: int) -> dict[str, Learner]:
    """The two learners; each is surrogate and victim."""
    network = SGD(
        model=Convolutions(),
        epochs=40,
        batch_size=2 * rows,  # all rows in one batch
        lr=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        schedule="constant",
        augmentation=None,
    )
    return {"softmax-regression": recipe("softmax-regression", steps=100, lr=0.1, standardise=False), "cnn": network}


def main() -> int:
    """Run the trials and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--poison", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    runtime.use_threads(1)
    data, trained = MNIST(classes=("1", "5", "6")).load(), learners(asked.rows)
    errors: dict[tuple[str, str], list[float]] = {}
    started = time.perf_counter()
    for trial in range(asked.trials):
        seed = Seed(trial)
        order = torch.randperm(len(data.train), generator=seed.child("rows").generator())
        train, validation = (
            data.train.at(order[start : start + asked.rows].sort().values) for start in (0, asked.rows)
        )
        threat = ThreatModel(
            goal=Degrade(),
            budget=asked.poison / asked.rows,
            perturbation=Unbounded(),
            labels="dirty",
            rows="append",
        )
        goal = threat.goal.draw(train, data.test, seed, validation=validation)
        poisons: dict[str, Dataset] = {"clean": train}
        attacks: dict[str, tuple[Attack, Learner | None]] = {"random-flips": (RandomFlips(), None)}
        attacks |= {
            f"back-gradient on {name}": (BackGradient(steps=asked.steps), each) for name, each in trained.items()
        }
        for name, (attack, surrogate) in attacks.items():
            crew = () if surrogate is None else (surrogate,)
            poison = craft(attack, train, threat=threat, aims=goal.known, surrogates=crew, seed=seed)
            poisons[name] = poison.apply(train)
        for name, poisoned in poisons.items():
            for victim, learner in trained.items():
                model = learner.fit(poisoned, seed=seed.child("victim")).model
                errors.setdefault((name, victim), []).append(1 - accuracy(model, data.test))
        print(f"trial {trial + 1} of {asked.trials}, {time.perf_counter() - started:.0f} s", flush=True)
    found = {
        "name": "back-gradient-cnn",
        "about": "Test error of softmax regression and a small CNN on MNIST's digits 1, 5 and 6: clean, random flips, "
        f"back-gradient; {asked.poison} rows appended to {asked.rows}.",
        "command": " ".join(["python", "benchmarks/back_gradient_cnn.py", *sys.argv[1:]]),
        "environment": runtime.describe(torch.device("cpu")),
        "core_seconds": round(time.perf_counter() - started),
        "measured": [case(name, victim, values) for (name, victim), values in errors.items()],
    }
    PLACE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for each in found["measured"]:
        print(each)
    return 0


def case(name: str, victim: str, values: list[float]) -> dict[str, Any]:
    """One cell of the table, in percent."""
    mean, count = statistics.mean(values), len(values)
    half = student.ppf(0.975, count - 1) * statistics.stdev(values) / count**0.5 if count > 1 else float("nan")
    return {
        "poison": name,
        "victim": victim,
        "error_percent": round(100 * mean, 2),
        "interval": f"[{100 * (mean - half):.2f}, {100 * (mean + half):.2f}]",
        "trials": count,
    }


if __name__ == "__main__":
    sys.exit(main())
