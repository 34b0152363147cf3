"""Recorded training steps, against the loop in ``sgd.py``; on a CPU, where a recorded step is the step itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mithridate.errors import ConfigError
from mithridate.learner import Hook, Removal
from mithridate.learners import graphed
from mithridate.learners.augment import Augmentation
from mithridate.learners.compiling import compiled
from mithridate.learners.graphed import DEVICES, Graphed, fits
from mithridate.learners.running import Run
from mithridate.learners.sgd import SGD
from mithridate.learners.start import Scratch
from mithridate.model import Architecture, Stack
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from mithridate.settings import fingerprint, plain
from tests.conftest import stripes

LOOP = SGD(model=SmallConvNet(widths=(4, 4)), epochs=3, batch_size=8, lr=0.05, weight_decay=1e-3, drops=(2,))
GRAPH = replace(LOOP, graph=True)
ROWS = stripes(21, seed=1)  # two batches of 8 in an epoch and one of 5


@dataclass(frozen=True, kw_only=True)
class Dropping(Architecture):
    """A network that draws at every step."""

    name: ClassVar[str] = "dropping"

    def build(self, space):
        body = nn.Sequential(nn.Flatten(), nn.Linear(432, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
        return Stack(space, body=body, width=6)


class Fewer(Hook):
    """Takes out three rows after the first epoch."""

    def drop(self, data, active, progress):
        return Removal(by="me", epoch=1, ids=data.ids[active][:3]) if progress and progress.epoch == 1 else None


@pytest.fixture
def anywhere(monkeypatch):
    """Steps are recorded on a CPU too; how many, and how often each was replayed."""
    monkeypatch.setattr(graphed, "DEVICES", (*DEVICES, "cpu"))
    calls = []

    def recorded(work, device):
        """As on a GPU: made a few times first, and then only when called."""
        for _ in range(graphed.WARM_UP):
            work()
        calls.append(0)

        def replay():
            calls[-1] += 1
            work()

        return replay

    monkeypatch.setattr(graphed, "recorded", recorded)
    return calls


def same(one, two, *, exactly=False):
    assert one.removals == two.removals or len(one.removals) == len(two.removals)
    pairs = [(value, two.model.state_dict()[name]) for name, value in one.model.state_dict().items()]
    if exactly:
        return all(torch.equal(*pair) for pair in pairs) and one.loss == two.loss and one.accuracy == two.accuracy
    near = all(torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in pairs)
    return near and one.loss == pytest.approx(two.loss, rel=1e-4) and one.accuracy == pytest.approx(two.accuracy)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "one-cycle", "nesterov": False},
        {"schedule": "cosine", "momentum": 0.0, "weight_decay": 0.0},
        {"augmentation": Augmentation(shift=2.0, mode="integer", cutout=0.3)},
        {"augmentation": None, "batch_size": 7},
        {"channels_last": True},
        {"model": Dropping()},
        {"batch_size": 64},
    ],
    ids=str,
)
def test_are_the_loops_but_for_rounding(anywhere, changes):
    one, two = (replace(each, **changes).fit(ROWS, seed=Seed(1)) for each in (LOOP, GRAPH))
    whole = {8: 2, 7: 3}.get(replace(LOOP, **changes).batch_size, 0)  # batches of full size in an epoch
    assert anywhere == ([3 * whole] if whole else [])
    assert same(one, two)


def test_are_the_loops_on_inputs_stored_as_floats(anywhere):
    floats = replace(ROWS, inputs=ROWS.all_inputs())
    assert same(LOOP.fit(floats, seed=Seed(1)), GRAPH.fit(floats, seed=Seed(1)))
    assert anywhere == [6]


def test_recording_leaves_no_trace(anywhere, monkeypatch):
    """Weights, statistics, momentum and what is drawn are as if the steps before recording were never made."""
    learner = replace(GRAPH, model=Dropping())
    found = learner.fit(ROWS, seed=Seed(1))
    monkeypatch.setattr(graphed, "WARM_UP", 0)
    assert same(found, learner.fit(ROWS, seed=Seed(1)), exactly=True)
    assert same(GRAPH.fit(ROWS, seed=Seed(2)), replace(GRAPH).fit(ROWS, seed=Seed(2)), exactly=True)


def test_go_on_from_a_state_as_if_never_stopped(anywhere):
    states, whole = [], None
    for whole in GRAPH.train(ROWS, seed=Seed(1), hooks=(Fewer(),)):
        states.append(whole.state())
    for state in states:
        resumed = GRAPH.fit(ROWS, seed=Seed(1), hooks=(Fewer(),), resume=state)
        assert same(resumed, whole, exactly=True)
    loop = LOOP.fit(ROWS, seed=Seed(1), hooks=(Fewer(),), resume=states[0])  # and one way goes on with the other's
    assert same(loop, whole)


def test_hooks_that_only_take_out_rows_are_heard(anywhere):
    one, two = (each.fit(ROWS, seed=Seed(1), hooks=(Fewer(),)) for each in (LOOP, GRAPH))
    assert len(two.removals) == 1
    assert anywhere == [6]  # of 18 rows, too, two batches are whole
    assert same(one, two)


@pytest.mark.parametrize("name", ["batches", "transform", "backward"])
def test_hooks_that_take_part_in_steps_have_the_loop(anywhere, name):
    kind = type("Hooked", (Hook,), {name: lambda self, *given: getattr(Hook, name)(self, *given)})
    one, two = (each.fit(ROWS, seed=Seed(1), hooks=(kind(),)) for each in (LOOP, GRAPH))
    assert anywhere == []
    assert same(one, two, exactly=True)


def test_elsewhere_nothing_changes():
    run = Run.begun(GRAPH, ROWS, Seed(1), ())
    assert not fits(run)
    assert same(LOOP.fit(ROWS, seed=Seed(1)), GRAPH.fit(ROWS, seed=Seed(1)), exactly=True)


def test_results_from_before_keep_their_keys():
    assert "graph" not in plain(LOOP)
    assert plain(GRAPH) == {**plain(LOOP), "graph": True}
    assert fingerprint(replace(GRAPH, graph=False)) == fingerprint(LOOP)


def test_adam_is_refused():
    with pytest.raises(ConfigError, match=r"graph: true records steps of optimiser: sgd, but it is 'adam'"):
        replace(GRAPH, optimiser="adam")


class Watching(TorchDispatchMode):
    """Refuses what waits for a device: numbers read back, shapes that depend on values, constants copied over."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "is_nonzero"), name
        if name in ("index", "index_put_"):
            assert all(each is None or each.dtype != torch.bool for each in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "augmentation", [None, Augmentation(), Augmentation(mode="integer", shift=2.0, cutout=0.5)], ids=str
)
@pytest.mark.parametrize("stored", ["codes", "floats"])
def test_no_step_waits_for_the_device(anywhere, monkeypatch, augmentation, stored):
    data = ROWS if stored == "codes" else replace(ROWS, inputs=ROWS.all_inputs())
    learner = replace(GRAPH, augmentation=augmentation, precision="bf16")
    run = Run.begun(learner, data, Seed(1), ())
    Scratch().ready(run.model)
    works = []
    monkeypatch.setattr(graphed, "recorded", lambda work, device: works.append(work) or work)
    Graphed(learner, run, run.model).epoch([torch.arange(8)])
    with Watching():
        works[0]()


def test_a_replay_reads_its_batch_where_the_first_one_lay(anywhere, monkeypatch):
    """A graph knows places in memory, not tensors."""
    places = []

    def noted(learner, run, forward, buffers):
        draw = buffers.draw
        tensors = [buffers.index, draw.shift, draw.flip, draw.hole, buffers.totals]
        tensors += [each["lr"] for each in run.optimiser.param_groups] + list(run.model.state_dict().values())
        tensors += [each["momentum_buffer"] for each in run.optimiser.state.values()]
        if len(buffers.index) == 8:
            places.append([each.data_ptr() for each in tensors])
        return step(learner, run, forward, buffers)

    step = graphed.step
    monkeypatch.setattr(graphed, "step", noted)
    GRAPH.fit(ROWS, seed=Seed(1))
    assert len(places) == graphed.WARM_UP + 6
    assert all(each == places[1] for each in places[1:])  # the first step makes the momentum


def test_a_network_is_compiled_once_for_all_trainings(monkeypatch):
    """Others of its architecture find the code again; a smaller batch needs none."""
    count = []

    def backend(graph, inputs):
        count.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plainly, sizes = [], (8, 8, 5)
    for seed in range(3):
        network = LOOP.build(ROWS.space, Seed(seed)).train()
        twin = LOOP.build(ROWS.space, Seed(seed)).train()
        forward = compiled(network, rows=8)
        for size in sizes:
            inputs = ROWS.all_inputs()[:size]
            plainly.append(torch.equal(forward(inputs), twin(inputs)))
    assert len(count) == 1
    assert all(plainly)
