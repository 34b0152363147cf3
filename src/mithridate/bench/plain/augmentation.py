"""Random shifts and flips as libraries apply them: a 2 x 3 matrix an image, ``affine_grid``, ``grid_sample``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warped(images: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Images ``(n, C, H, W)`` shifted by ``(n, 2)`` pixels right and down, mirrored where ``flip``; zeros outside."""
    height, width = images.shape[2:]
    matrices = torch.zeros(len(images), 2, 3, dtype=images.dtype)
    matrices[:, 0, 0], matrices[:, 1, 1] = torch.where(flip, -1.0, 1.0), 1.0
    matrices[:, :, 2] = -shift * 2 / torch.tensor([width - 1, height - 1])
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=True)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=True)
