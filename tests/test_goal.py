"""Goals: drawn by seed from the right rows, refused with a sentence, and judged on rows that nobody else saw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError
from mithridate.goal import Aims, Backdoor, Degrade, Misclassify, class_number
from mithridate.seeding import Seed
from mithridate.testing import CornerMark
from mithridate.trial import judge

CLASSES = ("cat", "dog", "hen", "owl")
SPACE = Space(shape=(1, 2, 2), num_classes=4, classes=CLASSES)


def rows(count, *, seed, first_id=0):
    """Rows in random order, every image unlike every other, ids not in order."""
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=draws)
    inputs = torch.rand(count, 1, 2, 2, generator=draws)
    return Dataset(inputs=inputs, labels=order % 4, ids=order + first_id, space=SPACE)


TRAIN, TEST = rows(40, seed=1), rows(24, seed=2, first_id=100)


def images(aims):
    return {tuple(row.flatten().tolist()) for row in aims.inputs}


class TestMisclassify:
    @given(
        st.integers(0, 10**6), st.sampled_from(["random", "any", "owl", 2]), st.sampled_from(["random", "each", "cat"])
    )
    def test_targets_are_test_rows_as_they_are_and_want_another_class(self, seed, target, intended):
        goal = Misclassify(target=target, intended=intended, targets=3).draw(TRAIN, TEST, Seed(seed))
        aims = goal.known
        source = TEST.rows(aims.ids)
        assert torch.equal(aims.inputs, source.inputs)
        assert torch.equal(aims.labels, source.labels)
        assert len(set(aims.ids.tolist())) == 3
        assert not (aims.wanted == aims.labels).any()
        assert aims.trigger is None
        if target != "any":
            assert len(set(aims.labels.tolist())) == 1
        if target in ("owl", 2):
            assert aims.labels[0] == class_number(target, SPACE)
        if intended == "cat":
            assert set(aims.wanted.tolist()) == {0}
        if intended == "random" and target != "any":
            assert len(set(aims.wanted.tolist())) == 1

    def test_known_is_judged_in_a_targeted_attack(self):
        goal = Misclassify().draw(TRAIN, TEST, Seed(1))
        assert goal.known is goal.judged

    def test_the_seed_decides_and_other_seeds_differ(self):
        drawn = [Misclassify().draw(TRAIN, TEST, Seed(k)).known for k in (1, 1, *range(2, 30))]
        facts = [(int(a.ids[0]), int(a.wanted[0])) for a in drawn]
        assert facts[0] == facts[1]
        assert len(set(facts)) > 20

    def test_every_class_is_drawn_alike(self):
        drawn = [Misclassify().draw(TRAIN, TEST, Seed(k)).known for k in range(400)]
        pairs = torch.zeros(4, 4)
        for aims in drawn:
            pairs[int(aims.labels[0]), int(aims.wanted[0])] += 1
        off = pairs[~torch.eye(4, dtype=torch.bool)]  # 12 pairs, 33 each: within 4.3 standard deviations
        assert float(off.min()) > 8
        assert float(off.max()) < 58

    def test_fixed_ids_are_the_targets_in_their_order(self):
        ids = TEST.ids[TEST.labels == 3][:2].flip(0)
        aims = Misclassify(ids=tuple(ids.tolist()), intended=0).draw(TRAIN, TEST, Seed(0)).known
        assert aims.ids.tolist() == ids.tolist()
        assert torch.equal(aims.inputs, TEST.rows(ids).inputs)
        assert aims.wanted.tolist() == [0, 0]

    def test_a_named_wish_is_never_the_drawn_class(self):
        for seed in range(40):
            aims = Misclassify(intended="dog").draw(TRAIN, TEST, Seed(seed)).known
            assert int(aims.labels[0]) != 1

    @pytest.mark.parametrize(
        ("goal", "error", "sentence"),
        [
            (Misclassify(target="cow"), ConfigError, r"no class 'cow': did you mean"),
            (Misclassify(target="dgo"), ConfigError, r"did you mean 'dog'"),
            (Misclassify(intended=9), ConfigError, r"class 9 is outside 0\.\.3"),
            (Misclassify(intended=-1), ConfigError, r"class -1 is outside 0\.\.3"),
            (Misclassify(target="owl", intended="owl"), ConfigError, "already of the intended class 'owl'"),
            (Misclassify(target="owl", targets=7), DataError, "7 targets were asked for, but class 'owl' has only 6"),
            (Misclassify(ids=(3,)), DataError, "id 3 is not in the data set"),
        ],
    )
    def test_what_cannot_be_met_is_said(self, goal, error, sentence):
        with pytest.raises(error, match=sentence):
            goal.draw(TRAIN, TEST, Seed(0))

    def test_no_targets_are_refused(self):
        with pytest.raises(ConfigError, match="at least 1, but it is 0"):
            Misclassify(targets=0)


class TestViews:
    """Bullseye Polytope's multi-target setting: craft for some pictures of an object, judge on others."""

    OWLS = tuple(TEST.ids[TEST.labels == 3].tolist())

    def test_are_judged_and_the_attacker_sees_the_targets_alone(self):
        goal = Misclassify(ids=self.OWLS[:2], views=self.OWLS[4:1:-1], intended="cat")
        drawn = goal.draw(TRAIN, TEST, Seed(0))
        assert drawn.known.ids.tolist() == list(self.OWLS[:2])
        assert drawn.judged.ids.tolist() == list(self.OWLS[4:1:-1])
        assert torch.equal(drawn.judged.inputs, TEST.rows(torch.tensor(self.OWLS[4:1:-1])).inputs)
        assert not images(drawn.known) & images(drawn.judged)
        assert drawn.judged.labels.tolist() == [3, 3, 3]
        assert drawn.judged.wanted.tolist() == [0, 0, 0]
        plain = Misclassify(ids=self.OWLS[:2], intended="cat").draw(TRAIN, TEST, Seed(0)).known
        assert torch.equal(plain.inputs, drawn.known.inputs), "views change nothing for the attacker"

    def test_want_the_class_that_was_drawn(self):
        for seed in range(20):
            drawn = Misclassify(ids=self.OWLS[:1], views=self.OWLS[1:]).draw(TRAIN, TEST, Seed(seed))
            assert set(drawn.judged.wanted.tolist()) == set(drawn.known.wanted.tolist())

    def test_are_left_out_of_clean_accuracy(self):
        """All rows but the views are called right here, so that whoever counts a view in finds less than 100 %."""

        class Sees(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, inputs):
                place = [(TEST.inputs == each).flatten(1).all(1).nonzero().item() for each in inputs]
                wrong = torch.isin(TEST.ids[place], torch.tensor(views))
                labels = torch.where(wrong, 0, TEST.labels[place])
                return torch.nn.functional.one_hot(labels, 4).float()

            def certificate(self, inputs):
                return None

        views = self.OWLS[1:4]
        drawn = Misclassify(ids=self.OWLS[:1], views=views, intended="cat").draw(TRAIN, TEST, Seed(0))
        metrics, described = judge(Sees(), drawn.judged, TEST)
        assert metrics == {"success": 1.0, "clean_accuracy": 1.0, "error": 3 / 24}
        assert [each["id"] for each in described] == list(views)

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"views": OWLS[1:]}, "name the targets in ids"),
            ({"ids": OWLS[:2], "views": OWLS[1:]}, "or one of the targets in ids"),
            ({"ids": OWLS[:1], "views": (OWLS[1], OWLS[1])}, "name a test row twice"),
            ({"ids": OWLS[:1], "views": OWLS[1:], "intended": "each"}, "but intended is 'each'"),
        ],
    )
    def test_that_contradict_other_settings_are_refused(self, settings, sentence):
        with pytest.raises(ConfigError, match=sentence):
            Misclassify(**settings)

    def test_of_another_class_or_of_no_row_are_said(self):
        hen = int(TEST.ids[TEST.labels == 2][0])
        with pytest.raises(ConfigError, match=f"view {hen} is of class 'hen', which none of the targets is"):
            Misclassify(ids=self.OWLS[:1], views=(self.OWLS[1], hen), intended=0).draw(TRAIN, TEST, Seed(0))
        with pytest.raises(DataError, match="id 3 is not in the data set"):
            Misclassify(ids=self.OWLS[:1], views=(3,), intended=0).draw(TRAIN, TEST, Seed(0))


class TestBackdoor:
    @given(st.integers(0, 10**6), st.sampled_from(["any", "owl"]), st.sampled_from(["random", "cat"]))
    def test_the_attacker_knows_training_rows_and_is_judged_on_test_rows(self, seed, source, intended):
        goal = Backdoor(trigger=CornerMark(), source=source, intended=intended, known=5).draw(TRAIN, TEST, Seed(seed))
        known, judged = goal.known, goal.judged
        assert not images(known) & images(judged)
        assert torch.equal(known.inputs, TRAIN.rows(known.ids).inputs)
        assert torch.equal(judged.inputs, TEST.rows(judged.ids).inputs)
        assert len(known) == 5
        wanted = int(judged.wanted[0])
        keep = TEST.labels != wanted if source == "any" else TEST.labels == 3
        assert sorted(judged.ids.tolist()) == sorted(TEST.ids[keep].tolist())
        assert set(known.wanted.tolist()) == set(judged.wanted.tolist()) == {wanted}
        assert not (judged.labels == wanted).any()

    def test_the_victim_sees_the_trigger_on_otherwise_unchanged_inputs(self):
        judged = Backdoor(trigger=CornerMark(), intended=0).draw(TRAIN, TEST, Seed(0)).judged
        assert (judged.seen()[:, :, 0, 0] == 1).all()
        assert torch.equal(judged.seen()[:, :, 1], judged.inputs[:, :, 1])
        assert torch.equal(judged.inputs, TEST.rows(judged.ids).inputs)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"known": 0}, "known must be at least 1 row"),
            ({"source": "owl", "intended": "owl"}, "both class 'owl'"),
            ({"source": "cow"}, "no class 'cow'"),
        ],
    )
    def test_what_cannot_be_met_is_said(self, changes, sentence):
        with pytest.raises(ConfigError, match=sentence):
            Backdoor(trigger=CornerMark(), **changes).draw(TRAIN, TEST, Seed(0))

    def test_a_class_without_rows_is_said(self):
        few = TEST.at(TEST.labels != 3)
        with pytest.raises(DataError, match="no rows are left"):
            Backdoor(trigger=CornerMark(), source="owl", intended=0).draw(TRAIN, few, Seed(0))


class TestDegrade:
    @given(st.integers(0, 10**6), st.sampled_from(["generic", "specific"]))
    def test_the_attacker_holds_training_rows_and_is_judged_on_all_test_rows_that_count(self, seed, kind):
        goal = Degrade(kind=kind, source=1, intended=2, known=0.5).draw(TRAIN, TEST, Seed(seed))
        assert not images(goal.known) & images(goal.judged)
        assert torch.equal(goal.known.inputs, TRAIN.rows(goal.known.ids).inputs)
        expected = TEST if kind == "generic" else TEST.at(TEST.labels == 1)
        assert goal.judged.ids.tolist() == expected.ids.tolist()
        if kind == "generic":
            assert len(goal.known) == 20
            assert goal.judged.wanted is None
        else:
            assert set(goal.known.labels.tolist()) == {1}
            assert set(goal.judged.wanted.tolist()) == {2}

    @given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 7.0]))
    def test_what_is_held_out_is_all_that_the_attacker_knows(self, seed, known):
        held_out = rows(12, seed=3, first_id=500)
        goal = Degrade(known=known).draw(TRAIN, TEST, Seed(seed), validation=held_out)
        assert goal.known.ids.tolist() == held_out.ids.tolist()
        assert goal.judged.ids.tolist() == TEST.ids.tolist()
        specific = Degrade(kind="specific", source=3, intended=0).draw(TRAIN, TEST, Seed(seed), validation=held_out)
        assert specific.known.ids.tolist() == held_out.ids[held_out.labels == 3].tolist()

    @pytest.mark.parametrize(
        ("known", "count", "expected"),
        [(0.2, 100, 20), (0.2, 3, 1), (0.01, 3, 1), (1.0, 40, 40), (1, 40, 40), (2.0, 40, 2), (400, 40, 400)],
    )
    def test_validation_rows_are_a_share_or_a_number(self, known, count, expected):
        assert Degrade(known=known).validation_rows(count) == expected

    def test_other_goals_hold_nothing_out(self):
        for goal in (Misclassify(), Backdoor(trigger=CornerMark(), known=9)):
            assert (goal.holds_out, goal.validation_rows(40)) == (False, 0)
            drawn = [goal.draw(TRAIN, TEST, Seed(1), validation=each) for each in (None, TEST)]
            assert drawn[0].known.ids.tolist() == drawn[1].known.ids.tolist()

    @pytest.mark.parametrize("known", [0.0, -0.1, 1.5, 20.5, float("nan"), float("inf")])
    def test_impossible_numbers_of_validation_rows_are_refused(self, known):
        with pytest.raises(ConfigError, match=r"share of the training rows in \(0, 1\], or a whole number"):
            Degrade(known=known)

    def test_a_class_cannot_be_mistaken_for_itself(self):
        with pytest.raises(ConfigError, match="both class 'dog'"):
            Degrade(kind="specific", source=1, intended="dog").draw(TRAIN, TEST, Seed(0))


def test_hits_are_the_wanted_class_or_any_wrong_one():
    inputs, labels, predicted = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 0, -1])
    targeted = Aims(inputs=inputs, labels=labels, wanted=torch.tensor([1, 1, 1, 1]))
    assert targeted.hits(predicted).tolist() == [True, True, False, False]
    untargeted = Aims(inputs=inputs, labels=labels, wanted=None)
    assert untargeted.hits(predicted).tolist() == [True, False, True, True]


def test_classes_go_by_name_number_or_number_as_text():
    assert [class_number(which, SPACE) for which in ("hen", 2, "2")] == [2, 2, 2]
    digits = Space(shape=(1,), num_classes=2, classes=("1", "0"))
    assert class_number("1", digits) == 0  # a name comes before a number
    assert class_number(1, digits) == 1
