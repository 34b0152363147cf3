"""Batches mixed, pasted over and blanked: the arithmetic of mixup, CutMix and Cutout, each draw from a generator.

Nothing is written in place, results lie within the bounds of the space, and images that are channels-last in memory
stay so. Labels may be classes ``(n,)`` or probabilities ``(n, C)``; mixed labels are always probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Space


def probabilities(labels: Tensor, classes: int) -> Tensor:
    """Labels ``(n,)`` or ``(n, classes)`` as probabilities ``(n, classes)`` float32."""
    return functional.one_hot(labels, classes).float() if labels.ndim == 1 else labels


def dirichlet(count: int, ways: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws ``(count, ways)`` from the symmetric Dirichlet distribution, on the generator's device; rows sum to 1.

    Through logarithms of gamma variates, G(a) = G(a + 1) U^(1/a), so that even the smallest ``alpha`` gives weights
    that sum to 1, where the variates themselves would all be rounded to 0.
    """
    device = generator.device
    above = torch._standard_gamma(torch.full((count, ways), alpha + 1.0, device=device), generator=generator)
    uniform = 1.0 - torch.rand(count, ways, generator=generator, device=device)  # (0, 1]
    return (above.log() + uniform.log() / alpha).softmax(1)


def partners(count: int, ways: int, generator: torch.Generator) -> Tensor:
    """Row numbers ``(ways, count)``: every row itself first, then ``ways - 1`` shuffles of all rows."""
    device = generator.device
    shuffles = [torch.randperm(count, generator=generator, device=device) for _ in range(ways - 1)]
    return torch.stack([torch.arange(count, device=device), *shuffles])


def mixed(inputs: Tensor, labels: Tensor, *, weights: Tensor, rows: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Weighted sums of rows: inputs ``(n, *shape)`` and labels ``(n, C)`` with the same weights.

    ``weights`` ``(1 or n, ways)`` sum to 1 along the ways; ``rows`` ``(ways, n)`` says which rows are summed.
    """
    soft = probabilities(labels, space.num_classes)
    shares = weights.to(inputs).T  # (ways, 1 or n)
    images = sum(_along(share, inputs) * inputs[row] for share, row in zip(shares, rows.to(inputs.device), strict=True))
    classes = sum(share[:, None] * soft[row] for share, row in zip(shares, rows.to(soft.device), strict=True))
    return torch.as_tensor(images).clamp(*space.bounds), torch.as_tensor(classes)


def rectangles(count: int, alpha: float, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """CutMix's rectangles as masks ``(count, H, W)`` bool, for images of ``size`` ``(H, W)``.

    A share ``s`` is drawn from Beta(alpha, alpha), and a centre anywhere in the image; the rectangle has the image's
    proportions and the share ``s`` of its area, less what reaches over the edge. It holds the pixels whose centres
    lie inside.
    """
    device = generator.device
    side = dirichlet(count, 2, alpha, generator)[:, :1].sqrt()  # (count, 1), as a fraction of the image's side
    centre = torch.rand(count, 2, generator=generator, device=device)
    inside = [((_places(length, device) - centre[:, [k]]).abs() < side / 2) for k, length in enumerate(size)]
    return inside[0][:, :, None] & inside[1][:, None, :]


def squares(count: int, side: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Cutout's squares as masks ``(count, H, W)`` bool: ``side`` pixels wide around a random pixel, cut at the edges.

    The centre has ``side // 2`` pixels of the square before it, in both directions.
    """
    device = generator.device
    inside = []
    for length in size:
        first = torch.randint(length, (count, 1), generator=generator, device=device) - side // 2
        place = torch.arange(length, device=device)
        inside.append((place >= first) & (place < first + side))  # (count, length)
    return inside[0][:, :, None] & inside[1][:, None, :]


def pasted(inputs: Tensor, labels: Tensor, *, mask: Tensor, row: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Images ``(n, C, H, W)`` with other rows pasted in where ``mask`` is set, and labels mixed by the pixels pasted.

    ``mask`` is ``(1 or n, H, W)`` bool, ``row`` ``(n,)`` says from where.
    """
    soft = probabilities(labels, space.num_classes)
    mask, row = mask.to(inputs.device), row.to(inputs.device)
    share = (mask.sum((1, 2)) / mask[0].numel())[:, None].to(soft)  # (1 or n, 1)
    return torch.where(mask[:, None], inputs[row], inputs), (1 - share) * soft + share * soft[row]


def blanked(inputs: Tensor, *, mask: Tensor, space: Space) -> Tensor:
    """Images ``(n, C, H, W)`` filled with the mean colour of the space where ``mask`` ``(n, H, W)`` is set.

    A space without mean has the mean 0, moved into its bounds where it lies outside.
    """
    mean = torch.tensor(space.mean or (0.0,) * inputs.shape[1], device=inputs.device, dtype=inputs.dtype)
    colour = mean.clamp(*space.bounds).reshape(1, -1, 1, 1)
    return torch.where(mask.to(inputs.device)[:, None], colour, inputs)


def cut_out(inputs: Tensor, *, side: float, space: Space, generator: torch.Generator) -> Tensor:
    """Images ``(n, C, H, W)``, each with a square blanked; ``side`` is a fraction of the image's shorter side."""
    size = (inputs.shape[2], inputs.shape[3])
    mask = squares(len(inputs), max(round(side * min(size)), 1), size, generator)
    return blanked(inputs, mask=mask, space=space)


def no_images(space: Space, who: str) -> list[str]:
    """What to say where ``who`` needs images and inputs of ``space`` are none; empty where they are."""
    if len(space.shape) == 3:
        return []
    return [
        f"{who} needs images of shape (channels, height, width), but inputs are {space.shape}; use mixup for tables"
    ]


def _along(share: Tensor, inputs: Tensor) -> Tensor:
    """A share ``(1 or n,)`` shaped to multiply inputs ``(n, *shape)``."""
    return share.reshape(-1, *[1] * (inputs.ndim - 1))


def _places(length: int, device: torch.device) -> Tensor:
    """Centres of pixels as fractions of the image's side, ``(length,)``."""
    return (torch.arange(length, device=device) + 0.5) / length
