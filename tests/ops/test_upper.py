"""First derivatives above the first layer, and their change along a direction, against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.ops.trainings import LEARNERS, training

NAMES = [" ".join(map(str, each)) for each in LEARNERS]


def place(learner):
    """A network, the first layer's outputs, the parameters above, and a direction for all of these."""
    of, draws = training(learner), np.random.default_rng(1)
    parts = (of.rows.inputs @ of.start.first, *of.start.upper)
    return of, parts, tuple(draws.normal(size=each.shape) for each in parts)


def total(of, parts):
    """The weighted sum of losses, by torch."""
    losses = of.upper.loss.value(of.upper.scores(parts[0], tuple(parts[1:])), torch.from_numpy(of.rows.targets))
    return (losses * torch.from_numpy(of.rows.shares()[:, 0])).sum()


@pytest.mark.parametrize("learner", LEARNERS, ids=NAMES)
def test_slope_is_the_derivative_and_bend_its_change(learner):
    of, parts, along = place(learner)
    leaves = [torch.from_numpy(each).requires_grad_() for each in parts]
    first = torch.autograd.grad(total(of, leaves), leaves, create_graph=True)
    inner = sum((g * torch.from_numpy(a)).sum() for g, a in zip(first, along, strict=True))
    second = torch.autograd.grad(inner, leaves, materialize_grads=True)  # the Hessian is symmetric
    slope = of.upper.slope(parts[0], parts[1:], of.rows.targets, of.rows.shares())
    bend = of.upper.bend(slope, parts[1:], of.rows.targets, of.rows.shares(), along)
    for found, wanted in zip((slope.first, *slope.upper), first, strict=True):
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-10, atol=1e-13)
    for found, wanted in zip((bend.first, *bend.upper), second, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("learner", LEARNERS, ids=NAMES)
def test_scores_and_their_change_are_told_along(learner):
    of, parts, along = place(learner)

    def scores(*leaves):
        return of.upper.scores(leaves[0], tuple(leaves[1:]))

    tensors = tuple(map(torch.from_numpy, parts))
    value, change = torch.autograd.functional.jvp(scores, tensors, tuple(map(torch.from_numpy, along)))
    slope = of.upper.slope(parts[0], parts[1:], of.rows.targets, of.rows.shares())
    bend = of.upper.bend(slope, parts[1:], of.rows.targets, of.rows.shares(), along)
    np.testing.assert_allclose(slope.kept[0], value.numpy(), rtol=1e-12)
    np.testing.assert_allclose(bend.scores, change.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("learner", LEARNERS, ids=NAMES)
def test_weights_decay_and_biases_do_not(learner):
    of, _, _ = place(learner)
    assert of.upper.decays == tuple(each.ndim > 1 for each in of.start.upper)
