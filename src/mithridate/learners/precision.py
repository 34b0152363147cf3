"""Which number format a training step computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bf16", "auto"]


def resolved(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """``auto`` as what the machine is fast at: bf16 where the processor or GPU has it in hardware, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if _fast_bf16_on_cpu() else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass of a training step runs."""
    if resolved(precision, device) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _fast_bf16_on_cpu() -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is several times slower than float32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported else False
