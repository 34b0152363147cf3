"""Promises of planes with classes on them: read with care, drawn only where they were kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mithridate.report.boundaries import Spot, boundary
from mithridate.report.error_drawings import plane


def made(**changes: Any) -> dict[str, Any]:
    grid = np.linspace(-1, 1, 5).tolist()
    classes = [[int(x + y > 0) for x in grid] for y in grid]
    points = [[0.5, 0.5, 1, False], [-0.5, 0.0, 0, True]]
    return {"x": grid, "y": grid, "classes": classes, "points": points, "axes": ["one", "two"]} | changes


def test_a_plane_is_read_as_it_was_kept():
    found = boundary(made())
    assert found is not None
    assert (len(found.x), len(found.y), found.axes) == (5, 5, ("one", "two"))
    assert found.classes[0] == (0, 0, 0, 0, 0)
    assert found.classes[4] == (0, 1, 1, 1, 1)
    assert found.spots[1] == Spot(x=-0.5, y=0.0, label=0, poison=True)


@pytest.mark.parametrize(
    "wrong",
    [None, {}, made(x=[1.0]), made(classes=[[0] * 5]), made(classes=[[0] * 4] * 5), made(x=[0, 1, 2, 3, "nan"])],
)
def test_what_is_no_plane_is_none(wrong: Any):
    assert boundary(wrong) is None


def test_rows_without_a_place_are_left_out():
    found = boundary(made(points=[[None, 0, 0, False], [1, 1], [0.1, 0.2, 1, True]], axes=[]))
    assert found is not None
    assert found.spots == (Spot(x=0.1, y=0.2, label=1, poison=True),)
    assert found.axes == ("", "")


@pytest.mark.parametrize("classes", [[[0] * 5] * 5, made()["classes"], [[k % 3 for k in range(5)]] * 5])
def test_any_number_of_classes_can_be_drawn(classes: list[list[int]]):
    found = boundary(made(classes=classes))
    assert found is not None
    svg = plane("b", found, ["a", "b", "c"], label="a plane")
    assert 'aria-label="a plane"' in svg
    assert "var(--poison)" in svg
    assert "#0a01" not in svg
