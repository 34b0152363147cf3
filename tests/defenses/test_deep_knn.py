"""Deep k-NN: equal to comparing every pair, ties and all."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.defense import Truth, stack_name
from mithridate.defenses import deep_knn
from mithridate.defenses.deep_knn import DeepKNN
from mithridate.errors import ConfigError, ModelError
from mithridate.ops.pairwise import neighbours
from tests.defenses.clouds import cloud, flagged, found_and_removed, judged

OPEN = 0.999  # a cap that hinders nothing here
CLOUDS = torch.cat([cloud(40, 6, seed=1, at=-4), cloud(40, 6, seed=2, at=4), cloud(20, 6, seed=3, at=16)])
CLASSES = [0] * 40 + [1] * 40 + [2] * 20


def every_pair(features, labels, ids, k, *, balance=False, classes):
    """Who is outvoted, and by how much, by sorting all others by distance and id."""
    sizes = Counter(labels)
    weight = {label: max(sizes.values()) // sizes[label] if balance else 1 for label in sizes}
    features, outvoted, scores = features.double(), [], []
    for own in range(len(labels)):
        others = [j for j in range(len(labels)) if j != own]
        others.sort(key=lambda j: (float(((features[own] - features[j]) ** 2).sum()), ids[j]))
        votes = dict.fromkeys(range(classes), 0)
        for j in others[:k]:
            votes[labels[j]] += weight[labels[j]]
        outvoted.append(votes[labels[own]] < max(votes.values()))
        scores.append(1 - votes[labels[own]] / sum(votes.values()) if others else float("nan"))
    return outvoted, scores


def agrees(features, labels, ids, k, balance):
    verdict = judged(DeepKNN(k=k, cap=OPEN, balance=balance), features, labels, ids=ids, classes=4)
    outvoted, scores = every_pair(features, labels, ids, k, balance=balance, classes=4)
    torch.testing.assert_close(verdict.scores.tolist(), scores, equal_nan=True)
    for label in set(labels):  # the cap, though open, keeps one row of a class that is outvoted as a whole
        mine = [own for own in range(len(labels)) if labels[own] == label]
        wanted = sorted((own for own in mine if outvoted[own]), key=lambda own: (-scores[own], ids[own]))
        assert sorted(wanted[: int(OPEN * len(mine))]) == [own for own in mine if verdict.flagged[own]]


@given(
    seed=st.integers(0, 99),
    count=st.integers(1, 24),
    dims=st.integers(1, 4),
    k=st.integers(1, 26),
    balance=st.booleans(),
)
def test_equals_comparing_every_pair_where_many_are_tied(seed, count, dims, k, balance):
    draws = torch.Generator().manual_seed(seed)
    features = torch.randint(0, 3, (count, dims), generator=draws).float()
    labels = torch.randint(0, 4, (count,), generator=draws).tolist()
    agrees(features, labels, torch.randperm(count, generator=draws).tolist(), k, balance)


def test_equals_comparing_every_pair_in_more_dimensions_than_rows():
    agrees(cloud(20, 64, seed=1), [0, 1, 3] * 6 + [1, 1], [*range(20)], 5, True)


def test_a_case_by_hand():
    features = torch.tensor([[0.0], [1], [2], [10], [11], [12.5], [1.4]])
    labels = [0, 0, 0, 1, 1, 1, 1]  # the last lies among the others
    verdict = judged(DeepKNN(k=3, balance=False), features, labels)
    assert verdict.flagged.tolist() == [False] * 6 + [True]
    # every other row hears two of its own and one of the others: row 0 of 1, 2 and 6; row 3 of 4, 5 and (8 away) 2
    torch.testing.assert_close(verdict.scores, torch.tensor([1 / 3] * 6 + [1.0], dtype=torch.float64))


def test_a_row_stays_where_its_label_is_one_of_the_most_frequent():
    # rows 0 and 1 hear one vote for 0 and one for 1; row 2 hears two for 0
    features = torch.tensor([[0.0], [1], [-1.5], [-30], [-31]])
    assert flagged(DeepKNN(k=2, balance=False), features, [0, 0, 1, 1, 1]) == [2]
    # row 0 hears 2, 2 and 1 votes: no label has a majority of 5, but its own has as many as any
    features = torch.tensor([[0.0], [1], [2], [-1], [-2], [3]])
    verdict = judged(DeepKNN(k=5, balance=False), features, [0, 0, 0, 1, 1, 2])
    assert float(verdict.scores[0]) == 0.6
    assert not verdict.flagged[0]


def test_the_block_size_changes_nothing(monkeypatch):
    before = judged(DeepKNN(k=7), CLOUDS, CLASSES)
    monkeypatch.setattr(deep_knn, "neighbours", lambda points, k: neighbours(points, k, memory=20_000))
    after = judged(DeepKNN(k=7), CLOUDS, CLASSES)
    assert torch.equal(after.scores, before.scores)
    assert torch.equal(after.flagged, before.flagged)


@pytest.mark.parametrize("tied", [False, True], ids=["spread", "tied"])
def test_the_order_of_the_rows_does_not_matter(tied):
    features = CLOUDS.round() if tied else CLOUDS
    labels = torch.tensor(CLASSES)
    labels[[1, 5, 50]] = torch.tensor([1, 2, 0])
    order = torch.randperm(100, generator=torch.Generator().manual_seed(8))
    before = judged(DeepKNN(k=5), features, labels)
    after = judged(DeepKNN(k=5), features[order], labels[order], ids=order)
    assert before.flagged.any()
    assert torch.equal(after.scores, before.scores[order])
    assert torch.equal(after.flagged, before.flagged[order])


@pytest.mark.parametrize("k", [5, 19])
def test_mislabelled_rows_are_found_and_well_separated_classes_left_alone(k):
    labels = torch.tensor(CLASSES)
    assert flagged(DeepKNN(k=k), CLOUDS, labels) == []
    labels[[3, 44, 45, 99]] = torch.tensor([1, 0, 2, 0])
    assert flagged(DeepKNN(k=k), CLOUDS, labels) == [3, 44, 45, 99]


def test_a_small_class_is_not_outvoted_by_its_size_alone():
    # 10 rows of class 1 next to 40 of class 0: of 19 neighbours, at most 9 can be its own
    features = torch.cat([cloud(40, 3, seed=1, at=-4), cloud(10, 3, seed=2, at=4)])
    labels = [0] * 40 + [1] * 10
    assert flagged(DeepKNN(k=19), features, labels) == []
    assert set(flagged(DeepKNN(k=19, balance=False), features, labels)) <= {*range(40, 50)}
    assert len(flagged(DeepKNN(k=19, balance=False), features, labels)) == 5  # half of it


def test_only_angles_count_once_features_are_normalised():
    features = torch.tensor([[0.1, 0], [5, 0], [6, 0.1], [0, 0.1], [0.01, 0.12], [0, 5]])
    labels = [0, 0, 0, 1, 1, 1]
    assert flagged(DeepKNN(k=2, normalise=True), features, labels) == []
    scaled = features * torch.tensor([1.0, 9, 0.2, 5, 3, 0.01])[:, None]
    before, after = (judged(DeepKNN(k=2, normalise=True), each, labels) for each in (features, scaled))
    assert torch.equal(before.scores, after.scores)
    assert flagged(DeepKNN(k=2), features, labels) == [0]  # else it is near rows 3 and 4, all being short


@pytest.mark.parametrize(("cap", "most"), [(0.5, [0, 1, 1, 2]), (0.3, [0, 0, 0, 1]), (0.9, [0, 1, 2, 3])])
def test_no_class_loses_more_than_its_cap(cap, most):
    labels = [0] + [1] * 2 + [2] * 3 + [3] * 4 + [5] * 40  # no row of class 4
    flags = judged(DeepKNN(k=30, balance=False, cap=cap), cloud(50, 4, seed=1), labels).flagged
    assert [int(flags[torch.tensor(labels) == label].sum()) for label in (0, 1, 2, 3, 5)] == [*most, 0]


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0, 1], [2] * 3], ids=["one", "two", "three", "one class"])
def test_very_few_rows_leave_something_of_every_class(labels):
    flags = judged(DeepKNN(), cloud(len(labels), 3, seed=1), labels).flagged
    assert {label for label, gone in zip(labels, flags.tolist(), strict=True) if not gone} == set(labels)


def test_rows_that_are_all_the_same_are_neighbours_by_their_ids():
    # each row's three neighbours are the lowest ids but its own
    agrees(torch.ones(8, 5), [0, 0, 1, 1, 0, 1, 1, 1], [*range(8)], 3, False)


def test_a_single_row_has_no_score():
    assert judged(DeepKNN(), torch.ones(1, 2), [0]).scores.isnan().all()


@pytest.mark.parametrize(
    ("settings", "rows", "k"), [({}, 50_000, 1000), ({}, 120, 3), ({"expected": 0.05}, 100, 10), ({"k": 7}, 100, 7)]
)
def test_asks_two_neighbours_for_each_row_assumed_to_be_poisoned(settings, rows, k, monkeypatch):
    asked = []
    monkeypatch.setattr(deep_knn, "neighbours", lambda points, k: asked.append(k) or neighbours(points, k))
    few = min(rows, 200)
    monkeypatch.setattr(
        deep_knn, "expected_count", lambda expected, poisons, _: expected * rows if expected != "true" else poisons
    )
    judged(DeepKNN(**settings), cloud(few, 2, seed=1), [0, 1] * (few // 2))
    assert asked == [k]


def test_poisons_lying_together_cannot_outvote_the_rest():
    # 5 of 105 rows sit on one spot inside the other class, all called 1
    features = torch.cat([cloud(60, 4, seed=1), cloud(40, 4, seed=2, at=9), torch.zeros(5, 4)])
    labels = [0] * 60 + [1] * 45
    assert flagged(DeepKNN(expected=5 / 105), features, labels) == [100, 101, 102, 103, 104]
    assert not {*range(100, 105)} & {*flagged(DeepKNN(k=4), features, labels)}  # too few: they vouch for one another


def test_features_that_are_no_numbers_are_refused():
    features = CLOUDS.clone()
    features[4, 0] = torch.inf
    with pytest.raises(ModelError, match=r"deep-knn cannot judge .* \(id 4\)"):
        judged(DeepKNN(), features, CLASSES)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"expected": 1.5}, "expected must lie in"),
        ({"cap": 0.0}, "cap must lie in"),
    ],
    ids=["no neighbour", "more than all", "nothing removed"],
)
def test_settings_that_cannot_be_meant_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        DeepKNN(**settings)


def test_an_oracle_is_stamped_and_uses_the_true_number():
    told = DeepKNN(expected="true").told(Truth(poison_ids=torch.tensor([1, 5])))
    assert stack_name([told]) == "deep-knn (oracle)"
    same = judged(DeepKNN(k=4), CLOUDS.round(), CLASSES)
    assert torch.equal(judged(told, CLOUDS.round(), CLASSES).scores, same.scores)


def test_an_oracle_that_is_told_of_no_poison_removes_nothing():
    told = DeepKNN(expected="true").told(Truth(poison_ids=torch.zeros(0, dtype=torch.int64)))
    assert flagged(told, CLOUDS, [1, 0] * 50) == []


def test_anyone_else_is_deaf_to_the_truth():
    for honest in (DeepKNN(), DeepKNN(k=3, expected="true")):
        assert honest.told(Truth(poison_ids=torch.tensor([1, 5]))) == honest
        assert stack_name([honest]) == "deep-knn"


def test_finds_mislabelled_rows_in_a_real_training():
    found, removed = found_and_removed(DeepKNN(expected=8 / 150))
    assert found >= 5  # of 8
    assert removed <= 12
