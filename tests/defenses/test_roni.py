"""RONI: rows that make a network worse go, solved by hand on a line and against a slow oracle."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mithridate.dataset import Space
from mithridate.defenses.roni import RONI, drawn, harmful_below
from mithridate.errors import ConfigError, DataError
from mithridate.seeding import Seed
from tests.defenses.tables import Means, blobs, flipped, gone, sifted, table

SMALL = RONI(base=8, quiz=12, trials=3)
FEW = RONI(quiz=40)


def line(*, far: float = 90.0):
    """Thirty rows at -1 called 0, thirty at 1 called 1, and one far on the right that is called 0 all the same."""
    return table([*[-1.0] * 30, *[1.0] * 30, far], [*[0] * 30, *[1] * 30, 0])


class TestByHand:
    def test_a_mislabelled_row_that_turns_the_classes_round_goes_alone(self):
        """Ten rows at -1 and one at 90 have their mean at 7: then 1 is nearer to the ones at 1, but so is -1."""
        assert gone(FEW, line(), learner=Means()) == [60]

    def test_its_impact_is_what_it_costs(self):
        """With it, class 1 is right and class 0 (but for itself, which is not asked) is wrong."""
        data, learner = line(), Means()
        defense = RONI(base=20, quiz=41, trials=1)  # the quiz is all the rest
        base, quiz = drawn(data, base=20, quiz=41, seed=Seed(0).child("roni", 0).child("rows"))
        assert 60 not in base.tolist()
        zeros = int((data.labels[quiz] == 0).sum()) - 1
        scores = sifted(defense, data, learner=learner).scores
        assert float(scores[60]) == pytest.approx(zeros / 40)
        assert scores[:60].abs().max() == 0

    def test_where_it_is_in_the_base_it_is_left_out_for_comparison(self):
        """The mean of 29 or 30 rows at -1 and one at 90 is about 2: all are called 1."""
        data, learner = line(), Means()
        defense = RONI(base=56, quiz=5, trials=1)
        draws = (drawn(data, base=56, quiz=5, seed=_rows(k)) for k in range(9))
        seed, (base, quiz) = next((k, each) for k, each in enumerate(draws) if 60 in each[0].tolist())
        zeros = int((data.labels[quiz] == 0).sum())
        assert zeros > 0
        scores = sifted(defense, data, learner=learner, seed=seed).scores
        assert float(scores[60]) == pytest.approx(zeros / 5)
        assert learner.trained[0] == base.sort().values.tolist()
        assert base[base != 60].sort().values.tolist() in learner.trained

    def test_a_row_that_harms_nobody_stays(self):
        assert gone(FEW, line(far=-1.0), learner=Means()) == []
        assert gone(replace(FEW, measure="loss"), line(far=-1.0), learner=Means()) == []

    def test_loss_sees_harm_that_answers_do_not_show(self):
        """A row at 3 called 0 moves a mean from -1 to about -0.6, which leaves all answers as they are."""
        assert gone(FEW, line(far=3.0), learner=Means()) == []
        assert gone(replace(FEW, measure="loss"), line(far=3.0), learner=Means()) == [60]

    def test_poison_in_number_does_not_hide_behind_its_own_spread(self):
        """A fifth of the rows. Three deviations of all impacts would reach below the worst of them."""
        data = table([*[-1.0] * 24, *[1.0] * 24, *[200.0] * 12], [*[0] * 24, *[1] * 24, *[0] * 12])
        found = sifted(RONI(base=4, quiz=20, trials=4), data, learner=Means())
        assert found.flagged.nonzero().flatten().tolist() == list(range(48, 60))
        assert found.scores.max() < found.scores.median() + 3 * found.scores.std()

    def test_the_threshold_by_hand(self):
        impacts = torch.tensor([-0.9, -0.1, 0.0, 0.2, 0.4], dtype=torch.float64)
        assert float(harmful_below(impacts, 1.0)) == pytest.approx(0.0 - math.sqrt(0.2 / 3), abs=1e-5)
        assert float(harmful_below(impacts, 3.0)) == pytest.approx(0.0 - 3 * math.sqrt(0.2 / 3), abs=1e-5)
        assert not (torch.zeros(4).double() < harmful_below(torch.zeros(4).double(), 1.0)).any()


def _rows(seed):
    return Seed(seed).child("roni", 0).child("rows")


def oracle(defense, data, seed):
    """Impacts by NumPy, a row (or group) after the other, each network trained anew."""
    inputs, labels = data.inputs.double().numpy(), data.labels.numpy()

    def mark(rows, asked):
        means = {label: inputs[[k for k in rows if labels[k] == label]].mean(0) for label in {*labels[list(rows)]}}
        marks = []
        for k in asked:
            distance = {label: ((inputs[k] - mean) ** 2).sum() for label, mean in means.items()}
            right = all(
                distance.get(labels[k], np.inf) < each for label, each in distance.items() if label != labels[k]
            )
            loss = distance.get(labels[k], np.inf) + np.log(sum(np.exp(-each) for each in distance.values()))
            marks.append(float(right) if defense.measure == "accuracy" else -min(loss, 100.0))
        return np.mean(marks)

    impacts = np.zeros(len(data))
    for trial in range(defense.trials):
        own = seed.child("roni", trial)
        base, quiz = (
            each.tolist() for each in drawn(data, base=defense.base, quiz=defense.quiz, seed=own.child("rows"))
        )
        order = torch.randperm(len(data), generator=own.child("groups").generator()).tolist()
        for start in range(0, len(data), defense.batch):
            group = {*order[start : start + defense.batch]}
            asked = [k for k in quiz if k not in group]
            impacts[[*group]] += mark({*base} | group, asked) - mark({*base} - group, asked)
    return impacts / defense.trials


@pytest.mark.parametrize("measure", ["accuracy", "loss"])
@pytest.mark.parametrize("batch", [1, 5])
def test_scores_are_the_mean_impacts_of_a_slow_oracle(measure, batch):
    data, _ = flipped(blobs(46, seed=3, classes=3, apart=2.0), 6)
    defense = RONI(base=9, quiz=12, trials=3, measure=measure, batch=batch)
    found = sifted(defense, data, learner=Means(), seed=5)
    expected = oracle(defense, data, Seed(5))
    assert np.allclose(-found.scores.numpy(), expected, atol=1e-4)
    assert len(set(expected.round(6))) > 5
    above = expected[expected >= np.median(expected)] - np.median(expected)
    flagged = expected < np.median(expected) - 3 * np.sqrt((above**2).mean()) - 1e-6
    assert found.flagged.tolist() == flagged.tolist()


class TestDraws:
    def test_a_base_holds_two_rows_of_each_class_and_shares_none_with_the_quiz(self):
        data = table(torch.zeros(60, 1), [*[0] * 50, *[1] * 7, *[2] * 2, 3])
        for seed in range(20):
            base, quiz = drawn(data, base=8, quiz=30, seed=Seed(seed))
            counts = torch.bincount(data.labels[base], minlength=4).tolist()
            assert counts[0] >= 2
            assert counts[1] >= 2
            assert counts[2:] == [2, 1]
            assert (len(base), len(quiz), len({*base.tolist(), *quiz.tolist()})) == (8, 30, 38)

    def test_every_trial_draws_anew(self):
        learner = Means()
        sifted(SMALL, blobs(40, seed=1), learner=learner)
        plain = [each for each in learner.trained if len(each) == 8]
        assert len({tuple(each) for each in plain}) == SMALL.trials


def test_the_cost_is_a_training_for_each_row_in_each_trial():
    learner, data = Means(), blobs(40, seed=1)
    assert sifted(SMALL, data, learner=learner).reused == 0.25 * 3 * 41
    assert len(learner.trained) == 3 * (40 + 1)
    learner = Means()
    sifted(RONI(base=8, quiz=12, trials=3, batch=6), data, learner=learner)
    assert len(learner.trained) <= 3 * (2 * 7 + 1)


def test_of_a_class_whose_rows_all_do_harm_one_stays():
    """The mean of both is 1, so that half of the others are called 1; either alone is too far from all of them."""
    data = table([*[-1.0] * 20, *[1.0] * 20, -20.0, 22.0], [*[0] * 40, 1, 1])
    found = sifted(RONI(base=10, quiz=30, trials=2), data, learner=Means())
    assert (-found.scores[40:] < harmful_below(-found.scores, 3.0)).all()
    assert found.flagged.nonzero().flatten().tolist() == [41]


@pytest.mark.parametrize("batch", [1, 5])
def test_no_network_is_trained_without_a_class(batch):
    """Though the only row of a class, and both of another, are tested too."""
    data, learner = table([*torch.linspace(-1, 1, 40), 5.0, 6.0, 9.0], [*[0] * 40, 1, 1, 2]), Means()
    found = sifted(RONI(base=10, quiz=30, trials=3, batch=batch), data, learner=learner)
    assert all({*data.labels[rows].tolist()} == {0, 1, 2} for rows in learner.trained)
    if batch == 1:
        assert found.scores[42] == 0


def test_a_network_that_diverged_counts_as_very_bad():
    class Diverged(Means):
        def train(self, data, **others):
            (found,) = super().train(data, **others)
            if 7 in data.ids.tolist():
                found.model.means.fill_(torch.nan)
            yield found

    found = sifted(RONI(base=8, quiz=12, trials=2, measure="loss"), blobs(40, seed=1), learner=Diverged())
    assert found.scores.isfinite().all()
    assert found.scores.argmax() == 7


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="roni needs 20 rows for a base and 50 for a quiz, but there are 69"):
        sifted(RONI(), blobs(69, seed=1))


def test_too_many_classes_for_a_base_are_a_problem_before_anything_is_trained():
    assert RONI().problems(Space(shape=(1,), num_classes=10)) == []
    (found,) = RONI().problems(Space(shape=(1,), num_classes=43))
    assert found == "roni needs 2 rows of each class in its base, 86 for 43 classes, but base is 20"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trials": 0}, "trials and batch must be at least 1, but they are 0 and 1"),
        ({"batch": 0}, "trials and batch must be at least 1"),
        ({"batch": 19}, "a batch of 19 needs a base of at least 21 rows and a quiz of at least 20"),
        ({"quiz": 1}, "a quiz of at least 2, .* 20 and 1"),
        ({"sigmas": 0.0}, "sigmas must be a positive number, but it is 0"),
        ({"sigmas": float("nan")}, "sigmas must be a positive number"),
        ({"measure": "f1"}, "measure must be 'accuracy' or 'loss', but it is 'f1'"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        RONI(**wrong)
