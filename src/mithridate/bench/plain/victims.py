"""A victim trained as most code does: float32, images as they come, a sampling grid for every batch, torch's SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def network(widths: Sequence[int], pools: Sequence[int], classes: int, mean: Tensor, std: Tensor) -> nn.Module:
    """Convolutions, batch norm and ReLU, with max pools after some; then the mean over the image and a linear layer."""
    layers: list[nn.Module] = [Standardised(mean, std)]
    before = len(mean)
    for block, after in enumerate(widths, start=1):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        if block in pools:
            layers.append(nn.MaxPool2d(2))
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class Standardised(nn.Module):
    """Mean 0 and standard deviation 1 in each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Both ``(C,)``."""
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, C, H, W)``, standardised."""
        found: Tensor = (images - self.mean) / self.std
        return found


def trainer(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch: int, lr: Callable[[float], float], shift: float
) -> Callable[[], None]:
    """A function that trains one epoch more: images ``(N, C, H, W)`` in [0, 1], shifted at random by up to ``shift``.

    ``lr`` is the rate after so many epochs.
    """
    steps = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    draws, done = torch.Generator().manual_seed(0), [0]

    def epoch() -> None:
        model.train()
        parts = torch.split(torch.randperm(len(images), generator=draws), batch)
        for number, index in enumerate(parts):
            for group in steps.param_groups:
                group["lr"] = lr(done[0] + number / len(parts))
            steps.zero_grad()
            functional.cross_entropy(model(_moved(images[index], shift, draws)), labels[index]).backward()  # type: ignore[no-untyped-call]
            steps.step()
        done[0] += 1

    return epoch


def _moved(images: Tensor, shift: float, draws: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    matrices = torch.zeros(count, 2, 3)
    mirrored = torch.rand(count, generator=draws) < 0.5
    matrices[:, 0, 0], matrices[:, 1, 1] = torch.where(mirrored, -1.0, 1.0), 1.0
    moves = (torch.rand(count, 2, generator=draws) * 2 - 1) * shift
    matrices[:, :, 2] = moves * 2 / torch.tensor([width - 1, height - 1])
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=True)
    return functional.grid_sample(images, grid, align_corners=True)
