"""Steps of SGD with momentum and of Adam: those of ``torch.optim``, bit for bit on a CPU.

To build one does not import torch's compiler, which takes seconds in every process. They are optimisers of torch's, but
without its hooks: what a training or a descent uses, and no more.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class _Plain(torch.optim.Optimizer):
    """Parameters in groups, each with a learning rate of its own, and what an optimiser notes of each parameter."""

    def __init__(self, groups: list[dict[str, Any]], **defaults: Any) -> None:
        """Prepare steps over ``groups`` of ``params``; the learning rate of a group that names none is ``lr``."""
        self.defaults = defaults
        self.param_groups = [{"lr": defaults["lr"], **group} for group in groups]
        self.state = defaultdict(dict)  # of each parameter, once there was a step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for group in self.param_groups:
            for each in group["params"]:
                if set_to_none or each.grad is None:
                    each.grad = None
                else:
                    each.grad.zero_()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient by one step."""
        for group in self.param_groups:
            params = [each for each in group["params"] if each.grad is not None]
            if params:
                self._step(params, [each.grad for each in params], lr=group["lr"])

    def _step(self, params: list[Tensor], slopes: list[Tensor], *, lr: float | Tensor) -> None:
        raise NotImplementedError


class Momentum(_Plain):
    """SGD with momentum, over all parameters at once.

    Momentum starts as zeros instead of as the first gradient, which gives the same step.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Prepare steps over ``groups`` of ``params``; each group has an ``lr`` of its own, at first ``lr``.

        ``overwrite``: a step may change the gradients, which saves memory and so time.
        """
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        self._momentum, self._decay, self._nesterov, self._overwrite = momentum, weight_decay, nesterov, overwrite

    def _step(self, params: list[Tensor], slopes: list[Tensor], *, lr: float | Tensor) -> None:
        if self._decay:
            slopes = self._sum(slopes, params, self._decay)
        if self._momentum:
            speeds = [self._speed(each) for each in params]
            torch._foreach_mul_(speeds, self._momentum)
            torch._foreach_add_(speeds, slopes)
            slopes = self._sum(slopes, speeds, self._momentum) if self._nesterov else speeds
        if isinstance(lr, Tensor):  # 0-dimensional on the parameters' device: a CUDA graph reads it at every replay
            torch._foreach_add_(params, torch._foreach_mul(slopes, -lr))
        else:
            torch._foreach_add_(params, slopes, alpha=-lr)

    def _sum(self, slopes: list[Tensor], more: list[Tensor], factor: float) -> list[Tensor]:
        """``slopes + factor * more``."""
        if not self._overwrite:
            return list(torch._foreach_add(slopes, more, alpha=factor))
        torch._foreach_add_(slopes, more, alpha=factor)
        return slopes

    def _speed(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        found: Tensor = state["momentum_buffer"]
        return found


class Adam(_Plain):
    """Adam, whose weight decay is an L2 penalty."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Prepare steps over ``groups`` of ``params``; each group has an ``lr`` of its own, at first ``lr``."""
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self._betas, self._eps, self._decay = betas, eps, weight_decay

    def _step(self, params: list[Tensor], slopes: list[Tensor], *, lr: float | Tensor) -> None:
        (first, second), decay = self._betas, self._decay
        for each, slope in zip(params, slopes, strict=True):
            state = self.state[each]
            if not state:  # the count stays on the CPU
                state |= {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(each),
                    "exp_avg_sq": torch.zeros_like(each),
                }
            state["step"] += 1
            step, mean, square = float(state["step"]), state["exp_avg"], state["exp_avg_sq"]
            slope = slope.add(each, alpha=decay) if decay else slope
            mean.lerp_(slope, 1 - first)
            square.mul_(second).addcmul_(slope, slope, value=1 - second)
            below = (square.sqrt() / (1 - second**step) ** 0.5).add_(self._eps)
            each.addcdiv_(mean, below, value=-(float(lr) / (1 - first**step)))
