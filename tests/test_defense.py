"""Defenses as functions from learner to learner: filters, hooks, stacks of both, and what tables call them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.defense import (
    Defense,
    Filter,
    Filtered,
    HookDefense,
    Hooked,
    Truth,
    Verdict,
    features_of,
    protect,
    ranked,
    stack_name,
)
from mithridate.errors import DataError, FormatError
from mithridate.learner import Hook, Removal
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.models.wrapped import Wrapped
from mithridate.seeding import Seed
from mithridate.testing.witnesses import Diary
from tests.conftest import stripes

DATA = stripes(60, seed=1)
SEED = Seed(4)


def same(one, two):
    states = one.model.state_dict(), two.model.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@dataclass(frozen=True, kw_only=True)
class Listed(Filter):
    """Flags the rows listed; the later in the list, the more suspect. Remembers what it was asked."""

    name: ClassVar[str] = "listed"

    ids: tuple[int, ...] = (3, 40, 7)
    asked: list[tuple] = field(default_factory=list, compare=False)

    def judge(self, features, data, *, seed):
        self.asked.append((features, data, seed))
        scores = torch.tensor([float(self.ids.index(k)) if k in self.ids else -1.0 for k in data.ids.tolist()])
        return Verdict(scores=scores, flagged=scores >= 0)


@dataclass(frozen=True, kw_only=True)
class Changed(HookDefense):
    """Changes inputs in the training loop."""

    name: ClassVar[str] = "changed"

    by: str = "add"
    made: list[Seed] = field(default_factory=list, compare=False)

    def hook(self, learner, seed):
        self.made.append(seed)
        return Change(self)


class Change(Hook):
    def __init__(self, defense):
        self.settings, self.by = defense, defense.by

    def transform(self, model, batch, generator):
        if self.by == "add":
            return replace(batch, inputs=batch.inputs + 1)
        return replace(batch, inputs=batch.inputs * 2)


class TestFiltered:
    def test_judges_the_network_trained_without_defense_from_the_same_seed(self, learner):
        defense = Listed()
        shuffled = DATA.at(torch.randperm(60, generator=Seed(0).generator()))
        defense.protect(learner).fit(shuffled, seed=SEED)
        ((features, data, seed),) = defense.asked
        undefended = learner.fit(shuffled, seed=SEED).model
        assert data.ids.tolist() == list(range(60))
        assert data.digest() == DATA.digest()
        assert torch.equal(features, features_of(undefended, DATA))
        assert seed == SEED.child("listed")

    def test_trains_again_from_scratch_without_the_flagged_rows(self, learner):
        diary = Diary()
        found = Listed().protect(learner).fit(DATA, seed=SEED, hooks=(diary,))
        kept = DATA.without(torch.tensor([3, 40, 7]))
        assert same(found, learner.fit(kept, seed=SEED))
        assert diary.since(0) == set(kept.ids.tolist())
        (removal,) = found.removals
        assert (removal.by, removal.epoch, removal.ids.tolist()) == ("listed", 0, [7, 40, 3])
        assert 0 < removal.seconds < 10
        assert (found.epoch, found.epochs) == (3, 3)

    def test_every_epoch_says_what_was_removed(self, learner):
        seen = [progress.removals[0].ids.tolist() for progress in Listed().protect(learner).train(DATA, seed=SEED)]
        assert seen == [[7, 40, 3]] * 3

    def test_flagging_nothing_is_the_undefended_training(self, learner):
        found = Listed(ids=()).protect(learner).fit(DATA, seed=SEED)
        assert same(found, learner.fit(DATA, seed=SEED))
        assert [removal.ids.tolist() for removal in found.removals] == [[]]

    def test_hooks_given_act_on_the_last_training_only(self, learner):
        diary, defense = Diary(), Listed()
        found = defense.protect(learner).fit(DATA, seed=SEED, hooks=(Change(Changed()), diary))
        assert 3 not in diary.since(0)
        assert same(found, learner.fit(DATA.without(torch.tensor([3, 40, 7])), seed=SEED, hooks=(Change(Changed()),)))
        assert torch.equal(defense.asked[0][0], features_of(learner.fit(DATA, seed=SEED).model, DATA))

    def test_a_shared_memory_trains_the_probe_once_and_says_so(self, learner, tmp_path, monkeypatch):
        trained, train = [], SGD.train

        def counted(self, data, **others):
            trained.append(len(data))
            return train(self, data, **others)

        monkeypatch.setattr(SGD, "train", counted)
        memory = Cached(learner=learner, folder=tmp_path)
        filters = [Listed(), Listed(ids=(1, 2)), Listed()]
        first, second, again = (defense.protect(memory).fit(DATA, seed=SEED) for defense in filters)
        assert trained == [60, 57, 58]
        assert first.reused == 0
        assert 0 < second.reused < again.reused
        assert same(first, again)
        monkeypatch.setattr(SGD, "train", train)
        for defense, found in zip(filters, (first, second, again), strict=True):
            assert same(found, defense.protect(learner).fit(DATA, seed=SEED))

    @pytest.mark.parametrize("stop", [1, 2])
    def test_resumed_it_neither_trains_a_probe_nor_judges_again(self, learner, tmp_path, stop):
        memory = Cached(learner=learner, folder=tmp_path / "memory")
        memory.fit(DATA, seed=SEED)
        for progress in protect(memory, [Listed(), Listed(ids=(1,))]).train(DATA, seed=SEED):
            if progress.epoch == stop:
                checkpoint.write(progress.state(), tmp_path / "state")
                break
        filters = [Listed(), Listed(ids=(1,))]
        state = checkpoint.read(tmp_path / "state")
        found = protect(learner, filters).fit(DATA, seed=SEED, resume=state)
        assert [defense.asked for defense in filters] == [[], []]
        assert same(found, learner.fit(DATA.without(torch.tensor([1, 3, 7, 40])), seed=SEED))
        assert [each.ids.tolist() for each in found.removals] == [[1], [7, 40, 3]]
        assert found.reused == progress.reused > 0

    def test_a_state_of_another_training_is_refused(self, learner):
        for state in (Checkpoint(), learner.fit(DATA, seed=SEED).state()):
            with pytest.raises(FormatError, match="not that of a training with a filter"):
                Listed().protect(learner).fit(DATA, seed=SEED, resume=state)

    @pytest.mark.parametrize(
        ("scores", "flagged", "sentence"),
        [
            (torch.zeros(60), torch.tensor([1, 2, 3]), r"\(60,\) and \(3,\) \(int64\)"),
            (torch.zeros(60), torch.zeros(60, dtype=torch.int64), r"\(60,\) and \(60,\) \(int64\)"),
            (torch.zeros(59), torch.zeros(60, dtype=torch.bool), r"\(59,\) and \(60,\) \(bool\)"),
            (torch.zeros(60, 1), torch.zeros(60, 1, dtype=torch.bool), r"\(60, 1\) and \(60, 1\) \(bool\)"),
        ],
        ids=["places", "numbers", "a row too few", "two axes"],
    )
    def test_a_verdict_that_is_none_is_refused(self, learner, monkeypatch, scores, flagged, sentence):
        monkeypatch.setattr(Listed, "judge", lambda *_, **__: Verdict(scores=scores, flagged=flagged))
        with pytest.raises(DataError, match=f"the verdict of listed must hold.*{sentence}"):
            Listed().protect(learner).fit(DATA, seed=SEED)

    def test_flagging_nearly_all_is_said(self, learner):
        with pytest.raises(DataError, match="at least 2 rows, but there are 1"):
            Listed(ids=tuple(range(59))).protect(learner).fit(DATA, seed=SEED)


def test_the_most_suspect_come_first_then_lower_ids_and_last_what_has_no_score():
    nan, inf = float("nan"), float("inf")
    data = DATA.at(torch.tensor([9, 2, 5, 7, 1, 30, 31]))
    scores = torch.tensor([1.0, 1.0, nan, 9.0, 3.0, inf, -5.0])
    flagged = torch.tensor([True, True, True, False, True, True, True])
    assert ranked(Verdict(scores=scores, flagged=flagged), data).tolist() == [30, 1, 2, 9, 31, 5]


class TestHooked:
    def test_trains_with_the_hook_and_before_the_hooks_given(self, learner):
        found = Changed().protect(learner).fit(DATA, seed=SEED, hooks=(Change(Changed(by="double")),))
        assert same(found, learner.fit(DATA, seed=SEED, hooks=(Change(Changed()), Change(Changed(by="double")))))
        other = learner.fit(DATA, seed=SEED, hooks=(Change(Changed(by="double")), Change(Changed())))
        assert not same(found, other)

    def test_each_training_has_a_fresh_hook_seeded_by_name(self, learner):
        defense = Changed()
        protected = defense.protect(learner)
        for seed in (SEED, SEED, Seed(9)):
            protected.fit(DATA, seed=seed)
        assert defense.made == [SEED.child("changed"), SEED.child("changed"), Seed(9).child("changed")]


class TestStacks:
    def test_the_first_defense_is_innermost(self, learner):
        one, two = Listed(), Changed()
        assert protect(learner, [one, two]) == Hooked(defense=two, learner=Filtered(defense=one, learner=learner))
        assert protect(learner, [two, one]) == Filtered(defense=one, learner=Hooked(defense=two, learner=learner))

    def test_no_defense_is_the_identity(self, learner):
        assert protect(learner, []) is learner

    def test_a_filter_around_a_hook_judges_a_network_trained_with_it(self, learner):
        inside, outside = Listed(), Listed()
        protect(learner, [Changed(), inside]).fit(DATA, seed=SEED)
        protect(learner, [outside, Changed()]).fit(DATA, seed=SEED)
        changed = learner.fit(DATA, seed=SEED, hooks=(Change(Changed()),)).model
        assert torch.equal(inside.asked[0][0], features_of(changed, DATA))
        assert torch.equal(outside.asked[0][0], features_of(learner.fit(DATA, seed=SEED).model, DATA))

    def test_filters_work_on_what_the_outer_ones_leave(self, learner):
        inner, outer = Listed(ids=(5, 6)), Listed(ids=(6, 7))
        found = protect(learner, [inner, outer]).fit(DATA, seed=SEED)
        assert [each.ids.tolist() for each in found.removals] == [[7, 6], [5]]
        assert [len(data) for _, data, _ in inner.asked] == [60, 58]  # for the outer one's probe, and then for good
        assert same(found, learner.fit(DATA.without(torch.tensor([5, 6, 7])), seed=SEED))

    def test_removals_and_facts_of_hooks_come_through(self, learner):
        class Dropper(Hook):
            def drop(self, data, active, progress):
                return Removal(by="dropper", epoch=1, ids=data.ids[:1]) if progress and progress.epoch == 1 else None

            def facts(self):
                return {"dropped": 1.0}

        found = Listed().protect(learner).fit(DATA, seed=SEED, hooks=(Dropper(),))
        assert [(each.by, each.epoch) for each in found.removals] == [("listed", 0), ("dropper", 1)]
        assert found.facts == {"dropped": 1.0}

    def test_what_is_around_resembles_what_is_inside(self, learner):
        learner = replace(learner, schedule="steps", drops=(1, 2))
        inputs = DATA.all_inputs()
        for around in (Listed().protect(learner), Changed().protect(learner)):
            assert around.last_drop() == 2
            draws = [each.augment(inputs, space=DATA.space, generator=SEED.generator()) for each in (around, learner)]
            assert torch.equal(*draws)
            built = [each.build(DATA.space, SEED).state_dict() for each in (around, learner)]
            assert all(torch.equal(value, built[1][name]) for name, value in built[0].items())


@dataclass(frozen=True, kw_only=True)
class Seer(Listed):
    """Is told."""

    name: ClassVar[str] = "seer"

    @property
    def oracle(self):
        return True

    def told(self, truth):
        return Seer(ids=tuple(truth.poison_ids.tolist()))


class TestNames:
    def test_stacks_are_named_in_order_and_oracles_are_stamped(self):
        assert stack_name([]) == "none"
        assert stack_name([Listed()]) == "listed"
        assert stack_name([Seer(), Changed(), Listed()]) == "seer (oracle) + changed + listed"

    def test_only_oracles_hear_the_truth(self):
        truth = Truth(poison_ids=torch.tensor([5, 6]))
        deaf = Listed()
        assert deaf.told(truth) is deaf
        assert not deaf.oracle
        assert Seer().told(truth) == Seer(ids=(5, 6))
        assert not issubclass(Changed, Filter)
        assert [kind.drops for kind in (Defense, HookDefense, Filter)] == [False, False, True]


def noisy():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(400, 3)
    )


class TestFeatures:
    model = SGD(model=Wrapped(factory=noisy, head="5"), epochs=2, batch_size=16, lr=0.05).fit(DATA, seed=SEED).model

    def test_are_those_of_each_row_alone_in_evaluation_mode(self):
        self.model.eval()
        with torch.no_grad():
            rows = [self.model.features(DATA.all_inputs()[k : k + 1]).flatten(1) for k in range(60)]
        for size in (1, 7, 60, 512):
            found = features_of(self.model, DATA, batch_size=size)
            assert (found.shape, found.dtype, found.requires_grad) == ((60, 400), torch.float32, False)
            assert torch.allclose(found, torch.cat(rows), atol=1e-5)

    @pytest.mark.parametrize("training", [True, False])
    def test_leave_mode_and_statistics_alone(self, training):
        self.model.train(training)
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        features_of(self.model, DATA, batch_size=16)
        assert self.model.training is training
        assert all(torch.equal(value, before[name]) for name, value in self.model.state_dict().items())
