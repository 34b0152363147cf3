"""The memory of trainings: what is found is what training gives, bit for bit; what differs is trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from mithridate.learner import Hook, Removal, predictions
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Classifier
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from tests.conftest import stripes

DATA = stripes(48, seed=1)
SMALL = SGD(model=SmallConvNet(widths=(4, 6)), epochs=2, batch_size=16, lr=0.05)


@pytest.fixture
def trainings(monkeypatch):
    """The number of trainings so far, as a list of their seeds."""
    seeds, train = [], SGD.train

    def counted(self, data, *, seed, hooks=(), resume=None):
        seeds.append(seed)
        return train(self, data, seed=seed, hooks=hooks, resume=resume)

    monkeypatch.setattr(SGD, "train", counted)
    return seeds


def same(one, two):
    states = one.model.state_dict(), two.model.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("learner", [SMALL, replace(SMALL, channels_last=True)], ids=["contiguous", "channels-last"])
def test_a_network_found_is_the_trained_one_bit_for_bit(tmp_path, trainings, learner):
    cached = Cached(learner=learner, folder=tmp_path)
    plain = learner.fit(DATA, seed=Seed(1))
    missed, found = cached.fit(DATA, seed=Seed(1)), cached.fit(DATA, seed=Seed(1))
    assert len(trainings) == 2
    assert same(plain, missed)
    assert same(plain, found)
    assert (found.epoch, found.epochs, found.loss, found.accuracy) == (2, 2, plain.loss, plain.accuracy)
    assert not found.model.training
    inputs = DATA.all_inputs()
    assert torch.equal(predictions(missed.model, inputs), predictions(found.model, inputs))


def test_memory_format_is_no_difference_between_finding_and_training(tmp_path):
    """Convolutions round differently channels-last, so both must come in one format."""
    cached = Cached(learner=replace(SMALL, channels_last=True), folder=tmp_path)
    formats = [[p.stride() for p in cached.fit(DATA, seed=Seed(1)).model.parameters()] for _ in ("training", "finding")]
    assert formats[0] == formats[1]


def test_what_differs_is_trained(tmp_path, trainings):
    base = Cached(learner=SMALL, folder=tmp_path)
    base.fit(DATA, seed=Seed(1))
    flipped = DATA.inputs.clone()
    flipped[0, 0, 0, 0] ^= 1
    others = [
        (base, DATA, Seed(2)),
        (base, replace(DATA, inputs=flipped), Seed(1)),
        (base, DATA.at(slice(0, 47)), Seed(1)),
        (base, replace(DATA, space=replace(DATA.space, mean=(0.4, 0.38, 0.38))), Seed(1)),
        (base, replace(DATA, space=replace(DATA.space, std=(0.3, 0.2, 0.2))), Seed(1)),
        (replace(base, learner=replace(SMALL, lr=0.06)), DATA, Seed(1)),
        (replace(base, learner=replace(SMALL, model=SmallConvNet(widths=(4, 7)))), DATA, Seed(1)),
        (replace(base, learner=replace(SMALL, augmentation=None)), DATA, Seed(1)),
    ]
    for number, (cached, data, seed) in enumerate(others, start=2):
        found = cached.fit(data, seed=seed)
        assert len(trainings) == number
        assert same(found, cached.learner.fit(data, seed=seed))
        trainings.pop()
    base.fit(DATA, seed=Seed(1))
    assert len(trainings) == 1 + len(others)


def test_a_pinned_seed_is_shared_by_all_callers(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path, pinned=Seed(9))
    one, two = cached.fit(DATA, seed=Seed(1)), cached.fit(DATA, seed=Seed(2))
    assert trainings == [Seed(9)]
    assert same(one, two)
    assert same(one, SMALL.fit(DATA, seed=Seed(9)))


def damage(path, how):
    stored = bytearray(path.read_bytes())
    if how == "cut short":
        stored = stored[: len(stored) // 2]
    if how == "empty":
        stored = bytearray()
    if how == "a bit flipped in a weight":
        stored[-3] ^= 1
    if how == "another file":
        stored = bytearray(b"not a network" * 100)
    if how == "a fact missing":
        stored = stored.replace(b"progress", b"egress__")
    path.write_bytes(bytes(stored))


@pytest.mark.parametrize("how", ["cut short", "empty", "a bit flipped in a weight", "another file", "a fact missing"])
def test_a_damaged_file_is_trained_again(tmp_path, trainings, how):
    cached = Cached(learner=SMALL, folder=tmp_path)
    first = cached.fit(DATA, seed=Seed(1))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damage(path, how)
    assert path.read_bytes() != whole
    assert same(cached.fit(DATA, seed=Seed(1)), first)
    assert len(trainings) == 2
    assert same(cached.fit(DATA, seed=Seed(1)), first)
    assert len(trainings) == 2


class Fewer(Hook):
    """Drops all but the first rows."""

    def __init__(self, settings=None, left=20):
        self.settings, self.left = settings, left

    def drop(self, data, active, progress):
        return None if progress else Removal(by="fewer", epoch=0, ids=data.ids[self.left :], seconds=0.5)

    def facts(self):
        return {"left": float(self.left)}


def test_nameless_hooks_bypass_the_memory(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path)
    plain = cached.fit(DATA, seed=Seed(1))
    assert not same(cached.fit(DATA, seed=Seed(1), hooks=(Fewer(),)), plain)
    assert same(cached.fit(DATA, seed=Seed(1)), plain)
    assert len(trainings) == 2


def test_a_hook_with_settings_is_remembered_with_what_it_did(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path)
    first, found, other = (cached.fit(DATA, seed=Seed(1), hooks=(Fewer(k, 48 - k),)) for k in (20, 20, 30))
    assert len(trainings) == 2
    assert same(first, found)
    assert not same(first, other)
    assert not same(first, cached.fit(DATA, seed=Seed(1)))
    (removal,) = found.removals
    assert (removal.by, removal.epoch, removal.seconds) == ("fewer", 0, 0.5)
    assert removal.ids.tolist() == DATA.ids[28:].tolist()
    assert found.facts == {"left": 28.0}


def test_a_pinned_seed_does_not_mix_up_hooks_with_draws_of_their_own(tmp_path, trainings):
    """A hook is made from the caller's seed, so what one caller trained is not what another would have."""
    cached = Cached(learner=SMALL, folder=tmp_path, pinned=Seed(9))
    for seed, left in ((Seed(1), 30), (Seed(2), 40), (Seed(1), 30)):
        found = cached.fit(DATA, seed=seed, hooks=(Fewer("as many as the seed says", left),))
        assert found.facts == {"left": float(left)}
    assert trainings == [Seed(9), Seed(9)]


def test_a_training_resumed_is_kept_as_if_it_had_never_stopped(tmp_path, trainings):
    cached = Cached(learner=replace(SMALL, epochs=3), folder=tmp_path)
    state = next(cached.train(DATA, seed=Seed(1))).state()
    resumed = cached.fit(DATA, seed=Seed(1), resume=state)
    found = cached.fit(DATA, seed=Seed(1))
    assert len(trainings) == 2
    plain = replace(SMALL, epochs=3).fit(DATA, seed=Seed(1))
    assert same(resumed, plain)
    assert same(found, plain)


def test_what_is_found_needs_no_state_to_resume_from(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path)
    state = next(cached.train(DATA, seed=Seed(1))).state()
    first = cached.fit(DATA, seed=Seed(1))
    assert same(cached.fit(DATA, seed=Seed(1), resume=state), first)
    assert len(trainings) == 2


def test_time_saved_is_told(tmp_path):
    cached = Cached(learner=SMALL, folder=tmp_path)
    first, found = cached.fit(DATA, seed=Seed(1)), cached.fit(DATA, seed=Seed(1))
    assert first.reused == 0
    assert 0 < found.reused < 10


LONGER = replace(SMALL, epochs=4)


def stopped(cached, after):
    """Train for so many epochs, as if interrupted then."""
    for progress in cached.train(DATA, seed=Seed(1)):
        if progress.epoch == after:
            break


def curve(cached):
    """Loss and accuracy of every epoch, as told by a training."""
    points = []
    for last in cached.train(DATA, seed=Seed(1)):
        points.append((last.loss, last.accuracy))
    return [*last.earlier, *points]


@pytest.mark.parametrize("keep", [True, False])
def test_an_interrupted_training_goes_on_and_tells_its_whole_curve(tmp_path, trainings, keep):
    plain, whole = LONGER.fit(DATA, seed=Seed(1)), curve(LONGER)
    cached = Cached(learner=LONGER, folder=tmp_path, save_every=1e-9, keep=keep)
    stopped(cached, 2)
    stopped(cached, 3)
    assert [each.suffix for each in tmp_path.iterdir()] == [".part"]
    left = list(cached.train(DATA, seed=Seed(1)))
    assert [each.epoch for each in left] == [4]
    assert same(left[-1], plain)
    assert len(left[-1].earlier) == 3
    assert [each.suffix for each in tmp_path.iterdir()] == [".safetensors"] * keep
    assert curve(cached) == whole  # found, or trained again


def test_time_before_an_interruption_is_charged(tmp_path):
    cached = Cached(learner=LONGER, folder=tmp_path, save_every=1e-9)
    for progress in cached.train(DATA, seed=Seed(1)):
        time.sleep(0.2)
        if progress.epoch == 2:
            break
    last = cached.fit(DATA, seed=Seed(1))
    assert last.reused > 0.2  # the second sleep came after the last note
    assert cached.fit(DATA, seed=Seed(1)).reused > 0.2


def test_the_note_of_another_training_is_not_gone_on_with(tmp_path):
    cached = Cached(learner=LONGER, folder=tmp_path, save_every=1e-9)
    stopped(cached, 2)
    (note,) = tmp_path.iterdir()
    other = replace(cached, learner=replace(LONGER, lr=0.06))
    stopped(other, 1)
    (mine,) = set(tmp_path.iterdir()) - {note}
    note.replace(mine)
    assert same(other.fit(DATA, seed=Seed(1)), other.learner.fit(DATA, seed=Seed(1)))


def test_a_full_disk_ends_no_training(tmp_path, monkeypatch):
    def full(path, stored):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cached = Cached(learner=SMALL, folder=tmp_path, save_every=1e-9)
    assert same(cached.fit(DATA, seed=Seed(1)), SMALL.fit(DATA, seed=Seed(1)))
    assert not list(tmp_path.iterdir())


def test_what_was_not_used_for_longest_makes_room(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path)
    cached.fit(DATA, seed=Seed(1))
    (path,) = tmp_path.iterdir()
    cached = replace(cached, room=int(2.5 * path.stat().st_size))
    for seed in (2, 1, 3):  # finding the first one makes it newer than the second
        time.sleep(0.02)
        cached.fit(DATA, seed=Seed(seed))
    assert len(list(tmp_path.iterdir())) == 2
    cached.fit(DATA, seed=Seed(1))
    assert len(trainings) == 3
    cached.fit(DATA, seed=Seed(2))
    assert len(trainings) == 4


def test_a_training_left_early_is_not_kept(tmp_path, trainings):
    cached = Cached(learner=SMALL, folder=tmp_path)
    for progress in cached.train(DATA, seed=Seed(1)):
        assert progress.epoch == 1
        break
    assert not list(tmp_path.iterdir())
    cached.fit(DATA, seed=Seed(1))
    assert len(trainings) == 2


def test_two_writers_of_one_network_do_not_trip_each_other(tmp_path, monkeypatch):
    """Processes of a campaign train the same surrogate and finish together."""
    cached, replace_file, rivals = Cached(learner=SMALL, folder=tmp_path), Path.replace, [4242]

    def slow(self, target):
        if rivals:  # before the first has renamed its file, another process writes and renames its own
            rival = rivals.pop()
            monkeypatch.setattr("mithridate.checkpoint.os.getpid", lambda: rival)
            Cached(learner=SMALL, folder=tmp_path).fit(DATA, seed=Seed(1))
        return replace_file(self, target)

    real = os.getpid()
    monkeypatch.setattr("mithridate.checkpoint.os.getpid", lambda: real)
    monkeypatch.setattr(Path, "replace", slow)
    found = cached.fit(DATA, seed=Seed(1))
    assert same(found, SMALL.fit(DATA, seed=Seed(1)))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_build_and_augment_are_those_of_the_learner_inside(tmp_path):
    cached = Cached(learner=SMALL, folder=tmp_path)
    one, two = cached.build(DATA.space, Seed(3)), SMALL.build(DATA.space, Seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    shown = DATA.all_inputs()
    found = [each.augment(shown, space=DATA.space, generator=Seed(1).generator()) for each in (cached, SMALL)]
    assert torch.equal(*found)


class Tied(Classifier):
    """Two names for one tensor, as language models have."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(12, 12)
        self.again = torch.nn.Linear(12, 12)
        self.again.weight = self.first.weight
        self.last = torch.nn.Linear(12, 3)

    def features(self, inputs):
        return self.again(self.first(inputs.mean((1, 2))).relu())

    def head(self, features):
        return self.last(features)

    def head_parameters(self):
        return list(self.last.parameters())


@dataclass(frozen=True, kw_only=True)
class TiedNet(Architecture):
    name = "tied"

    def build(self, space):
        return Tied()


def test_networks_with_tied_weights_are_kept_too(tmp_path, trainings):
    cached = Cached(learner=replace(SMALL, model=TiedNet()), folder=tmp_path)
    first, again = cached.fit(DATA, seed=Seed(1)), cached.fit(DATA, seed=Seed(1))
    assert len(trainings) == 1
    assert same(first, again)
    assert again.model.again.weight is again.model.first.weight


def test_a_network_is_found_where_its_folder_cannot_be_written(tmp_path, trainings, monkeypatch):
    cached = Cached(learner=SMALL, folder=tmp_path)
    kept = cached.fit(DATA, seed=Seed(1))

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("touch", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(os, "utime", refused)
    assert same(cached.fit(DATA, seed=Seed(1)), kept)
    assert len(trainings) == 1


def test_a_network_that_finds_no_memory_is_kept(tmp_path, monkeypatch):
    cached = Cached(learner=SMALL, folder=tmp_path)
    cached.fit(DATA, seed=Seed(1))

    def short(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SGD, "build", short)
    with pytest.raises(torch.OutOfMemoryError):
        cached.fit(DATA, seed=Seed(1))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
