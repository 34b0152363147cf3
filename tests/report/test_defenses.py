"""Promises of what the page says about defenses."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mithridate.report import page, tables
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, fabricate
from tests.report.fabricate_defenses import (
    EPIC,
    NONE,
    Made,
    add_defended,
    controls,
    fabricate_defenses,
    filtered,
    twenty,
)
from tests.report.test_page import Elements, html, words

HOSTILE = "<script>alert(1)</script> \"' {{ 7 * 7 }}"
HEADINGS = ["Success", "Clean accuracy", "Rows dropped", "Poison found", "Clean rows lost", "Time a network", "Sample"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty defenses, ten trials of two networks."""
    return fabricate_defenses(tmp_path_factory.mktemp("many"), twenty())


@pytest.fixture(scope="module")
def shown(many: Path) -> str:
    """Their page."""
    return html(many)


class Cells(HTMLParser):
    """The text of every cell of the first table of defenses, row by row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(page.split('<table class="results defended">')[1].split("</table>")[0].split("<tbody>")[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each defense, by the text of its first one."""
    return {row[0]: row[1:] for row in Cells(page).rows}


def test_the_table_says_what_each_defense_did_and_cost(shown: str):
    found = rows(shown)
    assert len(found) == 1 + 20
    assert found["no defense"][2:5] == ["–", "–", "–"]
    assert found["epic"][2:5] == ["360 9.0 %", "64 %", "6.7 %"]
    assert found["epic"][5].endswith("1.4 ×")
    assert found["epic"][6] == "10 trials 20 networks"
    assert found["oracle-filter control oracle of 5 defenses"][3:5] == ["100 %", "0.0 %"]
    assert "dp-sgd epsilon 3.14" in found
    assert "spectral-signatures oracle" in found
    assert found["mixup"][2:5] == ["–", "–", "–"]


def test_each_control_is_marked_and_stands_under_its_defense(shown: str):
    names = [row[0] for row in Cells(shown).rows]
    assert names[:4] == ["no defense", "epic", "random-drop control of epic", "top-loss-drop control of epic"]
    assert shown.count('<tr class="control own">') == 10
    assert shown.count('<tr class="control">') == 1


def test_cells_without_results_are_not_run(tmp_path: Path):
    fabricate_defenses(tmp_path, [NONE], trials=2, runs=1)
    with Store(tmp_path) as store:
        add_defended(store, "clean", 0, EPIC)
    assert rows(html(tmp_path))["epic"] == ["not run"] * 7


def test_a_run_without_defenses_says_nothing_of_them(folder: Path, tmp_path: Path):
    fabricate(tmp_path, trials=2, runs=1)
    body = html(tmp_path).split("</style>")[1]
    assert 'id="defenses"' in html(folder)
    assert 'id="defenses"' not in body
    assert "oracle" not in body
    assert "Base rates, noise controls, time and memory" not in body
    assert body.count("<table class=") == 1 + 1 + 2 + len(re.findall('<table class="settings">', body))


def test_a_run_of_an_older_release_has_its_defenses_too(folder: Path):
    found = rows(html(folder))
    assert list(found) == ["no defense", "epic 0.1"]
    assert found["epic 0.1"][2:5] == ["–", "–", "–"]
    assert "epic 0.1" in words(html(folder)).split("What the defenses do")[1]


def test_what_the_defenses_do_stands_under_the_verdict(shown: str):
    brief = words(shown).split("What the defenses do")[1].split("how each compares")[0]
    assert "clearly below both controls" in brief
    assert "3 more, and" in brief
    assert "No defense has met" not in words(shown)


def test_the_headline_is_about_the_undefended_attack(shown: str):
    assert re.search(r'<p class="sentence">15 of 20 freshly trained networks', shown)


def test_figures_tell_in_words_what_they_draw(shown: str):
    found = shown
    labels = [a["aria-label"] or "" for tag, a in Elements(found).found if tag == "svg"]
    assert any(each.startswith("Scatter plot of networks hit over accuracy. no defense: 75") for each in labels)
    assert any(
        "epic: 64\N{NO-BREAK SPACE}% of the poison, 6.7\N{NO-BREAK SPACE}% of the clean rows" in e for e in labels
    )
    assert any("in the end 64\N{NO-BREAK SPACE}% of the poison" in each and "hold 9.0" in each for each in labels)
    assert any(
        "in the end" in each and "6.7\N{NO-BREAK SPACE}% of the clean rows are removed" in each for each in labels
    )
    assert any(each.startswith("Bar chart of the share of each class removed: ankle boot") for each in labels)
    assert any(each.startswith("Line chart of certified accuracy over rows inserted or removed: 60") for each in labels)


def test_dropped_images_are_shown_with_poison_marked(shown: str):
    lists = shown.split('<ul class="dropped">')[1:]
    assert len(lists) == 5
    assert lists[0].split("</ul>")[0].count('<li class="poison">') == 8
    assert "The first 24 of 360 rows dropped in trial 0" in words(shown)


def test_twenty_defenses_stay_under_three_megabytes(tmp_path: Path):
    fabricate_defenses(tmp_path, twenty(), size=96)
    assert page.write(tmp_path).stat().st_size < 3_000_000


def test_the_page_is_sound(shown: str):
    found = shown
    elements = Elements(found).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(a.get("alt") for tag, a in elements if tag == "img")
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= set(ids)
    assert not re.search(r"https?://|@import", found)


def test_names_from_data_are_escaped_everywhere(tmp_path: Path):
    hostile = filtered(HOSTILE, 0.0, 300, 130, facts=((HOSTILE, 3.0),), certified=True)
    made = [NONE, hostile, *controls(hostile), Made(name=f"{HOSTILE} + mixup", success=0.1)]
    fabricate_defenses(tmp_path, made, trials=2, runs=1, classes=(HOSTILE, *CLASSES[1:]))
    found = html(tmp_path)
    elements = Elements(found).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found


def test_other_scenarios_have_tables_of_their_own(tmp_path: Path):
    scenarios = ((32 / 255, 0.04), (16 / 255, 0.04))
    fabricate_defenses(tmp_path, [NONE, EPIC, *controls(EPIC)], trials=1, runs=1, scenarios=scenarios)
    assert html(tmp_path).count('<table class="results defended">') == 2


def test_an_attack_that_was_never_judged_has_a_page(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES))
        add_craft(store, 0)
        add_defended(store, "clean", 0, NONE)
        add_defended(store, "clean", 0, EPIC)
    assert "No defense has met the attack of the verdict yet." in words(html(tmp_path))


def test_the_summary_has_the_numbers_of_the_page(many: Path):
    found = {each["defense"]: each for each in tables.summary(read(many))["rows"]}
    epic, plain, random = found["epic"], found["none"], found["random-drop (like epic)"]
    assert (epic["dropped"], epic["control_of"], epic["oracle"]) == (360, [], False)
    assert epic["poison_recall"] == pytest.approx(102 / 160)
    assert epic["clean_drop"] == pytest.approx(258 / 3840)
    assert epic["comparison"]["worth"] == "beyond"
    assert epic["comparison"]["controls"]["random-drop"]["dropped_as_many"] is True
    assert epic["comparison"]["controls"]["random-drop"]["difference"]["high"] < 0
    assert (plain["comparison"], plain["times_undefended"], random["comparison"]) == (None, 1, None)
    assert random["control_of"] == ["epic"]
    assert found["partition-aggregation"]["certified"]["radius"] == list(range(12))
    assert found["oracle-filter"]["oracle"] is True
