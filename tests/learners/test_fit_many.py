"""Many trainings together: each becomes what it would alone, bit for bit, whatever stands beside it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError
from mithridate.learner import Hook, Removal
from mithridate.learners import stacked
from mithridate.learners.sgd import SGD
from mithridate.learners.start import Transfer
from mithridate.learners.weights import File
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.watch import Step

LEARNER = SGD(model=MLP(hidden=(9,)), epochs=3, batch_size=16, lr=0.05, augmentation=None)


def table(seed, *, rows=70, columns=7, classes=3):
    draws = torch.Generator().manual_seed(seed)
    space = Space(
        shape=(columns,), num_classes=classes, bounds=(-9.0, 9.0), mean=(0.1,) * columns, std=(1.3,) * columns
    )
    inputs = torch.randn(rows, columns, generator=draws).clamp(-9, 9)
    return Dataset.of(inputs, inputs[:, :classes].argmax(1), space=space)


def tables(count, **shape):
    return [table(k, **shape) for k in range(count)], [Seed(50 + k) for k in range(count)]


def same(one, other):
    """Whether two ends of trainings are the same, bit for bit."""
    mine, theirs = (end.model.state_dict() for end in (one, other))
    assert mine.keys() == theirs.keys()
    curves = [(*end.earlier, (end.loss, end.accuracy)) for end in (one, other)]
    return all(torch.equal(mine[name], theirs[name]) for name in mine) and curves[0] == curves[1]


def alone(learner, data, seed):
    """A training by itself, with its whole curve."""
    points = [(each.loss, each.accuracy, each) for each in learner.train(data, seed=seed)]
    return replace(points[-1][2], earlier=tuple(point[:2] for point in points[:-1]))


LEARNERS = {
    "linear": replace(LEARNER, model=Linear()),
    "perceptron": LEARNER,
    "two hidden layers, batches of odd size": replace(LEARNER, model=MLP(hidden=(17, 6)), batch_size=13),
    "adam": replace(LEARNER, optimiser="adam", lr=0.01),
    "without momentum": replace(LEARNER, momentum=0.0, nesterov=False, weight_decay=0.0),
    "one row a step": replace(LEARNER, model=Linear(), batch_size=1, epochs=1),
    "all rows in a step": replace(LEARNER, batch_size=500),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("shape", [{}, {"columns": 16, "classes": 2}, {"rows": 41, "columns": 33}])
def test_each_training_becomes_what_it_would_alone_however_they_are_grouped(name, shape):
    learner, (data, seeds) = LEARNERS[name], tables(6, **shape)
    expected = [alone(learner, *pair) for pair in zip(data, seeds, strict=True)]
    draws = random.Random(name)
    for _ in range(2):
        order = draws.sample(range(6), 6)
        cut = draws.randrange(1, 6)
        for part in (order[:cut], order[cut:]):
            found = learner.fit_many([data[k] for k in part], [seeds[k] for k in part])
            assert all(same(end, expected[k]) for end, k in zip(found, part, strict=True))


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_are_those_of_the_loop_through_autograd(name, monkeypatch):
    learner, (data, seeds) = LEARNERS[name], tables(3)
    found = learner.fit_many(data, seeds)
    monkeypatch.setattr(stacked, "layers", lambda learner, run: [])
    for end, rows, seed in zip(found, data, seeds, strict=True):
        slow = alone(learner, rows, seed)
        for mine, theirs in zip(end.model.parameters(), slow.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        assert end.loss == pytest.approx(slow.loss, rel=1e-5)
        assert end.accuracy == pytest.approx(slow.accuracy)


def test_trainings_of_different_numbers_of_rows_are_grouped_by_shape():
    data = [table(k, rows=rows) for k, rows in enumerate((40, 55, 40, 56, 55))]
    seeds = [Seed(k) for k in range(5)]
    found = LEARNER.fit_many(data, seeds)
    assert all(same(end, alone(LEARNER, *pair)) for end, *pair in zip(found, data, seeds, strict=True))


def counted(monkeypatch):
    """How many trainings each further epoch is of."""
    counts, epoch = [], stacked.Side.epoch

    def counting(side, plans):
        counts.append(len(plans))
        return epoch(side, plans)

    monkeypatch.setattr(stacked.Side, "epoch", counting)
    return counts


def test_linear_heads_on_fixed_features_are_trained_together(tmp_path, monkeypatch):
    learner, data, seeds = transfer(tmp_path), [toy(60, seed=k) for k in range(3)], [Seed(k) for k in range(3)]
    counts = counted(monkeypatch)
    found = learner.fit_many(data, seeds)
    assert counts == [3] * learner.epochs
    assert all(same(end, alone(learner, *pair)) for end, *pair in zip(found, data, seeds, strict=True))


def transfer(folder):
    """A head to be trained on the features of a network in a file."""
    model = SmallConvNet(widths=(4, 6), pools=(1,))
    learner = SGD(model=model, epochs=2, batch_size=16, lr=0.05, augmentation=None)
    state = learner.build(toy(60, seed=0).space, Seed(3)).state_dict()
    path = folder / "network.safetensors"
    safetensors.torch.save_file({name: each.clone() for name, each in state.items()}, path)
    return replace(learner, start=Transfer(weights=File(path=path)))


@pytest.mark.parametrize(
    "learner",
    [
        SGD(model=SmallConvNet(widths=(4, 6), pools=(1,)), epochs=2, batch_size=16, lr=0.05),
        SGD(model=MLP(hidden=(9,)), epochs=2, batch_size=16, lr=0.05),
        SGD(model=MLP(hidden=(9,)), epochs=2, batch_size=16, lr=0.05, augmentation=None, precision="bf16"),
    ],
    ids=["convolutions", "augmented", "bf16"],
)
def test_other_trainings_are_made_one_after_another(learner, monkeypatch):
    data, seeds, counts = [toy(60, seed=k) for k in range(2)], [Seed(k) for k in range(2)], counted(monkeypatch)
    found = learner.fit_many(data, seeds)
    assert counts == []
    assert all(same(end, alone(learner, *pair)) for end, *pair in zip(found, data, seeds, strict=True))


class Dropping(Hook):
    """Takes out the first ten rows after the first epoch."""

    def drop(self, data, active, progress):
        if progress is None or progress.epoch != 1:
            return None
        return Removal(by="dropping", epoch=1, ids=data.ids[:10])


class Louder(Hook):
    """Doubles every input."""

    def transform(self, model, batch, generator):
        return replace(batch, inputs=2 * batch.inputs)


def test_hooks_that_only_drop_rows_keep_to_the_fast_loop_and_all_others_leave_it(monkeypatch):
    data, counts = table(0), counted(monkeypatch)
    LEARNER.fit(data, seed=Seed(1), hooks=[Dropping()])
    assert counts == [1] * LEARNER.epochs
    LEARNER.fit(data, seed=Seed(1), hooks=[Louder()])
    assert counts == [1] * LEARNER.epochs


def test_dropped_rows_are_not_trained_on():
    data = table(0)
    found = LEARNER.fit(data, seed=Seed(1), hooks=[Dropping()])
    spoilt = data.inputs.clone()
    spoilt[:10] = 9.0

    def first(inputs):
        items = LEARNER.train(replace(data, inputs=inputs), seed=Seed(1), hooks=[Dropping()])
        return next(items).state()

    later = LEARNER.fit(replace(data, inputs=spoilt), seed=Seed(1), hooks=[Dropping()], resume=first(data.inputs))
    assert same(replace(found, earlier=()), replace(later, earlier=()))


def test_training_goes_on_where_it_stood():
    for name, learner in LEARNERS.items():
        data, seed = table(4), Seed(8)
        states = [each.state() for each in learner.train(data, seed=seed)]
        whole = learner.fit(data, seed=seed)
        again = learner.fit(data, seed=seed, resume=states[0])
        assert same(replace(whole, earlier=()), replace(again, earlier=())), name


def test_too_few_rows_are_refused_in_a_sentence():
    data = table(0)
    with pytest.raises(DataError, match="training needs at least 2 rows, but there are 1"):
        LEARNER.fit_many([data, data.at(torch.tensor([3]))], [Seed(0), Seed(1)])


def test_every_epoch_is_told():
    heard = list[Step]()
    LEARNER.fit_many(*tables(3), watch=heard.append)
    assert [(step.done, step.total) for step in heard] == [(k, 3) for k in (1, 2, 3)]


def test_the_data_are_left_alone():
    data, seeds = tables(3)
    before = [each.inputs.clone() for each in data]
    LEARNER.fit_many(data, seeds)
    assert all(torch.equal(each.inputs, was) for each, was in zip(data, before, strict=True))


@pytest.mark.slow
def test_long_sums_over_one_output_do_not_depend_on_the_number_of_trainings():
    learner = replace(LEARNER, model=MLP(hidden=(1,)), epochs=1, batch_size=33_000)
    data, seeds = tables(3, rows=33_000)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = learner.fit_many(data, seeds)
        assert all(same(end, alone(learner, *pair)) for end, *pair in zip(found, data, seeds, strict=True))
    finally:
        torch.set_num_threads(before)
