"""A learner that trains once and remembers: the network is kept in a folder under the hash of all that decides it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
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

    A file is complete or absent (written aside, then renamed) and holds a hash of its weights; a damaged one is
    trained again. With ``pinned``, every training uses that seed instead of the caller's, so that trials share one
    surrogate.
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
        """One item for a network found; else one an epoch, and the last network is kept. Hooks bypass the cache.

        The last item of a training is read back from its file, so that it is the very network a later call will find
        (memory format included, on which float rounding depends).
        """
        seed = self.pinned or seed
        if hooks:
            yield from self.learner.train(data, seed=seed, hooks=hooks)
            return
        key = fingerprint(self.learner, seed, data.space, data.digest(), torch.__version__)  # models hold mean and std
        path = self.folder / f"{key}.safetensors"
        found = self._found(path, data)
        if found:
            yield found
            return
        for progress in self.learner.train(data, seed=seed):
            if progress.epoch < progress.epochs:
                yield progress
            else:
                _keep(progress, path)
                yield self._found(path, data) or progress

    def _found(self, path: Path, data: Dataset) -> Progress | None:
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="pt", device=str(data.device)) as file:
                facts = json.loads((file.metadata() or {})["progress"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if facts.pop("weights") != fingerprint(state):
                raise ValueError("the weights are not those that were written")
            model = self.build(data.space, Seed(0)).to(data.device)
            model.load_state_dict(state)
            return Progress(model=model.eval(), **facts)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError):
            path.unlink(missing_ok=True)  # damaged: train again
            return None


def _keep(progress: Progress, path: Path) -> None:
    """Write a finished network so that it is complete or absent."""
    # copies, because tied weights share memory, which the file format refuses
    state = {name: value.contiguous().clone() for name, value in progress.model.state_dict().items()}
    facts = {key: getattr(progress, key) for key in ("epoch", "epochs", "loss", "accuracy")}
    facts["weights"] = fingerprint(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.{get_ident()}.partial")  # others may be training the same network
    aside.write_bytes(save(state, metadata={"progress": json.dumps(facts)}))
    aside.replace(path)
