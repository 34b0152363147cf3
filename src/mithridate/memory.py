"""Short of memory: which errors say so, and how a computation is tried again with less at once."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from mithridate.watch import Step, Watch

T = TypeVar("T")

_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "alloc_failed")
"""What torch, CUDA and cuBLAS say where they raise a plain RuntimeError."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the processor's or of a GPU's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def halving(act: Callable[[int], T], *, size: int, watch: Watch) -> tuple[T, int]:
    """``act`` called with ``size``; each time memory runs out again with half as many, down to 1.

    What it returned, and the size that did. ``act`` must return the same for every size, but for float rounding.
    Raises what ``act`` raises with a size of 1, and anything that is no lack of memory.
    """
    now = size
    while True:
        try:
            return act(now), now
        except Exception as error:
            if now <= 1 or not out_of_memory(error):
                raise
        _release()  # here, where the error no longer holds what its frames held
        now //= 2
        was = f"micro_batch {now} instead of {size}"
        note = f"out of memory: tried again with {was}, which changes the poison by float rounding at most"
        watch(Step("again with less memory", 0, 1, note=note))


def _release() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing happens where CUDA was never used
