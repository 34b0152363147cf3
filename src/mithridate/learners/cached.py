"""A learner that trains once and remembers: the network is kept in a folder under the hash of all that decides it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.learner import Hook, Learner, Progress
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.settings import fingerprint


@dataclass(frozen=True, kw_only=True)
class Cached(Learner):
    """Train as ``learner`` does, or load what an equal training left behind.

    A file is complete or absent (written aside, then renamed); a damaged one is trained again. With ``pinned``, every
    training uses that seed instead of the caller's, so that trials share one surrogate.
    """

    name: ClassVar[str] = "cached"

    learner: Learner
    """The learner that does the work."""
    folder: Path
    """Where networks are kept, as ``<hash>.safetensors``."""
    pinned: Seed | None = None
    """The seed used for every training, or None for the caller's."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, self.pinned or seed)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """The augmentation of the learner inside."""
        return self.learner.augment(inputs, space=space, generator=generator)

    def train(self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = ()) -> Iterator[Progress]:
        """One item for a network found; else one an epoch, and the last network is kept. Hooks bypass the cache."""
        seed = self.pinned or seed
        if hooks:
            yield from self.learner.train(data, seed=seed, hooks=hooks)
            return
        path = self.folder / f"{fingerprint(self.learner, seed, data.digest(), torch.__version__)}.safetensors"
        found = self._found(path, data)
        if found:
            yield found
            return
        progress: Progress | None = None
        for progress in self.learner.train(data, seed=seed):
            if progress.epoch == progress.epochs:
                _keep(progress, path)
            yield progress

    def _found(self, path: Path, data: Dataset) -> Progress | None:
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="pt", device=str(data.device)) as file:
                facts = json.loads((file.metadata() or {})["progress"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            model = self.build(data.space, Seed(0)).to(data.device)
            model.load_state_dict(state)
        except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, OSError):
            path.unlink(missing_ok=True)  # damaged: train again
            return None
        return Progress(model=model.eval(), **facts)


def _keep(progress: Progress, path: Path) -> None:
    """Write a finished network so that it is complete or absent."""
    state = {name: value.contiguous() for name, value in progress.model.state_dict().items()}
    facts = {key: getattr(progress, key) for key in ("epoch", "epochs", "loss", "accuracy")}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_bytes(save(state, metadata={"progress": json.dumps(facts)}))
    aside.replace(path)
