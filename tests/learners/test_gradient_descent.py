"""Full-batch training in NumPy: torch's own steps, scikit-learn's solutions, and what hooks and checkpoints ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC
from torch.nn import functional

from mithridate import checkpoint
from mithridate.defense import protect
from mithridate.defenses.cutmix import CutMix
from mithridate.defenses.dp_sgd import DPSGD
from mithridate.defenses.epic import EPIC
from mithridate.defenses.mixup import Mixup
from mithridate.errors import ConfigError, DataError, FormatError
from mithridate.learner import Hook, Removal, predictions
from mithridate.learners.gradient_descent import MOST_EPOCHS, GradientDescent
from mithridate.seeding import Seed
from mithridate.testing import toy
from mithridate.testing.runs import differences
from tests.learners.blobs import blobs, images

STATISTICS = {"mean": (0.5, -1.0, 0.25), "std": (2.0, 0.5, 1.5)}
TABLE = blobs(30, dim=3, **STATISTICS)
FAR = {"steps": 1500, "lr": 0.3, "momentum": 0.9}
"""Enough steps to arrive."""
KINDS = [
    ("logistic", 2, 0),
    ("logistic", 2, 4),
    ("softmax", 2, 0),
    ("softmax", 3, 4),
    ("squared", 2, 0),
    ("squared", 3, 0),
    ("squared", 3, 4),
    ("smoothed-hinge", 2, 0),
    ("smoothed-hinge", 3, 4),
]
STEPS = {
    "plain": {},
    "momentum": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "l2": {"l2": 0.3},
    "all": {"momentum": 0.8, "nesterov": True, "l2": 0.3},
}


def mean_loss(name, scores, labels, temperature):
    """Each loss from its textbook."""
    if name == "logistic":
        return functional.binary_cross_entropy_with_logits(scores[:, 0], labels.double())
    if name == "softmax":
        return functional.cross_entropy(scores, labels)
    signs = (2 * labels - 1)[:, None] if scores.shape[1] == 1 else 2 * functional.one_hot(labels, scores.shape[1]) - 1
    if name == "squared":
        return ((scores - signs) ** 2).sum(1).mean() / 2
    return (temperature * functional.softplus((1 - signs * scores) / temperature, threshold=1e9)).sum(1).mean()


def trained_by_torch(learner, data, seed, *, left=None):
    """What torch's optimiser makes of the initial weights, written out; ``left`` tells the rows of each step."""
    parts = [each.detach().clone().requires_grad_() for each in learner.build(data.space, seed).parameters()]
    shape = (-1, *[1] * (len(data.space.shape) - 1))
    means = torch.tensor(data.space.mean if learner.standardise and data.space.mean else 0.0).reshape(shape)
    widths = torch.tensor(data.space.std if learner.standardise and data.space.std else 1.0).reshape(shape)
    seen = ((data.all_inputs().double() - means) / widths).flatten(1)
    decays = [learner.l2 if each.ndim > 1 else 0.0 for each in parts]
    groups = [{"params": [part], "weight_decay": decay} for part, decay in zip(parts, decays, strict=True)]
    optimiser = torch.optim.SGD(groups, lr=learner.lr, momentum=learner.momentum, nesterov=learner.nesterov)
    for step in range(learner.steps):
        rows = slice(None) if left is None else left(step)
        first, biases, *above = parts
        scores = seen[rows] @ first + biases
        if above:
            act = torch.tanh if learner.activation == "tanh" else torch.sigmoid
            scores = act(scores) @ above[0] + above[1]
        optimiser.zero_grad()
        mean_loss(learner.loss, scores, data.labels[rows], learner.temperature).backward()
        optimiser.step()
    return parts


def close(model, expected, *, rtol=1e-9):
    return all(
        here.dtype == torch.float64 and torch.allclose(here, there, rtol=rtol, atol=1e-12)
        for here, there in zip(model.parameters(), expected, strict=True)
    )


def scores(learner, data):
    """What a linear learner says before it becomes logits, ``(N, c)``."""
    model = learner.fit(data, seed=Seed(1)).model
    with torch.no_grad():
        return model.scores(model.features(data.all_inputs())).numpy()


def standardised(data):
    return (data.all_inputs().double().numpy() - np.array(data.space.mean)) / np.array(data.space.std)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda each: "-".join(map(str, each)))
def test_weights_are_those_of_torchs_optimiser(kind, steps):
    loss, classes, hidden = kind
    data = blobs(21, classes=classes, dim=3, **STATISTICS)
    learner = GradientDescent(loss=loss, hidden=hidden, steps=33, lr=0.1, initial=0.5, **STEPS[steps])
    model = learner.fit(data, seed=Seed(1)).model
    assert close(model, trained_by_torch(learner, data, Seed(1).child("weights")))


@pytest.mark.parametrize(
    "changes",
    [{}, {"standardise": False}, {"hidden": 3, "activation": "sigmoid"}, {"hidden": 3, "momentum": 0.5}],
    ids=str,
)
def test_so_they_are_on_images_with_fewer_rows_than_pixels(changes):
    data = images(12)
    learner = GradientDescent(steps=25, lr=0.2, l2=0.01, **changes)
    model = learner.fit(data, seed=Seed(2)).model
    assert close(model, trained_by_torch(learner, data, Seed(2).child("weights")))


class TestAtConvergence:
    """Against scikit-learn, whose penalties are for the sum over rows."""

    def test_ridge_is_that_of_scikit_learn(self):
        found = scores(GradientDescent(loss="squared", l2=0.4, steps=2000, lr=0.1, momentum=0.5), TABLE)
        oracle = Ridge(alpha=0.4 * len(TABLE)).fit(standardised(TABLE), 2 * TABLE.labels.numpy() - 1)
        assert found[:, 0] == pytest.approx(oracle.predict(standardised(TABLE)), rel=1e-9)

    def test_logistic_regression_is_that_of_scikit_learn(self):
        found = scores(GradientDescent(loss="logistic", l2=0.05, **FAR), TABLE)
        oracle = LogisticRegression(C=1 / (0.05 * len(TABLE)), tol=1e-10).fit(standardised(TABLE), TABLE.labels)
        assert found[:, 0] == pytest.approx(oracle.decision_function(standardised(TABLE)), rel=1e-5)

    def test_softmax_regression_is_that_of_scikit_learn(self):
        data = blobs(30, classes=3, dim=3, **STATISTICS)
        found = torch.from_numpy(scores(GradientDescent(loss="softmax", l2=0.05, **FAR), data)).log_softmax(1)
        oracle = LogisticRegression(C=1 / (0.05 * len(data)), tol=1e-10).fit(standardised(data), data.labels)
        assert found.numpy() == pytest.approx(oracle.predict_log_proba(standardised(data)), abs=1e-5)

    def test_a_sharp_smoothed_hinge_is_nearly_a_support_vector_machine(self):
        found = scores(GradientDescent(loss="smoothed-hinge", temperature=0.01, l2=0.2, steps=4000, lr=0.02), TABLE)
        oracle = SVC(kernel="linear", C=1 / (0.2 * len(TABLE)), tol=1e-8).fit(standardised(TABLE), TABLE.labels)
        assert np.abs(found[:, 0] - oracle.decision_function(standardised(TABLE))).max() < 0.06


@pytest.mark.parametrize("loss", ["squared", "smoothed-hinge"])
def test_several_classes_are_told_apart_one_against_the_rest(loss):
    data = blobs(30, classes=3, dim=3, **STATISTICS)
    learner = GradientDescent(loss=loss, steps=40, lr=0.1, l2=0.1)
    together = learner.fit(data, seed=Seed(1)).model
    for label in range(3):
        two = replace(data, labels=(data.labels == label).long(), space=replace(data.space, num_classes=2))
        alone = learner.fit(two, seed=Seed(1)).model
        assert torch.allclose(together.first[:, label], alone.first[:, 0], rtol=1e-10)
        assert torch.allclose(together.upper[0][label], alone.upper[0][0], rtol=1e-10)


def test_two_classes_share_one_column_of_scores_unless_they_compete_in_a_softmax():
    for loss, columns in (("logistic", 1), ("squared", 1), ("smoothed-hinge", 1), ("softmax", 2)):
        model = GradientDescent(loss=loss, steps=30, lr=0.1).fit(TABLE, seed=Seed(1)).model
        logits = predictions(model, TABLE.all_inputs())
        assert model.first.shape == (3, columns)
        assert logits.shape == (30, 2)
        assert float((logits.argmax(1) == TABLE.labels).double().mean()) > 0.9
        if columns == 1:
            assert torch.equal(logits[:, 0], torch.zeros(30, dtype=torch.float64))


def test_the_logistic_loss_refuses_a_third_class():
    assert GradientDescent().problems(blobs(9, classes=3).space) == [
        "the logistic loss is for 2 classes, but the data has 3; use loss: softmax"
    ]


def test_head_of_features_is_the_network():
    for hidden, width in ((0, 3), (4, 4)):
        model = GradientDescent(hidden=hidden, steps=20).fit(TABLE, seed=Seed(1)).model
        inputs = TABLE.all_inputs()
        assert model.features(inputs).shape == (30, width)
        assert torch.equal(model.head(model.features(inputs)), model(inputs))
        assert sum(each.numel() for each in model.head_parameters()) == width + 1


def test_standardising_is_training_on_standardised_rows():
    done = replace(
        TABLE, inputs=torch.from_numpy(standardised(TABLE)).float(), space=replace(TABLE.space, mean=(), std=())
    )
    learner = GradientDescent(hidden=4, steps=50)
    one = predictions(learner.fit(TABLE, seed=Seed(1)).model, TABLE.all_inputs())
    two = predictions(learner.fit(done, seed=Seed(1)).model, done.all_inputs())
    assert torch.allclose(one, two, atol=1e-5)
    raw = replace(learner, standardise=False)
    assert not torch.allclose(one, predictions(raw.fit(TABLE, seed=Seed(1)).model, TABLE.all_inputs()), atol=0.01)


def test_a_fixed_initial_seed_gives_all_the_same_weights():
    learner = GradientDescent(hidden=3, initial_seed=7, steps=10)
    weights = [learner.fit(TABLE, seed=Seed(k)).model.first for k in (1, 2)]
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], replace(learner, initial_seed=8).fit(TABLE, seed=Seed(1)).model.first)
    free = replace(learner, initial_seed=None)
    assert not torch.equal(*(free.fit(TABLE, seed=Seed(k)).model.first for k in (1, 2)))
    assert [each.seeded for each in (learner, free, GradientDescent())] == [False, True, False]


def test_it_reports_loss_and_accuracy_of_its_own_rows_in_up_to_twenty_stretches():
    for steps in (1, 7, 33):
        seen = list(GradientDescent(steps=steps, l2=0.1).train(TABLE, seed=Seed(1)))
        assert [each.epoch for each in seen] == list(range(1, min(steps, MOST_EPOCHS) + 1))
        logits = predictions(seen[-1].model, TABLE.all_inputs())
        assert seen[-1].loss == pytest.approx(float(functional.cross_entropy(logits, TABLE.labels)), rel=1e-9)
        assert seen[-1].accuracy == pytest.approx(float((logits.argmax(1) == TABLE.labels).double().mean()))


@pytest.mark.parametrize("changes", [{"loss": "squared"}, {"loss": "squared", "momentum": 0.9}, {"hidden": 3}], ids=str)
def test_a_training_that_diverges_is_silent_and_tells_by_its_loss(changes):
    found = GradientDescent(lr=1e9, l2=1.0, steps=200, **changes).fit(TABLE, seed=Seed(1))
    assert not np.isfinite(found.loss)
    assert not bool(torch.isfinite(predictions(found.model, TABLE.all_inputs())).all())


class Idle(Hook):
    """Acts inside steps without doing anything."""

    settings = "idle"

    def transform(self, model, batch, generator):
        return batch


class Dropper(Hook):
    """Takes out rows after so many epochs."""

    def __init__(self, ids, after=0):
        self.settings, self.ids, self.after = "dropper", ids, after

    def drop(self, data, active, progress):
        done = progress.epoch if progress else 0
        return Removal(by="dropper", epoch=done, ids=self.ids) if done == self.after else None


class Softened(Hook):
    """Mixes labels as told: one-hot probabilities, or all classes alike."""

    settings = "softened"

    def __init__(self, alike):
        self.alike = alike

    def transform(self, model, batch, generator):
        hard = functional.one_hot(batch.labels, 2).float()
        return replace(batch, labels=torch.full_like(hard, 0.5) if self.alike else hard)


ACTING = GradientDescent(steps=40, lr=0.1, momentum=0.8, nesterov=True, l2=0.2)


class TestHooks:
    @pytest.mark.parametrize("hidden", [0, 4])
    @pytest.mark.parametrize("steps", STEPS)
    def test_steps_through_hooks_are_the_steps_without(self, steps, hidden):
        learner = GradientDescent(steps=40, lr=0.1, hidden=hidden, initial=0.5, **STEPS[steps])
        expected = learner.fit(TABLE, seed=Seed(1)).model.parameters()
        assert close(learner.fit(TABLE, seed=Seed(1), hooks=[Idle()]).model, list(expected))

    @pytest.mark.parametrize("hooks", [[], [Idle()]], ids=["alone", "through hooks"])
    def test_rows_taken_out_midway_are_not_trained_on_from_then_on(self, hooks):
        gone = TABLE.ids[::3]
        found = ACTING.fit(TABLE, seed=Seed(1), hooks=[Dropper(gone, after=10), *hooks])
        left = ~torch.isin(TABLE.ids, gone)
        every = torch.ones_like(left)
        expected = trained_by_torch(ACTING, TABLE, Seed(1), left=lambda step: every if step < 20 else left)
        assert close(found.model, expected)
        assert [(each.by, each.epoch, each.ids.tolist()) for each in found.removals] == [("dropper", 10, gone.tolist())]
        rest = TABLE.at(left)
        assert found.accuracy == float((found.model(rest.all_inputs()).argmax(1) == rest.labels).double().mean())

    def test_rows_taken_out_before_the_start_may_as_well_not_be_there(self):
        gone = TABLE.ids[:11]
        learner = GradientDescent(steps=30)
        found = learner.fit(TABLE, seed=Seed(1), hooks=[Dropper(gone)])
        assert torch.equal(found.model.first, learner.fit(TABLE.without(gone), seed=Seed(1)).model.first)

    def test_a_class_may_lose_all_its_rows(self):
        data = blobs(30, classes=3)
        for loss in ("softmax", "squared", "smoothed-hinge"):
            hook = Dropper(data.ids[data.labels == 1])
            found = GradientDescent(loss=loss, steps=300, lr=0.1).fit(data, seed=Seed(1), hooks=[hook]).model
            rest = data.without(hook.ids)
            assert torch.equal(found(rest.all_inputs()).argmax(1), rest.labels)

    def test_keeping_too_few_is_said(self):
        with pytest.raises(DataError, match="at least 2 rows, but there are 1 left"):
            ACTING.fit(TABLE, seed=Seed(1), hooks=[Dropper(TABLE.ids[1:])])
        with pytest.raises(DataError, match=r"at least 2 rows, but there are 1$"):
            ACTING.fit(TABLE.at(slice(0, 1)), seed=Seed(1))

    @pytest.mark.parametrize("loss", ["logistic", "squared", "smoothed-hinge", "softmax"])
    def test_mixed_labels_are_soft_targets(self, loss):
        learner = GradientDescent(loss=loss, steps=30, lr=0.1)
        plain = list(learner.fit(TABLE, seed=Seed(1)).model.parameters())
        assert close(learner.fit(TABLE, seed=Seed(1), hooks=[Softened(False)]).model, plain)
        halves = learner.fit(TABLE, seed=Seed(1), hooks=[Softened(True)]).model
        assert max(float(each.detach().abs().max()) for each in halves.parameters()) < 1e-12  # nothing pulls anywhere

    @pytest.mark.parametrize("defense", [Mixup(), CutMix()], ids=lambda each: each.name)
    def test_mixing_defenses_train(self, defense):
        data = images(60, side=8)
        learner = GradientDescent(steps=80, lr=0.1)
        found = protect(learner, [defense]).fit(data, seed=Seed(1))
        assert found.accuracy > 0.8
        assert not torch.allclose(found.model.first, learner.fit(data, seed=Seed(1)).model.first, rtol=0.01)

    def test_gradients_may_come_from_a_hook(self):
        private = DPSGD(noise_multiplier=0.0, max_grad_norm=1e6)
        for learner in (GradientDescent(steps=10, lr=0.1), GradientDescent(loss="softmax", steps=10, hidden=3, l2=0.1)):
            plain = list(learner.fit(TABLE, seed=Seed(1)).model.parameters())
            assert close(protect(learner, [private]).fit(TABLE, seed=Seed(1)).model, plain, rtol=1e-5)

    def test_noise_of_private_training_is_in_every_step(self):
        learner = GradientDescent(steps=10, lr=0.1)
        found = protect(learner, [DPSGD(noise_multiplier=2.0)]).fit(TABLE, seed=Seed(1))
        assert 0 < found.facts["epsilon"] < float("inf")
        assert not close(found.model, list(learner.fit(TABLE, seed=Seed(1)).model.parameters()), rtol=0.01)

    def test_two_hooks_that_fill_gradients_are_refused(self):
        filling = type("Filling", (Hook,), {"backward": lambda self, model, batch, generator: torch.zeros(())})
        with pytest.raises(ConfigError, match="only one defense can fill the gradients, but Filling and Filling would"):
            ACTING.fit(TABLE, seed=Seed(1), hooks=[filling(), filling()])

    def test_epic_drops_rows_as_training_goes_on(self):
        data = images(60, side=8)
        learner = GradientDescent(hidden=6, steps=80, lr=0.1)
        found = protect(learner, [EPIC(fraction=0.4, min_class_size=5)]).fit(data, seed=Seed(1))
        assert found.removals
        assert all(each.epoch > 0 for each in found.removals)
        gone = torch.cat([each.ids for each in found.removals])
        assert 0 < len(gone) < 58
        assert len(gone) == len(set(gone.tolist()))


def resumed(learner, data, defenses, folder):
    """Ends of trainings resumed after each epoch, read back from disk by fresh objects."""
    for progress in protect(learner, defenses).train(data, seed=Seed(1)):
        checkpoint.write(progress.state(), folder / f"{progress.epoch}")
    for epoch in (1, 9, progress.epochs):
        state = checkpoint.read(folder / f"{epoch}")
        yield protect(learner, defenses).fit(data, seed=Seed(1), resume=state)


@pytest.mark.parametrize(
    "learner",
    [GradientDescent(steps=23), GradientDescent(steps=23, hidden=4, momentum=0.9, nesterov=True, dampening=0.2)],
    ids=["linear", "momentum"],
)
@pytest.mark.parametrize(
    "defense",
    [None, Mixup(), EPIC(fraction=0.4, min_class_size=5), DPSGD(noise_multiplier=1.0)],
    ids=lambda each: each and each.name,
)
def test_a_resumed_training_ends_as_if_it_had_never_stopped(learner, defense, tmp_path):
    data, defenses = images(40, side=6), [] if defense is None else [defense]
    whole = protect(learner, defenses).fit(data, seed=Seed(1))
    for found in resumed(learner, data, defenses, tmp_path):
        assert differences(whole, found) == ""


class Halves(Hook):
    """Each step is on a random half of the rows."""

    settings = "halves"

    def batches(self, count, size, generator):
        return [torch.randperm(count, generator=generator)[: count // 2]]


def test_random_batches_go_on_where_they_were():
    states = [each.state() for each in ACTING.train(TABLE, seed=Seed(1), hooks=[Halves()])]
    whole = ACTING.fit(TABLE, seed=Seed(1), hooks=[Halves()])
    assert differences(whole, ACTING.fit(TABLE, seed=Seed(1), hooks=[Halves()], resume=states[7])) == ""
    assert not close(whole.model, list(ACTING.fit(TABLE, seed=Seed(1)).model.parameters()), rtol=0.01)


def test_a_state_does_not_change_once_it_has_been_handed_out():
    states = [progress.state() for progress in ACTING.train(TABLE, seed=Seed(1))]
    assert not torch.equal(states[0].tensors["velocity/0"], states[-1].tensors["velocity/0"])
    assert not torch.equal(states[0].under("model").tensors["first"], states[-1].under("model").tensors["first"])


@pytest.mark.parametrize(
    "other",
    [{"hidden": 3}, {"momentum": 0.5}, {"loss": "softmax"}, {"steps": 5}],
    ids=str,
)
def test_the_state_of_another_training_is_refused(other):
    learner = GradientDescent(steps=40)
    state = next(learner.train(TABLE, seed=Seed(1))).state()
    with pytest.raises(FormatError, match="state to resume from is not that of this training"):
        replace(learner, **other).fit(TABLE, seed=Seed(1), resume=state)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, but it is 0"),
        ({"lr": 0.0}, "lr must be positive, but it is 0"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"l2": -1.0}, "l2 must be at least 0"),
        ({"hidden": -1}, "hidden must be at least 0 units"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"hidden": 2, "initial": 0.0}, "initial must be positive, since equal units stay equal"),
    ],
    ids=str,
)
def test_settings_that_cannot_train_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        GradientDescent(**changes)


def test_tables_call_it_by_what_it_is():
    kinds = [{}, {"loss": "softmax"}, {"loss": "squared"}, {"loss": "squared", "l2": 0.1}, {"loss": "smoothed-hinge"}]
    names = ["logistic-regression", "softmax-regression", "adaline", "ridge", "linear-svm"]
    assert [GradientDescent(**each).title for each in kinds] == names
    assert GradientDescent(hidden=10).title == "mlp-10"


def test_it_works_on_three_classes_of_images():
    found = GradientDescent(loss="softmax", hidden=8, steps=200, lr=0.2).fit(toy(90, seed=1), seed=Seed(1))
    fresh = toy(60, seed=2)
    assert float((predictions(found.model, fresh.all_inputs()).argmax(1) == fresh.labels).double().mean()) > 0.8
