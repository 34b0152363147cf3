"""Record which way the kinks of a network fell, and replay it, so that the network is smooth in its parameters.

A ReLU network's exact mixed derivative ignores that a change of parameters flips gates; a plain finite difference
does not, and is wrong (cosine 0.7 and below on small networks). With the gates of the first pass replayed in the
second, the difference converges to the exact derivative. Covered: relu, relu6 / hardtanh, leaky_relu, max_pool2d.
Anything else passes through as it is: :class:`Kinks` finds out in a replayed pass whether some of it has kinks, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mithridate.ops.folding import NO_FOLDS, Folded, Folds


class Recorded(Folded):
    """Inside this context, gates are taken as they fall and kept in ``gates``, in order.

    A gate is as large as what it gates, and mostly shared with what torch keeps anyway; ``small`` ones take a quarter
    of that or less, and a little longer.
    """

    def __init__(
        self, folds: Folds = NO_FOLDS, tensors: Mapping[str, Tensor] | None = None, *, small: bool = False
    ) -> None:
        """Norms in ``folds`` are computed inside their convolutions, from ``tensors``."""
        super().__init__(folds, tensors)
        self.gates: list[Tensor] = []
        self._small = small

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute a covered function and keep its gate; call any other."""
        kind = _KINDS.get(func)
        if kind is None:
            return super().__torch_function__(func, types, args, kwargs)
        result, gate = kind[0](*args, **(kwargs or {}))
        self.gates.append(_small(gate) if self._small else gate)
        return result


class Replayed(Folded):
    """Inside this context, covered functions use the recorded gates, in order, whatever their inputs."""

    def __init__(
        self, gates: Sequence[Tensor], folds: Folds = NO_FOLDS, tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        """The gates of a pass over the same rows, small or not, and the same ``folds``."""
        super().__init__(folds, tensors)
        self._gates = iter(gates)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Apply the next recorded gate in place of a covered function; call any other."""
        kind = _KINDS.get(func)
        if kind is None:
            return super().__torch_function__(func, types, args, kwargs)
        return kind[1](next(self._gates), *args, **(kwargs or {}))


class Kinks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside this context operations with kinks or jumps are noted in ``found``, however they are called.

    In a replayed pass these are what no gate holds. A comparison whose mask is multiplied with is not among them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing here is compiled, and to skip the compiler is to import it first, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call any operation, and note its name if it has kinks."""
        name = str(func.overloadpacket.__name__).strip("_")
        if name in _UNEVEN:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def _small(gate: Tensor) -> Tensor:
    """A gate in fewer bytes: 1 where a float is positive, and places of maxima as short integers where they fit."""
    if gate.is_floating_point():
        return (gate > 0).view(torch.uint8)
    return gate if gate.dtype == torch.uint8 else gate.to(torch.int32)


Gated = tuple[Tensor, Tensor]
"""What a covered function returns, and the gate that replays it."""


def _relu_first(input: Tensor, inplace: bool = False) -> Gated:  # noqa: A002 (torch's own names throughout)
    result = torch.relu(input)
    return result, result.detach()  # positive where the gate is open; kept by autograd anyway


def _relu(gate: Tensor, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002
    """``input`` where the gate is positive, else 0."""
    if gate.dtype == torch.uint8:
        return input * gate  # several times faster than with a mask of booleans
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
    return functional.leaky_relu(input, negative_slope), input.detach()


def _leaky(gate: Tensor, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    """``input``, times the slope where the gate is not positive."""
    return input * (gate > 0).to(input.dtype).mul_(1 - negative_slope).add_(negative_slope)


def _pool_first(input: Tensor, *args: Any, **kwargs: Any) -> Gated:  # noqa: A002
    """The gate is the flat index of each window's maximum, ``(N, C, H', W')``."""
    kwargs.pop("return_indices", None)
    result, gate = functional.max_pool2d_with_indices(input, *args, **kwargs)
    return result, gate


def _pool(gate: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
    """The values at the gate's places, channels last as is fastest there: ``(N, H W, C)`` to ``(N, C, H', W')``."""
    rows = input.permute(0, 2, 3, 1).flatten(1, 2)
    places = gate.to(torch.int64).permute(0, 2, 3, 1)
    return rows.gather(1, places.flatten(1, 2)).reshape(places.shape).permute(0, 3, 1, 2)


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
_RECTIFIERS = "relu leaky_relu prelu prelu_kernel rrelu_with_noise threshold hardtanh hardswish hardsigmoid elu"
_CHOICES = "max min amax amin aminmax maximum minimum fmax fmin clamp clamp_min clamp_max where abs argmax argmin"
_ORDERS = "sort topk kthvalue median nanmedian mode cummax cummin"
_STEPS = "round floor ceil trunc sign softshrink hardshrink"
_POOLS = "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d"
_UNEVEN = frozenset(" ".join((_RECTIFIERS, _CHOICES, _ORDERS, _STEPS, _POOLS)).split())
"""Operations of torch whose derivative jumps (of ``elu`` with some settings)."""
