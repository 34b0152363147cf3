"""Probes: each row is judged by a network that has not seen it, and by one that has."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, ModelError
from mithridate.scan.probing import Frozen, Trained, folded, head
from mithridate.seeding import Seed
from mithridate.watch import Step
from tests.scan.material import Known, Memory, material, network


@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_deal_out_every_class_evenly(labels: list[int], count: int, seed: int) -> None:
    given_labels = torch.tensor(labels)
    fold = folded(given_labels, count, Seed(seed))
    assert fold.min() >= 0
    for rows in [fold, *(fold[given_labels == label] for label in set(labels))]:
        sizes = torch.bincount(rows, minlength=count)
        assert sizes.max() - sizes.min() <= 1


def numbered(rows: int) -> Dataset:
    """Rows that differ in their first pixel."""
    images = torch.zeros(rows, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(rows)
    return Dataset.of(images, torch.arange(rows) % 2, space=Space(shape=(1, 2, 2), num_classes=2, levels=256))


@pytest.mark.parametrize("folds", [2, 5])
def test_no_row_is_judged_unseen_by_a_network_that_saw_it(folds: int) -> None:
    views = Trained(learner=Memory(), folds=folds).views(numbered(60), seed=Seed(0))
    assert (views.unseen.argmax(1) == 0).all()
    assert (views.logits.argmax(1) == 1).all()
    assert (views.features.argmax(1) == 1).all()


def test_a_head_on_frozen_features_is_logistic_regression() -> None:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 3
    points = torch.randn(200, 4, generator=draws) + torch.eye(3, 4)[labels]
    oracle = LogisticRegression(C=1 / (0.01 * 200), tol=1e-8, max_iter=1000).fit(points.numpy(), labels.numpy())
    found = torch.softmax(head(points, labels, 3, 0.01)(points), 1)
    assert torch.allclose(found.double(), torch.from_numpy(oracle.predict_proba(points.numpy())).double(), atol=1e-3)


def test_a_frozen_network_stays_as_it_is_and_judges_rows_by_heads_without_them() -> None:
    found, odd = material(300, wrong=6)
    model = network()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    steps: list[Step] = []
    views = Frozen(model=model).views(found.data, seed=Seed(0), watch=steps.append)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert [(each.done, each.total) for each in steps] == [(k, 5) for k in range(1, 6)]
    assert (views.unseen.argmax(1) == found.data.labels).float().mean() > 0.9
    assert (views.unseen.argmax(1)[odd] != found.data.labels[odd]).all()
    fold = folded(found.data.labels, 4, Seed(0).child("folds"))
    points = (views.features - views.features.mean(0)) / views.features.std(0)
    points = torch.where(points.isfinite(), points, 0.0)
    own = head(points[fold != 1], found.data.labels[fold != 1], 3, 1e-3)(points[fold == 1])
    assert torch.allclose(views.unseen[fold == 1], own, atol=1e-2)


def test_a_probe_that_diverged_is_refused() -> None:
    found, _ = material(120)
    model = copy.deepcopy(network())
    with torch.no_grad():
        model.head_parameters()[0].fill_(torch.nan)
    with pytest.raises(ModelError, match=r"NaN or infinite values for 120 of 120 rows.*--model"):
        Trained(learner=Known(model=model)).views(found.data, seed=Seed(0))


def test_refuses_settings_that_leave_nothing() -> None:
    with pytest.raises(ConfigError, match="folds must be at least 2"):
        Trained(learner=Memory(), folds=1)
    with pytest.raises(ConfigError, match="folds must be at least 2"):
        Frozen(model=network(), folds=0)
    with pytest.raises(ConfigError, match="decay must be positive"):
        Frozen(model=network(), decay=0.0)
