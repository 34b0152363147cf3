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
            return func(*args, **(kwargs or {}))
        gate = kind[0](*args, **(kwargs or {}))
        self.gates.append(gate)
        return kind[1](gate, *args, **(kwargs or {}))


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
            return func(*args, **(kwargs or {}))
        return kind[1](next(self._gates), *args, **(kwargs or {}))


def _relu_gate(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002 (torch's own names throughout)
    return input.detach() > 0


def _relu(gate: Tensor, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    return input * gate


def _clip_gate(
    input: Tensor,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    """0 below, 1 inside, 2 above, as one byte."""
    return (input.detach() > min_val).byte() + (input.detach() >= max_val).byte()


def _clip(
    gate: Tensor,
    input: Tensor,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    inside: Tensor = input * (gate == 1)
    return inside + min_val * (gate == 0) + max_val * (gate == 2)


def _relu6_gate(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    return _clip_gate(input, 0.0, 6.0)


def _relu6(gate: Tensor, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    return _clip(gate, input, 0.0, 6.0)


def _leaky_gate(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    return input.detach() > 0


def _leaky(gate: Tensor, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    return torch.where(gate, input, negative_slope * input)


def _pool_gate(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
    """Flat index of each window's maximum, ``(N, C, H', W')``."""
    with torch.no_grad():
        kwargs.pop("return_indices", None)
        return functional.max_pool2d_with_indices(input.detach(), *args, **kwargs)[1]


def _pool(gate: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
    return input.flatten(2).gather(2, gate.flatten(2)).reshape(gate.shape)


_RELU = (_relu_gate, _relu)
_CLIP = (_clip_gate, _clip)
_POOL = (_pool_gate, _pool)
_KINDS: dict[Any, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    Tensor.relu: _RELU,
    torch.relu_: _RELU,
    Tensor.relu_: _RELU,
    functional.relu6: (_relu6_gate, _relu6),
    functional.hardtanh: _CLIP,
    functional.leaky_relu: (_leaky_gate, _leaky),
    functional.max_pool2d: _POOL,
    torch.max_pool2d: _POOL,
}
