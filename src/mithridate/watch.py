"""How a long job tells its caller where it is: it calls a function with a step, and knows nothing of terminals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One report of progress: ``done`` of ``total`` in ``stage``, with the numbers worth showing (loss, accuracy)."""

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    """A sentence that a person should read at once, whatever else is shown: that memory was short, say."""


Watch = Callable[[Step], None]


def silent(step: Step) -> None:
    """Report to nobody."""
