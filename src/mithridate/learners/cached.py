"""A learner that trains once and remembers: the network is kept in a folder under the hash of all that decides it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import FormatError
from mithridate.learner import Around, Hook, Learner, Progress, removals_of, removals_state
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.settings import METHOD, fingerprint


@dataclass(frozen=True, kw_only=True)
class Cached(Around):
    """Train as ``learner`` does, or load what an equal training left behind.

    A file is complete or absent (written aside, then renamed) and holds a hash of its weights; a damaged one is
    trained again. With ``pinned``, every training uses that seed instead of the caller's, so that trials share one
    surrogate.
    """

    name: ClassVar[str] = "cached"

    folder: Path = field(compare=False)
    """Where networks are kept, as ``<hash>.safetensors``."""
    pinned: Seed | None = None
    """The seed used for every training, or None for the caller's."""
    room: int = field(default=0, compare=False)
    """Bytes that the folder may hold: beyond, the files not used for longest are removed. 0: no limit."""
    save_every: float = field(default=0.0, compare=False)
    """Seconds after which it is noted where a training stands, so that it goes on there if interrupted. 0: never."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, self.pinned or seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """One item for a network found; else one an epoch, and the last network is kept.

        A hook that does not say which settings decide it bypasses the cache, and so does a learner whose networks are
        not all in tensors. A pinned seed is not shared by trainings with hooks, whose own draws come from the caller's
        seed. The last item of a training is read back from its file, so that it is the very network a later call will
        find (memory format included, on which float rounding depends).
        """
        settings = [hook.settings for hook in hooks]
        draws = [seed] if hooks and self.pinned else []
        seed = self.pinned or seed
        if not self.learner.remembered or any(each is None for each in settings):
            yield from self.learner.train(data, seed=seed, hooks=hooks, resume=resume)
            return
        path = self.folder / f"{training_key(self.learner, data, seed, settings + draws)}.safetensors"
        found = self._found(path, data)
        if found:
            yield found
            return
        notes = _Notes(path.with_suffix(".part"), self.save_every)
        resume, before = (resume, 0.0) if resume else notes.read(data)
        started = time.perf_counter()
        for progress in self.learner.train(data, seed=seed, hooks=hooks, resume=resume):
            spent = before + time.perf_counter() - started
            if progress.epoch < progress.epochs:
                notes.take(progress, spent)
                yield progress
            else:
                _keep(progress, path, seconds=spent)
                notes.drop()
                _make_room(self.folder, self.room)
                yield self._found(path, data, fresh=progress) or progress

    def _found(self, path: Path, data: Dataset, *, fresh: Progress | None = None) -> Progress | None:
        """The training kept at ``path``; ``fresh`` if it was done just now."""
        if not path.is_file():
            return None
        try:
            kept = checkpoint.read(path, device=data.device)
            model = self.build(data.space, Seed(0)).to(data.device)
            model.load_state_dict(dict(kept.under("model").tensors))
            path.touch()
            return Progress(
                **kept.facts["progress"],
                model=model.eval(),
                removals=removals_of(kept.under("removals")),
                facts=kept.facts["facts"],
                reused=fresh.reused if fresh else kept.facts["seconds"],
            )
        except (FormatError, KeyError, ValueError, TypeError, RuntimeError, OSError):
            path.unlink(missing_ok=True)  # damaged: train again
            return None


class _Notes:
    """Where an unfinished training stands, beside the file its network will be kept in."""

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every, self.last = path, every, time.perf_counter()

    def read(self, data: Dataset) -> tuple[Checkpoint | None, float]:
        """The state to go on from and the seconds spent before it; None where there is none, or it is damaged."""
        if not self.every or not self.path.is_file():
            return None, 0.0
        try:
            found = checkpoint.read(self.path, device=data.device)
            return found.under("state"), float(found.facts["seconds"])
        except (FormatError, KeyError, TypeError, ValueError):
            self.drop()
            return None, 0.0

    def take(self, progress: Progress, seconds: float) -> None:
        """Note where the training stands, if the last note is old."""
        if self.every and progress.state is not None and time.perf_counter() - self.last >= self.every:
            checkpoint.write(Checkpoint(facts={"seconds": seconds}).joined(state=progress.state()), self.path)
            self.last = time.perf_counter()

    def drop(self) -> None:
        """Remove the note."""
        self.path.unlink(missing_ok=True)


def training_key(learner: Learner, data: Dataset, seed: Seed, hooks: Sequence[Any]) -> str:
    """The hash of everything that decides a training. Models hold the mean and standard deviation of the space."""
    more = [list(each) for each in (hooks, learner.beginnings()) if each]
    return fingerprint(METHOD, learner, seed, data.space, data.digest(), torch.__version__, *more)


def _keep(progress: Progress, path: Path, *, seconds: float) -> None:
    """Write a finished network with what was recorded while it was trained."""
    counts = {key: getattr(progress, key) for key in ("epoch", "epochs", "loss", "accuracy")}
    facts = {"progress": counts, "facts": dict(progress.facts), "seconds": seconds + progress.reused}
    state = Checkpoint(tensors=progress.model.state_dict())
    checkpoint.write(Checkpoint(facts=facts).joined(model=state, removals=removals_state(progress.removals)), path)


def _make_room(folder: Path, room: int) -> None:
    """Remove the files not used for longest until the folder holds at most ``room`` bytes."""
    if not room:
        return
    with suppress(OSError):  # others remove files too
        files = sorted(
            ((each.stat(), each) for each in folder.glob("*.safetensors")), key=lambda pair: -pair[0].st_mtime
        )
        used = 0
        for stat, path in files:
            used += stat.st_size
            if used > room:
                path.unlink(missing_ok=True)
