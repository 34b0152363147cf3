"""Promises of reading what a run says of feature spaces, of pretraining and of published numbers."""

from __future__ import annotations

import math

import pytest

from mithridate.report.origins import pretraining, published
from mithridate.report.planes import feature_map, polytopes
from tests.report.fabricate_polytopes import PRETRAINING, polytope


def test_a_polytope_is_read_as_written():
    (found,) = polytopes([polytope(0, rows=3)])
    assert (found.hull, found.mean, found.clean_hull, found.clean_mean) == (0.03, 0.21, 0.88, 0.95)
    assert sum(found.coefficients) == pytest.approx(1, abs=1e-3)
    assert found.plane is not None
    assert [len(found.plane.group(name)) for name in ("target class", "base", "poison", "target")] == [80, 3, 3, 1]


@pytest.mark.parametrize("value", [None, [], {}, "text", 3, [None], [{}], [{"points": 3, "groups": None}]])
def test_what_is_no_polytope_is_none(value):
    assert polytopes(value) == ()


@pytest.mark.parametrize("shares", [[0.5, None], [0.5, math.nan], None, "half"])
def test_coefficients_with_gaps_are_not_shown_as_if_whole(shares):
    (found,) = polytopes([polytope(0) | {"coefficients": shares}])
    assert found.coefficients == ()


def test_numbers_alone_are_worth_showing_without_a_plane():
    (found,) = polytopes([{"network": "net", "hull": 0.1}])
    assert (found.network, found.hull, found.mean, found.plane) == ("net", 0.1, None, None)


def test_points_that_are_no_numbers_are_left_out_with_their_groups():
    points = [[0, 1], [math.nan, 1], [1], None, [2, 3]]
    found = feature_map({"points": points, "groups": ["a", "b", "c", "d", "e"], "axes": ["x"]})
    assert found is not None
    assert (found.points, found.groups, found.axes) == (((0.0, 1.0), (2.0, 3.0)), ("a", "e"), ("x", ""))


def test_a_pretraining_names_its_data_by_what_was_given():
    found = pretraining(PRETRAINING)
    assert found.data == "cifar10, classes bird/cat, per class 0:1000"
    assert (found.rows, found.accuracy, found.seconds, found.reused) == (2000, 0.913, 300.0, 290.0)
    assert pretraining({}).data == "not recorded"
    assert "(200)" in pretraining({"data": {"name": "x", "classes": list(range(200))}}).data


def test_published_numbers_that_are_no_rates_are_left_out():
    rows = [{"attack": "a", "victim": "v", "rate": rate, "trials": 10, "source": "s"} for rate in (0.5, 50, None, "x")]
    assert [each.rate for each in published(rows)] == [0.5]
    assert published(None) == published("text") == published({"rate": 1}) == ()
