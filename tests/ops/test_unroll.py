"""Hypergradients against finite differences of the whole training, autograd through all of it, and each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Beginning, Rows, train
from tests.ops.trainings import (
    DESCENTS,
    LEARNERS,
    by_autograd,
    by_difference,
    cosine,
    descent,
    leaves,
    relative,
    trained_slowly,
    training,
    unit,
)

NAMES = [" ".join(map(str, each)) for each in LEARNERS]
MLP = ("softmax", 4, "tanh")


@pytest.mark.parametrize("name", list(DESCENTS))
@pytest.mark.parametrize("learner", LEARNERS, ids=NAMES)
def test_gradients_are_those_of_finite_differences_and_of_autograd(learner, name):
    of, draws = training(learner, descent(name)), np.random.default_rng(2)
    found = of.hypergradient(labels=True)
    value, *wanted = by_autograd(of)
    assert found.value == pytest.approx(value, rel=1e-12)
    for which, exact in zip(("inputs", "targets", "weights"), wanted, strict=True):
        got = getattr(found, which)
        assert relative(got, exact) < 1e-10
        direction = unit(draws, got.shape)
        moved = direction
        if which == "inputs":  # only the chosen rows move
            moved = np.zeros_like(of.rows.inputs)
            moved[of.chosen] = direction
        slope = by_difference(of, which, moved, step=1e-5)
        assert float((got * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", list(DESCENTS))
@pytest.mark.parametrize("learner", [("softmax", 4, ""), MLP])
def test_training_is_that_of_torchs_sgd(learner, name):
    of = training(learner, descent(name))
    wanted = trained_slowly(
        of, *(torch.from_numpy(each) for each in (of.rows.inputs, of.rows.targets, of.rows.weights))
    )
    for form in ("plain", "gram"):
        found = train(of.rows, of.upper, of.descent, of.start, form=form)
        for got, expected in zip((found.first, *found.upper), wanted, strict=True):
            assert relative(got, expected.detach().numpy()) < 1e-12


@pytest.mark.parametrize("name", [each for each in DESCENTS if "averaged" not in each])
def test_training_takes_the_steps_of_torchs_optimiser(name):
    of = training(MLP, descent(name))
    x, y, z = leaves(of)
    parts = [torch.from_numpy(each.copy()).requires_grad_() for each in (of.start.first, *of.start.upper)]
    groups = [{"params": [part], "weight_decay": of.descent.l2 * (part.ndim > 1)} for part in parts]
    how = of.descent
    optimiser = torch.optim.SGD(groups, lr=how.lr, momentum=how.momentum, nesterov=how.nesterov)
    for _ in range(how.steps):
        optimiser.zero_grad()
        ((of.upper.loss.value(of.upper.scores(x @ parts[0], tuple(parts[1:])), y) * z).sum() / len(x)).backward()
        optimiser.step()
    found = train(of.rows, of.upper, of.descent, of.start)
    for got, expected in zip((found.first, *found.upper), parts, strict=True):
        assert relative(got, expected.detach().numpy()) < 1e-12


@pytest.mark.parametrize("name", list(DESCENTS))
@pytest.mark.parametrize("learner", [("logistic", 2, ""), ("squared", 3, ""), MLP])
def test_the_gram_form_gives_what_the_plain_form_gives(learner, name):
    of = training(learner, descent(name))
    plain, gram = (of.hypergradient(form=form, labels=True) for form in ("plain", "gram"))
    known = replace(of, rows=replace(of.rows, products=of.rows.inputs @ of.rows.inputs.T))
    for other in (gram, known.hypergradient(form="gram", labels=True)):
        assert other.value == pytest.approx(plain.value, rel=1e-13)
        assert relative(other.inputs, plain.inputs) < 1e-12
        assert relative(other.targets, plain.targets) < 1e-12
        assert relative(other.weights, plain.weights) < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 12, 16, 23])
@pytest.mark.parametrize("last", [None, 1, 5])
@pytest.mark.parametrize("form", ["plain", "gram"])
def test_checkpointed_gives_what_stored_gives(form, last, steps):
    of = training(MLP, descent("nesterov with l2", steps=steps))
    last = last and min(last, steps)
    stored, other = (of.hypergradient(method=m, form=form, last=last, labels=True) for m in ("stored", "checkpointed"))
    assert other.value == stored.value
    if form == "plain":  # the Gram form and the labels add the same numbers up in another order
        assert np.array_equal(other.inputs, stored.inputs)
    assert relative(other.inputs, stored.inputs) < 1e-14
    assert relative(other.targets, stored.targets) < 1e-14
    assert relative(other.weights, stored.weights) < 1e-14


def test_a_sweep_cut_short_is_that_of_the_last_steps():
    of = training(MLP, descent("plain"))
    before = train(of.rows, of.upper, replace(of.descent, steps=5), of.start)
    late = replace(of, start=Beginning(first=before.first, upper=before.upper), descent=replace(of.descent, steps=4))
    found, wanted = of.hypergradient(last=4, labels=True), late.hypergradient(labels=True)
    assert relative(found.inputs, wanted.inputs) < 1e-12
    assert relative(found.targets, wanted.targets) < 1e-12


def test_permuted_rows_have_permuted_gradients():
    of = training(MLP, descent("heavy ball"))
    order = np.random.default_rng(3).permutation(len(of.rows))
    rows = Rows(inputs=of.rows.inputs[order], targets=of.rows.targets[order], weights=of.rows.weights[order])
    one = of.hypergradient(chosen=np.arange(len(order)), labels=True)
    other = replace(of, rows=rows).hypergradient(chosen=np.arange(len(order)), labels=True)
    assert relative(other.inputs, one.inputs[order]) < 1e-12
    assert relative(other.targets, one.targets[order]) < 1e-12
    assert relative(other.weights, one.weights[order]) < 1e-12


def test_chosen_rows_come_in_the_order_asked_for():
    of = training(MLP)
    every = of.hypergradient(chosen=slice(None)).inputs
    assert np.array_equal(of.hypergradient(chosen=np.array([7, 2])).inputs, every[[7, 2]])


def test_duplicated_rows_have_equal_gradients():
    of = training(MLP, descent("nesterov with l2"))
    twice = np.array([*range(len(of.rows)), len(of.rows) - 1])
    rows = Rows(inputs=of.rows.inputs[twice], targets=of.rows.targets[twice])
    found = replace(of, rows=rows).hypergradient(chosen=np.array([-2, -1]), labels=True)
    assert relative(found.inputs[0], found.inputs[1]) < 1e-12
    assert relative(found.targets[-2], found.targets[-1]) < 1e-12
    assert found.weights[-2] == pytest.approx(found.weights[-1], rel=1e-12)


def test_rows_without_weights_count_once_each():
    of = training(MLP)
    one = replace(of, rows=replace(of.rows, weights=None)).hypergradient()
    other = replace(of, rows=replace(of.rows, weights=np.ones(len(of.rows)))).hypergradient()
    assert np.array_equal(one.inputs, other.inputs)


def test_its_rows_are_left_alone():
    of = training(MLP, descent("nesterov with l2"))
    before = [each.copy() for each in (of.rows.inputs, of.rows.targets, of.start.first, *of.start.upper)]
    for method in ("stored", "checkpointed"):
        of.hypergradient(method=method, labels=True)
    after = (of.rows.inputs, of.rows.targets, of.start.first, *of.start.upper)
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


# ---- approximate reversal -------------------------------------------------------------------------------------------


def reversed_slowly(of):
    """The definition: climb w + a g(w), take both products there by autograd; the last recovered state counts not."""
    rows = leaves(of)
    parts = trained_slowly(of, *rows)
    begin = [torch.from_numpy(each) for each in (of.start.first, *of.start.upper)]
    seen, a = of.validation, of.descent.lr
    scores = of.upper.scores(torch.from_numpy(seen.inputs) @ parts[0], tuple(parts[1:]))
    losses = of.upper.loss.value(scores, torch.from_numpy(seen.targets)) * torch.from_numpy(seen.weights)
    adjoint = torch.autograd.grad(losses.sum() / len(losses), parts)
    end, inputs = parts, torch.zeros_like(rows[0])
    decays = (True, *of.upper.decays)

    def gradient(at, x):
        losses = of.upper.loss.value(of.upper.scores(x @ at[0], tuple(at[1:])), rows[1]) * rows[2]
        found = torch.autograd.grad(losses.sum() / len(x), at, create_graph=True)
        return [g + of.descent.l2 * w if decayed else g for g, w, decayed in zip(found, at, decays, strict=True)]

    for number in range(of.descent.steps):
        parts = [(w + a * g).detach().requires_grad_() for w, g in zip(parts, gradient(parts, rows[0]), strict=True)]
        if number == of.descent.steps - 1:
            break
        x = rows[0].clone().requires_grad_()
        inner = sum((g * d).sum() for g, d in zip(gradient(parts, x), adjoint, strict=True))
        by_inputs, *products = torch.autograd.grad(inner, (x, *parts))
        inputs -= a * by_inputs
        adjoint = [d - a * h for d, h in zip(adjoint, products, strict=True)]
    parts = [each.detach() for each in parts]
    off = sum(float((p - b).square().sum()) for p, b in zip(parts, begin, strict=True)) ** 0.5
    return inputs[of.chosen].numpy(), off / sum(float(p.detach().square().sum()) for p in end) ** 0.5


@pytest.mark.parametrize("name", ["plain", "plain with l2"])
@pytest.mark.parametrize("learner", [("logistic", 2, ""), MLP])
def test_approximate_reversal_is_what_its_definition_says(learner, name):
    of = training(learner, descent(name))
    found, (wanted, drift) = of.hypergradient(method="approximate-reversal"), reversed_slowly(of)
    assert relative(found.inputs, wanted) < 1e-10
    assert found.facts["drift"] == pytest.approx(drift, rel=1e-8)
    assert found.value == pytest.approx(of.hypergradient().value, rel=1e-12)
    assert relative(found.inputs, of.hypergradient().inputs) > 1e-3  # and it is not exact


@pytest.mark.parametrize("name", ["averaged momentum with l2", "heavy ball"])
def test_momentum_is_reversed_exactly_but_for_rounding(name):
    of = training(MLP, descent(name))
    reversed_, exact = of.hypergradient(method="approximate-reversal"), of.hypergradient(last=of.descent.steps - 1)
    assert reversed_.facts["drift"] < 1e-12
    assert relative(reversed_.inputs, exact.inputs) < 1e-10


def test_momentum_near_one_is_reversed_over_many_steps_and_small_momentum_is_not():
    def drift(momentum):
        how = Descent(steps=200, lr=0.3, momentum=momentum, dampening=momentum)
        return training(("logistic", 2, ""), how).hypergradient(method="approximate-reversal").facts["drift"]

    assert drift(0.99) < 1e-8
    assert drift(0.5) > 1  # a bit of the velocity is lost at each step


def test_approximate_reversal_refuses_nesterovs_form():
    of = training(MLP, descent("nesterov"))
    with pytest.raises(ConfigError, match="Nesterov"):
        of.hypergradient(method="approximate-reversal")


# ---- implicit -------------------------------------------------------------------------------------------------------


def test_the_implicit_gradient_is_that_of_the_sweep_at_convergence():
    of = training(("logistic", 2, ""), Descent(steps=3000, lr=0.2, l2=0.05), rows=30, seed=4)
    found, wanted = of.hypergradient(method="implicit"), of.hypergradient()
    assert relative(found.inputs, wanted.inputs) < 1e-8
    assert found.facts["products"] <= 12


def test_the_implicit_gradient_solves_with_the_exact_hessian():
    of = training(("softmax", 4, ""), Descent(steps=600, lr=0.3, momentum=0.9, l2=0.1), rows=30, seed=4)
    rows = leaves(of)
    found = train(of.rows, of.upper, of.descent, of.start)
    ends = [torch.from_numpy(each) for each in (found.first, *found.upper)]
    sizes = [each.numel() for each in ends]

    def objective(flat, x):
        first, bias = flat.split(sizes)
        first = first.reshape(ends[0].shape)
        losses = of.upper.loss.value(of.upper.scores(x @ first, (bias,)), rows[1]) * rows[2]
        return losses.sum() / len(x) + of.descent.l2 / 2 * first.square().sum()

    def outer(flat):
        first, bias = flat.split(sizes)
        scores = of.upper.scores(torch.from_numpy(of.validation.inputs) @ first.reshape(ends[0].shape), (bias,))
        losses = of.upper.loss.value(scores, torch.from_numpy(of.validation.targets))
        return (losses * torch.from_numpy(of.validation.weights)).sum() / len(losses)

    end = torch.cat([each.flatten() for each in ends]).requires_grad_()
    hessian = torch.autograd.functional.hessian(lambda w: objective(w, rows[0]), end.detach())
    (wanted,) = torch.autograd.grad(outer(end), end)
    solved = torch.linalg.pinv(hessian, rtol=1e-10, hermitian=True) @ wanted  # equal biases make it singular
    x = rows[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(end, x), end, create_graph=True)
    (by_inputs,) = torch.autograd.grad(-(slope * solved.detach()).sum(), x)
    found = of.hypergradient(method="implicit")
    assert relative(found.inputs, by_inputs[of.chosen].numpy()) < 1e-7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "implicit"}, "needs an L2 penalty"),
        ({"last": 0}, "cut to 1..9 steps"),
        ({"last": 10}, "cut to 1..9 steps"),
    ],
)
def test_refuses_what_a_method_cannot_do(options, words):
    with pytest.raises(ConfigError, match=words):
        training().hypergradient(**options)


# ---- the literature's own setting -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ones_and_sevens():
    """The 2197 ones and sevens among MNIST's first 10,000 training rows, as numbers in [0, 1) and labels 0 and 1."""
    from mithridate.datasets.named import MNIST
    from tests.datasets.generated import shared_data

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITHRIDATE_DATA", str(shared_data()))
        rows = MNIST(classes=(1, 7), train_rows=2197, test_rows=10).load().train
    return rows.inputs.flatten(1).double().numpy() / 256, rows.labels.numpy()


def one_against_seven(images, labels, seed, descent, *, hidden=0):
    """100 training rows and one of 400 validation rows with its label flipped, as the paper's code draws them."""
    draws = np.random.RandomState(seed)
    order = draws.permutation(len(images))
    kept, seen = order[:100], order[100:500]
    flipped = np.random.RandomState(seed + 50).choice(seen, 1)
    rows, label = np.concatenate([kept, flipped]), np.concatenate([labels[kept], 1 - labels[flipped]])
    of, width = training(("logistic", 2, "tanh" if hidden else "")), hidden or 1
    shapes = [(hidden,), (hidden, 1), (1,)] if hidden else [(1,)]
    scale = 0.1 if hidden else 0.0  # linear classifiers begin at 0
    return replace(
        of,
        rows=Rows(inputs=images[rows], targets=label[:, None].astype(float)),
        validation=Rows(inputs=images[seen], targets=labels[seen, None].astype(float)),
        descent=descent,
        start=Beginning(
            first=scale * draws.normal(size=(images.shape[1], width)),
            upper=tuple(scale * draws.normal(size=shape) for shape in shapes),
        ),
        chosen=slice(100, None),
    )


@pytest.mark.parametrize(
    ("lr", "steps", "low", "high"),  # cosines measured once, on one split each: 1.0000, .9999, .9995, .955, .982, .887
    [
        (0.02, 100, 0.999, 1.0),
        (0.1, 20, 0.998, 1.0),
        (0.1, 100, 0.99, 1.0),
        (0.1, 300, 0.85, 0.98),
        (0.2, 100, 0.92, 0.995),
        (0.5, 100, 0.75, 0.93),
    ],
)
def test_approximate_reversal_goes_astray_as_training_goes_on(ones_and_sevens, lr, steps, low, high):
    cosines = []
    for seed in range(3):
        of = one_against_seven(*ones_and_sevens, seed, Descent(steps=steps, lr=lr))
        cosines.append(cosine(of.hypergradient().inputs, of.hypergradient(method="approximate-reversal").inputs))
    assert low < np.mean(cosines) < high + 1e-9, cosines


def test_approximate_reversal_of_a_perceptron_loses_its_start(ones_and_sevens):
    early, late, drifts = [], [], []
    for seed in range(2):
        for steps, kept in ((20, early), (200, late)):
            of = one_against_seven(*ones_and_sevens, seed, Descent(steps=steps, lr=0.1), hidden=10)
            other = of.hypergradient(method="approximate-reversal")
            kept.append(cosine(of.hypergradient().inputs, other.inputs))
        drifts.append(other.facts["drift"])
    assert min(early) > 0.99
    assert min(late) < 0.98
    assert min(drifts) > 1


def test_long_trainings_have_the_implicit_gradient(ones_and_sevens):
    how = Descent(steps=3000, lr=0.2, l2=0.05, momentum=0.9)  # momentum, since a bias without penalty is slow
    of = one_against_seven(*ones_and_sevens, 0, how)
    implicit = of.hypergradient(method="implicit")
    assert relative(of.hypergradient().inputs, implicit.inputs) < 1e-8
    short = [replace(of, descent=Descent(steps=steps, lr=0.2, l2=0.05)) for steps in (20, 60, 100, 300)]
    cosines = [cosine(each.hypergradient().inputs, implicit.inputs) for each in short]
    assert cosines == sorted(cosines)
    assert 0.85 < cosines[0] < 0.97  # with a penalty on the bias too: .924, .983, .994, .9999
    assert cosines[-1] > 0.98


def test_momentum_is_reversed_exactly_on_digits(ones_and_sevens):
    how = Descent(steps=200, lr=0.3, momentum=0.99, dampening=0.99)
    of = one_against_seven(*ones_and_sevens, 0, how)
    assert of.hypergradient(method="approximate-reversal").facts["drift"] < 1e-8
