"""Group normalisation takes the place of batch normalisation, and rows no longer see each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops.group_norm import GroupNormed, mixing_parts, replace_batch_norm
from mithridate.seeding import Seed
from mithridate.testing import toy

DATA = toy(6, seed=1)
ARCHITECTURES = [SmallConvNet(widths=(4, 6)), ResNet18()]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=["smallconvnet", "resnet18"])
def test_a_row_is_seen_alone(architecture):
    inputs = DATA.all_inputs()
    with Seed(1).scope():
        plain, grouped = architecture.build(DATA.space).train(), GroupNormed(model=architecture).build(DATA.space)
    assert mixing_parts(plain)
    assert mixing_parts(grouped.train()) == []
    with torch.no_grad():
        assert torch.allclose(grouped(inputs)[:1], grouped(inputs[:1]), atol=1e-4)
        assert not torch.allclose(plain(inputs)[:2], plain(inputs[:2]), atol=1e-2)


def test_all_else_is_the_network_it_was():
    architecture = SmallConvNet(widths=(4, 6))
    with Seed(1).scope():
        plain = architecture.build(DATA.space)
    with Seed(1).scope():
        grouped = GroupNormed(model=architecture).build(DATA.space)
    shared = dict(grouped.named_parameters())
    assert {name for name, _ in plain.named_parameters()} == shared.keys()
    assert all(torch.equal(each, shared[name]) for name, each in plain.named_parameters())


def test_scales_offsets_mode_and_groups_are_kept():
    norms = nn.Sequential(
        nn.BatchNorm2d(48, eps=0.1), nn.BatchNorm2d(8, affine=False), nn.Sequential(nn.BatchNorm1d(8))
    )
    nn.init.constant_(norms[0].weight, 0.5)
    weight = norms[0].weight
    replace_batch_norm(norms.eval())
    assert norms[0].weight is weight
    assert (norms[0].num_groups, norms[0].eps, norms[0].training) == (16, 0.1, False)
    assert (norms[1].num_groups, norms[1].weight) == (8, None)
    assert norms[2][0].num_groups == 1
    assert bool(norms[2][0](torch.randn(5, 8, generator=Seed(1).generator())).abs().min() > 1e-4)


def test_instance_norm_mixes_only_where_it_keeps_statistics():
    parts = nn.Sequential(nn.InstanceNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True))
    assert mixing_parts(parts) == ["1"]
