"""A protocol of two fixed trials over the bundled images, and poison that somebody made for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from mithridate.datasets.bundled import Bundled
from mithridate.goal import Aims
from mithridate.peerfiles import write_benchmark
from mithridate.poison import Poison
from mithridate.poisonset import PoisonSet

DATA = {"name": "bundled", "classes": ["bird", "cat", "frog"], "train_rows": 120, "test_rows": 40}
SPLIT = Bundled(classes=("bird", "cat", "frog"), train_rows=120, test_rows=40).load()
POISONS = 4


def bases(label: int) -> list[int]:
    """The last rows of a class: a victim's part of the training set would hold none of them otherwise."""
    return SPLIT.train.ids[SPLIT.train.labels == label][-POISONS:].tolist()


TARGETS = [int(SPLIT.test.ids[SPLIT.test.labels == label][0]) for label in (0, 1)]
TRIALS = [(target, true, 2, bases(2)) for true, target in enumerate(TARGETS)]
"""Target id, its class, the class wanted, base ids."""


def protocol(folder: Path, **changes: Any) -> Path:
    """The protocol as a YAML file: victims train on 30 rows, 4 of them poisoned."""
    keys = ("target index", "target class", "base class", "base indices")
    (folder / "setups.json").write_text(json.dumps([dict(zip(keys, each, strict=True)) for each in TRIALS]))
    settings = {
        "name": "tiny",
        "data": DATA,
        "setups": str(folder / "setups.json"),
        "training_rows": 30,
        "threat": {"budget": POISONS / 30, "perturbation": {"name": "linf", "radius": "8/255", "slack": "1/255"}},
        "attacks": [{"name": "gradient-matching", "steps": 2, "restarts": 1}],
        "victims": [{"model": "linear", "epochs": 2, "batch_size": 15, "augmentation": None}],
        "trials": 2,
        "runs": 1,
        "controls": {"clean": 1, "noise": 1},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**settings, **changes}), encoding="utf-8")
    return path


def poison_set(trial: int, *, by: int = 8) -> PoisonSet:
    """Somebody's poison for a trial: every value of the base rows moved by so many levels."""
    target, true, wanted, ids = TRIALS[trial]
    base = SPLIT.train.rows(torch.tensor(ids))
    away = torch.where(base.inputs < 128, by, -by)
    rows = replace(base, inputs=(base.inputs.int() + away).to(torch.uint8))
    inputs = SPLIT.test.rows(torch.tensor([target])).all_inputs()
    aims = Aims(inputs=inputs, labels=torch.tensor([true]), wanted=torch.tensor([wanted]))
    return PoisonSet(poison=Poison(rows=rows), base=base, aims=aims, manifest={})


def theirs(folder: Path, *, by: int = 8, trials: tuple[int, ...] = (0, 1)) -> Path:
    """The folder of somebody's poison, three pickles a trial."""
    for trial in trials:
        write_benchmark(folder / f"number {trial}", poison_set(trial, by=by))
    return folder
