"""The promise that a training or a crafting that was interrupted and gone on with equals one that never stopped."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mithridate import checkpoint
from mithridate.attack import Attack
from mithridate.checkpoint import Checkpoint
from mithridate.defense import Defense
from mithridate.learner import Progress
from mithridate.notes import Notes
from mithridate.poison import Poison
from mithridate.settings import fingerprint
from mithridate.testing.bench import Bench
from mithridate.testing.runs import SEED, differences, protected
from mithridate.watch import Step, Watch


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


def check_crafting_resumes(attack: Attack, bench: Bench) -> None:
    """Interrupted at any step and begun again with its notes, a resumable attack makes the same poison, bit for bit.

    Interrupted in the middle, in the last step, and twice in a row.
    """
    if not attack.resumable:
        return
    steps: list[Step] = []
    whole = bench.craft(attack, watch=steps.append)
    half, later, last = (steps[int(part * (len(steps) - 1))] for part in (0.5, 0.8, 1.0))
    for stops in ((half,), (last,), (half, later)):
        found, again = crafted_with_stops(lambda watch, notes: bench.craft(attack, watch=watch, notes=notes), stops)
        where = " and ".join(f"step {each.done} of '{each.stage}'" for each in stops)
        same = found.rows.digest() == whole.rows.digest() and found.trace == whole.trace
        assert same, f"{attack.name} interrupted after {where} makes another poison than if it had never stopped"
        assert len(again) < len(steps), f"{attack.name} interrupted after {where} begins anew instead of going on"


class Interruption(Exception):  # noqa: N818 (no error: it is what the check does)
    """Raised inside a watch to stop what it watches."""


def crafted_with_stops(craft: Callable[[Watch, Notes], Poison], stops: Sequence[Step]) -> tuple[Poison, Sequence[Step]]:
    """The poison of a crafting that is interrupted when it reports each of ``stops``, and begun again with its notes.

    Also the steps that it reported after it was begun for the last time.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "note"
        for stop in stops:
            try:
                craft(_until(stop), Notes(path, every=0.0))
            except Interruption:
                continue
            raise AssertionError(f"step {stop.done} of '{stop.stage}' is not reported")
        steps: list[Step] = []
        return craft(steps.append, Notes(path, every=0.0)), steps


def _until(stop: Step) -> Watch:
    def watch(step: Step) -> None:
        if (step.stage, step.done) == (stop.stage, stop.done):
            raise Interruption

    return watch
