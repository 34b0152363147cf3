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
        (first, second), states = self._betas, [self._noted(each) for each in params]
        if self._decay:
            slopes = list(torch._foreach_add(slopes, params, alpha=self._decay))
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        steps = [float(state["step"]) for state in states]
        torch._foreach_lerp_(means, slopes, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, slopes, slopes, value=1 - second)
        below = torch._foreach_sqrt(squares)
        torch._foreach_div_(below, [(1 - second**step) ** 0.5 for step in steps])
        torch._foreach_add_(below, self._eps)
        torch._foreach_addcdiv_(params, means, below, [-(float(lr) / (1 - first**step)) for step in steps])

    def _noted(self, parameter: Tensor) -> dict[str, Tensor]:
        """What is known of a parameter, one step further."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:  # the count stays on the CPU
            zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            state |= {"step": torch.zeros(()), **zeros}
        state["step"] += 1
        return state
