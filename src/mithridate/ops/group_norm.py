"""Group normalisation in place of batch normalisation, for training in which rows must not see each other.

"Group Normalization", Y. Wu and K. He, ECCV 2018, https://arxiv.org/abs/1803.08494: 32 groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.model import Architecture, Classifier

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True, kw_only=True)
class GroupNormed(Architecture):
    """A network with group normalisation wherever another one has batch normalisation."""

    name: ClassVar[str] = "group-normed"

    model: Architecture
    """The other network."""

    def build(self, space: Space) -> Classifier:
        """A fresh network of the other architecture, its batch normalisation replaced."""
        model = self.model.build(space)
        replace_batch_norm(model)
        return model


def replace_batch_norm(module: nn.Module) -> None:
    """Replace every batch normalisation inside ``module`` (in place), keeping its scales and offsets.

    Groups are 32, or as many below as divide the channels. Over features without places (``BatchNorm1d``) it is one
    group, since a group of one number would leave nothing of it.
    """
    for name, each in module.named_children():
        if isinstance(each, _BATCH_NORMS):
            setattr(module, name, _group_norm(each))
        else:
            replace_batch_norm(each)


def mixing_parts(module: nn.Module) -> list[str]:
    """Names of the parts of ``module`` that let rows of a batch see each other through running statistics."""
    return [
        name
        for name, each in module.named_modules()
        if isinstance(each, _BATCH_NORMS) or (isinstance(each, _INSTANCE_NORMS) and each.track_running_stats)
    ]


def _group_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm) -> nn.GroupNorm:
    channels = norm.num_features
    groups = 1 if isinstance(norm, nn.BatchNorm1d) else math.gcd(32, channels)
    made = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        made.weight, made.bias = norm.weight, norm.bias
    return made.train(norm.training)
