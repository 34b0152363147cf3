"""Promises of what a run lacks: jobs counted as the queue has them, failures told once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.jobqueue import Entry
from mithridate.report.fates import Fates, fates
from mithridate.report.load import Run, read
from mithridate.report.missing import grouped, memory, missing
from mithridate.report.page import html
from mithridate.store import Failure, Store
from tests.report.fabricate import scenario
from tests.report.fabricate_grid import VICTIM, Grid, fabricate_grid

BASE, WEAK = scenario(32 / 255, 0.04), scenario(16 / 255, 0.04)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(fabricate_grid(tmp_path_factory.mktemp("missing"), Grid(trials=4)))


def failure(message: str, key: str = "k", kind: str = "attack", trace: str = "t") -> Failure:
    return Failure(key=key, kind=kind, message=message, trace=trace)


def test_failures_that_say_the_same_but_for_numbers_and_names_are_one_group():
    said = ["loss 3.5e-2 of victim 3 at 'a/b'", "no memory", "loss 17 of victim 12 at 'c'", "loss 1 of victim 4 at 'd'"]
    found = grouped([failure(text, key=f"k{k}") for k, text in enumerate(said)])
    assert [(group.count, group.message) for group in found] == [(3, said[0]), (1, said[1])]
    assert found[0].keys == "k0, k2, k3"


def test_a_group_names_kinds_the_first_jobs_and_one_traceback():
    kinds = ["attack"] * 7 + ["craft"] * 2
    (found,) = grouped([failure("x", key=f"k{k}", kind=kind, trace=f"trace {k}") for k, kind in enumerate(kinds)])
    assert found.kinds == "7 poisoned networks, 2 poisons"
    assert found.keys == "k0, k1, k2, k3, k4, k5 and 3 others"
    assert found.trace == "trace 0"


def test_a_long_traceback_keeps_its_end():
    (found,) = grouped([failure("x", trace="a" * 9000 + "the end")])
    assert found.trace.endswith("the end")
    assert len(found.trace) < 6100


def test_jobs_are_counted_as_the_queue_has_them(run: Run):
    found = fates(run)
    assert found.failed == {("feature-collisions", BASE, VICTIM, "dp-sgd"): 4}
    assert (found.lost, found.unrun) == (1, 4)
    said = missing(run, found)
    assert said is not None
    assert (said.failed, said.lost, said.unrun) == (4, 1, 4)
    assert [group.count for group in said.groups] == [3, 1]


def test_a_poison_that_failed_is_missing_in_every_place_that_waits_for_it(tmp_path: Path):
    fabricate_grid(tmp_path, Grid(trials=1, holes=False))
    with Store(tmp_path) as store:
        store.queue.fill([Entry(key="x", kind="craft", job={"attack": 1, "scenario": 1})])
        store.queue.release("x", state="failed")
    assert fates(read(tmp_path)).failed == {("bullseye-polytope", WEAK, "", ""): 1}


def test_where_there_are_several_crews_a_job_that_failed_has_the_place_of_its_attack_with_its_crew(tmp_path: Path):
    names = ("matching (crew one)", "matching (crew two)", "flips", "polytope (crew one)", "polytope (crew two)")
    grid = Grid(trials=1, runs=1, holes=False, attacks=dict.fromkeys(names, 0.5))
    fabricate_grid(tmp_path, grid, crews={"two": [0, 1], "one": [0]})
    jobs = {name: {"attack": a, "crew": c, "defense": 1} for name, (a, c) in zip(names, _CREWS, strict=True)}
    with Store(tmp_path) as store:
        store.queue.fill([Entry(key=name, kind="attack", job=job) for name, job in jobs.items()])
        for key in jobs:
            store.queue.release(key, state="failed")
    assert fates(read(tmp_path)).failed == {(name, BASE, VICTIM, "epic"): 1 for name in names}


_CREWS = ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1))
"""Numbers of attack and crew."""


def test_what_needs_a_failed_poison_is_no_failure_and_is_counted_once(tmp_path: Path):
    fabricate_grid(tmp_path, Grid(trials=1, holes=False))
    poisons = [Entry(key=f"poison{k}", kind="craft", job={"trial": k}) for k in range(2)]
    networks = [Entry(key=f"net{k}", kind="attack", job={"needs": [f"poison{k}"]}) for k in range(2)]
    with Store(tmp_path) as store:
        store.queue.fill([*poisons, *networks])
        for k in range(2):
            store.fail(failure("boom", key=f"poison{k}", kind="craft"))
            store.queue.release(f"poison{k}", state="failed")
            store.fail(failure("not run: the craft job it needs failed", key=f"net{k}"))
            store.queue.release(f"net{k}", state="lost")
    run = read(tmp_path)
    found = fates(run)
    assert found.failed == {("gradient-matching", BASE, "", ""): 2}
    said = missing(run, found)
    assert said is not None
    assert (said.failed, said.lost, len(run.failures)) == (2, 2, 2)
    assert "2 jobs failed, 2 were not run because they need those." in html(run)


def test_a_run_that_lacks_nothing_says_nothing(run: Run):
    none = Fates(failed={}, lost=0, unrun=9)
    assert missing(replace(run, failures=()), none) is None
    assert missing(replace(run, failures=()), replace(none, lost=1)) is not None


def test_poisons_that_needed_less_memory_are_counted(run: Run):
    assert memory(run) == ""
    lowered = tuple(replace(craft, micro_batch=size) for craft, size in zip(run.crafts, (4, 2), strict=False))
    assert memory(replace(run, crafts=(*lowered, *run.crafts[2:]))).startswith(
        "2 poisons were crafted with a smaller micro-batch (down to 2 rows at once)"
    )
