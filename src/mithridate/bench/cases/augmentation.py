"""Crop and flip of a batch: ours against a matrix an image with ``affine_grid`` and ``grid_sample``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from mithridate.bench.case import Case, Figure, Form, Forms


def _prepared(size: Mapping[str, int], *, mode: Literal["bilinear", "integer"]) -> Forms:
    import torch

    from mithridate.bench.plain.augmentation import warped
    from mithridate.dataset import Space
    from mithridate.learners.augment import Augmentation

    images = torch.rand(size["images"], 3, 32, 32, generator=torch.Generator().manual_seed(0))
    space = Space(shape=(3, 32, 32), num_classes=10, mean=(0.0,) * 3, std=(1.0,) * 3)
    augmentation = Augmentation(mode=mode)
    draw = augmentation.draw(len(images), torch.Generator().manual_seed(1))

    def plain() -> torch.Tensor:
        return warped(images, draw.shift, draw.flip)

    def ours() -> torch.Tensor:
        return augmentation.apply(images, draw, space=space)

    def accuracy() -> dict[str, list[Figure]]:
        apart = float((ours() - plain()).abs().max())
        return {"ours": [Figure(name="largest difference", value=apart, at_most=1e-4)]}

    moved = 2 * images.numel() * 4 / 1e9  # read once, written once
    return Forms(
        plain=Form(run=plain, work=moved, limit="copy"),
        fast={"ours": Form(run=ours, work=moved, limit="copy")},
        accuracy=accuracy,
    )


_MODES: dict[Literal["bilinear", "integer"], str] = {"bilinear": "fractions of pixels", "integer": "whole pixels"}
CASES = tuple(
    Case(
        name=f"augmentation/{mode}/N128",
        about=f"shift and flip 128 images by {about}; plain: a matrix an image, affine_grid, grid_sample",
        size={"images": 128},
        tiny={"images": 5},
        items="images",
        prepare=partial(_prepared, mode=mode),
        quick=mode == "bilinear",
    )
    for mode, about in _MODES.items()
)
