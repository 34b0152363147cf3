"""Isolated rows, against the rule written out in nested loops, and cases solved by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.errors import ConfigError, DataError
from mithridate.ops.isolation import budgets, cluster_sizes, gaps, gradients, isolated


def similarity(kernel, a, b, diagonal):
    if kernel == "exp":
        return math.exp(-math.dist(a, b) / len(a))
    if kernel == "linear":
        return 1 - math.dist(a, b) / diagonal
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b) or 1.0)


def slow_and_obvious(probabilities, labels, fraction, *, ids, kernel, min_cluster):
    """The set of isolated ids, from the definition alone; one class after the other, one medoid after the other."""
    rows = {i: [p - (k == y) for k, p in enumerate(ps)] for i, ps, y in zip(ids, probabilities, labels, strict=True)}
    found = set()
    medoids = math.floor(fraction * len(ids) + 1e-9)
    classes = sorted(set(labels))
    shares = {c: medoids * labels.count(c) / len(ids) for c in classes}
    budget = {c: math.floor(shares[c] + 1e-9) for c in classes}
    for c in sorted(classes, key=lambda c: (-round(shares[c] - budget[c], 9), c))[: medoids - sum(budget.values())]:
        budget[c] += 1
    for c in classes:
        members = sorted(i for i, y in zip(ids, labels, strict=True) if y == c)
        if not budget[c] or len(members) <= min_cluster:
            continue
        box = [[rows[i][k] for i in members] for k in range(len(rows[members[0]]))]
        diagonal = math.hypot(*(max(side) - min(side) for side in box))
        alike = {(i, j): similarity(kernel, rows[i], rows[j], diagonal) for i in members for j in members}
        steps = {pair: max(round(value * 2**30), 0) for pair, value in alike.items()}  # whole numbers: real ties tie
        chosen = []
        for _ in range(budget[c]):
            covered = {i: max([steps[i, j] for j in chosen] + [0]) for i in members}
            gain = {j: sum(max(steps[i, j] - covered[i], 0) for i in members) for j in members if j not in chosen}
            chosen.append(max(gain, key=lambda j: (gain[j], -j)))
        nearest = {i: max(chosen, key=lambda j: (alike[i, j], -chosen.index(j))) for i in members}
        joined = {i for i in members if kernel != "cosine" or alike[i, nearest[i]] > 0}
        for i in members:
            if i not in joined or sum(nearest[k] == nearest[i] for k in joined) <= min_cluster:
                found.add(i)
    return found


def rows(count, classes, *, seed, sharpness=2.0):
    """Softmax outputs of a network in the middle of its training, with unequal classes and scattered ids."""
    draws = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=draws).square() * classes).long()
    logits = torch.randn(count, classes, generator=draws) * sharpness
    logits[torch.arange(count), labels] += 2.0
    ids = torch.randperm(7 * count, generator=draws)[:count]
    return logits.softmax(1), labels, ids


@pytest.mark.parametrize(
    ("kernel", "classes"),  # in two classes the gradients of each are parallel: the cosine ties all of them
    [("exp", 2), ("exp", 3), ("exp", 50), ("linear", 2), ("linear", 3), ("linear", 50), ("cosine", 3), ("cosine", 50)],
)
@pytest.mark.parametrize(("fraction", "min_cluster"), [(0.1, 1), (0.3, 1), (0.5, 2), (0.05, 3)])
def test_equals_the_definition(kernel, classes, fraction, min_cluster):
    for seed in range(3):
        probabilities, labels, ids = rows(max(60, 3 * classes), classes, seed=seed)
        found = isolated(probabilities, labels, fraction, ids=ids, kernel=kernel, min_cluster=min_cluster)
        expected = slow_and_obvious(
            probabilities.double().tolist(), labels.tolist(), fraction,
            ids=ids.tolist(), kernel=kernel, min_cluster=min_cluster,
        )  # fmt: skip
        assert set(ids[found].tolist()) == expected


def test_some_and_not_all_of_these_are_isolated():
    """Else the test above would compare nothing."""
    for classes in (2, 3, 50):
        counts = [int(isolated(*rows(max(60, 3 * classes), classes, seed=s)[:2], 0.3).sum()) for s in range(3)]
        assert all(0 < count < 40 for count in counts), (classes, counts)


@pytest.mark.parametrize("kernel", ["exp", "linear", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(kernel, seed):
    """With exact duplicates too, where only ids decide."""
    probabilities, labels, ids = rows(80, 4, seed=seed)
    probabilities[40:60], labels[40:60] = probabilities[:20], labels[:20]
    found = isolated(probabilities, labels, 0.4, ids=ids, kernel=kernel)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(seed))
    again = isolated(probabilities[order], labels[order], 0.4, ids=ids[order], kernel=kernel)
    assert torch.equal(again, found[order])
    assert found.any()


def test_the_number_of_threads_does_not_matter():
    probabilities, labels, ids = rows(200, 5, seed=1)
    one, three = (isolated(probabilities, labels, 0.3, ids=ids, workers=k) for k in (1, 3))
    assert torch.equal(one, three)
    assert one.any()


def test_clusters_of_a_class_are_its_own_however_unequal_the_classes():
    """A class of 40 rows, one far from the rest, gets its singleton found beside a class of 4: by hand."""
    cloud = torch.tensor([0.9, 0.05, 0.05])
    near = cloud + torch.linspace(-0.01, 0.01, 39)[:, None] * torch.tensor([1.0, -1.0, 0.0])
    far, small = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.1, 0.8, 0.1]]).expand(4, 3)
    probabilities, labels = torch.cat([near, far, small]), torch.tensor([0] * 40 + [1] * 4)
    sizes = cluster_sizes(probabilities, labels, 0.05)  # two medoids: both go to class 0
    assert budgets(labels, 0.05) == {0: 2, 1: 0}
    assert sizes.tolist() == [39] * 39 + [1] + [4] * 4
    assert isolated(probabilities, labels, 0.05).nonzero().tolist() == [[39]]
    flipped = isolated(probabilities.flip(0), labels.flip(0), 0.05)
    assert flipped.nonzero().tolist() == [[4]]


def test_a_medoid_equal_to_another_row_is_not_alone():
    """Four equal rows, two medoids: all four are in the first one's cluster."""
    probabilities = torch.tensor([[0.7, 0.3]]).expand(4, 2)
    assert cluster_sizes(probabilities, torch.zeros(4, dtype=torch.int64), 0.5).tolist() == [4] * 4


def test_a_row_alone_in_its_class_is_not_isolated():
    """The release would empty the class: its one row is always its own medoid."""
    probabilities, labels = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2]]), torch.tensor([1, 0, 0])
    assert not isolated(probabilities, labels, 0.9)[0]
    assert not isolated(probabilities, labels, 0.9, min_cluster=2).any()


def test_a_row_similar_to_no_medoid_is_isolated():
    """Under the cosine, two rows point opposite ways: [1, -1] and [-1, 1] from the one-hot of their label."""
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 0, 0])  # the third gradient is 0: similar to nobody
    assert cluster_sizes(probabilities, labels, 0.34, kernel="cosine").tolist() == [2, 2, 0]
    assert isolated(probabilities, labels, 0.34, kernel="cosine").tolist() == [False, False, True]


def test_gradients_are_those_of_the_loss():
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    assert torch.allclose(gradients(logits.softmax(1), labels), expected, atol=1e-12)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60).filter(any), st.floats(0, 0.99))
def test_budgets_are_a_fair_share(counts, fraction):
    """All of the medoids are given out, and no class gets more or less than its share rounded up or down."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    found = budgets(labels, fraction)
    total = math.floor(fraction * sum(counts) + 1e-9)
    assert sum(found.values()) == total
    assert found.keys() == {label for label, count in enumerate(counts) if count}
    for label, count in found.items():
        share = counts[label] * total / sum(counts)
        assert math.floor(share) <= count <= math.ceil(share)
        assert count <= counts[label]


def test_budgets_by_hand():
    """Ten medoids among 50, 30 and 20 rows; then three among three equal classes and one of two rows."""
    assert budgets(torch.tensor([0] * 50 + [1] * 30 + [2] * 20), 0.1) == {0: 5, 1: 3, 2: 2}
    assert budgets(torch.tensor([0] * 10 + [1] * 10 + [3] * 10 + [7] * 2), 0.1) == {0: 1, 1: 1, 3: 1, 7: 0}
    assert budgets(torch.tensor([0] * 5 + [1] * 5), 0.1) == {0: 1, 1: 0}  # a tie goes to the lower class
    assert sum(budgets(torch.zeros(100, dtype=torch.int64), 0.29).values()) == 29


def test_gaps_are_distances_to_the_nearest_of_the_class(monkeypatch):
    probabilities, labels, _ = rows(50, 3, seed=3)
    labels[7] = 9  # alone in its class
    some = torch.tensor([30, 7, 2, 49, 11])
    for block in (2**22, 60):  # one row at a time
        monkeypatch.setattr("mithridate.ops.isolation._BLOCK", block)
        found = gaps(probabilities, labels, some)
        for row, gap in zip(some.tolist(), found.tolist(), strict=True):
            others = [j for j in range(50) if j != row and labels[j] == labels[row]]
            at = probabilities.double().tolist()
            assert gap == pytest.approx(min((math.dist(at[row], at[j]) for j in others), default=math.inf))
    assert len(gaps(probabilities, labels, some[:0])) == 0


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"fraction": 1.0}, ConfigError, r"fraction must lie in \[0, 1\), but it is 1"),
        ({"fraction": -0.1}, ConfigError, "fraction must lie"),
        ({"min_cluster": 0}, ConfigError, "min_cluster must be at least 1"),
        ({"probabilities": torch.eye(3) * 5}, DataError, "apply a softmax"),
        ({"probabilities": torch.eye(3) * torch.nan}, DataError, "apply a softmax"),
        ({"probabilities": torch.ones(3, dtype=torch.int64)}, DataError, r"floats of shape \(N, C\)"),
        ({"labels": torch.tensor([0, 1, 3])}, DataError, r"labels must be int64 in 0..2, but are torch.int64 up to 3"),
        ({"labels": torch.tensor([0, -1, 2])}, DataError, r"labels must be int64 in 0..2"),
        ({"labels": torch.tensor([0, 1])}, DataError, r"3 rows, \(2,\) labels"),
        ({"ids": torch.tensor([4, 4, 5])}, DataError, "same id"),
        ({"kernel": "rbf"}, ConfigError, "unknown kernel 'rbf'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_refused(changes, error, sentence):
    given = {"probabilities": torch.eye(3), "labels": torch.tensor([0, 1, 2]), "fraction": 0.5} | changes
    with pytest.raises(error, match=sentence):
        isolated(given.pop("probabilities"), given.pop("labels"), given.pop("fraction"), **given)


def test_no_medoids_isolate_nobody():
    probabilities, labels, _ = rows(30, 3, seed=1)
    assert not isolated(probabilities, labels, 0.0).any()


def test_leaves_its_input_alone():
    probabilities, labels, ids = (each.clone() for each in rows(30, 3, seed=1))
    isolated(probabilities, labels, 0.3, ids=ids)
    assert all(torch.equal(a, b) for a, b in zip((probabilities, labels, ids), rows(30, 3, seed=1), strict=True))
