"""Shifts and flips of stored images without a sampling grid: each image is cut out of its padded self.

A shift is one for a whole image, so bilinear sampling at shifted places is the blend of four cuts a pixel apart: one
indexed copy of the 8-bit codes, and two blends. Equal to ``Augmentation.apply`` on the decoded images, to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset, Space
from mithridate.learners.augment import Augmentation, Draw, holes, mean_colour


def shown(
    data: Dataset, index: Tensor, augmentation: Augmentation | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows at positions ``index`` as a step sees them, after a fresh draw: inputs in natural units, and labels."""
    return shown_as(data, index, augmentation, drawn(data, len(index), augmentation, generator))


def drawn(data: Dataset, count: int, augmentation: Augmentation | None, generator: torch.Generator) -> Draw | None:
    """A fresh draw for ``count`` rows; None where they stay as they are."""
    return None if augmentation is None or data.inputs.ndim != 4 else augmentation.draw(count, generator)


def shown_as(
    data: Dataset, index: Tensor, augmentation: Augmentation | None, draw: Draw | None
) -> tuple[Tensor, Tensor]:
    """Rows at positions ``index`` as drawn: inputs in natural units, and labels. Waits for no device."""
    stored, labels = data.inputs.index_select(0, index), data.labels.index_select(0, index)
    if augmentation is None or draw is None:
        return data.space.decode(stored), labels
    if stored.dtype != torch.uint8:
        return augmentation.apply(stored.to(torch.float32), draw, space=data.space), labels
    return cut(stored, draw, augmentation, space=data.space), labels


def cut(codes: Tensor, draw: Draw, augmentation: Augmentation, *, space: Space) -> Tensor:
    """Images ``(n, C, H, W)`` uint8, shifted, flipped and cut out as drawn: float32 in natural units.

    Waits for no device, and no shape depends on what was drawn: it can be part of a CUDA graph.
    """
    assert space.levels is not None, "8-bit inputs have levels"
    towards = _towards(codes, draw)
    flip = draw.flip.to(codes.device) if augmentation.flip else None
    low, high = space.bounds
    scale = (high - low) / (space.levels - 1)
    if augmentation.mode == "integer":
        found = _mirrored(_windows(codes, towards.long(), margin=math.ceil(augmentation.shift), more=0), flip)
        found = space.decode(found)  # exact; outside, code 0 is black where values begin at 0
        found = found if low == 0 else found.sub_(low).add_(low * _inside(codes, towards, flip))
    else:
        whole = towards.floor()
        part = (towards - whole)[:, :, None, None, None]
        found = _windows(codes, whole.long(), margin=math.ceil(augmentation.shift), more=1).float()
        found = torch.lerp(found[:, :, :-1], found[:, :, 1:], part[:, 1])
        found = _mirrored(torch.lerp(found[..., :-1], found[..., 1:], part[:, 0]), flip)
        fill = mean_colour(found, space)
        found = torch.addcmul(fill, _inside(codes, towards, flip), low - fill).add_(found, alpha=scale)
    return found * holes(found, draw, augmentation.cutout) if augmentation.cutout else found


def _towards(codes: Tensor, draw: Draw) -> Tensor:
    """Where the part of each image that is shown begins, ``(n, 2)`` columns and rows; a single pixel stays in place."""
    found = -draw.shift.to(codes.device)
    for axis, side in enumerate((codes.shape[3], codes.shape[2])):
        if side == 1:
            found[:, axis] = 0.0
    return found


def _windows(codes: Tensor, begin: Tensor, *, margin: int, more: int) -> Tensor:
    """Of each image ``(C, H, W)`` the part ``(C, H + more, W + more)`` from ``begin`` ``(n, 2)`` on; outside 0."""
    height, width = codes.shape[2:]
    padded = functional.pad(codes, (margin, margin + more, margin, margin + more))
    windows = padded.unfold(2, height + more, 1).unfold(3, width + more, 1)
    column, row = (begin + margin).unbind(1)
    found: Tensor = windows[torch.arange(len(codes), device=codes.device), :, row, column]
    return found


def _inside(codes: Tensor, towards: Tensor, flip: Tensor | None) -> Tensor:
    """How much of each place shown lies on the image, ``(n, 1, H, W)`` in [0, 1]."""
    sides = []
    for axis, side in enumerate((codes.shape[3], codes.shape[2])):
        place = torch.arange(side, device=codes.device) + towards[:, axis, None]
        sides.append(torch.minimum(place + 1, side - place).clamp_(0, 1))
    return sides[1][:, None, :, None] * _mirrored(sides[0], flip)[:, None, None, :]


def _mirrored(values: Tensor, flip: Tensor | None) -> Tensor:
    """The last dimension reversed where ``flip`` ``(n,)`` says so."""
    if flip is None:
        return values
    return torch.where(flip.reshape(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)
