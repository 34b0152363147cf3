"""A learner that trains once and remembers: the network is kept in a folder under the hash of all that decides it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import FormatError
from mithridate.learner import Around, Hook, Learner, Progress, removals_of, removals_state
from mithridate.memory import out_of_memory
from mithridate.methods import version, versions
from mithridate.model import Classifier
from mithridate.notes import Notes, no_notes
from mithridate.seeding import Seed
from mithridate.settings import METHOD, fingerprint

Curve = tuple[tuple[float, float], ...]
"""Loss and accuracy of epochs."""


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
    keep: bool = field(default=True, compare=False)
    """Whether finished networks are kept and found again; else only where an unfinished training stands is noted."""

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network of the learner inside."""
        return self.learner.build(space, self.pinned or seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """One item for a network found; else one an epoch, and the last network is kept.

        A hook that does not say which settings decide it bypasses the cache, and so does a learner whose networks are
        not all in tensors. A pinned seed is not shared by trainings with hooks, whose own draws come from the caller's
        seed. The last item of a training is made of what is kept of it, so that it is the very network a later call
        will find (memory format included, on which float rounding depends). Where nothing can be written (a full
        disk), nothing is kept, and the training goes on.
        """
        draws = [seed] if hooks and self.pinned else []
        seed = self.pinned or seed
        if not self.learner.remembered or any(hook.settings is None for hook in hooks):
            yield from self.learner.train(data, seed=seed, hooks=hooks, resume=resume)
            return
        path = self.folder / f"{training_key(self.learner, data, seed, hooks, draws=draws)}.safetensors"
        found = self._found(path, data) if self.keep else None
        if found:
            yield found
        else:
            yield from self._trained(path, data, seed=seed, hooks=hooks, resume=resume)

    def _trained(
        self, path: Path, data: Dataset, *, seed: Seed, hooks: Sequence[Hook], resume: Checkpoint | None
    ) -> Iterator[Progress]:
        """The training whose network belongs at ``path``: from ``resume``, from what was noted of it, or anew."""
        notes = Notes(path.with_suffix(".part"), key=path.stem, every=self.save_every) if self.save_every else no_notes
        noted = None if resume else notes.read(device=data.device)
        earlier: Curve = _points(noted.facts["curve"]) if noted else ()
        points: Curve = ()
        resume = noted.under("training") if noted else resume
        started = time.perf_counter()
        for progress in self.learner.train(data, seed=seed, hooks=hooks, resume=resume):
            earlier = earlier if points else max(earlier, progress.earlier, key=len)
            points = (*points, (progress.loss, progress.accuracy))
            reached = replace(progress, earlier=earlier, reused=progress.reused + notes.before)
            if reached.epoch < reached.epochs:
                _note(notes, reached, earlier + points)
                yield reached
                continue
            if self.keep:
                seconds = time.perf_counter() - started + reached.reused
                kept = _kept(progress, seconds=seconds, curve=earlier + points)
                with suppress(OSError):
                    checkpoint.write(kept, path)
                _make_room(self.folder, self.room)
                reached = replace(self._of(kept, data), reused=reached.reused, earlier=earlier)
            notes.drop()
            yield reached

    def _found(self, path: Path, data: Dataset) -> Progress | None:
        """The training kept at ``path``; None where there is none, or it is damaged."""
        if not path.is_file():
            return None
        try:
            found = self._of(checkpoint.read(path, device=data.device), data)
        except (FormatError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
            if out_of_memory(error):  # which says nothing about the file
                raise
            with suppress(OSError):
                path.unlink(missing_ok=True)  # damaged: train again
            return None
        with suppress(OSError):  # of another user, or removed by now
            os.utime(path)
        return found

    def _of(self, kept: Checkpoint, data: Dataset) -> Progress:
        """The training that was kept so."""
        model = self.build(data.space, Seed(0)).to(data.device)
        model.load_state_dict(dict(kept.under("model").tensors))
        return Progress(
            **kept.facts["progress"],
            model=model.eval(),
            removals=removals_of(kept.under("removals")),
            facts=kept.facts["facts"],
            reused=kept.facts["seconds"],
            earlier=_points(kept.facts.get("curve", []))[:-1],  # networks kept by older releases have none
        )


def _note(notes: Notes, progress: Progress, curve: Curve) -> None:
    """Note where a training stands, if it can say so."""
    if progress.state is not None:
        ask = progress.state
        notes.take(lambda: Checkpoint(facts={"curve": curve}).joined(training=ask()))


def _points(curve: Sequence[Sequence[float]]) -> Curve:
    return tuple((float(loss), float(accuracy)) for loss, accuracy in curve)


def training_key(
    learner: Learner, data: Dataset, seed: Seed, hooks: Sequence[Hook] = (), *, draws: Sequence[Seed] = ()
) -> str:
    """The hash of everything that decides a training, the code of its methods and hooks included.

    ``draws`` are seeds of the hooks where they are not the training's. Models hold the mean and standard deviation of
    the space. So a network that other code trained is never found, nor is a training gone on with that it began.
    """
    settings = [hook.settings for hook in hooks]
    more = [list(each) for each in ((*settings, *draws), learner.beginnings()) if each]
    kinds: list[type] = [type(hook) for hook in hooks]
    code = [versions(learner, settings), [version(kind) for kind in kinds]]
    return fingerprint(METHOD, learner, seed, data.space, data.digest(), torch.__version__, *more, *code)


def _kept(progress: Progress, *, seconds: float, curve: Curve) -> Checkpoint:
    """A finished network with what was recorded while it was trained; ``curve`` where all its epochs are known."""
    counts = {key: getattr(progress, key) for key in ("epoch", "epochs", "loss", "accuracy")}
    facts = {"progress": counts, "facts": dict(progress.facts), "seconds": seconds}
    facts |= {"curve": curve} if len(curve) == progress.epochs else {}
    state = Checkpoint(tensors=progress.model.state_dict())
    return Checkpoint(facts=facts).joined(model=state, removals=removals_state(progress.removals))


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
