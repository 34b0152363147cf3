"""One training observed: its network, its curve, its cost, and how much memory the machine needed."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mithridate.dataset import Dataset
from mithridate.learner import Learner, Progress, Removal
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A finished training."""

    model: Classifier
    """The network, in evaluation mode."""
    curve: Mapping[str, tuple[float, ...]]
    """``loss`` and ``accuracy`` after each epoch, those before an interruption too."""
    seconds: float
    """What it costs: work found done is charged as if it had been done here."""
    reused: float
    """Seconds of it that were found done."""
    removals: tuple[Removal, ...]
    """What defenses took out."""
    facts: Mapping[str, float]
    """Numbers that defenses report."""


def observed_training(
    learner: Learner, data: Dataset, *, seed: Seed, watch: Watch = silent, stage: str = "victim"
) -> Training:
    """Train to the end, reporting every epoch to ``watch``."""
    points: list[tuple[float, float]] = []
    started = time.perf_counter()
    last: Progress | None = None
    for last in learner.train(data, seed=seed):
        points.append((last.loss, last.accuracy))
        watch(Step(stage, last.epoch, last.epochs, {"loss": last.loss, "accuracy": last.accuracy}))
    assert last is not None
    losses, accuracies = zip(*last.earlier, *points, strict=True)
    return Training(
        model=last.model.eval(),
        curve={"loss": losses, "accuracy": accuracies},
        seconds=time.perf_counter() - started + last.reused,
        reused=last.reused,
        removals=last.removals,
        facts=last.facts,
    )


@contextmanager
def peak_memory(device: torch.device, found: Callable[[int], None]) -> Iterator[None]:
    """Report the peak memory in bytes once the block ends: of the GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        found(int(torch.cuda.max_memory_allocated(device)))
    else:
        found(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
