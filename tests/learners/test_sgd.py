"""The training loop, against a slow obvious one written with plain tensors; its hooks, seeds and number formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError, FormatError
from mithridate.learner import Hook, Removal, predictions, trained
from mithridate.learners.augment import Augmentation
from mithridate.learners.schedule import factor
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Stack
from mithridate.models.linear import Linear
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import Wrapped
from mithridate.seeding import Seed
from mithridate.testing import toy, undisturbed
from mithridate.trial import accuracy
from tests.conftest import stripes

SPACE = Space(shape=(5,), num_classes=3, bounds=(-9.0, 9.0))


def table(rows=23, seed=0):
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 5, generator=draws)
    return Dataset.of(inputs.clamp(-9, 9), inputs[:, :3].argmax(1), space=SPACE, first_id=100)


class Diary(Hook):
    """Writes down every batch and every call."""

    def __init__(self):
        self.seen, self.kept = [], []

    def drop(self, data, active, progress):
        self.kept.append((int(active.sum()), progress.epoch if progress else None))

    def transform(self, model, batch, generator):
        self.seen.append(batch)
        return batch


def slow_and_obvious(learner, data, seed, batches, steps_an_epoch):
    """Momentum, Nesterov's step and weight decay from their formulas, on a linear model."""
    weight, bias = (p.detach().clone() for p in learner.build(data.space, seed.child("weights")).parameters())
    speeds = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for step, batch in enumerate(batches):
        lr = learner.lr * factor(
            learner.schedule, epoch=step / steps_an_epoch, epochs=learner.epochs, drops=learner.drops
        )
        errors = (batch.inputs @ weight.T + bias).softmax(1) - functional.one_hot(batch.labels, 3)
        slopes = [errors.T @ batch.inputs / len(errors), errors.mean(0)]
        for k, value in enumerate((weight, bias)):
            slope = slopes[k] + learner.weight_decay * value
            speeds[k] = learner.momentum * speeds[k] + slope
            step_of = slope + learner.momentum * speeds[k] if learner.nesterov else speeds[k]
            value -= lr * step_of
    return weight, bias


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": False},
        {"momentum": 0.0},
        {"weight_decay": 0.0},
        {"weight_decay": 0.05, "schedule": "one-cycle"},
        {"schedule": "cosine", "momentum": 0.5},
        {"schedule": "steps", "drops": (1, 3)},
    ],
    ids=str,
)
def test_training_is_the_textbook(changes):
    settings = {"model": Linear(), "epochs": 4, "batch_size": 8, "lr": 0.3, "weight_decay": 0.01, "drops": (2,)}
    learner = SGD(**{**settings, **changes}, augmentation=None)
    diary, data = Diary(), table()
    found = list(learner.fit(data, seed=Seed(1), hooks=(diary,)).model.parameters())
    expected = slow_and_obvious(learner, data, Seed(1), diary.seen, 3)
    for here, there in zip(found, expected, strict=True):
        assert torch.allclose(here, there, rtol=1e-4, atol=1e-5)


def test_every_epoch_shows_every_row_once_in_a_new_order():
    diary, data = Diary(), table()
    SGD(model=Linear(), epochs=3, batch_size=8, augmentation=None).fit(data, seed=Seed(1), hooks=(diary,))
    assert [len(batch.ids) for batch in diary.seen] == [8, 8, 7] * 3
    epochs = [torch.cat([batch.ids for batch in diary.seen[k : k + 3]]).tolist() for k in (0, 3, 6)]
    assert [sorted(ids) for ids in epochs] == [data.ids.tolist()] * 3
    assert len({tuple(ids) for ids in epochs}) == 3
    for batch in diary.seen:
        rows = data.rows(batch.ids)
        assert torch.equal(batch.inputs, rows.inputs)
        assert torch.equal(batch.labels, rows.labels)


def test_a_last_row_on_its_own_joins_the_batch_before():
    """Batch norm over one row and one pixel has nothing to normalise, and torch raises."""
    learner = SGD(model=SmallConvNet(widths=(4, 4, 4), pools=(1, 2)), epochs=1, batch_size=8, augmentation=None)
    diary = Diary()
    learner.fit(stripes(17, seed=1, classes=2, size=4), seed=Seed(1), hooks=(diary,))
    assert [len(batch.ids) for batch in diary.seen] == [8, 9]
    diary = Diary()
    SGD(model=Linear(), epochs=1, batch_size=1, augmentation=None).fit(table(5), seed=Seed(1), hooks=(diary,))
    assert [len(batch.ids) for batch in diary.seen] == [1] * 5


def test_progress_tells_loss_and_accuracy_of_the_epoch():
    diary, data = Diary(), table()
    learner = SGD(model=Linear(), epochs=1, batch_size=100, augmentation=None)
    found = learner.fit(data, seed=Seed(1), hooks=(diary,))
    start = predictions(learner.build(SPACE, Seed(1).child("weights")), data.inputs)
    assert found.loss == pytest.approx(float(functional.cross_entropy(start, data.labels)), rel=1e-5)
    assert found.accuracy == pytest.approx(float((start.argmax(1) == data.labels).float().mean()))


class TestHooks:
    def test_drop_is_asked_before_every_epoch_and_drops_rows_for_good(self):
        class Fewer(Diary):
            def drop(self, data, active, progress):
                super().drop(data, active, progress)
                return Removal(by="me", epoch=progress.epoch, ids=data.ids[active][:1]) if progress else None

        hook, data = Fewer(), table()
        SGD(model=Linear(), epochs=3, batch_size=50, augmentation=None).fit(data, seed=Seed(1), hooks=(hook,))
        assert hook.kept == [(23, None), (23, 1), (22, 2)]
        assert [sorted(batch.ids.tolist()) for batch in hook.seen] == [data.ids[k:].tolist() for k in range(3)]

    def test_keeping_too_few_is_said(self):
        class Nobody(Hook):
            def drop(self, data, active, progress):
                return Removal(by="me", epoch=0, ids=data.ids[1:])

        with pytest.raises(DataError, match="at least 2 rows, but there are 1 left"):
            SGD(model=Linear(), augmentation=None).fit(table(), seed=Seed(1), hooks=(Nobody(),))

    def test_a_hook_may_choose_the_batches(self):
        class Halves(Diary):
            def batches(self, count, size, generator):
                return [torch.arange(count // 2), torch.arange(count // 2, count)]

        hook, data = Halves(), table()
        SGD(model=Linear(), epochs=1, batch_size=5, augmentation=None).fit(data, seed=Seed(1), hooks=(hook,))
        assert [batch.ids.tolist() for batch in hook.seen] == [data.ids[:11].tolist(), data.ids[11:].tolist()]

    def test_transformed_batches_are_trained_on(self):
        class Zeros(Hook):
            def transform(self, model, batch, generator):
                return replace(batch, labels=torch.zeros_like(batch.labels))

        learner = SGD(model=Linear(), epochs=20, lr=0.3, augmentation=None)
        found = learner.fit(table(), seed=Seed(1), hooks=(Zeros(),))
        assert (predictions(found.model, table().inputs).argmax(1) == 0).all()

    def test_soft_labels_are_trained_on(self):
        """One-hot probabilities are the same training as labels."""

        class Soft(Hook):
            def transform(self, model, batch, generator):
                return replace(batch, labels=functional.one_hot(batch.labels, 3).float())

        learner = SGD(model=Linear(), epochs=5, batch_size=8, augmentation=None)
        soft, hard = (learner.fit(table(), seed=Seed(1), hooks=hooks) for hooks in ((Soft(),), ()))
        for one, two in zip(soft.model.parameters(), hard.model.parameters(), strict=True):
            assert torch.allclose(one, two, atol=1e-5)
        assert soft.accuracy == hard.accuracy

    def test_hooks_transform_one_after_the_other(self):
        class Add(Hook):
            def transform(self, model, batch, generator):
                return replace(batch, inputs=batch.inputs + 1)

        class Double(Hook):
            def transform(self, model, batch, generator):
                return replace(batch, inputs=batch.inputs * 2)

        diary, data = Diary(), table()
        SGD(model=Linear(), epochs=1, augmentation=None).fit(data, seed=Seed(1), hooks=(Add(), Double(), diary))
        batch = diary.seen[0]
        assert torch.allclose(batch.inputs, (data.rows(batch.ids).inputs + 1) * 2)

    def test_a_hook_that_fills_the_gradients_decides_the_step(self):
        class Ones(Hook):
            def backward(self, model, batch, generator):
                for parameter in model.parameters():
                    parameter.grad = torch.ones_like(parameter)
                return torch.tensor(7.0)

        learner = SGD(
            model=Linear(), epochs=1, batch_size=50, lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant",
            augmentation=None,
        )  # fmt: skip
        found = learner.fit(table(), seed=Seed(1), hooks=(Ones(),))
        start = learner.build(SPACE, Seed(1).child("weights"))
        assert found.loss == pytest.approx(7.0)
        for before, after in zip(start.parameters(), found.model.parameters(), strict=True):
            assert torch.allclose(after, before - 0.5)

    def test_idle_hooks_change_nothing(self, learner):
        plain, hooked = (learner.fit(stripes(60, seed=1), seed=Seed(1), hooks=h) for h in ((), (Hook(), Hook())))
        for name, value in plain.model.state_dict().items():
            assert torch.equal(value, hooked.model.state_dict()[name])

    def test_batches_are_augmented_before_hooks_see_them(self):
        diary, data = Diary(), stripes(30, seed=1)
        learner = SGD(model=Linear(), epochs=1, batch_size=30, augmentation=Augmentation(shift=3.0))
        learner.fit(data, seed=Seed(1), hooks=(diary,))
        (batch,) = diary.seen
        clean = data.rows(batch.ids).all_inputs()
        draws = Seed(1).child("augmentation").generator()
        expected = learner.augment(clean, space=data.space, generator=draws)
        assert torch.allclose(batch.inputs, expected, atol=1e-5)  # cut out, not sampled
        assert not torch.allclose(batch.inputs, clean, atol=0.05)


class TestSeeds:
    def test_trainings_side_by_side_do_not_disturb_each_other(self, learner):
        data = stripes(60, seed=1)
        runs = [learner.train(data, seed=Seed(k)) for k in (1, 2)]
        for together in zip(*runs, strict=True):
            last = together
        for k, progress in zip((1, 2), last, strict=True):
            alone = learner.fit(data, seed=Seed(k)).model.state_dict()
            assert all(torch.equal(value, alone[name]) for name, value in progress.model.state_dict().items())

    def test_dropout_is_decided_by_the_seed(self):
        @dataclass(frozen=True, kw_only=True)
        class Dropping(Architecture):
            name: ClassVar[str] = "dropping"

            def build(self, space):
                body = nn.Sequential(nn.Flatten(), nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5))
                return Stack(space, body=body, width=16)

        learner = SGD(model=Dropping(), epochs=2, batch_size=8, augmentation=None)
        states = []
        for _ in range(2):
            torch.rand(5)
            with undisturbed("dropout"):
                states.append(learner.fit(table(), seed=Seed(1)).model.state_dict())
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

    def test_the_global_stream_is_the_callers_between_epochs(self, learner):
        for _ in learner.train(stripes(60, seed=1), seed=Seed(1)):
            torch.manual_seed(5)
            first = torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(torch.rand(1), first)


class TestNumberFormats:
    @pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"channels_last": True}], ids=str)
    def test_learns_as_well_as_plain_float32(self, changes):
        plain = SGD(model=SmallConvNet(widths=(6, 8)), epochs=8, batch_size=16, lr=0.05, augmentation=None)
        train, test = stripes(120, seed=1), stripes(60, seed=2)
        one, two = (each.fit(train, seed=Seed(1)) for each in (plain, replace(plain, **changes)))
        assert accuracy(two.model, test) > 0.9
        assert abs(accuracy(two.model, test) - accuracy(one.model, test)) < 0.1
        assert all(p.dtype == torch.float32 for p in two.model.parameters())
        if "channels_last" in changes:  # the same training but for float rounding
            pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
            assert max(float((a - b).detach().abs().max()) for a, b in pairs) < 1e-2


def test_stops_early_when_told(learner):
    data = stripes(60, seed=1)
    early = trained(learner, data, seed=Seed(1), until=2)
    assert (early.epoch, early.epochs, early.model.training) == (2, 3, False)
    after_two = [p.model.state_dict() if p.epoch != 2 else {k: v.clone() for k, v in p.model.state_dict().items()}
                 for p in learner.train(data, seed=Seed(1))][1]  # fmt: skip
    assert all(torch.equal(value, after_two[name]) for name, value in early.model.state_dict().items())


def test_predictions_restore_the_mode_and_leave_statistics_alone(learner):
    model, data = learner.build(stripes(6, seed=1).space, Seed(0)).train(), stripes(6, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = predictions(model, data.all_inputs())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.allclose(predictions(model, data.all_inputs(), batch_size=4), whole, atol=1e-6)
    model.eval()
    predictions(model, data.all_inputs())
    assert not model.training


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0"),
    ],
)
def test_settings_that_cannot_train_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SGD(model=Linear(), **wrong)


def test_one_row_is_too_few():
    with pytest.raises(DataError, match="at least 2 rows, but there are 1"):
        SGD(model=Linear()).fit(table(1), seed=Seed(0))


def test_shifted_and_mirrored_images_are_learnt(learner):
    found = replace(learner, epochs=12).fit(toy(120, seed=1), seed=Seed(0))
    assert accuracy(found.model, toy(60, seed=2)) > 0.8


class Counter(Hook):
    """Drops a row before each of the first epochs, and remembers how many."""

    def __init__(self):
        self.count = 0

    def drop(self, data, active, progress):
        self.count += 1
        return Removal(by="counter", epoch=progress.epoch if progress else 0, ids=data.ids[active][:1])

    def transform(self, model, batch, generator):
        shift = torch.rand(1, generator=generator)
        return replace(batch, inputs=batch.inputs + 0.01 * shift * self.count)

    def facts(self):
        return {"count": float(self.count)}

    def state(self):
        return Checkpoint(facts={"count": self.count})

    def restore(self, state):
        self.count = state.facts["count"]


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_resumed_training_equals_one_that_never_stopped(stop, momentum, tmp_path):
    learner = SGD(
        model=Wrapped(factory=dropped_out, head="5"),
        epochs=5, batch_size=16, lr=0.05, momentum=momentum, schedule="one-cycle",
        channels_last=True,
    )  # fmt: skip
    data = stripes(60, seed=1)
    whole = learner.fit(data, seed=Seed(1), hooks=(Counter(),))
    for progress in learner.train(data, seed=Seed(1), hooks=(Counter(),)):
        if progress.epoch == stop:
            checkpoint.write(progress.state(), tmp_path / "state.safetensors")
            break
    state = checkpoint.read(tmp_path / "state.safetensors")
    rest = list(learner.train(data, seed=Seed(1), hooks=(Counter(),), resume=state))
    assert [progress.epoch for progress in rest] == list(range(stop + 1, 6))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest[-1].model.state_dict()[name])
    assert (rest[-1].loss, rest[-1].accuracy, rest[-1].facts) == (whole.loss, whole.accuracy, {"count": 5.0})
    assert [each.ids.tolist() for each in rest[-1].removals] == [each.ids.tolist() for each in whole.removals]
    assert [each.epoch for each in rest[-1].removals] == [0, 1, 2, 3, 4]


def dropped_out():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(400, 3)
    )


def states_of(learner, data, hooks=()):
    """The state after each epoch, kept in memory while the training goes on."""
    return [progress.state() for progress in learner.train(data, seed=Seed(1), hooks=hooks)]


def test_states_in_memory_stay_what_they_were(learner):
    data = stripes(60, seed=1)
    whole, states = learner.fit(data, seed=Seed(1)), states_of(learner, data)
    for state in states:
        again = learner.fit(data, seed=Seed(1), resume=state)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name])


def test_a_training_resumed_at_its_end_gives_that_end_again(learner):
    """A job killed between its last checkpoint and its result."""
    data = stripes(60, seed=1)
    whole = learner.fit(data, seed=Seed(1), hooks=(Counter(),))
    found = list(learner.train(data, seed=Seed(1), hooks=(Counter(),), resume=whole.state()))
    assert [progress.epoch for progress in found] == [3]
    assert (found[0].loss, found[0].accuracy, found[0].facts) == (whole.loss, whole.accuracy, {"count": 3.0})
    assert [each.ids.tolist() for each in found[0].removals] == [each.ids.tolist() for each in whole.removals]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, found[0].model.state_dict()[name])


def test_hooks_see_the_same_progress_when_resumed(learner):
    class Reader(Counter):
        def drop(self, data, active, progress):
            if progress:
                numbers = progress.epoch, progress.loss, progress.accuracy, len(progress.removals)
                read.append((numbers, dict(progress.facts)))
            return super().drop(data, active, progress)

    data, read = stripes(60, seed=1), []
    states = states_of(learner, data, hooks=(Reader(),))
    whole, read = read, []
    learner.fit(data, seed=Seed(1), hooks=(Reader(),), resume=states[0])
    assert read == whole
    assert [facts for _, facts in whole] == [{"count": 1.0}, {"count": 2.0}]


@pytest.mark.parametrize(
    "foreign",
    [
        lambda state: Checkpoint(),
        lambda state: state.under("model"),
        lambda state: Checkpoint(
            tensors={**state.tensors, "order": torch.zeros(3, dtype=torch.uint8)}, facts=state.facts
        ),
        lambda state: replace(state, tensors={name: value.flatten()[:1] for name, value in state.tensors.items()}),
        lambda state: Checkpoint(tensors=state.tensors),
    ],
    ids=["empty", "the network alone", "another generator", "another network", "no facts"],
)
def test_a_state_of_another_training_is_refused(learner, foreign):
    data = stripes(60, seed=1)
    state = foreign(learner.fit(data, seed=Seed(1)).state())
    with pytest.raises(FormatError, match="the state to resume from is not that of this training"):
        learner.fit(data, seed=Seed(1), resume=state)


def test_only_one_hook_can_fill_the_gradients(learner):
    class Filling(Hook):
        def __init__(self, fills=True):
            self.fills = fills

        def backward(self, model, batch, generator):
            if not self.fills:
                return None
            loss = functional.cross_entropy(model(batch.inputs), batch.labels)
            loss.backward()
            return loss

    data = stripes(60, seed=1)
    with pytest.raises(ConfigError, match="only one defense can fill the gradients, but Filling and Filling would"):
        learner.fit(data, seed=Seed(1), hooks=(Filling(), Hook(), Filling()))
    plain, alone, after = (
        learner.fit(data, seed=Seed(1), hooks=hooks).model.state_dict()
        for hooks in ((), (Hook(), Filling(), Hook()), (Filling(fills=False), Filling()))
    )
    for name, value in plain.items():
        assert torch.equal(value, alone[name])
        assert torch.equal(value, after[name])


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adam_is_the_textbook(weight_decay):
    """Kingma & Ba 2015, algorithm 1, with the momentum as first beta and the penalty in the gradient."""
    settings = {"model": Linear(), "epochs": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.8, "augmentation": None}
    learner = SGD(**settings, optimiser="adam", schedule="steps", drops=(2,), weight_decay=weight_decay)
    diary, data = Diary(), table()
    found = list(learner.fit(data, seed=Seed(1), hooks=(diary,)).model.parameters())
    expected = [p.detach().clone() for p in learner.build(data.space, Seed(1).child("weights")).parameters()]
    firsts, seconds = ([torch.zeros_like(value) for value in expected] for _ in range(2))
    for step, batch in enumerate(diary.seen, start=1):
        errors = (batch.inputs @ expected[0].T + expected[1]).softmax(1) - functional.one_hot(batch.labels, 3)
        slopes = [errors.T @ batch.inputs / len(errors), errors.mean(0)]
        for k, value in enumerate(expected):
            slope = slopes[k] + weight_decay * value
            firsts[k] = 0.8 * firsts[k] + 0.2 * slope
            seconds[k] = 0.999 * seconds[k] + 0.001 * slope**2
            rate = 0.05 if step <= 6 else 0.005  # three steps an epoch
            value -= rate * (firsts[k] / (1 - 0.8**step)) / ((seconds[k] / (1 - 0.999**step)).sqrt() + 1e-8)
    for here, there in zip(found, expected, strict=True):
        assert torch.allclose(here, there, rtol=1e-4, atol=1e-5)
