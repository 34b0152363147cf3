"""Steps of gradient descent, against torch's optimiser and against a case solved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent, State, begun, pulled, stepped
from tests.ops.trainings import DESCENTS, descent, relative


def bowl(seed=0, size=6):
    """A strictly convex quadratic: its matrix and a place to begin."""
    draws = np.random.default_rng(seed)
    half = draws.normal(size=(size, size))
    return half @ half.T / size + np.eye(size), draws.normal(size=size)


@pytest.mark.parametrize("name", [each for each in DESCENTS if "averaged" not in each])
def test_steps_are_those_of_torchs_sgd(name):
    matrix, place = bowl()
    how = descent(name, steps=30, lr=0.05)
    weights = torch.from_numpy(place.copy()).requires_grad_()
    optimiser = torch.optim.SGD([weights], lr=how.lr, momentum=how.momentum, nesterov=how.nesterov, weight_decay=how.l2)
    state = begun((place,), how)
    for _ in range(how.steps):
        optimiser.zero_grad()
        (0.5 * weights @ torch.from_numpy(matrix) @ weights).backward()
        optimiser.step()
        gradient = matrix @ state.parts[0] + how.l2 * state.parts[0]
        state = stepped(state, (gradient,), how)
    assert relative(state.parts[0], weights.detach().numpy()) < 1e-13


def test_two_steps_of_averaged_momentum_by_hand():
    how = Descent(steps=2, lr=0.5, momentum=0.75, dampening=0.75)
    state = stepped(begun((np.array([8.0]),), how), (np.array([4.0]),), how)  # v = 1, w = 8 - .5
    assert (state.velocity[0].item(), state.parts[0].item()) == (1.0, 7.5)
    state = stepped(state, (np.array([2.0]),), how)  # v = .75 + .5, w = 7.5 - .625
    assert (state.velocity[0].item(), state.parts[0].item()) == (1.25, 6.875)


def test_a_step_leaves_the_state_before_it_alone():
    how = descent("nesterov")
    before = begun((np.ones(3),), how)
    stepped(before, (np.ones(3),), how)
    assert before.parts[0].tolist() == [1, 1, 1]
    assert before.velocity[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", list(DESCENTS))
def test_what_is_pulled_back_is_the_transpose_of_a_step(name):
    how, draws = descent(name), np.random.default_rng(0)
    size = 4
    widths = 3 if how.momentum else 2  # parts, gradient and, with momentum, velocity go in; parts and velocity come out
    zero = State((np.zeros(size),), (np.zeros(size),) if how.momentum else ())

    def forward(vector):
        parts, gradient, *velocity = np.split(vector, widths)
        state = stepped(State((parts,), tuple(velocity)), (gradient,), how)
        return np.concatenate([*state.parts, *state.velocity])

    matrix = np.stack([forward(each) for each in np.eye(size * widths)], 1)  # a step is linear
    adjoint = draws.normal(size=(widths - 1, size))
    gradient, velocity = pulled(State((adjoint[0],), tuple(adjoint[1:])), how)
    wanted = np.split(matrix.T @ adjoint.ravel(), widths)
    np.testing.assert_allclose(wanted[0], adjoint[0], rtol=1e-13)  # the parts' own: handed on as they are
    np.testing.assert_allclose(gradient[0], wanted[1], rtol=1e-13)
    assert len(velocity) == len(zero.velocity)
    for found, expected in zip(velocity, wanted[2:], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"dampening": -0.1}, "dampening must lie in"),
        ({"l2": -1.0}, "l2 must be at least 0"),
    ],
)
def test_refuses_settings_that_do_not_descend(settings, words):
    with pytest.raises(ConfigError, match=words):
        Descent(**{"steps": 3, "lr": 0.1, **settings})
