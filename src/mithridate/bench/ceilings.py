"""What the machine can do at best, measured before any case: what a case's work a second is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from mithridate.bench.case import Limit
from mithridate.bench.processor import foreign, usage

if TYPE_CHECKING:
    import torch

_SHAPES = ((32, 64, 32), (64, 128, 16), (64, 256, 8))
"""Convolutions that run fast: images, channels in and out, side; 3 x 3 kernels."""
_SIDE = 1024
_COPIED = 16_000_000  # numbers of 4 bytes


def ceilings(threads: int, seconds: float = 4.0) -> tuple[dict[Limit, float], float | None]:
    """GFLOP/s of convolutions (channels last) and of a matrix product, GB/s of copying (read and written): best calls.

    With them comes the share of the processor that others used meanwhile: where that is much, limits are too low.
    About ``seconds`` are spent. The number of threads is set in this process: to be called in one of its own.
    """
    import torch

    torch.set_num_threads(threads)
    before = usage()
    with torch.inference_mode():
        kinds: list[tuple[Limit, list[tuple[Callable[[], object], float]]]] = [
            ("conv fp32", list(_convolutions(torch.float32))),
            ("conv bf16", list(_convolutions(torch.bfloat16))),
            ("matmul fp32", [_product()]),
            ("copy", [_copy()]),
        ]
        found = {name: _best(runs, seconds / len(kinds)) for name, runs in kinds}
    return found, foreign(before, usage())


def _convolutions(kind: torch.dtype) -> Iterator[tuple[Callable[[], object], float]]:
    import torch
    from torch.nn import functional

    for images, channels, side in _SHAPES:
        shown = torch.randn(images, channels, side, side).to(kind, memory_format=torch.channels_last)
        kernel = torch.randn(channels, channels, 3, 3).to(kind, memory_format=torch.channels_last)
        work = 2 * 9 * channels**2 * side**2 * images / 1e9
        yield partial(functional.conv2d, shown, kernel, padding=1), work


def _product() -> tuple[Callable[[], object], float]:
    import torch

    left, right = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    return lambda: left @ right, 2 * _SIDE**3 / 1e9


def _copy() -> tuple[Callable[[], object], float]:
    import torch

    source = torch.randn(_COPIED)
    place = torch.empty_like(source)
    return lambda: place.copy_(source), 2 * 4 * _COPIED / 1e9


def _best(runs: list[tuple[Callable[[], object], float]], seconds: float) -> float:
    """The most work a second that any of the runs reached in any call, one call of each at least."""
    best, started = 0.0, time.perf_counter()
    for turn, (run, work) in enumerate(cycle(runs)):
        begun = time.perf_counter()
        run()
        ended = time.perf_counter()
        if turn >= len(runs):  # the first calls prepare kernels
            best = max(best, work / (ended - begun))
        if best and ended - started > seconds:
            break
    return best
