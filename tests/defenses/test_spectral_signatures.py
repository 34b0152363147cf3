"""Spectral signatures: the published score and number, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.defense import Truth, stack_name
from mithridate.defenses.spectral_signatures import SpectralSignatures, outlyingness
from mithridate.errors import ConfigError, ModelError
from tests.defenses.clouds import cloud, flagged, found_and_removed, judged

LABELS = torch.arange(90) % 3
FEATURES = torch.randn(90, 12, generator=torch.Generator().manual_seed(1)).relu() + 0.3 * LABELS[:, None]


def by_decomposition(features, labels):
    """The score as published, with numpy, class by class."""
    features, labels = features.double().numpy(), labels.numpy()
    scores = np.zeros(len(labels))
    for label in np.unique(labels):
        centred = features[labels == label] - features[labels == label].mean(0)
        _, _, directions = np.linalg.svd(centred)
        scores[labels == label] = (centred @ directions[0]) ** 2
    return scores


def rotation(dims, seed=4):
    turn, _ = torch.linalg.qr(torch.randn(dims, dims, generator=torch.Generator().manual_seed(seed)).double())
    return turn


@pytest.mark.parametrize("dims", [2, 12, 50])
def test_scores_are_those_of_the_paper(dims):
    features = torch.randn(90, dims, generator=torch.Generator().manual_seed(2)) * torch.linspace(1, 2, dims)
    np.testing.assert_allclose(
        judged(SpectralSignatures(), features, LABELS).scores.numpy(), by_decomposition(features, LABELS), rtol=1e-7
    )


@given(shift=st.floats(-1e4, 1e4), class_shift=st.floats(-1e4, 1e4))
def test_a_shift_of_features_changes_nothing(shift, class_shift):
    before = judged(SpectralSignatures(expected=0.05), FEATURES.double(), LABELS)
    moved = FEATURES.double() + shift + class_shift * LABELS[:, None]
    after = judged(SpectralSignatures(expected=0.05), moved, LABELS)
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-6, atol=1e-6)
    assert torch.equal(after.flagged, before.flagged)


@pytest.mark.parametrize("seed", range(3))
def test_a_rotation_of_features_changes_nothing(seed):
    before = judged(SpectralSignatures(expected=0.05), FEATURES.double(), LABELS)
    after = judged(SpectralSignatures(expected=0.05), FEATURES.double() @ rotation(12, seed), LABELS)
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-6, atol=1e-6)
    assert torch.equal(after.flagged, before.flagged)


@pytest.mark.parametrize("offset", [0.0, 5.0, 50.0])
@pytest.mark.parametrize("side", [-1, 1], ids=["towards the origin", "away from it"])
def test_finds_outliers_on_either_side(side, offset):
    # the side towards the origin is what forgetting to centre misses
    features = cloud(200, 8, seed=3) * 0.5 + offset
    features[:10] += side * 4.0
    found = flagged(SpectralSignatures(expected=10 / 200, cap=0.5), features, [0] * 200)
    assert len(found) == 15
    assert set(range(10)) <= set(found)


def test_every_class_loses_half_as_many_rows_again_as_are_assumed_poisoned():
    labels = [0] * 60 + [1] * 40
    found = flagged(SpectralSignatures(expected=0.04), cloud(100, 5, seed=1), labels)
    assert [sum(each < 60 for each in found), sum(each >= 60 for each in found)] == [6, 6]
    found = flagged(SpectralSignatures(expected=0.03, multiplier=1.0), cloud(100, 5, seed=1), labels)
    assert [sum(each < 60 for each in found), sum(each >= 60 for each in found)] == [3, 3]


def test_the_rows_removed_are_those_with_the_highest_scores():
    verdict = judged(SpectralSignatures(expected=0.05), FEATURES, LABELS)
    for label in range(3):
        scores, gone = verdict.scores[label == LABELS], verdict.flagged[label == LABELS]
        assert gone.sum() == 7  # 1.5 * 0.05 * 90, rounded up
        assert scores[gone].min() > scores[~gone].max()


@pytest.mark.parametrize(("cap", "left"), [(0.5, [1, 1, 2, 2, 26]), (0.1, [1, 2, 3, 4, 37]), (0.99, [1, 1, 1, 1, 1])])
def test_no_class_loses_more_than_its_cap(cap, left):
    labels = [0] + [1] * 2 + [2] * 3 + [3] * 4 + [5] * 41  # no row of class 4
    flags = judged(SpectralSignatures(expected=0.2, cap=cap), cloud(51, 4, seed=1), labels).flagged
    stay = [int((~flags[torch.tensor(labels) == label]).sum()) for label in (0, 1, 2, 3, 5)]
    assert stay == [max(1, each) for each in left[:4]] + [max(41 - 16, 41 - int(cap * 41))]


def test_an_assumption_that_is_too_high_empties_no_class():
    flags = judged(SpectralSignatures(expected=0.9), FEATURES, LABELS).flagged
    assert [int((~flags[label == LABELS]).sum()) for label in range(3)] == [15, 15, 15]


def test_rows_that_are_all_the_same_stay():
    assert flagged(SpectralSignatures(expected=0.2), torch.full((40, 6), 0.1), [0] * 20 + [1] * 20) == []


def test_of_equal_scores_the_lowest_id_goes_first():
    features = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    assert flagged(SpectralSignatures(expected=0.1), features, [0] * 4, ids=[9, 5, 7, 6]) == [1]


def test_the_order_of_the_rows_does_not_matter():
    order = torch.randperm(90, generator=torch.Generator().manual_seed(8))
    before = judged(SpectralSignatures(), FEATURES, LABELS)
    after = judged(SpectralSignatures(), FEATURES[order], LABELS[order], ids=order)
    assert torch.equal(after.scores, before.scores[order])
    assert torch.equal(after.flagged, before.flagged[order])


def test_one_row_or_two_have_scores():
    assert outlyingness(torch.ones(1, 3)).tolist() == [0.0]
    torch.testing.assert_close(outlyingness(torch.tensor([[0.0, 0], [3, 4]])).tolist(), [6.25, 6.25])


def test_features_that_are_no_numbers_are_refused():
    features = FEATURES.clone()
    features[4, 0] = torch.nan
    with pytest.raises(ModelError, match=r"spectral-signatures cannot judge .* \(id 4\)"):
        judged(SpectralSignatures(), features, LABELS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"expected": 0.0}, "expected must lie in"),
        ({"cap": 1.0}, "cap must lie in"),
        ({"cap": 0.0}, "cap must lie in"),
        ({"multiplier": 0.0}, "multiplier must be a positive number"),
        ({"multiplier": float("inf")}, "multiplier must be a positive number"),
    ],
    ids=["nothing expected", "everything removed", "nothing removed", "no multiple", "endless"],
)
def test_settings_that_cannot_be_meant_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        SpectralSignatures(**settings)


def test_an_oracle_is_stamped_and_uses_the_true_number():
    told = SpectralSignatures(expected="true").told(Truth(poison_ids=torch.tensor([1, 5])))
    assert stack_name([told]) == "spectral-signatures (oracle)"
    assert len(flagged(told, FEATURES, LABELS)) == 9  # 1.5 * 2 of each of three classes


def test_an_oracle_that_is_told_of_no_poison_removes_nothing():
    told = SpectralSignatures(expected="true").told(Truth(poison_ids=torch.zeros(0, dtype=torch.int64)))
    assert flagged(told, FEATURES, LABELS) == []


def test_anyone_else_is_deaf_to_the_truth():
    honest = SpectralSignatures(expected=0.1)
    assert honest.told(Truth(poison_ids=torch.tensor([1, 5]))) == honest
    assert stack_name([honest]) == "spectral-signatures"


def test_finds_mislabelled_rows_in_a_real_training():
    found, removed = found_and_removed(SpectralSignatures(expected=8 / 150))
    assert removed == 36
    assert found >= 6  # of 8; removing 36 of 150 rows at random finds 2
