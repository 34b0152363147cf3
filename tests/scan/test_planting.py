"""Planted poison is what it is said to be, and nothing else is changed."""

from __future__ import annotations

import pytest
import torch

from mithridate.errors import DataError
from mithridate.scan.planting import KINDS, RADIUS, collided, planted
from mithridate.seeding import Seed
from mithridate.testing import toy
from tests.scan.material import network

COUNT = 12


@pytest.fixture(scope="module")
def everyone() -> torch.Tensor:
    return torch.ones(300, dtype=torch.bool)


def test_each_kind_changes_what_it_says_and_nothing_else(everyone: torch.Tensor) -> None:
    data = toy(300, seed=3)
    before = data.digest()
    found = planted(data, eligible=everyone, count=COUNT, model=network(), seed=Seed(1))
    assert data.digest() == before
    assert tuple(found.rows) == KINDS
    rows = torch.cat(list(found.rows.values()))
    assert len(rows) == len(set(rows.tolist())) == 3 * COUNT
    rest = torch.ones(300, dtype=torch.bool)
    rest[rows] = False
    assert torch.equal(found.data.inputs[rest], data.inputs[rest])
    assert torch.equal(found.data.labels[rest], data.labels[rest])
    assert torch.equal(found.data.ids, data.ids)

    wrong = found.rows["mislabelled"]
    assert torch.equal(found.data.inputs[wrong], data.inputs[wrong])
    assert (found.data.labels[wrong] != data.labels[wrong]).all()

    moved = found.rows["perturbed"]
    change = (found.data.take(moved)[0] - data.take(moved)[0]).abs().flatten(1).amax(1)
    assert torch.equal(found.data.labels[moved], data.labels[moved])
    assert (change > 0).all()
    assert change.max() <= RADIUS + 0.5 / 255 + 1e-6, "and half a level of rounding"

    patched = found.rows["patched"]
    assert len(found.data.labels[patched].unique()) == 1
    assert (found.data.labels[patched] != data.labels[patched]).all()
    changed = (found.data.inputs[patched] != data.inputs[patched]).any(0)[0]
    assert changed.nonzero().amin(0).tolist() == [6, 6], "the patch is 2 x 2 in the last corner of 8 x 8"
    assert len(found.data.inputs[patched][:, :, 6:, 6:].unique(dim=0)) == 1


def test_perturbed_rows_come_nearer_to_another_class_in_feature_space(everyone: torch.Tensor) -> None:
    data, model = toy(300, seed=3), network()
    rows = torch.arange(20)
    moved = collided(model, data, rows, everyone, torch.Generator().manual_seed(0))
    inputs, labels = data.take(slice(None))

    def to_others(images: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(model.features(images), model.features(inputs))
        return distances.masked_fill(labels[rows][:, None] == labels, torch.inf).amin(1)

    with torch.no_grad():
        assert (to_others(moved) < to_others(data.take(rows)[0])).float().mean() > 0.9
    low, high = data.space.bounds
    assert moved.min() >= low
    assert moved.max() <= high


def test_new_labels_are_drawn_evenly_from_the_others() -> None:
    data = toy(900, seed=4)
    everyone = torch.ones(900, dtype=torch.bool)
    found = planted(data, eligible=everyone, count=300, model=network(), seed=Seed(0))
    rows = found.rows["mislabelled"]
    step = (found.data.labels[rows] - data.labels[rows]) % 3
    assert set(step.tolist()) == {1, 2}
    assert abs(int((step == 1).sum()) - 150) < 40, "4.6 standard deviations"


def test_small_classes_are_neither_changed_nor_given_as_labels() -> None:
    data = toy(300, seed=3)
    eligible = data.labels != 2
    found = planted(data, eligible=eligible, count=COUNT, model=network(), seed=Seed(5))
    for rows in found.rows.values():
        assert eligible[rows].all()
        assert (found.data.labels[rows] != 2).all()


def test_the_seed_decides(everyone: torch.Tensor) -> None:
    data = toy(300, seed=3)
    one, same, other = (
        planted(data, eligible=everyone, count=COUNT, model=network(), seed=Seed(k)).data.digest() for k in (1, 1, 2)
    )
    assert one == same != other


def test_too_few_rows_are_refused(everyone: torch.Tensor) -> None:
    with pytest.raises(DataError, match="101 rows of each kind cannot be planted among 300 rows"):
        planted(toy(300, seed=3), eligible=everyone, count=101, model=network(), seed=Seed(0))
