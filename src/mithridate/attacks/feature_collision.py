"""Feature collision (Poison Frogs): every poison takes the target's place in feature space, each on its own.

Paper: Shafahi, Huang, Najibi, Suciu, Studer, Dumitras, Goldstein, "Poison Frogs! Targeted Clean-Label Poisoning
Attacks on Neural Networks", NeurIPS 2018, https://arxiv.org/abs/1804.00792, algorithm 1. Defaults are those of the
poisoning benchmark (Schwarzschild et al., ICML 2021, https://arxiv.org/abs/2006.12557).

Differences from the paper and from the benchmark's code:

1. The loss is half the squared distance to the target over the target's squared length, averaged over networks and
   layers (paper: the squared distance in one network; benchmark: summed over networks), as in Convex Polytope.
2. ``step_size`` has a unit, for the papers' numbers hold for their networks only. Gradients are those of the mean
   square over normalised pixels, so a step of 1 lands on the target at once where features keep relative distances.
   More sensitive networks need smaller steps, which the step rule finds.
3. A step that would make a poison's objective rise is not taken, and the poison's step size is multiplied by
   ``decay``. Objectives before and after a step are compared under the same dropout. The benchmark's code (with its
   box) compares objectives before steps, so after the first rise the poison stays for good where it rose to.
4. The distance to the base is halved too, so that the paper's backward step belongs to the objective; it is a mean
   over normalised pixels, so ``penalty`` does not depend on the size of images. The projection onto the allowed set
   comes after it; the benchmark's code has either the one or the other.
5. With several targets the watermark is their mean.
6. Surrogates are trained on the victim's clean data, as difference 4 of ``convex_polytope``; dropout is left on while
   crafting as there (the benchmark's networks are in evaluation mode: ``dropout=False``).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.errors import ConfigError
from mithridate.facts import Fact, attacker
from mithridate.feature_attack import FeatureAttack, Placing, report
from mithridate.notes import Notes
from mithridate.ops.polytope import collisions
from mithridate.ops.standing import curve_of, curves_state, random_state, restore_random_state
from mithridate.polytope_attack import named_distances
from mithridate.seeding import Seed
from mithridate.watch import Watch


@dataclass(frozen=True, kw_only=True)
class FeatureCollision(FeatureAttack):
    """Clean-label, targeted: make each poison look to the network as the target does."""

    name: ClassVar[str] = "feature-collision"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker(
            "victim training",
            "keeps features like those of its surrogates, in which poison lies on the target",
            where="Shafahi et al. 2018",
        ),
    )

    steps: int = 120
    """Most steps. Benchmark: 120."""
    step_size: float = 1.0
    """First step size (difference 2). Benchmark: 0.001, in another unit."""
    decay: float = 0.2
    """What a poison's step size is multiplied by when its objective would rise. Benchmark: 0.2."""
    watermark: float = 0.3
    """Opacity of the target laid over the base rows at the start, then cut to what is allowed. Benchmark: 0.3."""
    penalty: float = 0.0
    """Weight of half the mean squared change in normalised pixels. 0: only the threat model limits the change."""
    tolerance: float = 1e-5
    """A poison is done once a step changes it by less than this part of its length. Benchmark: 1e-5."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot craft."""
        super().__post_init__()
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, but it is {self.steps}")
        if not self.step_size > 0:
            raise ConfigError(f"step_size must be positive, but it is {self.step_size:g}")
        if not 0 < self.decay < 1:
            raise ConfigError(f"decay must lie between 0 and 1, but it is {self.decay:g}")
        if not 0 <= self.watermark <= 1:
            raise ConfigError(f"watermark must lie in [0, 1], but it is {self.watermark:g}")
        for what in ("penalty", "tolerance"):
            if not getattr(self, what) >= 0:
                raise ConfigError(f"{what} must be at least 0, but it is {getattr(self, what):g}")

    def descend(self, place: Placing, watch: Watch, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Algorithm 1 for all poisons at once, each with its own step size, until none moves."""
        noted = notes.read(device=place.clean.device)
        run = _Descent.resumed(noted, place) if noted else _Descent.begun(self, place)
        metric = place.unit().square() * run.poison[0, 0].numel()  # of the mean square over normalised pixels
        for step in range(len(run.losses), self.steps):
            if not bool(run.moving.any()):
                break
            same_dropout = Seed(int(torch.randint(2**62, ()))).scope if place.varied else nullcontext
            poison, size = run.poison, run.size
            with same_dropout():
                collision, gradient, distance = _collided(place, poison)
            before = collision + self._penalised(place, poison)
            s = _like(size, poison)
            forward = poison - s * metric * gradient
            backward = (forward + s * self.penalty * place.clean) / (1 + s * self.penalty)
            found = place.allowed(backward)
            with same_dropout(), torch.no_grad():
                after = torch.stack([_collisions(place, k, found)[0] for k in range(len(place.recorders))]).mean(0)
            better = after + self._penalised(place, found) <= before  # NaN is not
            changed = _lengths(found - poison) / _lengths(poison).clamp_min(1e-12)
            run.size = torch.where(better, size, size * self.decay)
            run.poison = torch.where(_like(better & run.moving, poison), found, poison)
            run.moving = run.moving & ~(better & (changed < self.tolerance))
            run.losses.append(before.mean(1))
            run.distances.append(distance)
            notes.take(run.state)
            report(watch, step, self.steps, run.losses[-1])
        report(watch, self.steps, self.steps, run.losses[-1])
        rest = self.steps - len(run.losses)  # curves of all trials are equally long
        losses, distances = (each + each[-1:] * rest for each in (run.losses, run.distances))
        return run.poison, {"loss": torch.stack(losses)} | named_distances(torch.stack(distances))

    def _penalised(self, place: Placing, inputs: Tensor) -> Tensor:
        """What the change of each poison ``(T, k)`` costs."""
        return self.penalty / 2 * ((inputs - place.clean) / place.unit()).flatten(2).square().mean(2)


@dataclass(kw_only=True, eq=False)
class _Descent:
    """What changes from step to step."""

    poison: Tensor
    """``(T, k, *shape)`` in natural units."""
    size: Tensor
    """``(T, k)``: the step size of each poison."""
    moving: Tensor
    """``(T, k)`` bool: the poisons that are not done."""
    losses: list[Tensor] = field(default_factory=list)
    distances: list[Tensor] = field(default_factory=list)

    @staticmethod
    def begun(attack: FeatureCollision, place: Placing) -> _Descent:
        """Before the first step: the target laid over the base rows."""
        watermark = place.seen.mean(1, keepdim=True)
        poison = place.allowed((1 - attack.watermark) * place.clean + attack.watermark * watermark)
        size = torch.full(poison.shape[:2], attack.step_size, device=poison.device)
        return _Descent(poison=poison, size=size, moving=torch.ones_like(size, dtype=torch.bool))

    def state(self) -> Checkpoint:
        """After a step."""
        return Checkpoint(tensors={"poison": self.poison, "size": self.size, "moving": self.moving}).joined(
            curves=curves_state({"losses": self.losses, "distances": self.distances}),
            random=random_state(self.poison.device),
        )

    @staticmethod
    def resumed(state: Checkpoint, place: Placing) -> _Descent:
        """Where the descent went on from."""
        restore_random_state(state.under("random"), place.clean.device)
        losses, distances = (curve_of(state.under("curves"), name) for name in ("losses", "distances"))
        return _Descent(
            **{name: state.tensors[name] for name in ("poison", "size", "moving")}, losses=losses, distances=distances
        )


def _collided(place: Placing, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The collision of each poison ``(T, k)``, its gradient in the inputs, and distances ``(networks, T)``."""
    leaf, count = inputs.detach().requires_grad_(True), len(place.recorders)
    values, distances, gradient = [], [], torch.zeros_like(inputs)
    for network in range(count):
        value, distance = _collisions(place, network, leaf)
        gradient += torch.autograd.grad(value.sum() / count, leaf)[0]
        values.append(value.detach())
        distances.append(distance)
    return torch.stack(values).mean(0), gradient, torch.stack(distances)


def _collisions(place: Placing, network: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """How far each poison is from the target in one network, ``(T, k)``, and the mean distance ``(T,)``."""
    pairs = zip(place.points(network, inputs), place.targets[network], strict=True)
    found = torch.stack([collisions(shown, view) for shown, targets in pairs for view in targets.unbind(1)])
    return found.mean(0), (2 * found.detach()).sqrt().mean((0, 2))


def _lengths(inputs: Tensor) -> Tensor:
    """Euclidean lengths ``(T, k)``."""
    found: Tensor = torch.linalg.vector_norm(inputs.flatten(2), dim=2)
    return found


def _like(values: Tensor, inputs: Tensor) -> Tensor:
    """Values ``(T, k)`` spread over inputs ``(T, k, *shape)``."""
    return values.reshape(*values.shape, *[1] * (inputs.ndim - 2))
