"""Promises of a campaign's page: sections of the grid where there is one, none of them elsewhere, and under 3 MB."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mithridate.report import page
from mithridate.report.load import read
from tests.report.fabricate import fabricate
from tests.report.fabricate_defenses import EPIC, NONE, Made, fabricate_defenses
from tests.report.fabricate_degrade import Made as Degraded
from tests.report.fabricate_degrade import fabricate_table
from tests.report.fabricate_grid import ALL, SOURCE, Grid, fabricate_grid
from tests.report.test_page import HOSTILE, Elements, words

SECTIONS = ("grid", "stripes", "publications", "failures")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = fabricate_grid(tmp_path_factory.mktemp("campaign"), Grid(trials=3, runs_reuse=10.0))
    return page.html(read(folder))


def section(html: str, name: str) -> str:
    return html.split(f'<section id="{name}"')[1].split("</section>")[0]


def test_every_section_of_a_grid_is_there_once(shown: str):
    for name in SECTIONS:
        assert shown.count(f'<section id="{name}"') == 1
        assert f'href="#{name}"' in shown


def test_simple_runs_have_none_of_them(tmp_path: Path):
    folders = [
        fabricate(tmp_path / "plain", trials=2, runs=1),
        fabricate_defenses(tmp_path / "defended", [NONE, EPIC], trials=2, runs=1),
    ]
    for folder in folders:
        html = page.html(read(folder))
        assert not [name for name in SECTIONS if f'id="{name}"' in html]
        assert "Safety and its price, for other" not in html


def test_is_one_safe_offline_file(tmp_path: Path):
    made = (NONE, EPIC, Made(name=HOSTILE[0], success=0.5), Made(name=HOSTILE[1], success=0.2, control_of=("epic",)))
    grid = Grid(attacks={HOSTILE[0]: 1.0, HOSTILE[4]: 0.5}, made=made, victims=HOSTILE[2:4], trials=2, holes=False)
    html = page.html(read(fabricate_grid(tmp_path, grid)))
    elements = Elements(html).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert html.count("</style>") == 1
    assert not re.search(r"https?://|@import", html)
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= set(ids)
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")


def test_holes_are_words_and_failures_are_told_once(shown: str):
    grid = section(shown, "grid")
    assert grid.count("<i>failed</i>") == 1
    assert grid.count("<i>not run</i>") == 1
    failures = words("<body>" + section(shown, "failures"))
    assert "3 jobs failed, 1 was not run because it needs those. 3 jobs are still to be run." in failures
    assert "2 jobs (2 poisoned networks) : the loss of victim" in failures
    assert section(shown, "failures").count("<pre") == 2


def test_numbers_of_the_map_are_readable_without_a_mouse(shown: str):
    """Rate and interval stand in the place itself, not in its title alone."""
    cells = re.findall(r'<td class="run[^>]*>(.*?)</td>', section(shown, "grid"), flags=re.S)
    assert len(cells) == 2 * (4 * len(ALL)) - 2
    for cell in cells:
        text = re.sub(r"<[^>]*>", " ", cell)
        assert re.search(r"\d\s*\N{NO-BREAK SPACE}%", text)
        assert re.search(r"\d+–\d+", text)


def test_published_sources_are_numbered_once(shown: str):
    assert shown.count('id="source-1"') == 1
    assert SOURCE in section(shown, "publications")


def test_saved_time_is_said_in_one_line(shown: str, tmp_path: Path):
    networks = 2 * 3 * 2 * (4 * len(ALL) - 1)  # scenarios, trials, runs; one place is empty
    assert re.search(r"\d+ h \d+ min more were saved", shown.replace("\N{NO-BREAK SPACE}", " "))
    assert networks * 10 > 3600
    assert "more were saved" not in page.html(read(fabricate(tmp_path, trials=1, runs=1)))


def test_attacks_that_degrade_show_errors_and_rises(tmp_path: Path):
    folder = fabricate_table(tmp_path, Degraded(defenses={"none": 1.0, "slab": 0.4}, budgets=(0.1,)))
    html = page.html(read(folder))
    grid = words("<body>" + section(html, "grid"))
    assert "The error under poison" in grid
    assert "networks hit" not in grid
    assert 'id="stripes"' not in html


def test_a_large_grid_stays_under_three_megabytes(tmp_path: Path):
    defenses = [Made(name=f"defense {k}", success=0.9 - 0.04 * k) for k in range(11)]
    grid = Grid(
        attacks={f"attack {k}": 1 - 0.08 * k for k in range(7)},
        made=[NONE, EPIC, *defenses],
        scenarios=tuple((radius / 255, 0.04) for radius in (32, 24, 16, 8)),
        trials=2,
        runs=1,
        holes=False,
    )
    html = page.html(read(fabricate_grid(tmp_path, grid)))
    assert len(html.encode()) < 3_000_000
    assert "further combinations would not fit" in words(html)
