"""Promises of the order in which a run is told: that of its experiment, whichever job ended first."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mithridate.report.combinations import cells
from mithridate.report.damage import damage
from mithridate.report.error_curves import error_curves
from mithridate.report.grid import grid
from mithridate.report.load import read
from mithridate.report.tables import summary
from mithridate.store import Store
from tests.report.fabricate_degrade import add_craft, add_victim, scenario, settings, table_rows

ATTACKS, BUDGETS = ("back-gradient", "random-flips"), (0.1, 0.05)
VICTIMS, DEFENSES = ("ridge", "adaline"), ("none", "slab", "knn")
NAMES = {
    "attack": ATTACKS,
    "scenario": [scenario(budget) for budget in BUDGETS],
    "victim": VICTIMS,
    "defense": DEFENSES,
}


def fabricated(folder: Path, shuffle: int, *, names: bool = True, left_out: str = "") -> Path:
    """The same run, its jobs ended in another order."""
    with Store(folder, create=True) as store:
        more = {"names": NAMES} if names else {}
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"], **more)
        places = [(a, b, t) for a in ATTACKS for b in BUDGETS for t in range(2)]
        jobs = [("craft", a, b, t, "", "") for a, b, t in places]
        jobs += [("victim", a, b, t, v, d) for a, b, t in [*places, ("", 0.0, 0)] for v in VICTIMS for d in DEFENSES]
        random.Random(shuffle).shuffle(jobs)
        for kind, attack, budget, trial, victim, defense in jobs:
            if kind == "craft":
                add_craft(store, attack, budget, trial, table_rows(attack, trial, 4 + trial))
            elif f"{attack}/{victim}" != left_out:
                add_victim(store, attack, victim, defense, budget=budget, trial=trial, rate=0.2 + 0.01 * trial)
    return folder


@pytest.mark.parametrize("shuffle", range(4))
def test_rows_stand_in_the_order_of_the_experiment(tmp_path: Path, shuffle: int):
    found = cells(read(fabricated(tmp_path, shuffle)))
    assert [(cell.scenario, cell.attack, cell.victim, cell.defense) for cell in found] == [
        (scenario(b), a, v, d) for b in BUDGETS for a in ATTACKS for v in VICTIMS for d in DEFENSES
    ]
    assert all([craft.trial for craft in cell.crafts] == [0, 1] for cell in found)


def test_the_summary_is_the_same_whichever_job_ended_first(tmp_path: Path):
    told = {json.dumps(summary(read(fabricated(tmp_path / str(k), k)))) for k in range(4)}
    assert len(told) == 1


@pytest.mark.parametrize("left_out", ["", "back-gradient/ridge"])
def test_the_first_victim_named_is_that_of_the_verdict(tmp_path: Path, left_out: str):
    run = read(fabricated(tmp_path, 1, left_out=left_out))
    found = cells(run)
    said = damage(run, found)
    assert said is not None
    assert run.degradation is not None
    assert said.cell.victim == ("adaline" if left_out else "ridge")
    assert said.cell.scenario == scenario(0.1)
    curves = error_curves(found, said.cell, run.degradation)
    assert curves is not None
    assert curves.figures[0].title.startswith(said.cell.victim)


def test_names_that_the_experiment_does_not_know_come_last(tmp_path: Path):
    assert grid(NAMES).ordered("victim", ["new", "adaline", "ridge", "adaline"]) == ["ridge", "adaline", "new"]


def test_older_runs_are_told_as_they_were(tmp_path: Path):
    run = read(fabricated(tmp_path, 3, names=False))
    first = next(each for each in run.crafts)
    assert (cells(run)[0].attack, cells(run)[0].scenario) == (first.attack, first.scenario)
