"""What is drawn in an epoch of somebody else's trainer, where a guard keeps rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler

from mithridate.defenses.epic import EPIC
from mithridate.errors import ConfigError
from mithridate.integrations.loop import Guard
from mithridate.seeding import Seed


class GuardedSampler(Sampler[int]):
    """Draws the rows that a guard keeps, as many an epoch as the data set has rows.

    They come in a random order; where rows are gone, a second order fills the epoch up. So all epochs stay as long as
    they were, which trainers rely on: they count steps once, for the schedule of the learning rate, for validation, and
    to find their place again in a checkpoint. The order depends on ``seed`` and the guard's epoch alone.

    Give it to a ``DataLoader`` over all rows. ``before`` is called before each epoch's rows are drawn.
    """

    def __init__(self, guard: Guard, *, seed: int = 0, before: Callable[[], object] = lambda: None) -> None:
        self.guard = guard
        self.seed = Seed(seed)
        self.before = before
        self.epoch = -1
        """The guard's epoch when rows were last drawn; -1 before."""

    def __len__(self) -> int:
        """The number of all rows."""
        return len(self.guard.labels)

    def __iter__(self) -> Iterator[int]:
        """Positions of the rows of an epoch."""
        self.before()
        self.epoch = self.guard.epoch
        keep, count = self.guard.keep, len(self)
        draws = self.seed.child("order", self.epoch).generator()
        rounds = [keep[torch.randperm(len(keep), generator=draws)] for _ in range(-(-count // len(keep)))]
        return iter(torch.cat(rounds)[:count].tolist())


def unweighted(defense: EPIC, who: str) -> EPIC:
    """``defense``, where trainers of other people can follow it. Raises :class:`ConfigError` where not."""
    if defense.weighted:
        raise ConfigError(f"{who} cannot weight the trainer's loss: set weighted=False, or use a Guard and its weights")
    return defense
