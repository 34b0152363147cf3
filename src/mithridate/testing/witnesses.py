"""Hooks and defenses that watch what another defense does; they change as little as they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset
from mithridate.defense import HookDefense
from mithridate.learner import Batch, Hook, Learner, Progress, Removal
from mithridate.model import Classifier
from mithridate.seeding import Seed


class Diary(Hook):
    """Remembers which rows were trained on after how many epochs."""

    def __init__(self) -> None:
        self.epoch = 0
        self.seen: dict[int, set[int]] = {}

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        """Nothing; look at the clock."""
        self.epoch = progress.epoch if progress else 0
        return None

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch as it is."""
        self.seen.setdefault(self.epoch, set()).update(batch.ids.tolist())
        return batch

    def since(self, epoch: int) -> set[int]:
        """Ids trained on once ``epoch`` epochs were done."""
        return {each for when, ids in self.seen.items() if when >= epoch for each in ids}


class Ledger(Hook):
    """Remembers which label each row was trained on under, the last one; rows of mixed labels are passed over."""

    def __init__(self) -> None:
        self.labels: dict[int, int] = {}

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch as it is."""
        if batch.labels.ndim == 1:
            self.labels.update(zip(batch.ids.tolist(), batch.labels.tolist(), strict=True))
        return batch


class Mirror(Hook):
    """A hook, and beside it an equal one that is shown the rows in another order; compares what the two drop."""

    def __init__(self, hook: Hook, other: Hook, order: Tensor) -> None:
        self.hook, self.other, self.order = hook, other, order
        self.dropped: list[tuple[list[int], list[int]]] = []

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        """What the hook drops."""
        found = self.hook.drop(data, active, progress)
        mirrored = self.other.drop(data.at(self.order), active[self.order], progress)
        one, two = (sorted(each.ids.tolist()) if each else [] for each in (found, mirrored))
        self.dropped.append((one, two))
        return found

    def batches(self, count: int, size: int, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Those of the hook."""
        return self.hook.batches(count, size, generator)

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        """What the hook makes of the batch; the other one sees the same batch and the same draws."""
        self.other.transform(model, batch, _copy(generator))
        return self.hook.transform(model, batch, generator)

    def backward(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """That of the hook."""
        return self.hook.backward(model, batch, generator)


def _copy(generator: torch.Generator) -> torch.Generator:
    """A generator at the same place in the same stream."""
    copy = torch.Generator(device=generator.device)
    copy.set_state(generator.get_state())
    return copy


@dataclass(frozen=True, kw_only=True)
class Tally(HookDefense):
    """Takes out the row of the lowest id after the first epoch, and counts the batches it sees."""

    name: ClassVar[str] = "tally"
    drops: ClassVar[bool] = True

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh count."""
        return _Count(self)


class _Count(Hook):
    def __init__(self, settings: Tally) -> None:
        self.settings, self.count = settings, 0

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        if progress is None or progress.epoch != 1:
            return None
        return Removal(by="tally", epoch=1, ids=data.ids[active].sort().values[:1])

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        self.count += 1
        return batch

    def facts(self) -> Mapping[str, float]:
        return {"tally": float(self.count)}

    def state(self) -> Checkpoint:
        return Checkpoint(facts={"count": self.count})

    def restore(self, state: Checkpoint) -> None:
        self.count = int(state.facts["count"])
