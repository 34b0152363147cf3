"""Centres of clouds of points, and which points lie beyond a percentile of their distances."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mithridate.errors import ConfigError

Centre = Literal["mean", "median"]
"""What the centre of a cloud is: the mean of its points, or the median in each direction."""
_ROUNDING = 1e-9


def check_centre(centre: str) -> None:
    """Raise :class:`ConfigError` for a centre that is none."""
    if centre not in ("mean", "median"):
        raise ConfigError(f"centre must be 'mean' or 'median', but it is '{centre}'")


def check_percentile(percentile: float) -> None:
    """Raise :class:`ConfigError` for a percentile beyond which lies nothing, or everything."""
    if not 0 < percentile < 100:
        raise ConfigError(f"percentile must lie in (0, 100), but it is {percentile:g}")


def centre_of(points: Tensor, centre: Centre) -> Tensor:
    """The centre ``(D,)`` float64 of points ``(n, D)``; a median of an even number is halfway between the two."""
    if centre == "mean":
        return points.double().mean(0)
    ordered = points.sort(0).values
    return (ordered[(len(points) - 1) // 2].double() + ordered[len(points) // 2].double()) / 2


def beyond(distances: Tensor, percentile: float) -> Tensor:
    """Which of ``distances`` ``(n,)`` float64 exceed their own percentile, ``(n,)`` bool; the smallest never does.

    Between two of them it is interpolated, as NumPy does; those equal to it up to rounding do not exceed it. So about
    ``1 - percentile / 100`` of the points lie beyond, and fewer where many are equally far.
    """
    border = torch.quantile(distances, percentile / 100)
    return distances > border * (1 + _ROUNDING)
