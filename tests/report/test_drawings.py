"""Promises of the drawings of defenses."""

from __future__ import annotations

import re
from itertools import combinations as pairs

import numpy as np
import pytest

from mithridate.report.drawings import Dot, Steps, certificates, classes, cut, found, mean_steps, rounds, trade

HOSTILE = "</svg><script>$\\frac{1}$"


def test_the_mean_of_steps_by_hand():
    """One network removes at 1 and 3, another at 2: in between each stays where it was."""
    one, other = Steps(epochs=(1, 3), shares=(0.2, 0.6)), Steps(epochs=(2,), shares=(0.4,))
    mean = mean_steps([one, other])
    assert mean.epochs == (1, 2, 3)
    assert mean.shares == pytest.approx((0.1, 0.3, 0.5))
    assert [one.at(epoch) for epoch in range(5)] == [0, 0.2, 0.2, 0.6, 0.6]


def dot(number: int | None, accuracy: float, success: float, kind: str = "defense") -> Dot:
    spread = {"accuracies": (accuracy - 0.01, accuracy + 0.01), "successes": (max(0, success - 0.1), success)}
    return Dot(number=number, accuracy=accuracy, success=success, kind=kind, **spread)


def test_every_defense_has_its_number_and_no_two_overlap():
    """Twelve points in one place are the worst there is."""
    dots = [dot(k + 1, 0.85, 0.5) for k in range(12)] + [dot(None, 0.84, 0.4, "control"), dot(13, 0.5, 0.1, "none")]
    places = text_places(str(trade("a", dots, label="")))
    assert set(range(1, 14)) <= set(places)
    assert min(float(np.hypot(*(places[a] - places[b]))) for a, b in pairs(range(1, 13), 2)) > 5


def text_places(svg: str) -> dict[int, np.ndarray]:
    """Where each number stands, in points."""
    found = re.findall(r'<text style="font-size: 8.5px[^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>(\d+)</text>', svg)
    return {int(text): np.array([float(x), float(y)]) for x, y, text in found}


def test_text_from_data_is_escaped_and_taken_literally():
    drawn = [
        classes("a", [HOSTILE], [[0.1]], label=HOSTILE),
        found("b", [HOSTILE], [0.5], [0.1], [0.1], HOSTILE),
    ]
    for svg in map(str, drawn):
        assert "<script" not in svg
        assert svg.count("</svg>") == 1
        assert "&lt;/svg&gt;&lt;script" in svg


def test_all_colours_come_from_the_page():
    steps = [Steps(epochs=(1, 2), shares=(0.1, 0.2))]
    drawn = [
        rounds("a", steps, steps, steps[0], end=5, label=""),
        classes("b", ["x", "y"], [[0.1, 0.2], [0.3]], label=""),
        found("c", ["x"], [0.5], [0.1], [0.1], ""),
        trade("d", [dot(1, 0.8, 0.5, kind) for kind in ("none", "defense", "oracle", "control")], label=""),
        certificates("e", [((0, 1, 2), (0.9, 0.5, 0.1)), ((0, 1), (0.8, 0.4))], mean=((0, 1), (0.8, 0.4)), label=""),
    ]
    for svg in map(str, drawn):
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        assert "var(--" in svg


def test_faint_lines_for_networks_and_a_bold_one_for_their_mean():
    steps = [Steps(epochs=(1,), shares=(share,)) for share in (0.1, 0.2, 0.3)]
    svg = str(rounds("a", steps, steps, steps[0], end=4, label=""))
    lines = re.findall(r'<path d="[^"]*"[^>]*style="([^"]*stroke: var\(--poison\)[^"]*)"', svg)
    assert sorted("stroke-opacity" in each for each in lines) == [False, True, True, True]


@pytest.mark.parametrize(("name", "short"), [("epic", "epic"), ("a" * 22, "a" * 22), ("a" * 23, "a" * 21 + "…")])
def test_long_names_are_cut(name: str, short: str):
    assert cut(name) == short
