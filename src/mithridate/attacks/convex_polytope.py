"""Convex Polytope: poison whose features surround the target, in every network of the attacker's.

Paper: Zhu, Huang, Li, Taylor, Studer, Goldstein, "Transferable Clean-Label Poisoning Attacks on Deep Neural Nets",
ICML 2019, https://arxiv.org/abs/1905.05897, algorithm 1, equations 3 (transfer) and 5 (end-to-end training). A linear
classifier that gives all poisons one label gives it to every point of their convex hull.

Differences from the paper and its released code:

1. The coefficients are solved exactly from the Gram matrix of the k points at every step (k up to 6; above, to a
   duality gap of a billionth), not by warm-started forward-backward splitting. They are constants to the gradient, by
   the envelope theorem.
2. The loss is averaged over networks and layers (paper: summed over layers). Adam does not see the difference.
3. With several layers the weighted sum is taken in each. The release broadcasts the coefficients of its last layer to
   the wrong shape, so that its term becomes feature collision, summed over poisons; ``release_fault=True`` repeats
   that, for reproduction only.
4. The surrogates are trained on the victim's clean data before crafting. Where they start from ``transfer`` this
   changes their heads alone, which crafting does not use, so they are the paper's; with ``fine-tune`` they are a
   little nearer to the victim than the paper's, which are used as pretrained.
5. ``step_size`` is in normalised pixels, standard deviations of the channels, as the released code's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.errors import ConfigError
from mithridate.facts import Fact, attacker
from mithridate.feature_attack import Placing
from mithridate.ops.polytope import collisions, combined, convex_coefficients, miss, relative_distance
from mithridate.polytope_attack import Objective, PolytopeAttack


@dataclass(frozen=True, kw_only=True)
class ConvexPolytope(PolytopeAttack):
    """Clean-label, targeted: put the target inside the convex hull of the poisons' features."""

    name: ClassVar[str] = "convex-polytope"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker(
            "victim training",
            "a linear layer on features like those of its surrogates",
            where="Zhu et al. 2019",
        ),
    )

    steps: int = 4000
    """Steps of the optimiser. Paper: 4000; poisoning benchmark: 1200."""
    release_fault: bool = False
    """Repeat the fault of the released end-to-end loss (difference 3), to reproduce old numbers only."""

    def __post_init__(self) -> None:
        """Refuse a fault that is none: it takes several layers, the penultimate among them."""
        super().__post_init__()
        if self.release_fault and (len(self.layers) < 2 or "penultimate" not in self.layers):
            raise ConfigError(
                "release_fault needs two or more layers, the penultimate one among them: the released loss is at "
                "fault only there"
            )

    def objective(self, place: Placing, network: int, points: list[Tensor]) -> Objective:
        """The squared distance from the target to the hull in each layer, averaged (equations 3 and 5)."""
        losses, distances = [], []
        for layer, (shown, targets) in enumerate(zip(points, place.targets[network], strict=True)):
            for view in targets.unbind(1):
                weights = convex_coefficients(shown, view)
                found = combined(shown, weights)
                distances.append(relative_distance(found.detach(), view))
                faulty = self.release_fault and self.layers[layer] == "penultimate"
                losses.append(collisions(shown, view).sum(1) if faulty else miss(found, view))
        return Objective(loss=torch.stack(losses).mean(0), distance=torch.stack(distances).mean(0))
