"""What filters share: assumptions about the poison, features that cannot be judged, and order among equals."""

from __future__ import annotations

import pytest
import torch

from mithridate.errors import ConfigError, ModelError
from mithridate.ops.suspects import check_expected, check_features, expected_count, members, rounded_up, worst
from tests.defenses.clouds import rows


def test_an_assumption_is_a_fraction_of_the_training_set():
    assert expected_count(0.01, None, 50_000) == 500
    assert expected_count("true", 61, 50_000) == 61


@pytest.mark.parametrize(
    ("expected", "poisons", "said"),
    [
        (0.0, None, r"expected must lie in \(0, 1\), or be the word 'true' .* but it is 0"),
        (1.0, None, r"expected must lie in \(0, 1\), or be the word 'true' .* but it is 1"),
        (float("nan"), None, "but it is nan"),
        (0.1, 5, "poisons is what the referee fills in"),
        ("true", -1, "poisons must be at least 0"),
    ],
    ids=["nothing", "everything", "no number", "told without asking", "fewer than none"],
)
def test_an_assumption_that_cannot_be_meant_is_refused(expected, poisons, said):
    with pytest.raises(ConfigError, match=said):
        check_expected(expected, poisons)


def test_an_oracle_that_was_told_nothing_says_so():
    with pytest.raises(ConfigError, match="nobody said how many rows are poisoned"):
        expected_count("true", None, 100)


def test_a_hair_more_than_a_whole_number_is_that_number():
    assert 1.5 * (0.07 * 100) > 10.5 - 1e-12
    assert [rounded_up(x) for x in (0.07 * 100, 7.0, 7.01, 0.0)] == [7, 7, 8, 0]


def test_features_that_are_no_numbers_are_refused_with_the_lowest_id():
    features = torch.ones(4, 2)
    features[1, 0], features[3, 1] = torch.nan, torch.inf
    with pytest.raises(ModelError, match=r"who cannot judge .* 2 of 4 rows are \(id 5\).*lower its learning rate"):
        check_features(features, rows([0, 0, 1, 1], ids=[7, 9, 3, 5]), who="who")


@pytest.mark.parametrize("shape", [(4, 2, 2), (3, 2), (4, 0)], ids=["images", "a row short", "empty"])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ModelError, match="a vector of features for each of 4 rows"):
        check_features(torch.ones(shape), rows([0, 0, 1, 1]), who="who")


def test_classes_that_are_there_come_with_their_lowest_ids_first():
    found = members(rows([2, 0, 2, 0], ids=[8, 1, 3, 0], classes=5))
    assert [each.tolist() for each in found] == [[3, 1], [2, 0]]


def test_the_first_of_equally_suspect_rows_comes_first():
    assert worst(torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0]), 2).tolist() == [1, 2]
    assert worst(torch.arange(300) % 2, 5).tolist() == [1, 3, 5, 7, 9]
