"""Activation clustering: a second mode is found, a single one left alone, as scikit-learn would have it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

from mithridate.defenses.activation_clustering import ActivationClustering, halves
from mithridate.errors import ConfigError, ModelError
from mithridate.seeding import Seed
from tests.defenses.clouds import cloud, flagged, found_and_removed, judged

LABELS = torch.tensor([0] * 100 + [1] * 80)
ONE_MODE = torch.cat([cloud(100, 16, seed=1), cloud(80, 16, seed=2, at=6)])
TWO_MODES = torch.cat([cloud(85, 16, seed=1), cloud(15, 16, seed=5, at=12), cloud(80, 16, seed=2, at=6)])
SECOND = [*range(85, 100)]
UNEVEN = TWO_MODES * torch.linspace(0.2, 2, 16).flip(0) + 3


def by_scikit_learn(features, labels, reduce, *, seed, size=0.35, silhouette=0.1):
    """Flags and scores of each class, from the library's own parts."""
    labels, flags, scores = labels.numpy(), np.zeros(len(labels), bool), np.zeros(len(labels))
    for label in np.unique(labels):
        points = reduce(features[labels == label].double().numpy())
        parts = KMeans(2, n_init=10, random_state=Seed(seed).child(int(label)).value % 2**32).fit(points)
        smaller = np.bincount(parts.labels_).argmin()
        mine = parts.labels_ == smaller
        away = np.linalg.norm(points[:, None] - parts.cluster_centers_, axis=2)
        scores[labels == label] = away[:, 1 - smaller] - away[:, smaller]
        if mine.mean() < size and silhouette_score(points, parts.labels_) > silhouette:
            flags[np.flatnonzero(labels == label)[mine]] = True
    return flags, scores


def independent(points):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the rotation it is looking for does not matter
        return FastICA(10, whiten="unit-variance", random_state=0).fit_transform(points)


REDUCTIONS = {"pca": PCA(10).fit_transform, "ica": independent}


@pytest.mark.parametrize("features", [TWO_MODES, UNEVEN], ids=["round", "uneven"])
@pytest.mark.parametrize("reduction", ["pca", "ica"])
def test_equals_what_scikit_learn_makes_of_it(reduction, features):
    verdict = judged(ActivationClustering(reduction=reduction), features, LABELS, seed=3)
    flags, scores = by_scikit_learn(features, LABELS, REDUCTIONS[reduction], seed=3)
    assert flags.any()
    np.testing.assert_array_equal(verdict.flagged.numpy(), flags)
    np.testing.assert_allclose(verdict.scores.numpy(), scores, atol=1e-6)


@pytest.mark.parametrize("reduction", ["pca", "ica"])
@pytest.mark.parametrize("seed", range(4))
def test_finds_a_second_mode_and_leaves_a_single_one_alone(reduction, seed):
    defense = ActivationClustering(reduction=reduction)
    assert flagged(defense, TWO_MODES, LABELS, seed=seed) == SECOND
    assert flagged(defense, cloud(900, 16, seed=seed), [0] * 400 + [1] * 500, seed=seed) == []


def test_rows_of_the_second_mode_have_the_highest_scores_of_their_class():
    scores = judged(ActivationClustering(), TWO_MODES, LABELS).scores
    assert scores[SECOND].min() > 0 > scores[:85].max()


def test_both_tests_must_speak_against_the_smaller_cluster():
    assert flagged(ActivationClustering(size=0.15), TWO_MODES, LABELS) == []  # 15 of 100 is not below
    assert flagged(ActivationClustering(size=0.16), TWO_MODES, LABELS) == SECOND
    clearness = silhouette_score(PCA(10).fit_transform(TWO_MODES[:100].numpy()), LABELS[:100].numpy() * 0 + IN_SECOND)
    assert flagged(ActivationClustering(silhouette=clearness + 0.01), TWO_MODES, LABELS) == []
    assert flagged(ActivationClustering(silhouette=clearness - 0.01), TWO_MODES, LABELS) == SECOND


IN_SECOND = np.isin(np.arange(100), SECOND)


def test_as_many_components_are_kept_as_are_asked_for():
    # the second mode hides in the third widest direction
    features = cloud(100, 6, seed=1) * torch.tensor([30.0, 20, 1, 1, 1, 1])
    features[:15, 2] += 40
    alone = torch.zeros(100, dtype=torch.int64)
    two, three = (ActivationClustering(reduction="ica", dims=dims) for dims in (2, 3))
    assert flagged(three, features, alone) == [*range(15)]
    assert flagged(two, features, alone) != [*range(15)]


def test_the_order_of_the_rows_does_not_matter():
    order = torch.randperm(180, generator=torch.Generator().manual_seed(8))
    before = judged(ActivationClustering(), UNEVEN, LABELS)
    after = judged(ActivationClustering(), UNEVEN[order], LABELS[order], ids=order)
    assert before.flagged.any()
    assert torch.equal(after.scores, before.scores[order])
    assert torch.equal(after.flagged, before.flagged[order])


def test_the_seed_decides_where_2_means_starts_and_leaves_global_randomness_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not move)
    first, again = (judged(ActivationClustering(), ONE_MODE, LABELS, seed=1) for _ in range(2))
    assert torch.equal(first.scores, again.scores)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    others = [judged(ActivationClustering(), ONE_MODE, LABELS, seed=seed).scores for seed in range(2, 8)]
    assert any(not torch.allclose(first.scores, each) for each in others)  # a single mode can be split in many ways


@pytest.mark.parametrize("reduction", ["pca", "ica"])
def test_small_classes_and_those_without_spread_are_left_alone(reduction):
    labels = [0] + [1] * 2 + [2] * 3 + [3] * 31 + [5] * 40 + [6] * 100  # no row of class 4
    features = torch.cat([cloud(37, 16, seed=1), torch.full((40, 16), 0.1), TWO_MODES[:100]])
    features[6:10] += 50  # a second mode of class 3, were it large enough
    verdict = judged(ActivationClustering(reduction=reduction), features, labels)
    assert verdict.flagged.nonzero().squeeze(1).tolist() == [77 + each for each in SECOND]
    assert verdict.scores[:77].isnan().all()
    assert not verdict.scores[77:].isnan().any()
    larger = judged(ActivationClustering(reduction=reduction, least=31), features, labels)
    assert not larger.scores[6:37].isnan().any()
    assert larger.flagged[6:10].all() == (reduction == "pca")  # ``ica`` does not see it even then


@pytest.mark.parametrize("reduction", ["pca", "ica"])
@pytest.mark.parametrize("dims", [1, 2, 300])
def test_few_features_will_do_and_so_will_more_than_rows(reduction, dims):
    features = cloud(100, dims, seed=1)
    features[90:] += 30
    alone = torch.zeros(100, dtype=torch.int64)
    verdict = judged(ActivationClustering(reduction=reduction), features, alone)
    assert verdict.scores.isfinite().all()
    if reduction == "pca" or dims < 10:  # among ten directions of equal variance the second mode is lost
        assert verdict.flagged.nonzero().squeeze(1).tolist() == [*range(90, 100)]


def test_directions_that_are_rounding_alone_are_not_blown_up():
    features = torch.cat([TWO_MODES[:100], 1e3 + 1e-8 * cloud(100, 3, seed=9).double()], dim=1)
    plain = judged(ActivationClustering(reduction="ica", dims=19), TWO_MODES[:100], LABELS[:100])
    noisy = judged(ActivationClustering(reduction="ica", dims=19), features, LABELS[:100])
    torch.testing.assert_close(noisy.scores, plain.scores, rtol=1e-4, atol=1e-4)


def test_two_points_many_times_over_are_two_modes():
    features = torch.zeros(50, 4)
    features[:5] = 1
    assert flagged(ActivationClustering(), features, [0] * 50, classes=2) == [*range(5)]


def test_of_equal_parts_the_one_without_the_first_point_counts_as_the_smaller():
    _, smaller = halves(np.array([[0.0], [0.1], [5.0], [5.1]]), 0)
    assert smaller.tolist() == [False, False, True, True]


def test_no_class_is_emptied_even_at_the_loosest():
    loose = ActivationClustering(size=0.5, silhouette=-1, least=3)
    flags = judged(loose, cloud(63, 5, seed=1), [0] * 3 + [1] * 20 + [2] * 40).flagged
    assert flags.any()
    for first, last in ((0, 3), (3, 23), (23, 63)):
        assert int(flags[first:last].sum()) < (last - first) / 2


def test_features_that_are_no_numbers_are_refused():
    features = ONE_MODE.clone()
    features[4, 0] = torch.nan
    with pytest.raises(ModelError, match=r"activation-clustering cannot judge .* \(id 4\)"):
        judged(ActivationClustering(), features, LABELS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reduction": "tsne"}, "reduction must be 'ica' or 'pca', but it is 'tsne'"),
        ({"dims": 0}, "dims must be at least 1"),
        ({"size": 0.6}, "size must lie in"),
        ({"silhouette": 2.0}, "silhouette must lie in"),
        ({"least": 2}, "least must be at least 3"),
    ],
    ids=["reduction", "dims", "size", "silhouette", "least"],
)
def test_settings_that_cannot_be_meant_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        ActivationClustering(**settings)


def test_finds_mislabelled_rows_in_a_real_training():
    found, removed = found_and_removed(ActivationClustering())
    assert found >= 6  # of 8
    assert removed <= 16
