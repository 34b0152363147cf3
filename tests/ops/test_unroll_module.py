"""Hypergradients of any network, against finite differences of trainings by torch's optimiser, and the dense ones."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent
from mithridate.ops.scores import LOSSES
from mithridate.ops.unroll_module import TensorRows, module_hypergradient
from tests.ops.trainings import DESCENTS, descent, training

STEPS = 7
SOFTMAX = LOSSES["softmax"].value
METHODS = ("unroll", "stored", "checkpointed")


def convolutional(dtype=torch.float64, *, norm=False):
    """A small convolutional network of smooth parts, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.BatchNorm2d(3) if norm else nn.Identity(),
            nn.Softplus(),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4, 3),
        )
        if norm:
            net[1].running_mean.normal_(0, 0.3)
            net[1].running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


def images(count, seed, dtype=torch.float64):
    draws = torch.Generator().manual_seed(seed)
    targets = torch.softmax(2 * torch.randn(count, 3, generator=draws, dtype=dtype), 1)
    weights = torch.rand(count, generator=draws, dtype=dtype) + 0.5
    return TensorRows(inputs=torch.rand(count, 2, 5, 5, generator=draws, dtype=dtype), targets=targets, weights=weights)


ROWS, VALIDATION, CHOSEN = images(8, 1), images(5, 2), torch.tensor([6, 2, 5])
BATCHES = [torch.tensor(each) for each in ([0, 2, 6], [1, 5, 3], [4, 7], [2, 6, 5], [0, 1, 3], [5, 5, 4], [6, 1, 2])]
SETTINGS = {
    "all rows": {},
    "mini-batches": {"batches": BATCHES},
    "falling rate": {"rates": [1.0, 1.0, 0.7, 0.5, 0.5, 0.2, 0.1]},
    "both, and l2 on all": {"batches": BATCHES, "rates": [0.5, 1, 1, 1, 0.5, 0.5, 0.2], "l2_on_all": True},
}


def found_by(model, rows=ROWS, name="nesterov with l2", **options):
    named = {"model": model, "losses": SOFTMAX, "descent": descent(name, steps=STEPS), "chosen": CHOSEN, **options}
    return module_hypergradient(rows, VALIDATION, **named)


def loss_after(model, rows, name, *, rates=None, batches=None, l2_on_all=False):
    """The validation loss after a training by torch's optimiser."""
    net, how = copy.deepcopy(model), descent(name)
    groups = [{"params": [p], "weight_decay": how.l2 * (l2_on_all or p.ndim > 1)} for p in net.parameters()]
    optimiser = torch.optim.SGD(groups, lr=how.lr, momentum=how.momentum, nesterov=how.nesterov)
    for number in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = how.lr * (rates[number] if rates else 1)
        at = batches[number] if batches else torch.arange(len(rows))
        optimiser.zero_grad()
        (SOFTMAX(net(rows.inputs[at]), rows.targets[at]) * rows.weights[at]).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return float((SOFTMAX(net(VALIDATION.inputs), VALIDATION.targets) * VALIDATION.weights).mean())


@pytest.mark.parametrize("settings", list(SETTINGS))
@pytest.mark.parametrize("name", ["plain", "heavy ball", "nesterov with l2"])
def test_gradients_are_those_of_finite_differences_of_torchs_training(settings, name):
    model, draws = convolutional(norm=True), torch.Generator().manual_seed(3)
    found = found_by(model, name=name, labels=True, **SETTINGS[settings])
    assert found.value == pytest.approx(loss_after(model, ROWS, name, **SETTINGS[settings]), rel=1e-12)
    for which in ("inputs", "targets", "weights"):
        got, whole = getattr(found, which), getattr(ROWS, which)
        direction = torch.randn(got.shape, generator=draws, dtype=torch.float64)
        direction /= direction.norm()
        moved = torch.zeros_like(whole)
        moved[CHOSEN if which == "inputs" else slice(None)] = direction
        ends = [
            loss_after(model, replace(ROWS, **{which: whole + sign * 1e-5 * moved}), name, **SETTINGS[settings])
            for sign in (1, -1)
        ]
        assert float((got * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("settings", list(SETTINGS))
@pytest.mark.parametrize("name", ["plain", "averaged momentum", "nesterov with l2"])
def test_all_methods_give_the_same(name, settings):
    model = convolutional(norm=True)
    one, two, three = (found_by(model, name=name, method=m, labels=True, **SETTINGS[settings]) for m in METHODS)
    assert [each.method for each in (one, two, three)] == list(METHODS)
    assert two.value == three.value == pytest.approx(one.value, rel=1e-13)
    for which in ("inputs", "targets", "weights"):
        stored, replayed = getattr(two, which), getattr(three, which)
        assert torch.equal(stored, replayed)
        assert torch.allclose(stored, getattr(one, which), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(DESCENTS))
def test_a_dense_network_has_the_gradient_of_the_dense_formulas(name, method):
    of = training(("softmax", 4, "tanh"), descent(name))
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4)).double().eval()
    parts = (of.start.first.T, of.start.upper[0], of.start.upper[1].T, of.start.upper[2])
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), parts, strict=True):
            parameter.copy_(torch.from_numpy(values))
    rows, seen = (
        TensorRows(**{n: torch.from_numpy(getattr(each, n)) for n in ("inputs", "targets", "weights")})
        for each in (of.rows, of.validation)
    )
    how = {"model": model, "losses": SOFTMAX, "descent": of.descent, "chosen": of.chosen, "labels": True}
    found, wanted = module_hypergradient(rows, seen, method=method, **how), of.hypergradient(labels=True)
    assert found.value == pytest.approx(wanted.value, rel=1e-12)
    for which in ("inputs", "targets", "weights"):
        np.testing.assert_allclose(getattr(found, which).numpy(), getattr(wanted, which), rtol=1e-9, atol=1e-13)


def test_auto_takes_what_fits():
    model = convolutional()
    state = 2 * sum(each.nbytes for each in model.parameters()) * STEPS  # parameters and velocities of all steps
    assert found_by(model, memory=state - 1).method == "checkpointed"
    assert found_by(model, memory=state).method == "stored"
    assert found_by(model).method == "unroll"


def test_the_graph_of_all_steps_is_as_large_as_one_step_foretells():
    held = {}

    def noted(saved):
        held[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    model = convolutional()
    with torch.autograd.graph.saved_tensors_hooks(noted, lambda saved: saved):
        wanted = found_by(model, method="unroll")
    total = sum(held.values())
    assert found_by(model, memory=int(1.25 * total)).method == "unroll"
    assert found_by(model, memory=int(0.8 * total)).method == "stored"
    assert torch.equal(found_by(model, memory=int(1.25 * total)).inputs, wanted.inputs)


def test_rows_that_no_step_sees_have_no_gradient():
    found = found_by(convolutional(), batches=[torch.tensor([0, 6])] * STEPS, labels=True)
    unseen = [1, 2, 3, 4, 5, 7]
    assert float(found.inputs[0].abs().max()) > 0
    assert float(found.inputs[1:].abs().max()) == 0
    assert float(found.targets[unseen].abs().max()) == float(found.weights[unseen].abs().max()) == 0


def test_chosen_rows_come_in_the_order_asked_for_and_may_be_named_twice():
    model = convolutional()
    every = found_by(model, chosen=slice(None)).inputs
    for method in METHODS:
        found = found_by(model, chosen=torch.tensor([7, 2, 2]), method=method).inputs
        assert torch.allclose(found, every[[7, 2, 2]], rtol=1e-10)


def test_targets_and_weights_are_differentiated_only_where_asked_for():
    for method in METHODS:
        found = found_by(convolutional(), method=method)
        assert float(found.targets.abs().max()) == float(found.weights.abs().max()) == 0


def test_frozen_parameters_stay_as_they_are():
    model = convolutional()
    frozen = copy.deepcopy(model)
    for each in frozen[0].parameters():
        each.requires_grad_(False)
    values = {found_by(each, method=m).value for each in (model, frozen) for m in METHODS[1:]}
    assert len(values) == 2
    features = TensorRows(inputs=frozen[:4](ROWS.inputs).detach(), targets=ROWS.targets, weights=ROWS.weights)
    seen = replace(VALIDATION, inputs=frozen[:4](VALIDATION.inputs).detach())
    how = {"losses": SOFTMAX, "descent": descent("nesterov with l2", steps=STEPS), "chosen": CHOSEN}
    above = module_hypergradient(features, seen, model=frozen[4:].eval(), **how)
    assert found_by(frozen).value == pytest.approx(above.value, rel=1e-12)


def test_single_precision_stays_single_and_takes_rows_of_any():
    found, exact = found_by(convolutional(torch.float32), labels=True), found_by(convolutional(), labels=True)
    for which in ("inputs", "targets", "weights"):
        got, wanted = getattr(found, which), getattr(exact, which)
        assert got.dtype == torch.float32
        assert float((got - wanted).norm() / wanted.norm()) < 1e-4


def test_leaves_the_network_and_the_rows_alone():
    model = convolutional(norm=True)
    before, rows = copy.deepcopy(model.state_dict()), copy.deepcopy(ROWS)
    for method in METHODS:
        found_by(model, method=method, labels=True)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in model.parameters())
    assert torch.equal(ROWS.inputs, rows.inputs)
    assert not ROWS.inputs.requires_grad


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": [1.0]}, "rates must have one entry a step, 7 in all, but has 1"),
        ({"batches": BATCHES[:3]}, "batches must have one entry a step"),
        ({"batches": [*BATCHES[:6], torch.tensor([8])]}, r"batches\[6\] must name one row or more"),
        ({"batches": [*BATCHES[:6], torch.tensor([], dtype=torch.int64)]}, r"batches\[6\] must name one row or more"),
        ({"losses": lambda scores, targets: SOFTMAX(scores, targets).mean()}, "losses must give one number a row"),
    ],
)
def test_refuses_settings_that_do_not_fit(options, words):
    with pytest.raises(ConfigError, match=words):
        found_by(convolutional(), **options)


def test_refuses_networks_that_it_cannot_train():
    with pytest.raises(ConfigError, match="the network is in training mode"):
        found_by(convolutional(norm=True).train())
    with pytest.raises(ConfigError, match="no parameters that ask for gradients"):
        found_by(convolutional().requires_grad_(False))


def test_one_step_by_hand():
    model = nn.Linear(1, 1, bias=False).double().eval()
    with torch.no_grad():
        model.weight.fill_(2.0)
    row = TensorRows(inputs=torch.tensor([[3.0]]), targets=torch.tensor([[5.0]]))
    seen = TensorRows(inputs=torch.tensor([[1.0]]), targets=torch.tensor([[0.0]]))
    how = {"model": model, "losses": LOSSES["squared"].value, "descent": Descent(steps=1, lr=0.5)}
    found = module_hypergradient(row, seen, chosen=slice(None), labels=True, **how)
    # w1 = 2 - .5 (2 x - y) x = .5 and A = w1^2 / 2, so that A changes by x with w1 (-.5) (4 x - y) and so on
    assert found.value == pytest.approx(0.125)
    assert found.inputs.item() == pytest.approx(-1.75)
    assert found.targets.item() == pytest.approx(0.75)
    assert found.weights.item() == pytest.approx(-0.75)
