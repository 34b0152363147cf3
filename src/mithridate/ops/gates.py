"""Record which way the kinks of a network fell, and replay it, so that the network is smooth in its parameters.

A ReLU network's exact mixed derivative ignores that a change of parameters flips gates; a plain finite difference
does not, and is wrong (cosine 0.7 and below on small networks). With the gates of the first pass replayed in the
second, the difference converges to the exact derivative. Covered: relu, relu6 / hardtanh, leaky_relu, max_pool2d.
Anything else passes through as it is; users of this module check the result against double backward once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Recorded(TorchFunctionMode):
    """Inside this context, gates are taken as they fall and kept in ``gates``, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute a covered function and keep its gate; call any other."""
        kind = _KINDS.get(func)
        if kind is None:
            return _SAME.get(func, func)(*args, **(kwargs or {}))
        result, gate = kind[0](*args, **(kwargs or {}))
        self.gates.append(gate)
        return result


class Replayed(TorchFunctionMode):
    """Inside this context, covered functions use the recorded gates, in order, whatever their inputs."""

    def __init__(self, gates: Sequence[Tensor]) -> None:
        super().__init__()
        self._gates = iter(gates)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Apply the next recorded gate in place of a covered function; call any other."""
        kind = _KINDS.get(func)
        if kind is None:
            return _SAME.get(func, func)(*args, **(kwargs or {}))
        return kind[1](next(self._gates), *args, **(kwargs or {}))


Gated = tuple[Tensor, Tensor]
"""What a covered function returns, and the gate that replays it."""


def _relu_first(input: Tensor, inplace: bool = False) -> Gated:  # noqa: A002 (torch's own names throughout)
    result = torch.relu(input)
    return result, result.detach()  # positive where the gate is open; kept by autograd anyway


def _relu(gate: Tensor, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    """``input`` where the gate is positive, else 0: faster than a product with a mask."""
    opened: Tensor = torch.ops.aten.threshold_backward(input, gate, 0)
    return opened


def _clip_first(
    input: Tensor,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Gated:
    """The gate is 0 below, 1 inside, 2 above, as one byte."""
    gate = (input.detach() > min_val).byte() + (input.detach() >= max_val).byte()
    return input.clamp(min_val, max_val), gate


def _clip(
    gate: Tensor,
    input: Tensor,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    inside: Tensor = input * (gate == 1)
    return inside + min_val * (gate == 0) + max_val * (gate == 2)


def _relu6_first(input: Tensor, inplace: bool = False) -> Gated:  # noqa: A002
    return _clip_first(input, 0.0, 6.0)


def _relu6(gate: Tensor, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    return _clip(gate, input, 0.0, 6.0)


def _leaky_first(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Gated:  # noqa: A002
    gate = torch.where(input.detach() > 0, 1.0, negative_slope)
    return functional.leaky_relu(input, negative_slope), gate


def _leaky(gate: Tensor, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    return gate * input


def _pool_first(input: Tensor, *args: Any, **kwargs: Any) -> Gated:  # noqa: A002
    """The gate is the flat index of each window's maximum, ``(N, C, H', W')``."""
    kwargs.pop("return_indices", None)
    result, gate = functional.max_pool2d_with_indices(input, *args, **kwargs)
    return result, gate


def _pool(gate: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
    return input.flatten(2).gather(2, gate.flatten(2)).reshape(gate.shape)


def _batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm with fixed statistics as one product and sum, whose backward is faster on CPUs."""
    if training or running_mean is None or running_var is None:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    ones = [1] * (input.ndim - 2)
    return torch.addcmul(shift.reshape(1, -1, *ones), input, scale.reshape(1, -1, *ones))


_RELU = (_relu_first, _relu)
_POOL = (_pool_first, _pool)
_KINDS: dict[Any, tuple[Callable[..., Gated], Callable[..., Tensor]]] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    Tensor.relu: _RELU,
    torch.relu_: _RELU,
    Tensor.relu_: _RELU,
    functional.relu6: (_relu6_first, _relu6),
    functional.hardtanh: (_clip_first, _clip),
    functional.leaky_relu: (_leaky_first, _leaky),
    functional.max_pool2d: _POOL,
    torch.max_pool2d: _POOL,
}
_SAME: dict[Any, Callable[..., Tensor]] = {functional.batch_norm: _batch_norm}
"""Functions computed another way, to the same value."""
