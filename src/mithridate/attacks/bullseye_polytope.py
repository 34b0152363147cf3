"""Bullseye Polytope: poison whose features have the target at their centre.

Paper: Aghakhani, Meng, Wang, Kruegel, Vigna, "Bullseye Polytope: A Scalable Clean-Label Poisoning Attack with Improved
Transferability", EuroS&P 2021, https://arxiv.org/abs/2005.00191. The coefficients of Convex Polytope are fixed to 1/k,
so the target ends up in the middle of the polytope instead of just inside it.

Differences from the paper and its released code:

1. ``ratio="squared"`` (half the squared distance over the target's squared length, as Convex Polytope's loss) is the
   default; ``"released"`` is the code's distance over length, which for a map ``(C, H, W)`` compares channels place by
   place. The two have the same minimum; their gradients differ in length, which Adam does not see, and in how networks
   and layers are weighed against each other.
2. Where ``released`` divides by zero in the code (places at which the target's ReLU map is zero), it divides by the
   map's mean length over places; a hair instead of zero would make such places outweigh all others.
3. The target's features are averaged over ``target_draws`` passes (1, as in the code; the code of its multi-target
   function announces an average over 20 but takes none).
4. Surrogates and step size: as differences 4 and 5 of ``convex_polytope``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.facts import Fact, attacker
from mithridate.feature_attack import Placing
from mithridate.ops.polytope import Ratio, combined, equal_coefficients, miss, relative_distance
from mithridate.polytope_attack import Objective, PolytopeAttack


@dataclass(frozen=True, kw_only=True)
class BullseyePolytope(PolytopeAttack):
    """Clean-label, targeted: put the target at the mean of the poisons' features."""

    name: ClassVar[str] = "bullseye-polytope"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker(
            "victim training",
            "a linear layer on features like those of its surrogates",
            where="Aghakhani et al. 2021",
        ),
    )

    steps: int = 800
    """Steps of the optimiser. Paper: 4000, later 800; poisoning benchmark: 1200."""
    ratio: Ratio = "squared"
    """How the distance to the target is measured: ``squared`` or ``released``."""

    def objective(self, place: Placing, network: int, points: list[Tensor]) -> Objective:
        """The distance from the target to the mean of the points in each layer, averaged."""
        losses, distances = [], []
        for shown, targets in zip(points, place.targets[network], strict=True):
            found = combined(shown, equal_coefficients(shown))
            for view in targets.unbind(1):
                distances.append(relative_distance(found.detach(), view))
                losses.append(miss(found, view, ratio=self.ratio))
        return Objective(loss=torch.stack(losses).mean(0), distance=torch.stack(distances).mean(0))
