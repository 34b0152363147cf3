"""One piece of an experiment's work: its place in the grid, its key, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mithridate.experiment import Experiment

BARE = -1
"""Number of the stack that surrogates of an attacker who knows of no defense wear."""

JobKind = Literal["pretraining", "surrogate", "clean", "craft", "attack", "noise"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work: its place in the grid, its key, and the keys of the jobs it waits for."""

    kind: JobKind
    scenario: int = 0
    trial: int = 0
    attack: int = 0
    crew: int = 0
    """Number of the set of surrogates that the poison is crafted with."""
    victim: int = 0
    defense: int = 0
    seed: int = 0
    """Number of the poison among those crafted for the same targets."""
    run: int = 0
    """Number of the victim within its trial: those of the first poison, then those of the next."""
    needs: tuple[str, ...] = ()
    key: str = ""


def result_keys(experiment: Experiment, job: Job) -> list[str]:
    """The keys of the rows a job leaves behind: it is done when all are in the store."""
    if job.kind == "clean" and not experiment.resample:
        return [f"{job.key}-{number}" for number in experiment.numbers()]
    return [job.key]
