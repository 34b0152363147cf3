"""The smallest campaign that is still whole: four trials' worth of everything in half a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mithridate import campaign, config
from mithridate.executor import Ended, Executor, Report
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from mithridate.store import Store

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "classes": [0, 1, 2], "train_rows": 120, "test_rows": 60},
    "threat": {"budget": "5 %", "perturbation": {"name": "linf", "radius": "64/255"}},
    "attacks": [{"name": "gradient-matching", "steps": 2, "restarts": 1}],
    "victims": [{"model": {"name": "mlp", "hidden": [8]}, "epochs": 2, "batch_size": 32, "augmentation": None}],
    "trials": 2,
    "runs": 2,
    "controls": {"clean": 1, "noise": 1},
}
CPU = torch.device("cpu")


def tiny(**changes: Any) -> Experiment:
    """The experiment, with settings changed."""
    return config.parse(Experiment, {**TINY, **changes})


def begun(experiment: Experiment, folder: Path) -> Store:
    """Its run folder, open."""
    return campaign.begin(experiment, folder, command="mithridate run tiny", environment={"device": "cpu"})


def carried_out(
    experiment: Experiment, folder: Path, *, executor: Executor | None = None, report: Report = lambda job, step: None
) -> list[Ended]:
    """Do what is left of an experiment; how each job ended."""
    torch.set_num_threads(1)
    with begun(experiment, folder) as store:
        return list(campaign.run(experiment, store, executor=executor or Local(), device=CPU, report=report))


def results(
    folder: Path, *, without: Sequence[str] = ("seconds", "reused", "peak_memory")
) -> dict[str, dict[str, Any]]:
    """The rows in a run folder by key, without what no two runs share."""
    with Store(folder) as store:
        return {row["key"]: {name: each for name, each in row.items() if name not in without} for row in store.rows()}
