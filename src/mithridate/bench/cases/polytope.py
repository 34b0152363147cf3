"""Convex combinations nearest to targets, for many networks: ours against splitting, one network after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mithridate.bench.case import Case, Figure, Form, Forms, Growth

if TYPE_CHECKING:
    from torch import Tensor


def features(networks: int, poisons: int, width: int) -> tuple[Tensor, Tensor]:
    """Points ``(B, k, D)`` and targets ``(B, D)`` as rectifiers give them: alike, and the target nearly among them."""
    import torch

    draws = torch.Generator().manual_seed(3)
    common = torch.randn(networks, 1, width, generator=draws)
    points = (common + 0.5 * torch.randn(networks, poisons, width, generator=draws)).relu()
    shares = torch.rand(networks, 1, poisons, generator=draws).softmax(2)
    noise = 0.1 * torch.randn(networks, width, generator=draws)
    return points, ((shares @ points)[:, 0] + noise).relu()


def _prepared(size: Mapping[str, int]) -> Forms:
    from mithridate.bench.plain.polytope import miss, one_by_one
    from mithridate.ops.simplex import coefficients

    points, targets = features(size["networks"], size["poisons"], size["width"])

    def accuracy() -> dict[str, list[Figure]]:
        ours, plain = coefficients(points, targets), one_by_one(points, targets)
        excess = [
            miss(one, each.double(), target.double()) - miss(other, each.double(), target.double())
            for one, other, each, target in zip(ours, plain, points, targets, strict=True)
        ]
        return {
            "exact": [
                Figure(name="residual above plain's", value=max(excess), at_most=1e-7),
                Figure(name="coefficients' sum off 1", value=float((ours.sum(1) - 1).abs().max()), at_most=1e-12),
            ]
        }

    return Forms(
        plain=Form(run=lambda: one_by_one(points, targets)),
        fast={"exact": Form(run=lambda: coefficients(points, targets))},
        accuracy=accuracy,
    )


def _of_networks(networks: int) -> Callable[[], object]:
    from mithridate.ops.simplex import coefficients

    points, targets = features(networks, 5, 512)
    return lambda: coefficients(points, targets)


CASES = (
    *(
        Case(
            name=f"polytope/coefficients/k{poisons}",
            about=f"combinations of {poisons} poisons nearest to the target in 18 networks; plain: splitting, in turn",
            size={"networks": 18, "poisons": poisons, "width": 512},
            tiny={"networks": 2, "poisons": poisons, "width": 64},
            items="networks",
            prepare=_prepared,
            must={"exact": 50.0} if poisons == 5 else {},
            stretch={"exact": 200.0} if poisons == 5 else {},
            quick=poisons == 5,
        )
        for poisons in (5, 25)
    ),
    Growth(
        name="polytope/growth/networks",
        about="coefficients of 5 poisons in more networks",
        parameter="networks",
        sizes=(128, 256, 512, 1024),
        prepare=_of_networks,
        exponent=1.0,
        tolerance=0.25,
        tiny=(2, 3),
    ),
)
