"""One step of gradient matching made ready for measuring: networks, rows, an augmentation's draw, a target gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mithridate.dataset import Space
from mithridate.learners.augment import Augmentation, Draw
from mithridate.model import Architecture
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops.criteria import cross_entropy
from mithridate.ops.gradients import Backend, Derivatives, Precision, mixed_partial, parameter_gradient
from mithridate.ops.matching import similarity
from mithridate.seeding import Seed

SPACE = Space(shape=(3, 32, 32), num_classes=10, levels=256, mean=(0.5,) * 3, std=(0.25,) * 3)
NETWORKS: dict[str, Architecture] = {
    "convnet": SmallConvNet(widths=(32, 32, 64, 64, 64), pools=(2, 4)),
    "resnet18w16": ResNet18(width=16),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What a step is computed from."""

    model: nn.Module
    inputs: Tensor
    """``(n, 3, 32, 32)``."""
    labels: Tensor
    draw: Draw
    target: tuple[Tensor, ...]

    @staticmethod
    def made(network: str, poisons: int, *, seed: int = 0) -> Step:
        """A network with statistics of no special values, on ``poisons`` random rows."""
        with Seed(seed).scope():
            model = NETWORKS[network].build(SPACE).eval()
        draws = torch.Generator().manual_seed(seed + 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=draws) * 0.1)
                module.running_var.copy_(torch.rand(module.num_features, generator=draws) + 0.5)
        inputs = torch.rand(poisons + 1, *SPACE.shape, generator=draws)
        target = parameter_gradient(model, inputs[-1:], torch.tensor([3]), criterion=cross_entropy)
        return Step(
            model=model,
            inputs=inputs[:-1],
            labels=torch.arange(poisons) % 10,
            draw=Augmentation().draw(poisons, draws),
            target=target,
        )

    def shown(self) -> tuple[Tensor, Tensor]:
        """A change of nothing, asking for gradients, and what the network is shown with it."""
        change = torch.zeros_like(self.inputs, requires_grad=True)
        return change, Augmentation().apply(self.inputs + change, self.draw, space=SPACE)

    def slope(self, backend: Backend, precision: Precision) -> Callable[[], Tensor]:
        """Our way to the derivative in the change."""
        asked = {"criterion": cross_entropy, "backend": backend, "precision": precision, "micro_batch": 256}
        ready = Derivatives(self.model, self.inputs, self.labels, **asked)  # type: ignore[arg-type]
        assert ready.backend == backend, ready.note

        def run() -> Tensor:
            change, shown = self.shown()
            found = ready.matched(shown, self.labels, objective=self._objective, scale=1 / len(self.inputs))
            return torch.autograd.grad(shown, change, found.inputs)[0]

        return run

    def exact(self, backend: Backend = "double") -> Tensor:
        """The derivative by double backward, or whatever ``backend`` computes, in float64."""
        model = copy.deepcopy(self.model).double()
        change = torch.zeros_like(self.inputs, dtype=torch.float64, requires_grad=True)
        shown = Augmentation().apply(self.inputs.double() + change, self.draw, space=SPACE)
        parts = list(zip(torch.split(shown.detach(), 50), torch.split(self.labels, 50), strict=True))
        sums = [parameter_gradient(model, x, y, criterion=cross_entropy) for x, y in parts]
        leaves = [torch.stack(each).sum(0).div(len(shown)).requires_grad_(True) for each in zip(*sums, strict=True)]
        value = similarity(leaves, [t.double() for t in self.target])
        direction = torch.autograd.grad(value, leaves)
        slopes = [mixed_partial(model, x, y, direction, criterion=cross_entropy, backend=backend) for x, y in parts]
        found: Tensor = torch.autograd.grad(shown, change, torch.cat(slopes) / len(shown))[0]
        return found

    def forward_gflop(self) -> float:
        """GFLOP of one forward pass over the rows, 2 a multiply-add."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model(self.inputs[:1])
        return float(counter.get_total_flops()) * len(self.inputs) / 1e9

    def _objective(self, gradient: Sequence[Tensor]) -> Tensor:
        return similarity(gradient, self.target)
