"""Sphere: rows far from the centre of their class go, solved by hand and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.defense import features_of
from mithridate.defenses.sphere import Sphere
from mithridate.errors import ConfigError, ModelError
from mithridate.seeding import Seed
from tests.defenses.tables import LEARNER, blobs, gone, sifted, table


def test_a_row_far_from_the_centre_of_its_class_goes_whichever_way_it_lies():
    """Ten rows a class, nine at its place: the tenth lies far off, though near the other class in the second case."""
    for far in (50.0, 1.0):
        data = table([*[0.0] * 9, far, *[1.0] * 9, -50.0], [*[0] * 10, *[1] * 10])
        assert gone(Sphere(), data) == [9, 19]


def test_scores_are_distances_by_hand():
    data = table([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [5.0, 5.0]], [0, 0, 0, 1])
    assert sifted(Sphere(), data).scores.tolist() == pytest.approx([8**0.5, 20**0.5, 20**0.5, 0.0])
    assert sifted(Sphere(centre="median"), data).scores.tolist() == pytest.approx([0.0, 6.0, 6.0, 0.0])


@pytest.mark.parametrize("percentile", [60.0, 90.0])
@pytest.mark.parametrize(("centre", "oracle"), [("mean", np.mean), ("median", np.median)])
def test_each_class_loses_what_numpy_says(centre, oracle, percentile):
    data = blobs(90, seed=3, classes=3)
    expected = []
    for label in range(3):
        points = data.inputs[data.labels == label].double().numpy()
        distances = np.linalg.norm(points - oracle(points, axis=0), axis=1)
        expected += data.ids[data.labels == label][distances > np.percentile(distances, percentile)].tolist()
    assert gone(Sphere(percentile=percentile, centre=centre), data) == sorted(expected)
    assert len(expected) == {60.0: 36, 90.0: 9}[percentile]


def test_columns_count_in_units_of_their_deviation():
    """A thousandth of the second column's deviation is no distance, though it is a large number."""
    inputs = [*[[0.0, 1000.0 * k] for k in range(-4, 5)], [1.0, 0.0]]
    data = table(inputs, [0] * 10, mean=(0.0, 0.0), std=(0.01, 1e6))
    assert gone(Sphere(), data) == [9]
    assert 9 not in gone(Sphere(), table(inputs, [0] * 10))


def test_features_are_those_of_the_network_trained_without_defense():
    data = blobs(40, seed=4)
    features = features_of(LEARNER.fit(data, seed=Seed(7)).model, data)
    expected = sifted(Sphere(), table(features, data.labels))
    found = sifted(Sphere(space="features"), data, seed=7)
    assert torch.allclose(found.scores, expected.scores)
    assert found.flagged.tolist() == expected.flagged.tolist()


def test_nothing_is_trained_where_inputs_are_looked_at():
    assert Sphere().sift(None, blobs(20, seed=1), seed=Seed(0)).flagged.any()


def test_rows_all_in_one_place_and_single_rows_stay():
    assert gone(Sphere(), table(torch.ones(7, 3), [0, 0, 0, 0, 1, 1, 2])) == []


def test_images_are_looked_at_flattened(split):
    verdict = sifted(Sphere(), split.train)
    points = (split.train.all_inputs() - 0.38) / 0.2
    mine = points[split.train.labels == 0].flatten(1)
    assert torch.allclose(verdict.scores[split.train.labels == 0].float(), (mine - mine.mean(0)).norm(dim=1), atol=1e-3)
    assert int(verdict.flagged.sum()) == 9


def test_inputs_that_are_no_numbers_are_refused():
    with pytest.raises(ModelError, match="sphere cannot judge"):
        sifted(Sphere(), table([0.0, torch.nan, 1.0], [0, 0, 1]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"percentile": 100.0}, r"percentile must lie in \(0, 100\)"),
        ({"centre": "mode"}, "centre must be"),
        ({"space": "pixels"}, "space must be 'inputs' or 'features', but it is 'pixels'"),
    ],
    ids=["percentile", "centre", "space"],
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Sphere(**wrong)
