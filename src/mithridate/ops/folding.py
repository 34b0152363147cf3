"""Batch norm with fixed statistics, computed inside the convolution before it: the same function in fewer passes.

A network with fixed statistics computes ``norm(conv(x, W))`` as ``conv(x, sW) + t``, with a factor ``s`` and a shift
``t`` for each channel. Values and derivatives (in ``W``, in the norm's weight and bias, in ``x``) are the same, and
the norm's passes over the activations are gone. Which norm follows which convolution, and nothing else reads what lies
between, is found by watching one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = frozenset({torch.conv2d, functional.conv2d})
_PEEKS = frozenset({Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype"))})
"""What only looks at a tensor's form."""


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A batch norm that belongs into a convolution: the names of its tensors in the network, and its epsilon."""

    mean: str
    variance: str
    weight: str | None
    bias: str | None
    epsilon: float

    def folded(self, weight: Tensor, bias: Tensor | None, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The weight ``(C, ...)`` and bias ``(C,)`` of a convolution with this norm in it."""
        scale = torch.rsqrt(tensors[self.variance] + self.epsilon)
        scale = scale if self.weight is None else scale * tensors[self.weight]
        centre = -tensors[self.mean] if bias is None else bias - tensors[self.mean]
        shift = centre * scale
        shift = shift if self.bias is None else shift + tensors[self.bias]
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift


@dataclass(frozen=True, kw_only=True)
class Folds:
    """What one pass showed: by a convolution's place among convolutions, the norm after it; and these norms' places."""

    after: Mapping[int, Norm]
    norms: frozenset[int]


NO_FOLDS = Folds(after={}, norms=frozenset())


class Watched(TorchFunctionMode):
    """Inside this context one pass of a network is computed as it is, and its foldable norms are found."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """``tensors``: the network's parameters and buffers by name, the very objects that the pass uses."""
        super().__init__()
        self._names = {id(each): name for name, each in tensors.items()}
        self._convolutions: list[Tensor] = []  # kept, so that no other tensor gets their id
        self._readers: dict[int, int] = {}
        self._pairs: dict[int, tuple[int, Norm]] = {}
        self._norms = 0

    def folds(self) -> Folds:
        """The norms whose convolution nothing else read."""
        kept = {
            k: self._pairs[id(each)]
            for k, each in enumerate(self._convolutions)
            if id(each) in self._pairs and self._readers[id(each)] == 1
        }
        return Folds(after={k: norm for k, (_, norm) in kept.items()}, norms=frozenset(j for j, _ in kept.values()))

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call any function, and note what it reads."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in _PEEKS:
            for each in _tensors((args, kwargs)):
                if id(each) in self._readers:
                    self._readers[id(each)] += 1
        if func in CONVOLUTIONS:
            self._convolutions.append(result)
            self._readers[id(result)] = 0
        elif func is functional.batch_norm:
            self._note_norm(*args, **kwargs)
        return result

    def _note_norm(
        self,
        input: Tensor,  # noqa: A002 (torch's own names)
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        place, self._norms = self._norms, self._norms + 1
        wanted = [running_mean, running_var, *(each for each in (weight, bias) if each is not None)]
        if training or id(input) not in self._readers or any(id(each) not in self._names for each in wanted):
            return
        names = [None if each is None else self._names[id(each)] for each in (running_mean, running_var, weight, bias)]
        mean, variance = names[0], names[1]
        assert mean is not None
        assert variance is not None
        norm = Norm(mean=mean, variance=variance, weight=names[2], bias=names[3], epsilon=eps)
        self._pairs[id(input)] = (place, norm)


class Folded(TorchFunctionMode):
    """Inside this context the norms that were found are computed inside their convolutions."""

    def __init__(self, folds: Folds = NO_FOLDS, tensors: Mapping[str, Tensor] | None = None) -> None:
        """``tensors``: the parameters and buffers of this pass, by name."""
        super().__init__()
        self._folds, self._tensors = folds, tensors or {}
        self._convolutions = self._norms = 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute a convolution with its norm in it, leave that norm out, and call anything else."""
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            place, self._convolutions = self._convolutions, self._convolutions + 1
            norm = self._folds.after.get(place)
            return func(*args, **kwargs) if norm is None else self._convolved(func, norm, *args, **kwargs)
        if func is functional.batch_norm:
            place, self._norms = self._norms, self._norms + 1
            if place in self._folds.norms:
                return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)

    def _convolved(
        self,
        func: Any,
        norm: Norm,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        return func(input, *norm.folded(weight, bias, self._tensors), *args, **kwargs)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
