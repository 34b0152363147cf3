"""Where weights come from: trained once and found again, gone on with after a crash, read from the very file meant."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from mithridate import config
from mithridate.datasets.digits import Digits
from mithridate.errors import ConfigError, FormatError
from mithridate.learners import weights as module
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import File, Own, Trained, Weights, networks_folder
from mithridate.loading import load
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from mithridate.settings import fingerprint, plain

CPU = torch.device("cpu")
LEARNER = SGD(model=SmallConvNet(widths=(4, 6), pools=(1,)), epochs=3, batch_size=16, lr=0.05)
TRAINED = Trained(data=Digits(classes=(0, 1, 2), train_rows=48, test_rows=20), learner=LEARNER)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache, empty."""
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "networks"


@pytest.fixture
def trainings(monkeypatch):
    """For each training so far, the epochs it did itself."""
    found, train = [], SGD.train

    def counted(self, data, *, seed, hooks=(), resume=None):
        found.append([])
        for progress in train(self, data, seed=seed, hooks=hooks, resume=resume):
            found[-1].append(progress.epoch)
            yield progress

    monkeypatch.setattr(SGD, "train", counted)
    return found


def same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(each, two[name]) for name, each in one.items())


class TestTrained:
    def test_is_the_training_of_its_learner_on_its_data(self):
        expected = LEARNER.fit(load(TRAINED.data).train, seed=Seed(0).child("pretraining")).model
        assert same(TRAINED.load(CPU), expected.state_dict())

    def test_trains_once(self, trainings, cache):
        first, again = TRAINED.load(CPU), TRAINED.load(CPU)
        assert trainings == [[1, 2, 3]]
        assert same(first, again)
        assert list(cache.iterdir()) == [TRAINED.path()]
        assert not TRAINED.network(CPU).model.training

    @pytest.mark.parametrize(
        "other",
        [
            replace(TRAINED, seed=1),
            replace(TRAINED, learner=replace(LEARNER, lr=0.04)),
            replace(TRAINED, data=replace(TRAINED.data, train_rows=47)),
        ],
        ids=["seed", "recipe", "data"],
    )
    def test_is_another_where_anything_differs(self, other, trainings):
        assert not same(TRAINED.load(CPU), other.load(CPU))
        assert len(trainings) == 2
        assert other.path() != TRAINED.path()
        assert fingerprint(other) != fingerprint(TRAINED)

    def test_is_found_by_whoever_names_the_same_rows(self, trainings):
        """The network is kept under the content of the data, so another way to the same rows finds it."""
        TRAINED.load(CPU)
        replace(TRAINED, data=replace(TRAINED.data, test_rows=7)).load(CPU)
        assert len(trainings) == 1

    def test_samples_its_shapes_without_training(self, trainings, cache):
        sample = TRAINED.sample()
        assert trainings == []
        assert not cache.exists()
        assert {name: (each.shape, each.dtype) for name, each in TRAINED.load(CPU).items()} == {
            name: (each.shape, each.dtype) for name, each in sample.items()
        }

    def test_tells_where_it_stands(self):
        steps = []
        TRAINED.network(CPU, watch=steps.append)
        assert [(each.stage, each.done, each.total) for each in steps] == [("pretraining", k, 3) for k in (1, 2, 3)]

    def test_lies_in_the_home_folder_where_no_other_is_named(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("MITHRIDATE_CACHE", "")
        assert networks_folder() == tmp_path / ".cache" / "mithridate" / "networks"
        monkeypatch.delenv("MITHRIDATE_CACHE")
        assert networks_folder() == tmp_path / ".cache" / "mithridate" / "networks"


class KilledError(Exception):
    """What stops a training."""


def interrupted(weights, *, after):
    """Train until an epoch is done, and crash."""

    def watch(step):
        if step.done == after:
            raise KilledError

    with pytest.raises(KilledError):
        weights.network(CPU, watch=watch)


class TestInterrupted:
    @pytest.fixture(autouse=True)
    def always_noted(self, monkeypatch):
        monkeypatch.setattr(module, "SAVED_EVERY", 1e-9)

    @pytest.mark.parametrize("changes", [{}, {"optimiser": "adam", "augmentation": None}], ids=str)
    @pytest.mark.parametrize("after", [1, 2])
    def test_goes_on_and_ends_as_if_it_had_not_been(self, after, changes, trainings, cache):
        weights = replace(TRAINED, learner=replace(LEARNER, **changes))
        interrupted(weights, after=after)
        assert [each.suffix for each in cache.iterdir()] == [".part"]
        found = weights.load(CPU)
        assert trainings == [list(range(1, after + 1)), list(range(after + 1, 4))]
        assert same(
            found, weights.learner.fit(load(weights.data).train, seed=Seed(0).child("pretraining")).model.state_dict()
        )
        assert list(cache.iterdir()) == [weights.path()]

    def test_twice_goes_on_twice(self, trainings):
        for after in (1, 2):
            interrupted(TRAINED, after=after)
        TRAINED.load(CPU)
        assert trainings == [[1], [2], [3]]

    def test_is_charged_for_all_of_its_seconds(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr("mithridate.learners.cached.time.perf_counter", lambda: now[0])
        train = SGD.train

        def an_epoch_a_second(self, data, *, seed, hooks=(), resume=None):
            for progress in train(self, data, seed=seed, hooks=hooks, resume=resume):
                now[0] += 1.0
                yield progress

        monkeypatch.setattr(SGD, "train", an_epoch_a_second)
        interrupted(TRAINED, after=2)
        now[0] += 1000.0
        TRAINED.load(CPU)
        assert TRAINED.network(CPU).reused == pytest.approx(3.0)

    @pytest.mark.parametrize("how", ["cut short", "empty", "a bit flipped", "no checkpoint", "a fact missing"])
    def test_with_a_damaged_note_begins_anew(self, how, trainings, cache):
        interrupted(TRAINED, after=2)
        (note,) = cache.iterdir()
        damage(note, how)
        found = TRAINED.load(CPU)
        assert trainings == [[1, 2], [1, 2, 3]]
        assert same(found, LEARNER.fit(load(TRAINED.data).train, seed=Seed(0).child("pretraining")).model.state_dict())
        assert list(cache.iterdir()) == [TRAINED.path()]

    def test_leaves_the_notes_of_others_alone(self, trainings):
        interrupted(TRAINED, after=2)
        replace(TRAINED, seed=1).load(CPU)
        TRAINED.load(CPU)
        assert trainings == [[1, 2], [1, 2, 3], [3]]

    def test_shortly_after_it_began_leaves_no_note(self, monkeypatch, trainings, cache):
        monkeypatch.setattr(module, "SAVED_EVERY", 60.0)
        interrupted(TRAINED, after=2)
        assert not cache.exists()
        TRAINED.load(CPU)
        assert trainings == [[1, 2], [1, 2, 3]]


def damage(path, how):
    stored = bytearray(path.read_bytes())
    if how == "cut short":
        stored = stored[: len(stored) // 2]
    if how == "empty":
        stored = bytearray()
    if how == "a bit flipped":
        stored[-3] ^= 1
    if how == "no checkpoint":
        stored = bytearray(b"no checkpoint" * 100)
    if how == "a fact missing":
        stored = stored.replace(b"seconds", b"moments")
    path.write_bytes(bytes(stored))


@pytest.mark.parametrize("how", ["cut short", "empty", "a bit flipped", "no checkpoint", "a fact missing"])
def test_a_damaged_network_is_trained_again(how, trainings):
    first = TRAINED.load(CPU)
    damage(TRAINED.path(), how)
    assert same(TRAINED.load(CPU), first)
    assert len(trainings) == 2


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7), "half": torch.ones(2).bfloat16()}


@pytest.fixture
def path(tmp_path):
    safetensors.torch.save_file(TENSORS, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


class TestFile:
    def test_gives_back_what_was_saved(self, path):
        for found in (File(path=path).load(CPU), File(path=path).sample()):
            assert same(TENSORS, found)
            assert all(each.dtype == TENSORS[name].dtype for name, each in found.items())
        assert File(path=path).problems() == []

    def test_finds_out_its_hash(self, path):
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert File(path=path).sha256 == expected
        assert File(path=path, sha256=expected.upper()) == File(path=path)

    def test_refuses_another_file_than_the_one_meant(self, path):
        with pytest.raises(
            ConfigError, match=r"has SHA-256 [0-9a-f]{16}..., but the settings say 0{16}...; these are other"
        ):
            File(path=path, sha256="0" * 64)

    def test_refuses_a_file_that_was_changed_after_the_settings_were_read(self, path):
        """Results are kept under the hash, so that weights of another one may not stand behind them."""
        meant = File(path=path)
        safetensors.torch.save_file({"a.weight": torch.zeros(2, 3)}, path)
        with pytest.raises(FormatError, match="has changed since the settings were read; put it back, or begin anew"):
            meant.load(CPU)
        assert len(meant.problems()) == 1

    def test_that_is_absent_is_a_problem_and_no_mistake_in_the_settings(self, tmp_path):
        for where in (tmp_path / "absent.safetensors", tmp_path):
            absent = File(path=where)
            assert absent.sha256 == ""
            (sentence,) = absent.problems()
            assert sentence.startswith(f"no weights can be read from '{where}' (")
            assert sentence.endswith("); name a .safetensors file with the state of the network")
            with pytest.raises(FormatError):
                absent.load(CPU)

    def test_that_was_named_before_it_came_must_still_be_the_one_meant(self, path, tmp_path):
        coming = tmp_path / "coming.safetensors"
        meant, other = File(path=coming, sha256=File(path=path).sha256), File(path=coming, sha256="1" * 64)
        coming.write_bytes(path.read_bytes())
        assert same(TENSORS, meant.load(CPU))
        with pytest.raises(FormatError, match="has changed"):
            other.load(CPU)

    @pytest.mark.parametrize(
        "content", [b"", b"no tensors", b"\xff" * 100, None], ids=["empty", "text", "bytes", "cut"]
    )
    def test_that_is_damaged_is_a_problem_in_a_sentence(self, path, content):
        path.write_bytes(path.read_bytes()[:-5] if content is None else content)
        (sentence,) = File(path=path).problems()
        assert sentence.startswith("no weights can be read from '")

    def test_is_identified_by_its_content(self, path):
        before = File(path=path)
        assert fingerprint(before) == fingerprint(File(path=path))
        safetensors.torch.save_file({**TENSORS, "a.count": torch.tensor(8)}, path)
        assert fingerprint(before) != fingerprint(File(path=path))

    def test_is_written_with_its_hash_and_read_back_only_with_it(self, path):
        meant = plain(File(path=path))
        assert config.parse(Weights, meant) == File(path=path)
        safetensors.torch.save_file({"a.weight": torch.zeros(2, 3)}, path)
        with pytest.raises(ConfigError, match="these are other weights than those meant"):
            config.parse(Weights, meant)


def test_own_weights_are_those_that_the_network_is_built_with():
    assert Own().load(CPU) is None
    assert Own().sample() is None
    assert Own().problems() == []
