"""The derivatives of gradient matching, against double backward written out in float64."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate.ops import gradients
from mithridate.ops.gradients import matched, mixed_partial, parameter_gradient, parameters_of, trusted_backend
from mithridate.ops.matching import OBJECTIVES, cosine, similarity


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, reduction="sum")


def network(dtype=torch.float64, seed=0):
    """A small trained-looking network with every covered kink: relu, relu6, leaky relu, max-pool, and batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(5, 5, 3),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(20, 3),
        )
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


def rows(count, dtype=torch.float64, seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 8, 8, generator=draws, dtype=dtype), torch.arange(count) % 3


def target_gradient(net, dtype=torch.float64):
    x, _ = rows(1, dtype, seed=9)
    return parameter_gradient(net, x, torch.tensor([2]), criterion=cross_entropy)


def slow_and_obvious(net, x, y, objective, scale, constant=None):
    """The objective and its derivative in the inputs by one double backward through everything at once."""
    leaf = x.clone().requires_grad_(True)
    loss = cross_entropy(net(leaf), y) * scale
    gradient = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    if constant is not None:
        gradient = [g + c for g, c in zip(gradient, constant, strict=True)]
    value = objective(gradient)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("loss", sorted(OBJECTIVES))
def test_matching_gradient_equals_double_backward_in_float64(loss):
    net, (x, y) = network(), rows(7)
    target = target_gradient(net)

    def objective(g):
        return OBJECTIVES[loss](g, target)

    value, slope = slow_and_obvious(net, x, y, objective, 1 / 7)
    found = matched(net, x, y, objective=objective, criterion=cross_entropy, scale=1 / 7)
    assert float(found.value) == pytest.approx(float(value), rel=1e-9)
    assert relative(found.inputs, slope) < 1e-6


@pytest.mark.parametrize("backend", ["double", "gated"])
@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_micro_batches_do_not_change_the_objective(backend, micro_batch):
    net, (x, y) = network(torch.float32), rows(7, torch.float32)
    target = target_gradient(net, torch.float32)
    constant = [0.01 * t for t in target]
    settings = {
        "objective": lambda g: similarity(g, target),
        "criterion": cross_entropy,
        "scale": 1 / 7,
        "constant": constant,
        "backend": backend,
    }
    whole = matched(net, x, y, micro_batch=7, **settings)
    parts = matched(net, x, y, micro_batch=micro_batch, **settings)
    assert float(parts.value) == pytest.approx(float(whole.value), rel=1e-5)
    assert relative(parts.inputs, whole.inputs) < (1e-5 if backend == "double" else 0.02)
    _, slope = slow_and_obvious(net, x, y, settings["objective"], 1 / 7, constant)
    assert float(cosine([parts.inputs], [slope])) > 0.999


def test_gated_difference_agrees_with_float64_double_backward_through_every_covered_kink():
    net, (x, y) = network(torch.float32), rows(16, torch.float32)
    direction = target_gradient(net, torch.float32)
    quick = mixed_partial(net, x, y, direction, criterion=cross_entropy, backend="gated")
    exact_net = network(torch.float64)
    exact = mixed_partial(
        exact_net, x.double(), y, [d.double() for d in direction], criterion=cross_entropy, backend="double"
    )
    assert float(cosine([quick.double()], [exact])) > 0.999


def test_auto_falls_back_to_double_backward_where_the_difference_is_wrong():
    class Wild(nn.Module):
        """So curved that a parameter step of 1e-4 leaves the tangent far behind."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(128, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.second(torch.sin(1e4 * self.first(x.flatten(1))))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Wild()
    x, y = rows(8, torch.float32)
    assert trusted_backend("auto", net, x, y, criterion=cross_entropy) == "double"
    assert trusted_backend("gated", net, x, y, criterion=cross_entropy) == "gated"  # asked for by name: obeyed


def test_auto_uses_the_gated_difference_where_it_is_right():
    net, (x, y) = network(torch.float32), rows(8, torch.float32)
    assert trusted_backend("auto", net, x, y, criterion=cross_entropy) == "gated"
    assert trusted_backend("auto", net.double(), x.double(), y, criterion=cross_entropy) == "double"


def test_the_network_is_left_as_it_was():
    net, (x, y) = network(torch.float32), rows(5, torch.float32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    target = target_gradient(net, torch.float32)
    for backend in ("double", "gated"):
        matched(net, x, y, objective=lambda g: similarity(g, target), criterion=cross_entropy, scale=1, backend=backend)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_take_no_part():
    net, (x, y) = network(), rows(5)
    for p in net[0].parameters():
        p.requires_grad_(False)
    assert len(parameters_of(net)) == len(list(net.parameters())) - 2
    target = target_gradient(net)
    found = matched(net, x, y, objective=lambda g: similarity(g, target), criterion=cross_entropy, scale=1)
    assert len(found.parameters) == len(target)


def test_many_parts_keep_no_gates_between_the_passes(monkeypatch):
    """With micro-batches, what is held at once does not grow with the number of rows."""
    held, most = [0], [0]

    class Counting(gradients.Recorded):
        def __exit__(self, *error):
            held[0] += 1
            most[0] = max(most[0], held[0])
            weakref.finalize(self.gates[0], lambda: held.__setitem__(0, held[0] - 1))
            return super().__exit__(*error)

    monkeypatch.setattr(gradients, "Recorded", Counting)
    net, (x, y) = network(torch.float32), rows(12, torch.float32)
    target = target_gradient(net, torch.float32)
    matched(
        net,
        x,
        y,
        objective=lambda g: similarity(g, target),
        criterion=cross_entropy,
        scale=1,
        micro_batch=2,
        backend="gated",
    )
    assert most[0] <= 2
