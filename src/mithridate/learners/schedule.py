"""How the learning rate changes over a training, as a factor of the base rate."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["steps", "cosine", "one-cycle", "constant"]
WARM_UP = 0.2
"""Fraction of a ``one-cycle`` training spent rising to the full rate."""


def factor(schedule: Schedule, *, epoch: float, epochs: int, drops: tuple[int, ...]) -> float:
    """The factor at ``epoch`` (0 at the start, fractions inside an epoch).

    ``steps`` divides by ten after each epoch in ``drops``; ``cosine`` falls from 1 to 0; ``one-cycle`` rises linearly
    from 0.04 during the first fifth and falls linearly to 0; ``constant`` is 1.
    """
    done = min(max(epoch / max(epochs, 1), 0.0), 1.0)
    if schedule == "steps":
        return float(0.1 ** sum(epoch >= drop for drop in drops))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "one-cycle":
        return max(0.04, done / WARM_UP) if done < WARM_UP else (1 - done) / (1 - WARM_UP)
    return 1.0


def paper_drops(epochs: int) -> tuple[int, ...]:
    """Where the Witches' Brew recipe divides its rate: after floor(E/2.667), floor(E/1.6), floor(E/1.142) epochs.

    For 40 epochs that is 14, 24, 35 (24 and not 25, because the released code floors a float division).
    """
    return tuple(int(epochs // divisor) for divisor in (2.667, 1.6, 1.142))
