"""Seconds of calls on a device, after a first one that may compile, and the most memory that they took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from gpu_pieces.place import Place


def timed(run: Callable[[], object], place: Place, *, calls: int = 1) -> dict[str, Any]:
    """Median seconds of a call over rounds of ``calls``, their range, and the first call's seconds apart."""
    first = _seconds(run, place, 1)
    if place.cuda:
        torch.cuda.reset_peak_memory_stats(place.device)
    _seconds(run, place, 1)  # graphs are recorded in the second call
    found = [_seconds(run, place, calls) for _ in range(place.size.rounds)]
    return {
        "seconds": statistics.median(found),
        "range": [min(found), max(found)],
        "rounds": len(found),
        "calls_a_round": calls,
        "first_seconds": first,
        "peak_bytes": torch.cuda.max_memory_allocated(place.device) if place.cuda else None,
    }


def _seconds(run: Callable[[], object], place: Place, calls: int) -> float:
    place.wait()
    started = time.perf_counter()
    for _ in range(calls):
        run()
    place.wait()
    return (time.perf_counter() - started) / calls
