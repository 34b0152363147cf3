"""An experiment's jobs as work that executors can do in any folder, on any machine that has what they begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mithridate import poisonset
from mithridate.experiment import BARE, Experiment, Job
from mithridate.learners.weights import networks_folder
from mithridate.loading import Loaded, loaded
from mithridate.watch import Watch
from mithridate.work import Result, perform, shared_networks

CACHE = "cache"
"""Where files of the machine's cache (pretrained networks) stand among those of a run folder."""


@dataclass(frozen=True, kw_only=True)
class Portable:
    """What is done with the jobs of one experiment: called with a job, it does it and returns its rows."""

    experiment: Experiment
    folder: Path
    """The run folder: what jobs read and write lies there."""
    device: str
    """``cpu``, ``cuda`` or ``cuda:1``."""

    def __call__(self, job: Job, watch: Watch) -> list[Result]:
        """Do one job."""
        return perform(self.experiment, job, folder=self.folder, device=torch.device(self.device), watch=watch)

    def moved(self, folder: Path) -> Portable:
        """The same work in another folder."""
        return replace(self, folder=folder)

    def poisons(self, job: Job) -> tuple[str, ...]:
        """The poison set that a job trains on, as paths relative to the run folder."""
        if job.kind not in ("attack", "noise"):
            return ()
        return tuple(f"poisons/{job.needs[0]}/{name}" for name in (poisonset.MANIFEST, poisonset.TENSORS))

    def networks(self, job: Job) -> tuple[str, ...]:
        """The surrogates that a job's attacker begins with, where trials share them; there or not."""
        stacks = {self.experiment.faced(job.defense)} if job.kind == "craft" else set()
        if self.experiment.targets == "correct" and job.kind in ("craft", "clean"):
            stacks.add(BARE)
        found = [path for stack in stacks for path in shared_networks(self.experiment, self.folder, stack)]
        return tuple(str(path.relative_to(self.folder)) for path in found)

    def pretrained(self) -> tuple[str, ...]:
        """The pretrained networks that jobs begin with, under :data:`CACHE`; there or not."""
        return tuple(f"{CACHE}/networks/{weights.path().name}" for weights in self.experiment.pretrainings())

    def place(self, name: str) -> Path:
        """Where a file of one of these names lies on this machine."""
        first, _, rest = name.partition("/")
        return networks_folder().parent / rest if first == CACHE else self.folder / name

    def data(self) -> Sequence[Loaded]:
        """The data of every source that jobs read: the experiment's, and those of its pretrainings."""
        sources = [self.experiment.data, *(weights.data for weights in self.experiment.pretrainings())]
        return [loaded(source) for source in sources]
