"""Work for executors to do, at the top of a module so that other processes find it."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mithridate.errors import ConfigError
from mithridate.experiment import Job
from mithridate.watch import Step, Watch
from mithridate.work import Result


def jobs(*needs: tuple[int, ...]) -> list[Job]:
    """Jobs called 0, 1, ..., each with the numbers of those it needs."""
    return [Job(kind="craft", trial=k, key=str(k), needs=tuple(map(str, each))) for k, each in enumerate(needs)]


def easy(job: Job, watch: Watch) -> list[Result]:
    """Report once and return who did it."""
    watch(Step("working", 1, 2, {"loss": float(job.trial)}))
    return [Result(key=job.key, kind="craft", row={"process": os.getpid()})]


def first_fails(job: Job, watch: Watch) -> list[Result]:
    """Job 0 ends in an error."""
    if job.trial == 0:
        raise ConfigError("job 0 cannot be done")
    return easy(job, watch)


@dataclass(frozen=True)
class Deadly:
    """Job 1 takes its process with it, as one that runs out of memory does, the first ``times`` it is begun."""

    folder: Path
    times: int

    def __call__(self, job: Job, watch: Watch) -> list[Result]:
        if job.trial == 1:
            tries = len(list(self.folder.glob("try-*")))
            (self.folder / f"try-{tries}").touch()
            if tries < self.times:
                os.kill(os.getpid(), signal.SIGKILL)
        return easy(job, watch)


@dataclass(frozen=True)
class Counted:
    """Each job says which others ran beside it.

    Job 1 dies the first ``deaths`` times; those that run then wait until it has, and a while longer.
    """

    folder: Path
    deaths: int = 0

    def __call__(self, job: Job, watch: Watch) -> list[Result]:
        mine = self.folder / f"busy-{job.trial}"
        mine.touch()
        beside = self._beside(job)
        if job.trial == 1 and self._died() < self.deaths:
            mine.unlink()
            (self.folder / f"died-{self._died()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        longer = 5.0 if self._died() < self.deaths else 0.3  # so long that a further worker would be there
        until = time.monotonic() + 60
        while self._died() < self.deaths and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(longer)
        beside |= self._beside(job)
        mine.unlink()
        return [Result(key=job.key, kind="craft", row={"beside": sorted(beside)})]

    def _died(self) -> int:
        return len(list(self.folder.glob("died-*")))

    def _beside(self, job: Job) -> set[str]:
        return {each.name for each in self.folder.glob("busy-*")} - {f"busy-{job.trial}"}


@dataclass(frozen=True)
class Slow:
    """Report, take a while, and report again."""

    seconds: float

    def __call__(self, job: Job, watch: Watch) -> list[Result]:
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            watch(Step("working", 0, 1))
        return [Result(key=job.key, kind="craft", row={})]


def surroundings(job: Job, watch: Watch) -> list[Result]:
    """Return what the process was given to compute with."""
    time.sleep(0.3)
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    found = {name: os.environ.get(name) for name in names}
    return [Result(key=job.key, kind="craft", row={**found, "torch": torch.get_num_threads(), "process": os.getpid()})]


def unsendable(job: Job, watch: Watch) -> list[Result]:
    """Job 0 returns what no pipe carries."""
    return [Result(key=job.key, kind="craft", row={"lock": threading.Lock()})] if job.trial == 0 else easy(job, watch)


def silent_for_ever(job: Job, watch: Watch) -> list[Result]:
    """Report once, then never again."""
    watch(Step("working", 0, 1))
    time.sleep(600)
    return []


def endless(job: Job, watch: Watch) -> list[Result]:
    """Go on until told to stop."""
    for step in range(6000):
        watch(Step("working", step, 6000))
        time.sleep(0.01)
    return []
