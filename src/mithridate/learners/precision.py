"""Which number format a training step computes in."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.memory import out_of_memory
from mithridate.model import Architecture, Classifier
from mithridate.seeding import Seed
from mithridate.settings import fingerprint

Precision = Literal["float32", "bf16", "auto"]
Format = Literal["float32", "bf16"]

_FORMATS: tuple[Format, Format] = ("float32", "bf16")
LIMIT = 0.9
"""Cosine between a network's first gradients in bf16 and in float32 from which on ``auto`` takes bf16."""
_ROWS = 32
"""Rows of noise on which they are compared."""


def resolved(precision: Precision, device: torch.device) -> Format:
    """``auto`` as what the machine is fast at: bf16 where the processor or GPU has it in hardware, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if _fast_bf16_on_cpu() else "float32"


def fitting(precision: Precision, model: Architecture, space: Space, device: torch.device) -> Format:
    """``auto`` as what this network is trained in: bf16 where it is fast, and gradients agree with float32's.

    The same for every training of a network, whatever its seed, its data and where it begins, so that victims that are
    compared compute alike.
    """
    found = resolved(precision, device)
    if precision != "auto" or found == "float32":
        return found
    return _fitting(_Asked(model, space, device))


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass of a training step runs."""
    if resolved(precision, device) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class _Asked:
    """A question that was asked before is equal to itself."""

    def __init__(self, model: Architecture, space: Space, device: torch.device) -> None:
        self.model, self.space, self.device = model, space, device
        self._key = fingerprint(model, space, device.type, _fast_bf16_on_cpu())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


@cache
def _fitting(asked: _Asked) -> Format:
    with Seed(0).scope():
        network = asked.model.build(asked.space).to(asked.device)
    if asked.device.type == "cpu" and any(_slow(each) for each in network.modules()):
        return "float32"
    return "bf16" if agreement(network, asked.space) >= LIMIT else "float32"


def agreement(network: Classifier, space: Space) -> float:
    """Cosine between the gradients of a network's loss on noise in bf16 and in float32, in [-1, 1].

    0 where one is not finite, or an operation knows no bf16.
    """
    device = next(network.parameters()).device
    draws = Seed(0).generator()
    low, high = space.bounds
    inputs = (low + (high - low) * torch.rand(_ROWS, *space.shape, generator=draws)).to(device)
    labels = torch.randint(space.num_classes, (_ROWS,), generator=draws).to(device)
    try:
        exact, rounded = (_slope(network, inputs, labels, kind) for kind in _FORMATS)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return 0.0
    cosine = float(functional.cosine_similarity(exact, rounded, dim=0))
    return 0.0 if math.isnan(cosine) else cosine


def _slope(network: Classifier, inputs: Tensor, labels: Tensor, kind: Format) -> Tensor:
    """The gradient of the loss in all parameters, flat; dropout draws the same in every format."""
    network.train()
    with Seed(1).scope(), autocast(kind, inputs.device):
        logits = network(inputs)
    loss = functional.cross_entropy(logits.float(), labels)
    trained = [each for each in network.parameters() if each.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return torch.cat([each.flatten().float() for each in found if each is not None])


def _slow(layer: nn.Module) -> bool:
    """Whether a layer is slower in bf16 than in float32 on a CPU: grouped and dilated convolutions, by far."""
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return False
    return layer.groups > 1 or max(layer.dilation) > 1


def _fast_bf16_on_cpu() -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is several times slower than float32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported else False
