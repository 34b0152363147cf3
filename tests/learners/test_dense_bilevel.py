"""Hypergradients of a learner against finite differences of its own training, in the units of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mithridate.bilevel import Averaged
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.poison import FIRST_APPENDED
from mithridate.seeding import Seed
from tests.learners.blobs import aims_of, blobs, images
from tests.learners.test_gradient_descent import STATISTICS, mean_loss

SEED = Seed(3)
POISON = 3
TABLE = ("table", lambda count, classes, seed: blobs(count, classes=classes, dim=3, seed=seed, **STATISTICS))
IMAGES = ("images", lambda count, classes, seed: images(count, classes=classes, seed=seed))
LEARNERS = [
    GradientDescent(loss="logistic", steps=25, lr=0.1),
    GradientDescent(loss="logistic", hidden=4, steps=25, lr=0.1, initial=0.5, standardise=False),
    GradientDescent(loss="squared", steps=25, lr=0.02, momentum=0.8, l2=0.2),
    GradientDescent(loss="smoothed-hinge", steps=25, lr=0.05, momentum=0.5, nesterov=True),
    GradientDescent(loss="softmax", hidden=4, steps=25, lr=0.1, initial=0.5, activation="sigmoid"),
]


def poison_of(clean, *, shift=1):
    """Copies of some clean rows under another label, as floats: on their way they need not be 8-bit."""
    rows = clean.at(slice(0, POISON))
    return rows.all_inputs().double(), (rows.labels + shift) % clean.space.num_classes


def with_poison(clean, inputs, labels):
    """The clean rows and the poison as one training set, stored in full precision."""
    ids = torch.cat([clean.ids, FIRST_APPENDED + torch.arange(len(labels))])
    every = torch.cat([clean.all_inputs().double(), inputs])
    space = replace(clean.space, levels=None)
    return Dataset(inputs=every, labels=torch.cat([clean.labels, labels]), ids=ids, space=space)


class Exact(Dataset):
    """Rows that stay float64, as finite differences need; those of the package are float32."""

    def all_inputs(self):
        return self.inputs


def trained(learner, clean, inputs, labels):
    """The network of the learner's own training on clean rows and poison."""
    rows = with_poison(clean, inputs, labels)
    exact = Exact(inputs=rows.inputs, labels=rows.labels, ids=rows.ids, space=rows.space)
    return learner.fit(exact, seed=SEED).model


def loss_after(learner, clean, aims, inputs, labels):
    """The validation loss after the learner's own training, against what is wanted or true."""
    model = trained(learner, clean, inputs, labels)
    with torch.no_grad():
        scores = model.scores(model.features(aims.inputs.double()))
        return float(mean_loss(learner.loss, scores, aims.labels if aims.wanted is None else aims.wanted, 0.1))


def slope_along(function, place, direction, step=1e-4):
    return (function(place + step * direction) - function(place - step * direction)) / (2 * step)


@pytest.mark.parametrize("kind", [TABLE, IMAGES], ids=lambda each: each[0])
@pytest.mark.parametrize("learner", LEARNERS, ids=lambda each: f"{each.title}-{each.hidden}")
def test_steering_is_how_the_learners_own_training_responds(learner, kind):
    """Rows of a table are trained on directly, images through their inner products: they are fewer than pixels."""
    classes = 2 if learner.loss == "logistic" else 3
    clean, fresh = kind[1](14, classes, 1), kind[1](20, classes, 2)
    aims, (inputs, labels) = aims_of(fresh), poison_of(clean)
    found = learner.bilevel(clean, aims, seed=SEED).steering(inputs, labels)
    assert found.value == pytest.approx(loss_after(learner, clean, aims, inputs, labels), rel=1e-9)
    assert found.inputs.shape == inputs.shape
    draws = torch.Generator().manual_seed(4)
    for _ in range(2):
        direction = torch.randn(inputs.shape, generator=draws, dtype=torch.float64)
        wanted = slope_along(lambda x: loss_after(learner, clean, aims, x, labels), inputs, direction)
        assert float((found.inputs * direction).sum()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", [TABLE, IMAGES], ids=lambda each: each[0])
@pytest.mark.parametrize("learner", LEARNERS, ids=lambda each: f"{each.title}-{each.hidden}")
def test_value_is_the_loss_after_the_learners_own_training(learner, kind):
    """Through the data sets and the ids that victims are given, in float32; also without any poison."""
    classes = 2 if learner.loss == "logistic" else 3
    clean, fresh = kind[1](14, classes, 1), kind[1](20, classes, 2)
    aims, (inputs, labels) = aims_of(fresh), poison_of(clean)
    problem = learner.bilevel(clean, aims, seed=SEED)
    for count in (POISON, 0):
        poisoned = with_poison(clean, inputs[:count], labels[:count])
        model = learner.fit(poisoned, seed=SEED).model
        with torch.no_grad():
            scores = model.scores(model.features(aims.inputs))
        expected = float(mean_loss(learner.loss, scores, aims.labels, 0.1))
        assert problem.value(inputs[:count], labels[:count]) == pytest.approx(expected, rel=1e-9)
    nothing = problem.steering(inputs[:0], labels[:0], by_labels=True)
    assert nothing.value == pytest.approx(expected, rel=1e-9)
    assert nothing.inputs.shape == (0, *inputs.shape[1:])
    assert nothing.labels.shape == (0, classes)


@pytest.mark.parametrize(
    ("loss", "classes"),
    [("logistic", 2), ("squared", 2), ("smoothed-hinge", 2), ("softmax", 2), ("softmax", 3), ("squared", 3)],
)
@pytest.mark.parametrize("hidden", [0, 4])
def test_by_labels_it_is_how_the_training_responds_to_class_probabilities(loss, classes, hidden):
    """The training is written out with torch, on targets that follow from the probabilities of the poison's classes."""
    learner = GradientDescent(loss=loss, hidden=hidden, steps=15, lr=0.1, initial=0.5)
    clean, fresh = (TABLE[1](14, classes, seed) for seed in (1, 2))
    aims, (inputs, labels) = aims_of(fresh), poison_of(clean)
    found = learner.bilevel(clean, aims, seed=SEED).steering(inputs, labels, by_labels=True)
    assert found.labels.shape == (POISON, classes)
    likely = functional.one_hot(torch.cat([clean.labels, labels]), classes).double()
    draws, kind = torch.Generator().manual_seed(5), learner.score_loss()

    def loss_of(likely):
        model = learner.build(clean.space, SEED.child("weights"))
        seen = model.standardised(torch.cat([clean.all_inputs().double(), inputs]))
        parts = [each.detach().clone().requires_grad_() for each in model.parameters()]
        for _ in range(learner.steps):
            scores = model.above.scores(seen @ parts[0], tuple(parts[1:]))
            targets = kind.low + (1 - kind.low) * (likely[:, 1:] if scores.shape[1] == 1 else likely)
            slopes = torch.autograd.grad(kind.value(scores, targets).mean(), parts)
            parts = [(w - learner.lr * g).detach().requires_grad_() for w, g in zip(parts, slopes, strict=True)]
        scores = model.above.scores(model.standardised(aims.inputs) @ parts[0], tuple(parts[1:]))
        return float(mean_loss(loss, scores.detach(), aims.labels, 0.1))

    assert found.value == pytest.approx(loss_of(likely), rel=1e-9)
    for _ in range(2):
        mass = torch.randn(POISON, classes, generator=draws, dtype=torch.float64)
        mass -= mass.mean(1, keepdim=True)  # probabilities keep adding up to 1
        whole = torch.cat([torch.zeros(len(clean), classes, dtype=torch.float64), mass])
        assert float((found.labels * mass).sum()) == pytest.approx(slope_along(loss_of, likely, whole), rel=1e-5)


def test_it_does_not_look_at_labels_unless_asked():
    clean = TABLE[1](14, 2, 1)
    found = LEARNERS[0].bilevel(clean, aims_of(clean), seed=SEED).steering(*poison_of(clean))
    assert torch.equal(found.labels, torch.zeros(POISON, 2, dtype=torch.float64))


def test_what_is_wanted_counts_where_something_is():
    clean, fresh = (TABLE[1](14, 3, seed) for seed in (1, 2))
    learner, (inputs, labels) = LEARNERS[4], poison_of(clean)
    aims = aims_of(fresh, source=2, wanted=0)
    problem = learner.bilevel(clean, aims, seed=SEED)
    assert problem.value(inputs, labels) == pytest.approx(loss_after(learner, clean, aims, inputs, labels), rel=1e-9)
    true = learner.bilevel(clean, replace(aims, wanted=None), seed=SEED)
    assert problem.value(inputs, labels) != pytest.approx(true.value(inputs, labels), rel=0.01)


def test_the_methods_agree_where_they_must():
    clean, fresh = (IMAGES[1](12, 2, seed) for seed in (1, 2))
    aims, (inputs, labels) = aims_of(fresh), poison_of(clean)
    for learner in (GradientDescent(steps=30, lr=0.1), GradientDescent(hidden=3, steps=30, lr=0.1, momentum=0.5)):
        problem = learner.bilevel(clean, aims, seed=SEED)
        stored = problem.steering(inputs, labels)
        again = problem.steering(inputs, labels, method="checkpointed").inputs
        assert torch.allclose(stored.inputs, again, rtol=1e-10, atol=1e-14)
        assert torch.allclose(stored.inputs, problem.steering(inputs, labels, last=30).inputs, rtol=1e-11, atol=1e-14)
        assert not torch.allclose(stored.inputs, problem.steering(inputs, labels, last=3).inputs, rtol=0.01)
        reversed_ = problem.steering(inputs, labels, method="approximate-reversal")
        assert reversed_.facts["drift"] > 0
        cosine = functional.cosine_similarity(stored.inputs.flatten(), reversed_.inputs.flatten(), dim=0)
        assert float(cosine) > 0.95
    converged = GradientDescent(l2=0.5, steps=2000, lr=0.1).bilevel(clean, aims, seed=SEED)
    one, two = (converged.steering(inputs, labels, method=each).inputs for each in ("stored", "implicit"))
    assert torch.allclose(one, two, rtol=1e-5, atol=1e-9)


def test_a_method_that_the_training_does_not_have_is_refused():
    clean = TABLE[1](14, 2, 1)
    problem = GradientDescent(steps=10).bilevel(clean, aims_of(clean), seed=SEED)
    with pytest.raises(ConfigError, match="the implicit method needs an L2 penalty"):
        problem.steering(*poison_of(clean), method="implicit")
    with pytest.raises(ConfigError, match=r"a sweep is cut to 1\.\.10 steps"):
        problem.steering(*poison_of(clean), last=11)


def test_a_training_that_diverges_is_silent_and_has_no_finite_value():
    clean = TABLE[1](14, 2, 1)
    problem = GradientDescent(loss="squared", lr=1e9, steps=200).bilevel(clean, aims_of(clean), seed=SEED)
    assert not np.isfinite(problem.value(*poison_of(clean)))
    assert not np.isfinite(problem.steering(*poison_of(clean), by_labels=True).value)


def test_nothing_is_changed_and_one_problem_may_be_asked_again():
    clean, fresh = (IMAGES[1](12, 2, seed) for seed in (1, 2))
    inputs, labels = poison_of(clean)
    problem, before = LEARNERS[1].bilevel(clean, aims_of(fresh), seed=SEED), (inputs.clone(), clean.digest())
    first = problem.steering(inputs, labels)
    problem.value(inputs + 0.1, labels)
    again = problem.steering(inputs, labels)
    assert (first.value, clean.digest()) == (again.value, before[1])
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(inputs, before[0])


def test_several_trainings_are_averaged():
    clean, fresh = (TABLE[1](14, 2, seed) for seed in (1, 2))
    inputs, labels = poison_of(clean)
    parts = [LEARNERS[1].bilevel(clean, aims_of(fresh), seed=Seed(k)) for k in range(3)]
    alone = [each.steering(inputs, labels, method="approximate-reversal", by_labels=True) for each in parts]
    found = Averaged(parts).steering(inputs, labels, method="approximate-reversal", by_labels=True)
    assert len({each.value for each in alone}) == 3
    assert found.value == pytest.approx(np.mean([each.value for each in alone]))
    assert Averaged(parts).value(inputs, labels) == pytest.approx(np.mean([each.value for each in alone]))
    assert torch.allclose(found.inputs, sum(each.inputs for each in alone) / 3)
    assert torch.allclose(found.labels, sum(each.labels for each in alone) / 3)
    assert found.facts["drift"] == max(each.facts["drift"] for each in alone)
