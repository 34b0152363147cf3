"""The promise that a training resumed from a checkpoint equals one that never stopped."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.defense import Defense
from mithridate.learner import Progress
from mithridate.settings import fingerprint
from mithridate.testing.bench import Bench
from mithridate.testing.runs import SEED, differences, protected


def check_resuming(defense: Defense, bench: Bench) -> None:
    """Stopped after any epoch, written to disk, read back and resumed by fresh objects: the same, bit for bit.

    Asking for the state changes nothing either, and a state does not change any more once it has been handed out.
    """
    name, data = defense.name, bench.data.train
    whole = protected(defense, bench).fit(data, seed=SEED)
    with TemporaryDirectory() as folder:
        stopped = dict(_stopped(defense, bench, Path(folder)))
        apart = differences(whole, stopped.pop(0))
        assert not apart, f"{name} trains another network when asked for its state: {apart}"
        for epoch, last in stopped.items():
            apart = differences(whole, last)
            assert not apart, f"{name} resumed after epoch {epoch} of {whole.epochs} ends elsewhere: {apart}"


def _stopped(defense: Defense, bench: Bench, folder: Path) -> Iterator[tuple[int, Progress]]:
    """Ends of trainings by the epoch they were resumed after; under 0, that of the one which wrote the states."""
    name, data, last = defense.name, bench.data.train, None
    kept: list[tuple[int, Checkpoint, str]] = []
    for last in protected(defense, bench).train(data, seed=SEED):
        assert last.state is not None, f"{name} cannot be resumed: its progress after epoch {last.epoch} has no state"
        state = last.state()
        checkpoint.write(state, folder / f"{last.epoch}.safetensors")
        kept.append((last.epoch, state, fingerprint(state.tensors, state.facts)))
    assert last is not None, f"{name} trains for no epoch"
    yield 0, last
    for epoch, state, before in kept:
        unchanged = fingerprint(state.tensors, state.facts) == before
        assert unchanged, f"{name} goes on changing the state it handed out after epoch {epoch}"
        fresh = pickle.loads(pickle.dumps(defense))  # noqa: S301 (ours, here)
        state = checkpoint.read(folder / f"{epoch}.safetensors")
        yield epoch, protected(fresh, bench).fit(data, seed=SEED, resume=state)
