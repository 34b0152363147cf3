"""The clipped sum of gradients equals a loop over the rows, and no row counts for more than the bound."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import wrap
from mithridate.ops.group_norm import GroupNormed
from mithridate.ops.row_gradients import clip_shares, clipped_sum
from mithridate.seeding import Seed
from mithridate.testing import toy

DATA = toy(11, seed=1)
INPUTS, LABELS = DATA.take(slice(None))


class InPlace(nn.Module):
    """What hooks on modules cannot follow: rectifiers and a sum in place, and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Conv2d(1, 4, 3, padding=1).requires_grad_(False)
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, inputs):
        first = self.relu(self.frozen(inputs))
        second = self.layer(first)
        second += first
        return self.fc(self.relu(second).mean((2, 3)))


MAKERS = {
    "perceptron": lambda: MLP(hidden=(7,)).build(DATA.space),
    "convolutions": lambda: GroupNormed(model=SmallConvNet(widths=(4, 6))).build(DATA.space),
    "in place": lambda: wrap(InPlace(), space=DATA.space),
}


def network(kind):
    with Seed(2).scope():
        return MAKERS[kind]().train()


def row_by_row(model, bound):
    """Gradients of one row after the other by plain backward passes, each cut to ``bound``."""
    totals, losses = {}, []
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    for row, label in zip(INPUTS, LABELS, strict=True):
        loss = functional.cross_entropy(model(row[None]), label[None])
        gradients = torch.autograd.grad(loss, list(trained.values()))
        length = float(torch.cat([each.flatten() for each in gradients]).norm())
        for name, each in zip(trained, gradients, strict=True):
            totals[name] = totals.get(name, 0) + each * min(1.0, bound / length)
        losses.append(float(loss.detach()))
    return totals, losses


@pytest.mark.parametrize("chunk", [1, 4, 50])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_sum_equals_a_loop_over_the_rows(kind, chunk):
    model = network(kind)
    _, losses = row_by_row(model, 1.0)
    lengths = [
        float(torch.cat([each.flatten() for each in clipped(model, row, 1e9).values()]).norm()) for row in range(11)
    ]
    bound = sorted(lengths)[5]  # about half of the rows are cut
    expected, _ = row_by_row(model, bound)
    totals, loss = clipped_sum(model, INPUTS, LABELS, bound=bound, chunk=chunk)
    assert totals.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(totals[name], value, atol=1e-5), name
    assert float(loss) == pytest.approx(sum(losses), rel=1e-5)


def clipped(model, row, bound):
    """The gradient of one row, cut to ``bound``."""
    return clipped_sum(model, INPUTS[row : row + 1], LABELS[row : row + 1], bound=bound, chunk=4)[0]


@pytest.mark.parametrize("kind", MAKERS)
def test_no_row_is_longer_than_the_bound_and_short_ones_are_left(kind):
    model = network(kind)
    for row in range(11):
        whole, cut = (torch.cat([each.flatten() for each in clipped(model, row, b).values()]) for b in (1e9, 1e-2))
        assert float(cut.norm()) == pytest.approx(1e-2, rel=1e-4)
        assert torch.allclose(cut / cut.norm(), whole / whole.norm(), atol=1e-4)


def test_shares_are_solved_by_hand():
    gradients = {
        "a": torch.tensor([[3.0], [0.3], [0.0], [torch.inf], [torch.nan]]),
        "b": torch.tensor([[4.0], [0.4], [0.0], [1.0], [1.0]]),
    }
    assert clip_shares(gradients, 1.0).tolist() == pytest.approx([0.2, 1.0, 1.0, 0.0, 0.0])


def test_a_row_without_a_finite_gradient_counts_as_zero():
    model = network("perceptron")
    broken = INPUTS.clone()
    broken[3] = torch.inf
    rest = [k for k in range(11) if k != 3]
    found, loss = clipped_sum(model, broken, LABELS, bound=0.5, chunk=4)
    expected, clean = clipped_sum(model, INPUTS[rest], LABELS[rest], bound=0.5, chunk=4)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6)
    assert float(loss) == pytest.approx(float(clean), rel=1e-5)


def test_no_rows_have_no_gradient():
    totals, loss = clipped_sum(network("perceptron"), INPUTS[:0], LABELS[:0], bound=0.5, chunk=4)
    assert all(not bool(each.any()) for each in totals.values())
    assert float(loss) == 0


def test_the_model_is_left_as_it_was():
    model = network("convolutions")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    clipped_sum(model, INPUTS, LABELS, bound=0.5, chunk=4)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None and not vars(each) for each in model.parameters())
    assert not any(each._forward_hooks or each._backward_hooks for each in model.modules())


@pytest.mark.parametrize("kind", ["perceptron", "convolutions"])
def test_gradients_of_rows_are_those_of_opacus(kind):
    opacus = pytest.importorskip("opacus", reason="the extra 'dp' (Opacus) is not installed")
    model = network(kind)
    found, _ = clipped_sum(model, INPUTS, LABELS, bound=0.5, chunk=4)
    watched = opacus.GradSampleModule(model, loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the hooks of Opacus
        functional.cross_entropy(watched(INPUTS), LABELS, reduction="sum").backward()
    rows = {name: each.grad_sample for name, each in model.named_parameters()}
    lengths = torch.cat([each.flatten(1) for each in rows.values()], 1).norm(dim=1)
    for name, each in rows.items():
        expected = torch.einsum("n,n...->...", (0.5 / lengths).clamp(max=1), each)
        assert torch.allclose(found[name], expected, atol=1e-5), name
