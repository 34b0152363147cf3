"""Promises of the figures and words about where a poison lies."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from mithridate.report import polytopes
from mithridate.report.feature_drawings import outline, surrounded
from mithridate.report.load import Craft, Run, read
from mithridate.report.nearing import band, nearing, network
from mithridate.report.panels import crafting
from mithridate.report.planes import FeatureMap
from mithridate.store import Store
from tests.report.fabricate import add_craft
from tests.report.fabricate_polytopes import BULLSEYE, CONVEX, fabricate_polytopes, polytope, trace

HOSTILE = '</svg><script>alert("1")</script>'


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(fabricate_polytopes(tmp_path_factory.mktemp("polytopes"), trials=4))


@pytest.fixture(scope="module")
def groups(featured: Run) -> list[polytopes.Group]:
    return polytopes.polytopes(featured)


def crafts(folder: Path, *views: list, **changes) -> Run:
    with Store(folder, create=True) as store:
        for trial, each in enumerate(views):
            add_craft(store, trial, polytope=each, **changes)
    return read(folder)


def craft(curves: dict[str, list[float]], folder: Path) -> Craft:
    return crafts(folder, [], trace=curves).crafts[0]


def test_an_outline_has_every_point_on_its_left_and_goes_around_once():
    """Oracle: a corner of the hull is a point that some direction likes best."""
    points = [(float(x), float(y)) for x, y in np.random.default_rng(0).normal(size=(40, 2))]
    found = outline(points)
    directions = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 3600)]
    best = {max(points, key=lambda point: point[0] * d[0] + point[1] * d[1]) for d in directions}
    assert set(found) == best
    for (ax, ay), (bx, by) in itertools.pairwise([*found, found[0]]):
        assert all((bx - ax) * (y - ay) - (by - ay) * (x - ax) >= -1e-12 for x, y in points)


@pytest.mark.parametrize(
    ("points", "corners"),
    [
        ([], 0),
        ([(1, 1)], 1),
        ([(1, 1), (1, 1)], 1),
        ([(0, 0), (1, 1), (2, 2)], 2),
        ([(0, 0), (2, 0), (1, 0), (1, 1)], 3),
    ],
)
def test_few_or_aligned_points_have_an_outline_too(points, corners):
    assert len(outline(points)) == corners


def test_each_base_row_is_joined_to_its_own_poison():
    """Two base rows on one side, their poisons on the other: the lines run level and do not cross."""
    points = ((0.0, 0.0), (0.0, 10.0), (10.0, 0.0), (10.0, 10.0), (5.0, 5.0))
    plane = FeatureMap(points=points, groups=("base", "base", "poison", "poison", "target"), axes=("", ""))
    svg = str(surrounded("a", plane, title="", label="").svg)
    moves = re.findall(r'<path d="M ([\d.]+) ([\d.]+) L ([\d.]+) ([\d.]+) "[^>]*stroke: var\(--muted\)', svg)
    assert len(moves) == 2
    assert all(start == end for _, start, _, end in moves)
    unpaired = FeatureMap(points=points[1:], groups=("base", "poison", "poison", "target"), axes=("", ""))
    assert "stroke: var(--muted)" not in str(surrounded("a", unpaired, title="", label="").svg)


def test_text_from_data_is_escaped_in_figures(tmp_path: Path):
    views = [polytope(0, network=HOSTILE, axes=[HOSTILE, HOSTILE])]
    (group,) = polytopes.polytopes(crafts(tmp_path, views))
    figure = group.trials[0].views[0].figure
    assert figure is not None
    assert "<script" not in figure.svg
    assert figure.svg.count("</svg>") == 1


def test_attacks_stand_with_their_first_trials_and_networks(groups: list[polytopes.Group]):
    assert [group.title.split(",")[0] for group in groups] == [BULLSEYE, CONVEX]
    assert [[trial.trial for trial in group.trials] for group in groups] == [[0, 1, 2]] * 2
    assert [trial.outcome for trial in groups[0].trials] == ["2 of 2 networks hit"] * 2 + ["0 of 2 networks hit"]
    assert [view.title for view in groups[0].trials[0].views] == [
        "Network 1: resnet18, transfer, number 0",
        "Network 2: resnet18, transfer, number 1",
    ]


def test_networks_and_points_beyond_a_few_are_not_drawn_but_counted(tmp_path: Path):
    (group,) = polytopes.polytopes(crafts(tmp_path, [polytope(k, rows=300) for k in range(9)]))
    (trial,) = group.trials
    assert (len(trial.views), trial.more) == (4, 5)
    assert all(view.figure and len(view.figure.svg) < 60_000 for view in trial.views)
    assert "9 networks" in group.overall


def test_distances_are_said_with_their_unit(groups: list[polytopes.Group]):
    whole = groups[0].trials[0].views[0]
    assert whole.distances == (
        "Target to hull 0.03, to mean 0.21; untouched rows 0.88 and 0.95 (in lengths of the target)."
    )


def test_what_was_not_measured_is_a_dash(tmp_path: Path):
    (group,) = polytopes.polytopes(crafts(tmp_path, [{"network": "net", "hull": 0.5}]))
    view = group.trials[0].views[0]
    assert (view.figure, view.shares) == (None, None)
    assert view.distances == "Target to hull 0.5, to mean – (in lengths of the target)."


def test_the_overall_sentence_gives_medians_over_all_trials(tmp_path: Path):
    found = crafts(tmp_path, *([polytope(0, hull=hull)] for hull in (0.1, 0.4, 0.2, 0.8, 0.3)))
    (group,) = polytopes.polytopes(found)
    assert "Over 5 trials and one network (resnet18, transfer)" in group.overall
    assert "the hull of the poison is 0.3 (0.1 to 0.8) lengths" in group.overall


def test_coefficients_keep_their_order_and_know_the_equal_share(tmp_path: Path):
    views = [polytope(0, coefficients=[0.1, 0.6, 0.3])]
    shares = polytopes.polytopes(crafts(tmp_path, views))[0].trials[0].views[0].shares
    assert shares is not None
    assert (shares.bars, shares.top, shares.count) == ((0.1, 0.6, 0.3), 1.0, 3)
    assert shares.equal == pytest.approx(1 / 3)
    assert shares.label == "3 coefficients: 0.10, 0.60, 0.30; equal ones would be 0.33"


def test_of_very_many_coefficients_the_largest_are_shown(tmp_path: Path):
    values = [k / 5000 for k in range(100)]
    shares = polytopes.polytopes(crafts(tmp_path, [polytope(0, coefficients=values)]))[0].trials[0].views[0].shares
    assert shares is not None
    assert shares.bars == tuple(sorted(values)[:-41:-1])
    assert (shares.top, shares.count) == (99 / 5000, 100)


def test_attacks_outside_feature_space_have_no_polytope(run: Run):
    assert polytopes.polytopes(run) == []


def test_distances_of_all_networks_stand_in_one_figure(featured: Run):
    found = crafting(featured)
    assert [figure.title for figure in found] == ["Loss", "Distance to the target"] * 2
    figure = found[1]
    assert "network 1</text>" in figure.svg
    assert "network 2</text>" in figure.svg
    assert figure.caption.endswith("Median of 4 trials, the band between the quartiles")


def test_a_band_is_the_median_and_the_quartiles_of_trials():
    found = band("x", [[float(k), 10.0 * k] for k in range(5)])
    assert (found.low, found.median, found.high) == ([1.0, 10.0], [2.0, 20.0], [3.0, 30.0])


def test_a_crafting_that_stopped_stays_where_it_was_and_gaps_are_left_out():
    found = band("x", [[1.0], [3.0, float("nan"), 5.0], [5.0, 7.0, 9.0]])
    assert found.median == [3.0, 4.0, 5.0]


def test_only_a_few_networks_are_drawn_and_the_caption_says_so(tmp_path: Path):
    figure = nearing("n", [craft(trace(0, 18), tmp_path)], "")
    assert figure is not None
    assert "network 6</text>" in figure.svg
    assert "network 7</text>" not in figure.svg
    assert figure.caption == "One trial; the first 6 of 18 networks"


def test_networks_are_told_by_the_whole_name():
    assert network("distance to the target, network 12") == 12
    assert network("the distance to the target, network 12") is None
    assert network("loss") is None
