"""Passes through a network whose weights stay: its parameters by name, its layout, its number format, its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mithridate.ops.folding import NO_FOLDS, Folded, Folds, Watched

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Logits ``(n, C)`` and labels ``(n,)`` to the *sum* of the losses, a scalar."""
Precision = Literal["float32", "tf32", "bf16"]
"""``float32``; ``tf32``: products of 10 bits on CUDA, float32 elsewhere; ``bf16``: autocast."""


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters, detached copies of the names to values, each asking for gradients."""
    return {name: p.detach().requires_grad_(True) for name, p in model.named_parameters() if p.requires_grad}


class Passes:
    """A network and its loss as functions of inputs and parameters. The network itself is left as it is."""

    def __init__(
        self,
        model: nn.Module,
        *,
        criterion: Criterion,
        precision: Precision = "float32",
        channels_last: bool = False,
    ) -> None:
        """``channels_last``: images and weights lie channels last in memory, as convolutions on CPUs are fastest."""
        self.model, self.precision, self.channels_last = model, precision, channels_last
        self.folds: Folds = NO_FOLDS
        self.compiled: dict[str, Callable[..., Any]] = {}
        """Functions of this network that were compiled, by name."""
        self._criterion = criterion
        self.parameters = {name: self.laid(p).requires_grad_(True) for name, p in parameters_of(model).items()}
        self._fixed = {name: self.laid(p.detach()) for name, p in model.named_parameters() if not p.requires_grad}
        self._buffers = dict(model.named_buffers())

    def fold(self, inputs: Tensor, labels: Tensor) -> None:
        """Find on a few rows which norms can be computed inside their convolutions, and do so from now on."""
        with torch.no_grad(), Watched(self.tensors(self.parameters)) as watched:
            self.loss(inputs, labels)
        self.folds = watched.folds()

    def tensors(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All parameters and buffers of a pass with these trainable ones, by name."""
        return {**self._buffers, **self._fixed, **parameters}

    def leaf(self, inputs: Tensor) -> Tensor:
        """Inputs that ask for gradients, in the layout of the passes."""
        return self.laid(inputs.detach()).requires_grad_(True)

    def loss(self, inputs: Tensor, labels: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The summed loss, a scalar."""
        with self.numbers(inputs.device):
            return self.unrounded_loss(inputs, labels, self.parameters if parameters is None else parameters)

    def unrounded_loss(self, inputs: Tensor, labels: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """The summed loss as :meth:`loss`, with whatever rounding of products is set on the device."""
        cast = torch.autocast(inputs.device.type, dtype=torch.bfloat16, cache_enabled=False)
        with cast if self.precision == "bf16" else nullcontext():
            logits = functional_call(self.model, {**self._fixed, **parameters}, (inputs,))
        return self._criterion(logits.float() if self.precision == "bf16" else logits, labels)

    def folded(self, parameters: Mapping[str, Tensor] | None = None) -> Folded:
        """The context of a pass with these parameters in which norms are computed inside convolutions."""
        return Folded(self.folds, self.tensors(self.parameters if parameters is None else parameters))

    def gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """The derivative of the loss in the parameters, without a graph."""
        with self.folded():
            loss = self.loss(self.laid(inputs.detach()), labels)
        with self.numbers(inputs.device):
            return torch.autograd.grad(loss, list(self.parameters.values()))

    def numbers(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which derivatives are taken, so that CUDA rounds products as asked."""
        return _rounding(self.precision == "tf32") if device.type == "cuda" else nullcontext()

    def laid(self, tensor: Tensor) -> Tensor:
        """A tensor in the layout of the passes."""
        if self.channels_last and tensor.ndim == 4:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor


@contextmanager
def _rounding(tf32: bool) -> Iterator[None]:
    """Products of float32 on CUDA with 10 bits, or with all."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
