"""Loss sanitisation: rows of the highest loss go, once or until the same rows are kept."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mithridate.defenses import loss_sanitisation
from mithridate.defenses.loss_sanitisation import LossSanitisation
from mithridate.errors import ConfigError
from mithridate.learner import predictions
from mithridate.learners.cached import Cached
from mithridate.seeding import Seed
from tests.defenses.tables import LEARNER, Means, blobs, flipped, gone, sifted, table

SEED = Seed(0)


def losses(data, kept=None):
    """By hand: of all rows, from a network trained on those kept."""
    model = LEARNER.fit(data if kept is None else data.at(kept), seed=SEED).model
    logits = predictions(model, data.inputs)
    return -functional.log_softmax(logits.double(), 1)[torch.arange(len(data)), data.labels]


def test_by_hand_the_row_nearest_to_the_other_class_goes():
    """Means 0 and 2: losses fall with the distance from the other class."""
    data = table([0.0, 0.1, -0.1, 0.2, -0.2, 2.0, 1.9, 2.1, 2.2, 1.8], [0] * 5 + [1] * 5)
    assert gone(LossSanitisation(fraction=0.2), data, learner=Means()) == [3, 9]
    assert gone(LossSanitisation(fraction=0.4), data, learner=Means()) == [1, 3, 6, 9]


@pytest.mark.parametrize("per_class", [True, False])
def test_one_round_removes_the_highest_losses_of_the_undefended_network(per_class):
    data, _ = flipped(blobs(61, seed=2, classes=3), 7)
    found = sifted(LossSanitisation(fraction=0.15, per_class=per_class), data)
    expected = losses(data)
    assert torch.allclose(found.scores, expected, atol=1e-6)
    groups = [data.labels == label for label in range(3)] if per_class else [data.labels >= 0]
    for group in groups:
        count = int(0.15 * int(group.sum()))
        worst = expected[group].argsort(descending=True)[:count]
        assert data.ids[group & found.flagged].tolist() == data.ids[group][worst].sort().values.tolist()


def test_a_tenth_of_thirty_is_three_and_shares_are_rounded_down():
    counts = [len(gone(LossSanitisation(fraction=f), blobs(60, seed=1))) for f in (0.1, 0.1333, 0.01)]
    assert counts == [6, 6, 0]
    assert 0.29 * 100 < 29
    assert len(gone(LossSanitisation(fraction=0.29, per_class=False), blobs(100, seed=1))) == 29


def test_flipped_labels_are_found():
    data, wrong = flipped(blobs(80, seed=3), 6)
    assert set(wrong.tolist()) <= set(gone(LossSanitisation(fraction=0.2), data))


class TestTrimmed:
    def test_rounds_keep_the_lowest_losses_among_all_rows_until_the_same_are_kept(self):
        data, _ = flipped(blobs(60, seed=4, apart=1.5), 12)
        kept, rounds = torch.arange(60), 0
        while True:
            again = losses(data, kept).argsort(stable=True)[:45].sort().values
            rounds += 1
            if again.tolist() == kept.tolist():
                break
            kept = again
        defense = LossSanitisation(fraction=0.25, per_class=False, rounds=50)
        assert set(range(60)) - set(gone(defense, data)) == set(kept.tolist())
        assert rounds > 2
        first = LossSanitisation(fraction=0.25, per_class=False)
        assert set(gone(first, data)) - set(gone(defense, data))  # rows come back

    def test_it_stops_where_it_would_go_in_circles(self, monkeypatch):
        turns = iter([torch.tensor([9.0, 0.0, 5.0, 5.0]), torch.tensor([0.0, 9.0, 5.0, 5.0])] * 9)
        monkeypatch.setattr(loss_sanitisation, "losses_of", lambda *_: next(turns))
        learner, data = Means(), table([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
        assert gone(LossSanitisation(fraction=0.25, per_class=False, rounds=18), data, learner=learner) == [0]
        assert learner.trained == [[0, 1, 2, 3], [1, 2, 3], [0, 2, 3]]

    def test_it_stops_after_its_rounds(self):
        learner = Means()
        sifted(LossSanitisation(fraction=0.3, rounds=2), blobs(60, seed=4, apart=0.3), learner=learner)
        assert len(learner.trained) == 2

    def test_what_has_settled_is_not_trained_again(self, tmp_path):
        data, _ = flipped(blobs(60, seed=4, apart=1.5), 12)
        memory = Cached(learner=LEARNER, folder=tmp_path)
        found = LossSanitisation(fraction=0.25, per_class=False, rounds=50).protect(memory).fit(data, seed=SEED)
        kept = data.without(found.removals[0].ids)
        assert found.reused > 0
        assert torch.equal(
            found.model.state_dict()["last.weight"], LEARNER.fit(kept, seed=SEED).model.state_dict()["last.weight"]
        )


def test_a_row_of_each_class_stays_though_all_its_losses_are_highest():
    """All are equal, so that the rows of the lowest ids would go: both of class 1."""
    data = table(torch.zeros(12), [1, 1, *[0] * 10])
    assert gone(LossSanitisation(fraction=0.5, per_class=False), data, learner=Means()) == [0, 2, 3, 4, 5, 6]


def test_of_equal_losses_lower_ids_go_first():
    data = table([0.0] * 6 + [1.0] * 6, [0] * 6 + [1] * 6, ids=[9, 8, 7, 6, 5, 4, 20, 21, 22, 23, 24, 25])
    assert gone(LossSanitisation(fraction=0.4), data, learner=Means()) == [4, 5, 20, 21]


def test_a_loss_that_is_no_number_is_the_highest():
    class Diverged(Means):
        def train(self, data, **others):
            (found,) = super().train(data, **others)
            found.model.means[1] = torch.nan
            yield found

    found = sifted(LossSanitisation(fraction=0.4), blobs(20, seed=1), learner=Diverged())
    assert found.scores.isinf().all()
    assert torch.bincount(blobs(20, seed=1).labels[found.flagged]).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fraction": 0.0}, r"fraction must lie in \(0, 1\), but it is 0"),
        ({"fraction": 1.0}, r"fraction must lie in \(0, 1\), but it is 1"),
        ({"rounds": 0}, "rounds must be at least 1, but it is 0"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        LossSanitisation(**wrong)
