"""Slab: rows far out along the line between the classes go, solved by hand and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.defenses.slab import Slab, lines
from mithridate.defenses.sphere import Sphere
from mithridate.errors import ConfigError
from tests.defenses.tables import blobs, gone, sifted, table


def test_only_the_way_along_the_line_counts():
    """Classes apart in the first column, wide in the second: a row near the other class goes, far ones do not."""
    wide = [-40.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0]
    inputs = [*[[0.0, y] for y in wide], [6.0, 0.0], *[[10.0, y] for y in wide], [10.0, 0.0]]
    data = table(inputs, [*[0] * 10, *[1] * 10])
    assert gone(Slab(), data) == [9]
    assert 9 not in gone(Sphere(), data)


def test_rows_beyond_their_own_centre_go_too():
    data = table([*[0.0] * 9, -6.0, *[10.0] * 10], [*[0] * 10, *[1] * 10])
    assert gone(Slab(), data) == [9]


def test_scores_are_distances_along_the_line_by_hand():
    """Centres (0, 0) and (3, 4): a row moved by (5, 0) is 3 along, one moved by (4, -3) not at all."""
    data = table([[5.0, 0.0], [-5.0, 0.0], [7.0, 1.0], [-1.0, 7.0]], [0, 0, 1, 1])
    assert sifted(Slab(), data).scores.tolist() == pytest.approx([3.0, 3.0, 0.0, 0.0], abs=1e-6)


def test_with_three_classes_each_line_leads_to_the_mean_of_the_other_centres():
    data = blobs(91, seed=3, classes=3).at(torch.arange(0, 91).roll(7)[:70])  # classes of different size
    points, labels = data.inputs.double().numpy(), data.labels.numpy()
    centres = [points[labels == label].mean(0) for label in range(3)]
    expected, scores = [], sifted(Slab(percentile=80.0), data).scores
    for label in range(3):
        line = centres[label] - np.mean([centres[other] for other in range(3) if other != label], axis=0)
        along = np.abs((points[labels == label] - centres[label]) @ line) / np.linalg.norm(line)
        mine = data.ids[labels == label]
        expected += mine[along > np.percentile(along, 80)].tolist()
        found = scores[torch.isin(data.ids.sort().values, mine)]
        assert np.allclose(np.sort(found.numpy()), np.sort(along))
    assert gone(Slab(percentile=80.0), data) == sorted(expected)


def test_a_median_centre_is_not_moved_by_poison():
    """A fifth of class 0 lies far beyond class 1; the mean follows, so that honest rows look as far as poison."""
    data = table([*[0.0, 0.1, 0.2, 0.3] * 4, *[400.0] * 4, *[10.0] * 20], [*[0] * 20, *[1] * 20])
    poison = [16, 17, 18, 19]
    assert gone(Slab(percentile=80.0, centre="median"), data) == poison
    assert sifted(Slab(centre="median"), data).scores[:16].max() < 1
    assert sifted(Slab(), data).scores[:16].min() > 70


def test_nothing_goes_where_there_is_no_line():
    assert gone(Slab(percentile=50.0), table([0.0, 5.0, 9.0], [0, 0, 0])) == []
    assert gone(Slab(percentile=50.0), table([0.0, 4.0, 0.0, 4.0], [0, 0, 1, 1])) == []
    assert lines(torch.tensor([[1.0, 1.0], [1.0, 1.0], [4.0, 5.0]]).double())[2].tolist() == pytest.approx([0.6, 0.8])


def test_a_class_in_the_middle_of_all_others_loses_nothing():
    data = table([*[-10.0] * 9, -2.0, *[10.0] * 9, 2.0, *[0.0] * 9, 8.0, -8.0], [*[0] * 10, *[1] * 10, *[2] * 11])
    assert gone(Slab(), data) == [9, 19]


@pytest.mark.parametrize("wrong", [{"percentile": 0.0}, {"centre": "mode"}, {"space": "pixels"}], ids=str)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Slab(**wrong)
