"""Many candidates at once: what they give one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mithridate.errors import ConfigError
from mithridate.ops.candidates import candidates
from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Rows
from mithridate.ops.unroll import hypergradient
from tests.ops.trainings import CLASSES, random_rows, relative, training

SETS = 5


def given(learner, own, *, seed=0):
    """A random training, its rows the clean ones, and candidate sets for it."""
    of, draws = training(learner, Descent(steps=12, lr=0.1), seed=seed), np.random.default_rng(seed + 1)
    sets = [random_rows(draws, own, of.rows.inputs.shape[1], of.upper.loss, learner[1]) for _ in range(SETS)]
    return of, np.stack([each.inputs for each in sets]), np.stack([each.targets for each in sets])


def together(of, inputs, targets, **options):
    named = {"loss": of.upper.loss, "descent": of.descent, "start": of.start, **options}
    return candidates(of.rows, inputs, targets, of.validation, **named)


def one_by_one(of, inputs, targets):
    found = []
    for own, wanted in zip(inputs, targets, strict=True):
        rows = Rows(
            inputs=np.concatenate([of.rows.inputs, own]),
            targets=np.concatenate([of.rows.targets, wanted]),
            weights=np.concatenate([of.rows.weights, np.ones(len(own))]),
        )
        how = {"upper": of.upper, "descent": of.descent, "start": of.start, "chosen": slice(len(of.rows), None)}
        found.append(hypergradient(rows, of.validation, form="plain", **how))
    return np.array([each.value for each in found]), np.stack([each.inputs for each in found])


def the_same(found, wanted):
    values, inputs = wanted
    np.testing.assert_allclose(found.values, values, rtol=1e-12)
    return all(relative(one, other) < 1e-12 for one, other in zip(found.inputs, inputs, strict=True))


@pytest.mark.parametrize("own", [1, 3])
@pytest.mark.parametrize(("loss", "classes"), CLASSES)
def test_candidates_have_the_gradients_they_have_one_by_one(loss, classes, own):
    of, inputs, targets = given((loss, classes, ""), own)
    assert the_same(together(of, inputs, targets), one_by_one(of, inputs, targets))


@pytest.mark.parametrize("steps", [Descent(steps=1, lr=0.3), Descent(steps=40, lr=0.2, dampening=0.5)])
def test_so_they_have_for_any_number_of_steps(steps):
    of, inputs, targets = given(("softmax", 4, ""), 2)
    of = replace(of, descent=steps)
    assert the_same(together(of, inputs, targets), one_by_one(of, inputs, targets))


def test_little_memory_changes_nothing_but_the_shares():
    of, inputs, targets = given(("logistic", 2, ""), 2)
    whole = together(of, inputs, targets)
    for memory in (0, 2 * 8 * 2 * 12 * 13):  # one at a time; two at a time, so the last share is smaller
        found = together(of, inputs, targets, memory=memory)
        assert the_same(found, (whole.values, whole.inputs))


def test_known_products_and_rows_without_weights_are_taken():
    of, inputs, targets = given(("squared", 2, ""), 2)
    ones = replace(of, rows=replace(of.rows, weights=np.ones(len(of.rows))))
    bare = replace(of.rows, weights=None, products=of.rows.inputs @ of.rows.inputs.T)
    assert the_same(together(replace(of, rows=bare), inputs, targets), one_by_one(ones, inputs, targets))


def test_each_candidate_is_judged_without_the_others():
    of, inputs, targets = given(("smoothed-hinge", 3, ""), 2)
    found, order = together(of, inputs, targets), [3, 0, 4, 1, 2]
    other = together(of, inputs[order], targets[order])
    assert the_same(other, (found.values[order], found.inputs[order]))


def test_its_arguments_are_left_alone():
    of, inputs, targets = given(("logistic", 2, ""), 2)
    held = (inputs, targets, of.rows.inputs, of.rows.targets, of.start.first)
    before = [each.copy() for each in held]
    together(of, inputs, targets)
    assert all(np.array_equal(one, other) for one, other in zip(held, before, strict=True))


@pytest.mark.parametrize("settings", [{"momentum": 0.5}, {"l2": 0.1}])
def test_refuses_momentum_and_penalties(settings):
    of, inputs, targets = given(("logistic", 2, ""), 2)
    with pytest.raises(ConfigError, match="without momentum and penalty"):
        together(of, inputs, targets, descent=Descent(steps=3, lr=0.1, **settings))


def test_refuses_no_candidates():
    of, inputs, targets = given(("logistic", 2, ""), 2)
    with pytest.raises(ConfigError, match="at least one candidate set"):
        together(of, inputs[:0], targets[:0])
