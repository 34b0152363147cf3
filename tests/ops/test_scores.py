"""Losses of scores, against torch's own and against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mithridate.errors import ConfigError
from mithridate.ops.scores import LOSSES, SmoothedHinge
from tests.ops.trainings import CLASSES


def scores_and_targets(name, classes, seed=0):
    draws = torch.Generator().manual_seed(seed)
    loss = LOSSES[name]
    labels = torch.randint(classes, (9,), generator=draws)
    scores = 2 * torch.randn(9, loss.columns(classes), dtype=torch.float64, generator=draws)
    soft = 0.1 * torch.rand(scores.shape, dtype=torch.float64, generator=draws)
    return loss, scores, loss.targets(labels, classes) + soft, labels


def test_values_are_those_of_torch():
    _, scores, targets, _ = scores_and_targets("logistic", 2)
    wanted = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(1)
    assert torch.allclose(LOSSES["logistic"].value(scores, targets), wanted, rtol=1e-8, atol=0)
    _, scores, _, labels = scores_and_targets("softmax", 4)
    found = LOSSES["softmax"].value(scores, LOSSES["softmax"].targets(labels, 4))
    assert torch.allclose(found, functional.cross_entropy(scores, labels, reduction="none"), rtol=1e-12, atol=0)
    _, scores, targets, _ = scores_and_targets("squared", 3)
    wanted = 0.5 * functional.mse_loss(scores, targets, reduction="none").sum(1)
    assert torch.allclose(LOSSES["squared"].value(scores, targets), wanted, rtol=1e-12, atol=0)


def test_the_smoothed_hinge_becomes_the_hinge():
    loss, scores, _, labels = scores_and_targets("smoothed-hinge", 3)
    targets = loss.targets(labels, 3)
    hinge = (1 - targets * scores).clamp_min(0).sum(1)
    for temperature in (0.1, 0.01, 0.001):
        gap = SmoothedHinge(temperature=temperature).value(scores, targets) - hinge
        assert bool((gap >= -1e-12).all())
        assert float(gap.max()) <= 3 * temperature * np.log(2) + 1e-12


def test_logistic_is_the_softmax_of_one_score_and_nought():
    _, scores, _, labels = scores_and_targets("logistic", 2)
    one, two = LOSSES["logistic"], LOSSES["softmax"]
    wide = torch.cat([torch.zeros_like(scores), scores], 1)
    assert torch.allclose(one.value(scores, one.targets(labels, 2)), two.value(wide, two.targets(labels, 2)))
    assert torch.equal(one.logits(scores), wide)


@pytest.mark.parametrize(("name", "classes"), CLASSES)
def test_derivatives_are_those_of_the_value(name, classes):
    loss, scores, targets, _ = scores_and_targets(name, classes)
    along = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    s, y = scores.requires_grad_(), targets.requires_grad_()
    (first,) = torch.autograd.grad(loss.value(s, y).sum(), s, create_graph=True)
    second, cross = torch.autograd.grad((first * along).sum(), (s, y))  # the Hessian of a row is symmetric
    numbers = tuple(each.detach().numpy() for each in (scores, targets))
    for found, wanted in (
        (loss.first(*numbers), first),
        (loss.second(*numbers, along.numpy()), second),
        (loss.cross(*numbers, along.numpy()), cross),
    ):
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "classes"), CLASSES)
def test_the_class_of_the_least_loss_is_the_class_called(name, classes):
    loss = LOSSES[name]
    labels = torch.arange(classes)
    targets = loss.targets(labels, classes)
    assert targets.shape == (classes, loss.columns(classes))
    scores = 3 * (targets - (1 + loss.low) / 2)  # each row's speak for its class
    assert loss.logits(scores).argmax(1).tolist() == labels.tolist()
    losses = torch.stack([loss.value(scores, targets.roll(k, 0)) for k in range(classes)])
    assert losses.argmin(0).tolist() == [0] * classes


@pytest.mark.parametrize(("name", "classes"), CLASSES)
def test_large_scores_give_finite_numbers(name, classes):
    loss = LOSSES[name]
    targets = loss.targets(torch.arange(classes), classes)
    scores = 1e4 * torch.from_numpy(np.random.default_rng(0).normal(size=targets.shape))
    ones = np.ones(targets.shape)
    assert bool(loss.value(scores, targets).isfinite().all())
    for found in (
        loss.first(scores.numpy(), targets.numpy()),
        loss.second(scores.numpy(), targets.numpy(), ones),
        loss.cross(scores.numpy(), targets.numpy(), ones),
    ):
        assert np.isfinite(found).all()


def test_targets_by_hand():
    labels = torch.tensor([0, 1])
    assert LOSSES["logistic"].targets(labels, 2).tolist() == [[0.0], [1.0]]
    assert LOSSES["squared"].targets(labels, 2).tolist() == [[-1.0], [1.0]]
    assert LOSSES["softmax"].targets(labels, 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert LOSSES["smoothed-hinge"].targets(labels, 3).tolist() == [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]]


def test_the_logistic_loss_refuses_three_classes():
    with pytest.raises(ConfigError, match="the data has 3; use loss: softmax"):
        LOSSES["logistic"].targets(torch.arange(3), 3)
