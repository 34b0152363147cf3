"""Steps of SGD with momentum and of Adam, against torch's own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from mithridate.ops.optimisers import Adam, Momentum

SHAPES = [(4, 3, 3, 3), (10, 16), (7,), (1,)]
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def parameters(layout):
    draws = torch.Generator().manual_seed(0)
    found = [torch.randn(shape, generator=draws) for shape in SHAPES]
    found[0] = found[0].contiguous(memory_format=FORMATS[layout])
    return [nn.Parameter(each) for each in found]


@pytest.mark.parametrize(("momentum", "weight_decay", "layout"), [*product([0.0, 0.9], [0.0, 5e-4], FORMATS)])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_with_momentum_are_torchs_bit_for_bit(nesterov, overwrite, momentum, weight_decay, layout):
    settings = {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov and momentum > 0}
    check(layout, partial(Momentum, overwrite=overwrite), torch.optim.SGD, settings)


@pytest.mark.parametrize(("weight_decay", "layout"), [*product([0.0, 5e-4], FORMATS)])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.99)])
def test_steps_of_adam_are_torchs_bit_for_bit(betas, weight_decay, layout):
    check(layout, Adam, torch.optim.Adam, {"lr": 0.1, "betas": betas, "weight_decay": weight_decay})


def check(layout, kind, peer, settings):
    ours, theirs = parameters(layout), parameters(layout)
    found = kind([{"params": ours[:2]}, {"params": ours[2:]}], **settings)
    expected = peer([{"params": theirs[:2]}, {"params": theirs[2:]}], **settings)
    draws = torch.Generator().manual_seed(1)
    for step in range(4):
        for optimiser in (found, expected):
            optimiser.zero_grad(set_to_none=step % 2 == 0)
            optimiser.param_groups[0]["lr"] = 0.1 / (1 + step)
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draws)  # of another layout than the parameter, too
            two.grad = one.grad.clone()
        found.step()
        expected.step()
        assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    for one, two in zip(ours, theirs, strict=True):
        assert found.state[one].keys() == {name for name, each in expected.state[two].items() if each is not None}
        assert all(torch.equal(each, expected.state[two][name]) for name, each in found.state[one].items())


def test_parameters_without_a_gradient_stay():
    still, moved = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    Momentum([{"params": [still, moved]}], lr=0.5, momentum=0.9, weight_decay=0.1, nesterov=True).step()
    assert still.tolist() == [1, 1]
    assert moved.tolist()[0] < 1


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_training_does_not_import_the_compiler(optimiser):
    """It takes seconds in every process."""
    code = (
        "import sys, torch\n"
        "from mithridate.learners.sgd import SGD\n"
        "from mithridate.models.linear import Linear\n"
        "from mithridate.seeding import Seed\n"
        "from mithridate.dataset import Dataset, Space\n"
        "data = Dataset.of(torch.rand(8, 3), torch.arange(8) % 2, space=Space(shape=(3,), num_classes=2))\n"
        f"SGD(model=Linear(), epochs=1, optimiser='{optimiser}', augmentation=None).fit(data, seed=Seed(0))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_crafting_does_not_import_the_compiler():
    code = (
        "import sys, torch\n"
        "from torch.nn.functional import cross_entropy\n"
        "from mithridate.dataset import Space\n"
        "from mithridate.models.smallconvnet import SmallConvNet\n"
        "from mithridate.ops.gradients import Derivatives\n"
        "from mithridate.ops.optimisers import Adam\n"
        "model = SmallConvNet(widths=(4,), pools=(1,)).build(Space(shape=(3, 8, 8), num_classes=2)).eval()\n"
        "inputs, labels = torch.nn.Parameter(torch.rand(4, 3, 8, 8)), torch.arange(4) % 2\n"
        "ways = Derivatives(model, inputs, labels, criterion=lambda s, y: cross_entropy(s, y, reduction='sum'))\n"
        "inputs.grad = ways.mixed(inputs, labels, [torch.ones_like(each) for each in model.parameters()])\n"
        "Adam([{'params': [inputs]}], lr=0.1).step()\n"
        "print(ways.backend, 'torch._dynamo' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.split() == ["gated-difference", "False"], found.stderr
