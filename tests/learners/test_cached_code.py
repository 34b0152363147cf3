"""The memory of trainings across code: what old code trained, or began to train, is never taken for the new code's."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mithridate import campaign, methods
from mithridate.defenses.epic import EPIC
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from mithridate.learner import Progress
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import Trained
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from tests.conftest import stripes
from tests.runs import CPU, carried_out, results, tiny

CODE = '''"""A learner, a defense in the loop and a control that all do what NUMBER says."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from mithridate.control import MatchedControl
from mithridate.defense import HookDefense
from mithridate.learner import Hook
from mithridate.learners.sgd import SGD

NUMBER = 1


@dataclass(frozen=True, kw_only=True)
class Way(SGD):
    name: ClassVar[str] = "way"

    def build(self, space, seed):
        return super().build(space, seed.child(NUMBER))


class Scaling(Hook):
    def __init__(self, settings):
        self.settings = settings

    def transform(self, model, batch, generator):
        return replace(batch, inputs=batch.inputs / NUMBER)


@dataclass(frozen=True, kw_only=True)
class Scaled(HookDefense):
    name: ClassVar[str] = "scaled"

    def hook(self, learner, seed):
        return Scaling(self)


class Bare(Scaling):
    def __init__(self):
        self.settings = ("bare",)


@dataclass(frozen=True, kw_only=True)
class Instead(HookDefense):
    name: ClassVar[str] = "instead"

    def hook(self, learner, seed):
        return Bare()


@dataclass(frozen=True, kw_only=True)
class First(MatchedControl):
    name: ClassVar[str] = "first"
    judges: ClassVar[bool] = False
    like: object = None
    per_class: bool = False
    upwards: bool = True

    def suspicion(self, data, model, seed):
        scores = data.ids.float() if self.upwards else -data.ids.float()
        return scores if NUMBER == 1 else scores % 7
'''
DATA = stripes(48, seed=1)
SMALL = SGD(model=SmallConvNet(widths=(4, 6)), epochs=3, batch_size=16, lr=0.05)
SMALL_EPIC = EPIC(fraction=0.3, interval=1, warmup=1, min_class_size=1)

Load = Callable[[int], ModuleType]


@pytest.fixture(params=["theirs", "mithridate.learners.way"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Load]:
    """The module as it is with a number; of somebody else, or of this package."""

    def loaded(number: int) -> ModuleType:
        path = tmp_path / "module.py"
        path.write_text(CODE.replace("NUMBER = 1", f"NUMBER = {number}"))
        spec = importlib.util.spec_from_file_location(request.param, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[request.param] = module
        exec(compile(path.read_text(), path, "exec"), module.__dict__)  # not from a cache of byte code
        for each in (methods.version, methods.code):
            each.cache_clear()
        return module

    yield loaded
    sys.modules.pop(request.param, None)


def same(one: Progress, two: Progress) -> bool:
    states = one.model.state_dict(), two.model.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def way(module: ModuleType) -> SGD:
    return module.Way(model=SMALL.model, epochs=3, batch_size=16, lr=0.05)


def scaled(module: ModuleType, cached: Cached) -> Any:
    return module.Scaled().protect(cached)


def instead(module: ModuleType, cached: Cached) -> Any:
    return module.Instead().protect(cached)


def controlled(module: ModuleType, cached: Cached) -> Any:
    return module.First(like=SMALL_EPIC).protect(cached)


@pytest.mark.parametrize("protected", [scaled, instead, controlled])
def test_a_network_of_other_code_of_a_defense_is_not_found(
    protected: Callable[[ModuleType, Any], Any], load: Load, tmp_path: Path
) -> None:
    cached = Cached(learner=SMALL, folder=tmp_path / "kept")
    fits = {number: protected(load(number), cached).fit(DATA, seed=Seed(1)) for number in (1, 2)}
    kept = set(cached.folder.iterdir())
    assert same(protected(load(1), cached).fit(DATA, seed=Seed(1)), fits[1])
    assert set(cached.folder.iterdir()) == kept  # of the same code: found
    assert not same(fits[1], fits[2])
    assert same(fits[2], protected(load(2), SMALL).fit(DATA, seed=Seed(1)))


def test_controls_with_other_settings_are_told_apart(load: Load, tmp_path: Path) -> None:
    module, cached = load(1), Cached(learner=SMALL, folder=tmp_path / "kept")
    fits = [
        module.First(like=SMALL_EPIC, upwards=upwards).protect(cached).fit(DATA, seed=Seed(1))
        for upwards in (True, False)
    ]
    assert not same(*fits)


def test_a_network_of_other_code_of_a_learner_is_not_found(load: Load, tmp_path: Path) -> None:
    fits = [Cached(learner=way(load(n)), folder=tmp_path / "kept").fit(DATA, seed=Seed(1)) for n in (1, 2, 1)]
    assert [bool(each.reused) for each in fits] == [False, False, True]
    assert not same(fits[0], fits[1])
    assert same(fits[0], fits[2])


def test_a_training_that_other_code_began_is_not_gone_on_with(load: Load, tmp_path: Path) -> None:
    def training(number: int) -> Any:
        cached = Cached(learner=way(load(number)), folder=tmp_path / "kept", save_every=1e-9)
        return cached.train(DATA, seed=Seed(1))

    begun = training(1)
    assert [next(begun).epoch for _ in range(2)] == [1, 2]
    begun.close()
    assert len(list((tmp_path / "kept").glob("*.part"))) == 1
    assert [each.epoch for each in training(2)] == [1, 2, 3]
    assert next(iter(training(1))).epoch == 3


def test_a_pretraining_by_other_code_is_not_found_in_the_shared_cache(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    data = tiny().data
    weights = [Trained(data=data, learner=_dense(load(number))) for number in (1, 2)]
    first = Trained(data=data, learner=_dense(load(1)))
    path, network = first.path(), first.network(CPU)
    assert path.is_file()
    second = Trained(data=data, learner=_dense(load(2)))
    assert second.path() != path
    assert not same(network, second.network(CPU))
    assert weights[0].identity() == weights[1].identity()  # rows keep their keys


def _dense(module: ModuleType) -> SGD:
    return module.Way(model=MLP(hidden=(8,)), epochs=2, batch_size=32, augmentation=None)


@pytest.mark.parametrize("load", ["mithridate.learners.way"], indirect=True)
@pytest.mark.parametrize("done", [3, 99])
def test_redone_rows_are_those_of_a_fresh_run(done: int, load: Load, tmp_path: Path) -> None:
    """A run by old code is stopped after some jobs, and done again by new code."""
    old, new = tmp_path / "old", tmp_path / "new"
    _stopped(_experiment(load(1)), old, done)
    experiment = _experiment(load(2))
    with campaign.begin(experiment, old, command="run", environment={"device": "cpu"}, changed="redo"):
        pass
    carried_out(experiment, old)
    carried_out(experiment, new)
    assert results(old) == results(new)


def _experiment(module: ModuleType) -> Experiment:
    return replace(tiny(trials=1, runs=1), victims=(_dense(module),))


def _stopped(experiment: Experiment, folder: Path, done: int) -> Sequence[str]:
    ended = []
    with campaign.begin(experiment, folder, command="run", environment={"device": "cpu"}) as store:
        for each in campaign.run(experiment, store, executor=Local(), device=CPU, report=lambda *_: None):
            ended.append(each.error)
            if len(ended) == done:
                break
    return ended
