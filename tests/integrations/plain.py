"""Plain PyTorch of the kind users write, that the tests of all integrations share."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import Dataset

from mithridate.defenses.epic import EPIC

EPOCHS = 6
BOLD = EPIC(fraction=0.3, interval=1, warmup=1, max_total_drop=None, min_class_size=1, batch_size=16)
"""Unguarded, and at work from the first moment on."""


class Rows(Dataset):
    """Two features a row, in three unequal classes of which every seventh label is wrong; gives ``(x, y)``."""

    def __init__(self, count=67):
        draws = torch.Generator().manual_seed(4)
        true = (torch.rand(count, generator=draws).square() * 3).long()
        corners = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
        self.x = corners[true] + 0.7 * torch.randn(count, 2, generator=draws)
        self.y = torch.where(torch.arange(count) % 7 == 3, (true + 1) % 3, true)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Net(nn.Module):
    """A network with dropout and batch norm, so that modes and randomness matter."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.body = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
            self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.body(x))


def removed(guard):
    """What a guard dropped: an epoch and ids for each round."""
    return [(each.epoch, each.ids.tolist()) for each in guard.removals]


def same_weights(one, two):
    """Whether two networks are equal bit for bit."""
    other = two.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())
