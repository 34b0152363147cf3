"""The order of an experiment's jobs: a first complete table early, shared work just before it is needed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mithridate.errors import ConfigError
from mithridate.experiment import Experiment, Job
from mithridate.listing import begun_by, sizes
from tests.runs import tiny

NET = {"model": {"name": "mlp", "hidden": [9]}, "epochs": 2, "batch_size": 32, "augmentation": None}
OTHER = {**NET, "model": {"name": "linear"}}
DIRTY = {"budget": "5 %", "labels": "dirty", "origin": "random-subset"}
ATTACKS = [{"name": "gradient-matching"}, {"name": "bullseye-polytope"}, {"name": "random-flips"}]
few = settings(max_examples=12)  # a grid takes a tenth of a second to read
DEFENSES = ["none", "deep-knn", "mixup", ["mixup", "deep-knn"]]


@st.composite
def grids(draw: st.DrawFn) -> Experiment:
    """Any small grid that makes sense."""
    count = draw(st.integers(1, 3))
    crews = {"first": [0], "all": list(range(count))} if count > 1 else {"only": [0]}
    resample = draw(st.booleans())
    choices: dict[str, Any] = {
        "attacks": draw(st.lists(st.sampled_from(ATTACKS), min_size=1, unique_by=str)),
        "victims": [NET, OTHER][: draw(st.integers(1, 2))],
        "defenses": draw(st.lists(st.sampled_from(DEFENSES), min_size=1, max_size=3, unique_by=str)),
        "vary": draw(st.sampled_from([{}, {"budget": ["1 %"]}, {"budget": ["1 %", "5 %", "1 %"]}])),
        "vary_trials": draw(st.integers(0, 2)),
        "ensemble": count,
        "trials": draw(st.integers(1, 3)),
        "first_trial": draw(st.integers(0, 2)),
        "seeds": draw(st.integers(1, 2)),
        "runs": draw(st.integers(1, 2)),
        "controls": {"clean": draw(st.integers(0, 3)), "noise": draw(st.integers(0, 3))},
        "adaptive": draw(st.booleans()),
        "share_surrogates": draw(st.booleans()),
        "resample": resample,
        "training_rows": 60 if resample else 0,
    }
    needed = any(each["name"] != "random-flips" for each in choices["attacks"])
    choices["crews"] = draw(st.sampled_from([{}, crews])) if needed else {}
    if choices["share_surrogates"] and not resample:
        choices["targets"] = draw(st.sampled_from(["any", "correct"]))
    try:
        return tiny(threat=DIRTY, **choices)
    except ConfigError:
        return tiny(**{**choices, "threat": DIRTY, "crews": {}})  # equal crews, where each trial trains its own


def cells(jobs: Sequence[Job]) -> Counter[tuple[int, ...]]:
    """How many trials each cell of the table has."""
    found = {(job.scenario, job.attack, job.crew, job.victim, job.defense, job.trial) for job in jobs}
    return Counter(each[:-1] for each in found)


def of_kind(jobs: Sequence[Job], *kinds: str) -> list[Job]:
    return [job for job in jobs if job.kind in kinds]


@few
@given(grids())
def test_has_a_complete_table_of_one_trial_before_anything_is_done_twice(experiment: Experiment) -> None:
    """Then one of two trials, and so on; further victims come once every trial has had its first."""
    jobs = experiment.jobs()
    victims = of_kind(jobs, "attack")
    whole = len(cells(victims))
    assert whole == (
        len(experiment.scenarios()) * len(experiment.attackers()) * len(experiment.victims) * len(experiment.stacks())
    )
    assert set(cells(victims[:whole]).values()) == {1}
    assert len(cells(victims[:whole])) == whole
    turns = [job.run for job in victims]
    assert turns == sorted(turns)
    for turn in set(turns):
        trials = [job.trial for job in victims if job.run == turn]
        assert trials == sorted(trials)
    first_table = jobs.index(victims[whole - 1]) + 1
    clean, noise = (
        {(job.victim, job.defense) for job in of_kind(jobs[: first_table + whole], kind)} for kind in ("clean", "noise")
    )
    bouts = len(experiment.victims) * len(experiment.defenses)
    assert len(clean) == (bouts if experiment.controls.clean else 0)
    assert len(noise) == (bouts if experiment.controls.noise else 0)


@few
@given(grids())
def test_comes_after_what_it_needs_and_holds_nothing_twice(experiment: Experiment) -> None:
    seen: set[str] = set()
    for job in experiment.jobs():
        assert set(job.needs) <= seen
        assert job.key not in seen
        seen.add(job.key)


@few
@given(grids())
def test_trains_surrogates_just_before_the_first_that_needs_them(experiment: Experiment) -> None:
    jobs = experiment.jobs()
    for place, job in enumerate(jobs):
        if job.kind == "surrogate":
            after = next(each for each in jobs[place:] if each.kind != "surrogate")
            assert job.key in after.needs


@few
@given(grids())
def test_keeps_what_begins_with_another_s_training_close_to_it(experiment: Experiment) -> None:
    """Trainings are remembered for a while only: between a stack and those that begin with it stand few others."""
    jobs, before = experiment.jobs(), begun_by(experiment)
    places = {job.key: place for place, job in enumerate(jobs)}
    stacks = len(experiment.stacks())
    for job in of_kind(jobs, "attack"):
        for key in job.needs[1:]:
            assert places[job.key] - places[key] < 2 * stacks + len(of_kind(jobs, "surrogate")), (
                "a poison for each at most"
            )
            assert jobs[places[key]].defense in before[job.defense]
            assert (jobs[places[key]].victim, jobs[places[key]].run) == (job.victim, job.run)


@few
@given(grids())
def test_has_the_size_that_is_counted(experiment: Experiment) -> None:
    assert sizes(experiment) == Counter(job.kind for job in experiment.jobs())


def test_of_a_grid_of_a_hundred_thousand_takes_seconds() -> None:
    """A million took 17 s and 0.7 GB on one core of the machine this was written on."""
    experiment = tiny(
        trials=490, runs=2, attacks=ATTACKS[:2], defenses=["none", "epic", "deep-knn", "mixup", "cutout"],
        victims=[NET, OTHER], ensemble=4, crews={"one": [0], "four": [0, 1, 2, 3]},
    )  # fmt: skip
    started = time.process_time()
    jobs = experiment.jobs()
    assert 90_000 < len(jobs) == len({job.key for job in jobs})
    assert time.process_time() - started < 6  # 60 s for a million


def test_of_more_than_a_million_is_refused_without_listing() -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="the grid has 1000002 jobs, but at most 1000000 can be run together"):
        tiny(trials=250_000)
    assert time.monotonic() - started < 1
