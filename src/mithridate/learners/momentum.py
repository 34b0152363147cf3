"""Steps of SGD with momentum: those of ``torch.optim.SGD``, bit for bit, over all parameters at once.

Differences: to build one does not import torch's compiler, which takes seconds in every process; and momentum starts as
zeros instead of as the first gradient, which gives the same step.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class Momentum(torch.optim.Optimizer):
    """SGD with momentum as an optimiser of torch's, without its hooks: what a training uses, and no more."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        nesterov: bool,
        overwrite: bool = False,
    ) -> None:
        """Prepare steps over ``groups`` of ``params``; each group has an ``lr`` of its own, at first ``lr``.

        ``overwrite``: a step may change the gradients, which saves memory and so time.
        """
        self.defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        self.param_groups = [{"lr": lr, **group} for group in groups]
        self.state = defaultdict(dict)  # of each parameter its "momentum_buffer", once there was a step
        self._momentum, self._decay, self._nesterov, self._overwrite = momentum, weight_decay, nesterov, overwrite

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
