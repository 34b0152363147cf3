"""Stacks of defenses: the controls come by themselves, each once, and everything has a name of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mithridate.control import Matched, _chosen
from mithridate.defense import Filter, HookDefense, Truth, Verdict, protect
from mithridate.defenses.epic import EPIC
from mithridate.defenses.oracle_filter import OracleFilter
from mithridate.defenses.partition_aggregation import PartitionAggregation
from mithridate.defenses.random_drop import RandomDrop
from mithridate.defenses.top_loss_drop import TopLossDrop
from mithridate.detection import detection, keep_pictures, recall
from mithridate.errors import ConfigError
from mithridate.learner import Hook, Removal, predictions
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.seeding import Seed
from mithridate.stacks import Controls, names, stacks
from mithridate.testing import toy

NET = SGD(model=MLP(hidden=(8,)), epochs=4, batch_size=16, lr=0.05, augmentation=None)
DATA = toy(90, seed=1)


@dataclass(frozen=True, kw_only=True)
class Brightest(Filter):
    """Flags the brightest rows."""

    name: ClassVar[str] = "brightest"
    share: float = 0.1

    def judge(self, features, data, *, seed):
        scores = data.all_inputs().flatten(1).mean(1)
        return Verdict(scores=scores, flagged=scores > scores.quantile(1 - self.share))


@dataclass(frozen=True, kw_only=True)
class Rounds(HookDefense):
    """Drops the lowest ids before some epochs: 5, then 3."""

    name: ClassVar[str] = "rounds"
    drops: ClassVar[bool] = True

    def hook(self, learner, seed):
        return _Rounds()


class _Rounds(Hook):
    settings = "rounds"

    def drop(self, data, active, progress):
        count = {1: 5, 3: 3}.get(progress.epoch if progress else 0)
        return count and Removal(by="rounds", epoch=progress.epoch, ids=data.ids[active].sort().values[:count])


@dataclass(frozen=True, kw_only=True)
class Idle(HookDefense):
    name: ClassVar[str] = "idle"

    def hook(self, learner, seed):
        return Hook()


class TestStacks:
    def test_controls_follow_what_they_control(self):
        found = stacks([(), (Brightest(),), (Idle(),), (Idle(), Rounds())], Controls())
        assert names(found) == [
            "none", "brightest", "idle", "idle + rounds",
            "random-drop (like brightest)", "top-loss-drop (like brightest)", "oracle-filter",
            "idle + random-drop (like rounds)", "idle + top-loss-drop (like rounds)", "idle + oracle-filter",
        ]  # fmt: skip
        assert [each.control_of for each in found] == [(), (), (), (), (1,), (1,), (1,), (3,), (3,), (3,)]

    def test_one_oracle_serves_all(self):
        found = stacks([(Brightest(),), (Rounds(),)], Controls(drops=("oracle-filter",)))
        assert [(name, each.control_of) for name, each in zip(names(found), found, strict=True)] == [
            ("brightest", ()), ("rounds", ()), ("oracle-filter", (0, 1)),
        ]  # fmt: skip

    def test_controls_can_be_left_out_or_asked_for(self):
        assert len(stacks([(Brightest(),)], Controls(drops=()))) == 1
        asked = [(Brightest(),), (RandomDrop(like=Brightest()),)]
        found = stacks(asked, Controls(drops=("random-drop",)))
        assert names(found) == ["brightest", "random-drop (like brightest)"]
        assert [each.control_of for each in found] == [(), (0,)]

    def test_a_control_asked_for_is_known_as_one(self):
        asked = [(TopLossDrop(like=Brightest()),), (OracleFilter(),), (Brightest(),), (RandomDrop(like=Rounds()),)]
        assert [each.control_of for each in stacks(asked, Controls(drops=()))] == [(2,), (2,), (), ()]

    def test_settings_tell_equal_names_apart(self):
        found = stacks([(Brightest(),), (Brightest(share=0.2),)], Controls(drops=("random-drop",)))
        assert names(found) == [
            "brightest", "brightest (share=0.2)",
            "random-drop (like brightest)", "random-drop (like brightest (share=0.2))",
        ]  # fmt: skip

    def test_settings_are_told_as_changes_of_the_nearest_preset(self):
        asked = [EPIC(), EPIC(fraction=0.3), EPIC.preset("release-transfer"), EPIC.preset("paper", fraction=0.3)]
        assert names(stacks([(each,) for each in asked], Controls(drops=()))) == [
            "epic", "epic (fraction=0.3)", "epic, release-transfer", "epic, paper (fraction=0.3)"
        ]  # fmt: skip

    def test_the_last_that_drops_is_controlled_wherever_it_stands(self):
        found = stacks([(Rounds(), Brightest(), Idle())], Controls(drops=("random-drop", "oracle-filter")))
        assert names(found)[1:] == ["rounds + random-drop (like brightest) + idle", "rounds + oracle-filter + idle"]
        assert [each.control_of for each in found] == [(), (0,), (0,)]

    def test_nothing_is_worn_around_a_proof(self):
        with pytest.raises(ConfigError, match="partition-aggregation must be the last of a stack"):
            protect(NET, [PartitionAggregation(), Brightest()])

    def test_a_defense_is_no_control(self, monkeypatch):
        monkeypatch.setattr("mithridate.stacks.registry.kind", lambda noun, name: Brightest)
        with pytest.raises(ConfigError, match="'brightest' is a defense, no control"):
            Controls(drops=("brightest",))


def removed(defense: Any, data=DATA, seed: int = 1, learner=NET):
    """Ids removed by each round, as (epoch, ids)."""
    found = defense.protect(learner).fit(data, seed=Seed(seed)).removals
    return [(each.epoch, each.ids.tolist()) for each in found]


class TestMatchedControls:
    @pytest.mark.parametrize("kind", [RandomDrop, TopLossDrop], ids=["random", "loss"])
    @pytest.mark.parametrize("like", [Brightest(), Rounds()], ids=["filter", "rounds"])
    def test_drop_as_many_rows_in_the_same_rounds(self, kind, like):
        theirs, ours = removed(like), removed(kind(like=like))
        assert [(epoch, len(ids)) for epoch, ids in ours] == [(epoch, len(ids)) for epoch, ids in theirs]
        assert theirs != ours
        everything = [each for _, ids in ours for each in ids]
        assert len(set(everything)) == len(everything), "no row is dropped twice"

    @pytest.mark.parametrize(("inner", "outer"), [(Brightest(), Rounds()), (Rounds(), Brightest())], ids=["in", "out"])
    def test_repeat_their_own_defense_and_not_the_one_inside(self, inner, outer):
        def rows(defenses):
            return sum(len(each.ids) for each in protect(NET, defenses).fit(DATA, seed=Seed(1)).removals)

        assert rows([inner, RandomDrop(like=outer)]) == rows([inner, outer])

    @pytest.mark.parametrize("kind", [RandomDrop, TopLossDrop], ids=["random", "loss"])
    @pytest.mark.parametrize("like", [Brightest(), Rounds()], ids=["filter", "rounds"])
    def test_by_class_where_asked(self, kind, like):
        def counts(defense):
            return [
                torch.bincount(DATA.rows(torch.tensor(ids)).labels, minlength=3).tolist() for _, ids in removed(defense)
            ]

        assert counts(kind(like=like, per_class=True)) == counts(like)

    def test_random_rows_are_random(self):
        """Over many seeds every row is dropped about equally often: chi-square of counts within its 99.9 % range."""
        learner = SGD(model=MLP(hidden=(2,)), epochs=2, batch_size=90, augmentation=None)
        like, counts, draws = Rounds(), torch.zeros(90), 200
        plan = {1: (2, 2, 1)}
        for seed in range(draws):
            active = torch.ones(90, dtype=torch.bool)
            ids = _chosen(RandomDrop(like=like), DATA, active, None, Seed(seed).child(1), plan[1])
            counts[ids] += 1
        expected = draws * 5 / 90
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert 51 < statistic < 138  # chi-square with 89 degrees of freedom
        assert removed(RandomDrop(like=like), learner=learner, seed=1) != removed(
            RandomDrop(like=like), learner=learner, seed=2
        )

    def test_random_rows_do_not_depend_on_what_they_hold(self):
        other = toy(90, seed=7)
        assert removed(RandomDrop(like=Rounds())) == removed(RandomDrop(like=Rounds()), data=other)

    def test_the_highest_losses_go_first(self):
        like = Brightest()
        probe = NET.fit(DATA, seed=Seed(1)).model
        losses = torch.nn.functional.cross_entropy(predictions(probe, DATA.all_inputs()), DATA.labels, reduction="none")
        ((_, ids),) = removed(TopLossDrop(like=like))
        assert ids == losses.argsort(descending=True)[: len(ids)].tolist()

    def test_the_order_of_rows_does_not_matter_to_the_choice(self):
        shuffled = DATA.at(torch.randperm(90, generator=torch.Generator().manual_seed(3)))
        probe, active = NET.fit(DATA, seed=Seed(1)).model, torch.ones(90, dtype=torch.bool)
        for control in (RandomDrop(like=Rounds()), TopLossDrop(like=Rounds())):
            one, two = (_chosen(control, data, active, probe, Seed(2), (4, 3, 2)) for data in (DATA, shuffled))
            assert one.tolist() == two.tolist()

    def test_begin_with_a_training_that_is_found(self, tmp_path):
        cached = Cached(learner=NET, folder=tmp_path)
        like = Rounds()
        like.protect(cached).fit(DATA, seed=Seed(1))
        before = len(list(tmp_path.iterdir()))
        found = RandomDrop(like=like).protect(cached).fit(DATA, seed=Seed(1))
        assert len(list(tmp_path.iterdir())) == before + 1
        assert [(each.epoch, len(each.ids)) for each in found.removals] == [(1, 5), (3, 3)]

    @pytest.mark.parametrize(
        "control", [RandomDrop(like=Rounds()), TopLossDrop(like=Brightest())], ids=["rounds", "filter"]
    )
    @pytest.mark.parametrize("stop", [1, 2, 3])
    def test_resume_as_if_they_had_not_stopped(self, control, stop):
        learner = control.protect(NET)
        whole = learner.fit(DATA, seed=Seed(1))
        state = next(each.state() for each in learner.train(DATA, seed=Seed(1)) if each.epoch == stop)
        rest = learner.fit(DATA, seed=Seed(1), resume=state)
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, rest.model.state_dict()[name])
        assert [each.ids.tolist() for each in rest.removals] == [each.ids.tolist() for each in whole.removals]

    def test_pass_on_what_the_referee_says(self):
        truth = Truth(poison_ids=torch.tensor([4, 2]))
        for kind in (RandomDrop, TopLossDrop):
            assert kind(like=OracleFilter(), per_class=True).told(truth) == kind(
                like=OracleFilter(poison_ids=(2, 4)), per_class=True
            )

    def test_are_learners_around_learners(self):
        assert isinstance(RandomDrop(like=Idle()).protect(NET), Matched)
        assert removed(RandomDrop(like=Idle())) == []


class TestOracle:
    def test_removes_exactly_the_poison(self):
        told = OracleFilter().told(Truth(poison_ids=torch.tensor([80, 3, 500])))
        assert removed(told) == [(0, [3, 80])]
        expected = NET.fit(DATA.without(torch.tensor([3, 80])), seed=Seed(1))
        found = told.protect(NET).fit(DATA, seed=Seed(1))
        for name, value in expected.model.state_dict().items():
            assert torch.equal(value, found.model.state_dict()[name])

    def test_untold_removes_nothing(self):
        assert removed(OracleFilter()) == []


class TestDetection:
    removals = (
        Removal(by="a", epoch=1, ids=torch.tensor([5, 0, 1]), seconds=0.5),
        Removal(by="b", epoch=2, ids=torch.tensor([2])),
    )

    def test_counts_rows_poison_and_classes(self):
        found = detection(self.removals, DATA, torch.tensor([0, 2, 7]))
        assert found["removals"] == [
            {"by": "a", "epoch": 1, "rows": 3, "poison": 1, "by_class": [1, 1, 1], "seconds": 0.5},
            {"by": "b", "epoch": 2, "rows": 1, "poison": 1, "by_class": [0, 0, 1], "seconds": 0.0},
        ]
        assert (found["dropped"], found["dropped_poison"], found["poison_rows"]) == (4, 2, 3)
        assert found["class_rows"] == [30, 30, 30]
        assert recall(found, 90) == {"poison_recall": 2 / 3, "clean_drop": 2 / 87}

    def test_of_nothing_is_nothing(self):
        found = detection((), DATA, torch.tensor([], dtype=torch.int64))
        assert (found["removals"], found["dropped"], found["poison_rows"]) == ([], 0, 0)
        assert recall(found, 90) == {"poison_recall": 0, "clean_drop": 0}

    def test_keeps_pictures_of_the_first_removed(self, tmp_path):
        assert keep_pictures(self.removals, DATA, torch.tensor([0]), tmp_path / "a" / "b.npz")
        with np.load(tmp_path / "a" / "b.npz") as kept:
            assert kept["ids"].tolist() == [5, 0, 1, 2]
            assert kept["poison"].tolist() == [False, True, False, False]
            assert kept["labels"].tolist() == [2, 0, 1, 2]
            assert (kept["images"] == DATA.rows(torch.tensor([5, 0, 1, 2])).inputs.permute(0, 2, 3, 1).numpy()).all()
        assert not keep_pictures((), DATA, torch.tensor([0]), tmp_path / "none.npz")
        assert [each.name for each in tmp_path.iterdir()] == ["a"]
