"""Wall seconds of several forms of one computation, taken in turn so that what disturbs one disturbs all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ENOUGH = 0.02
"""Seconds that a round of a form should last, so that the clock's grain does not count."""
LEAST_ROUNDS = 3
"""Rounds that are made even where no time is left for more."""
_SLOW = 0.5  # seconds of a first call from which on no further call is spent on finding how many fill a round


@dataclass(frozen=True, kw_only=True)
class Times:
    """What a form took."""

    first_seconds: float
    """The very first call, with compiling and filling of caches."""
    calls: int
    """Calls a round."""
    round_seconds: tuple[float, ...]
    """Seconds a call, one for each round."""


def alternated(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    budget: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
    begin: Callable[[], object] = lambda: None,
    after: Callable[[dict[str, Times]], object] = lambda times: None,
) -> dict[str, Times]:
    """Time every form in each of ``rounds`` rounds, each round beginning with another form.

    Where ``budget`` seconds have passed, no further round is begun after the third. ``begin`` is called after the
    calls that do not count and before the rounds, ``after`` with what is known after each round.
    """
    first = {name: _seconds(run, clock) for name, run in runs.items()}
    calls = {name: _calls(run, first[name], clock) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    begin()
    names, started = list(runs), clock()
    for turn in range(rounds):
        if turn >= LEAST_ROUNDS and clock() - started > budget:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(_seconds(runs[name], clock, calls[name]))
        after(_so_far(first, calls, found))
    return _so_far(first, calls, found)


def _so_far(first: Mapping[str, float], calls: Mapping[str, int], found: Mapping[str, list[float]]) -> dict[str, Times]:
    return {
        name: Times(first_seconds=first[name], calls=calls[name], round_seconds=tuple(found[name])) for name in found
    }


def _calls(run: Callable[[], object], first: float, clock: Callable[[], float]) -> int:
    """Calls that fill a round, by the second call: the first may have compiled."""
    if first >= _SLOW:
        return 1
    return max(1, math.ceil(ENOUGH / max(_seconds(run, clock), 1e-6)))


def _seconds(run: Callable[[], object], clock: Callable[[], float], calls: int = 1) -> float:
    started = clock()
    for _ in range(calls):
        run()
    return (clock() - started) / calls
