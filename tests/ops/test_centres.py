"""Centres and percentiles, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.errors import ConfigError
from mithridate.ops.centres import beyond, centre_of, check_centre, check_percentile


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_centres_are_those_of_numpy(count):
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
    for centre, oracle in (("mean", np.mean), ("median", np.median)):
        found = centre_of(points, centre)
        assert found.dtype == torch.float64
        assert np.allclose(found, oracle(points.double().numpy(), axis=0))


@pytest.mark.parametrize("percentile", [10, 50, 87.5, 90])
@pytest.mark.parametrize("count", [1, 2, 10, 33])
def test_what_exceeds_its_percentile_is_what_numpy_says(count, percentile):
    distances = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    expected = distances.numpy() > np.percentile(distances.numpy(), percentile)
    assert beyond(distances, percentile).tolist() == expected.tolist()
    assert not expected[distances.argmin()]


def test_equal_distances_stay_even_where_rounding_tells_them_apart():
    equal = torch.tensor([1.0, 1.0 + 1e-15, 1.0 - 1e-15, 1.0], dtype=torch.float64)
    assert not beyond(equal, 50).any()
    assert not beyond(torch.zeros(5, dtype=torch.float64), 90).any()


@pytest.mark.parametrize("percentile", [0.0, 100.0, -1.0, float("nan")])
def test_a_percentile_that_flags_nothing_or_all_is_refused(percentile):
    with pytest.raises(ConfigError, match=r"percentile must lie in \(0, 100\), but it is"):
        check_percentile(percentile)


def test_a_centre_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="centre must be 'mean' or 'median', but it is 'mode'"):
        check_centre("mode")
