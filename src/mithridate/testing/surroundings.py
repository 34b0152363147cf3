"""What no job may change: global random states, torch's gradient mode and determinism, the number of threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed(who: str) -> Iterator[None]:
    """Fail where the global random states of torch, NumPy or Python, or torch's gradient mode, change in the block."""
    before = _global_state()
    yield
    for name, value in _global_state().items():
        assert value == before[name], f"{who} disturbs {name}"


def _global_state() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is what must stay)
    return {
        "torch's global random state": tuple(torch.get_rng_state().tolist()),
        "NumPy's global random state": (kind, tuple(np.asarray(keys).tolist()), *rest),
        "Python's global random state": random.getstate(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "the number of threads": torch.get_num_threads(),
    }
