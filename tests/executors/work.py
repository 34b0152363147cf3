"""Work for executors to do, at the top of a module so that other processes find it."""

from __future__ import annotations

import os
import time

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


def dies(job: Job, watch: Watch) -> list[Result]:
    """Job 1 takes its process with it, as one that runs out of memory does."""
    if job.trial == 1:
        time.sleep(0.5)
        os._exit(9)
    return easy(job, watch)


def endless(job: Job, watch: Watch) -> list[Result]:
    """Go on until told to stop."""
    for step in range(6000):
        watch(Step("working", step, 6000))
        time.sleep(0.01)
    return []
