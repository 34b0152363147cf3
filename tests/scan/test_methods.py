"""Scores of the methods: on one scale in all classes, and against a slow oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Filter, Verdict
from mithridate.errors import ConfigError
from mithridate.scan.methods import FRACTIONS, Filtering, Isolation, Loss, chosen, log_odds, within_classes
from mithridate.scan.probing import Frozen
from mithridate.seeding import Seed
from tests.scan.material import material, network


def test_log_odds_are_those_of_the_probability() -> None:
    logits, labels = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 1])
    chances = torch.softmax(logits.double(), 1)[[0, 1], labels].tolist()
    assert log_odds(logits, labels).tolist() == pytest.approx([math.log((1 - p) / p) for p in chances])


def test_log_odds_stay_finite_where_probabilities_do_not() -> None:
    found = log_odds(torch.tensor([[500.0, 0.0], [500.0, 0.0]]), torch.tensor([0, 1]))
    assert found.tolist() == [-500.0, 500.0]


def test_within_classes_the_median_is_0_and_what_a_tenth_exceed_1() -> None:
    scores = np.concatenate([np.arange(11.0), 100 * np.arange(11.0), [7.0, np.nan]])
    labels = np.repeat([0, 1, 2], [11, 11, 2])
    found = within_classes(scores, labels)
    assert found[:11].tolist() == pytest.approx([(k - 5) / 4 for k in range(11)])
    assert found[11:22].tolist() == pytest.approx(found[:11].tolist())
    assert found[22] == 0
    assert np.isnan(found[23])


def test_a_class_of_mostly_equal_scores_is_scaled_by_its_range() -> None:
    found = within_classes(np.array([0.0] * 19 + [3.0]), np.zeros(20, dtype=int))
    assert found.tolist() == [0.0] * 19 + [2.0]


@dataclass(frozen=True, kw_only=True)
class Brightness(Filter):
    """Suspects bright images, and says nothing of class 2."""

    name: ClassVar[str] = "brightness"

    def judge(self, features: Tensor, data: Dataset, *, seed: Seed) -> Verdict:
        bright = data.all_inputs().flatten(1).mean(1)
        scores = torch.where(data.labels == 2, torch.nan, bright)
        return Verdict(scores=scores, flagged=scores > 0.5)


def test_a_filter_is_asked_and_brought_to_scale() -> None:
    found, _ = material(120)
    views = Frozen(model=network()).views(found.data, seed=Seed(0))
    scores = Filtering(filter=Brightness()).scores(views, found.data, seed=Seed(0))
    bright = found.data.all_inputs().flatten(1).mean(1).double().numpy()
    labels = found.data.labels.numpy()
    assert np.isnan(scores[labels == 2]).all()
    for label in (0, 1):
        rows = labels == label
        assert (np.argsort(scores[rows]) == np.argsort(bright[rows])).all()
        assert np.median(scores[rows]) == pytest.approx(0.0, abs=1e-9)


def test_isolation_counts_fractions_and_breaks_ties_by_distance() -> None:
    found, odd = material(150, wrong=3)
    views = Frozen(model=network()).views(found.data, seed=Seed(0))
    scores = Isolation().scores(views, found.data, seed=Seed(0))
    assert scores.min() >= 0
    assert scores.max() < len(FRACTIONS) + 1
    chances = torch.softmax(views.logits.double(), 1)
    labels = found.data.labels
    alone = torch.tensor(
        [(chances[labels == labels[row]] - chances[row]).norm(dim=1).sort().values[1] for row in range(150)]
    )
    assert np.mod(scores, 1).tolist() == pytest.approx((alone / 2).tolist(), abs=1e-9)
    assert np.median(scores[odd.numpy()]) > np.median(scores)


def test_names_choose_methods_and_the_loss_is_always_among_them() -> None:
    assert [each.name for each in chosen()] == [
        *("spectral-signatures", "activation-clustering", "deep-knn", "epic", "loss")
    ]
    assert [each.name for each in chosen(["epic", "epic"])] == ["epic", "loss"]
    assert chosen(["loss"]) == (Loss(),)
    assert [each.name for each in chosen() if each.steady] == ["loss"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("deepknn", "'deepknn' is unknown; did you mean 'deep-knn'?"),
        (
            "mixup",
            "'mixup' does not judge rows by their features; allowed: activation-clustering, deep-knn, epic, loss",
        ),
        ("oracle-filter", "'oracle-filter' does not judge rows"),
        ("", "'' is unknown; allowed:"),
    ],
)
def test_other_names_are_refused_with_the_nearest(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        chosen([name])
    assert sentence in str(refused.value)
