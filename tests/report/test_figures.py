"""Promises of the figures: they fit into a page, in either colour scheme, and say nothing unescaped."""

from __future__ import annotations

import math
import re

from mithridate.report.figures import Line, Point, curves, rates, scatter
from mithridate.report.planes import FeatureMap

HOSTILE = '</svg><script>alert("1")</script> $\\frac{1}$ 日本'


def plane() -> FeatureMap:
    groups = ("target class", "intended class", "poison", "target", "<b>other</b>")
    return FeatureMap(points=tuple((float(k), -float(k)) for k in range(5)), groups=groups, axes=(HOSTILE, HOSTILE))


def test_text_from_data_is_escaped_and_taken_literally():
    svg = str(scatter("m", plane(), title="", label=HOSTILE).svg)
    assert "<script" not in svg
    assert svg.count("</svg>") == 1
    assert "$\\frac{1}$ 日本</text>" in svg
    assert 'aria-label="&lt;/svg&gt;&lt;script&gt;alert(&#34;1&#34;)' in svg


def test_names_keep_figures_on_one_page_apart():
    line = [Line(values=[1.0, 2.0])]
    first, second = (str(curves(name, line, title="", across="step", label="").svg) for name in ("a", "b"))
    names = re.compile(r'\bid="([^"]*)"')
    assert not set(names.findall(first)) & set(names.findall(second))
    assert set(re.findall(r"(?:url\(|href=\")#([^\")]*)", first)) <= set(names.findall(first))


def test_colours_come_from_the_page():
    svg = str(curves("a", [Line(values=[1.0, 2.0])], title="", across="step", label="").svg)
    assert "var(--poison)" in svg
    assert "currentColor" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)


def test_a_gap_in_a_curve_is_not_drawn_over():
    whole, gap = (
        str(curves("a", [Line(values=[1.0, 2.0, middle, 2.0, 1.0])], title="", across="", label="").svg)
        for middle in (1.5, math.nan)
    )
    drawn = re.compile(r'<path d="([^"]*)"[^>]*var\(--poison\)')
    assert [path.count("M ") for path in drawn.findall(whole)] == [1]
    assert [path.count("M ") for path in drawn.findall(gap)] == [2]


def test_long_curves_are_thinned():
    svg = str(curves("a", [Line(values=[math.sin(k) for k in range(20_000)])], title="", across="", label="").svg)
    assert len(svg) < 20_000


def test_every_setting_is_a_tick():
    points = [Point(x=x, mean=0.5, low=0.2, high=0.8) for x in (0.01, 0.02, 0.04)]
    ticks = {0.01: "1", 0.02: "2", 0.04: "4"}
    svg = str(rates("a", {"attack": points, "clean": points}, title="", across="budget", ticks=ticks, label="").svg)
    assert {f">{text}</text>" in svg for text in ticks.values()} == {True}
