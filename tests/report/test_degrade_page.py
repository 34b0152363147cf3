"""Promises of the page and of summary.json about attacks that degrade: mean errors, and no word about targets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mithridate.report import page, tables
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate_degrade import (
    Made,
    add_craft,
    add_victim,
    fabricate_digits,
    fabricate_table,
    settings,
    table_rows,
)
from tests.report.test_boundaries import made as a_plane
from tests.report.test_page import HOSTILE, Elements, words

DEFENSES = {"none": 1.0, "label-sanitisation": 0.3, "slab": 0.6}
VICTIMS = {"logistic-regression": 0.07, "mlp-10": 0.06}


def html(folder: Path) -> str:
    return page.html(read(folder))


def text(found: str) -> str:
    return words(found).replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Made(budgets=(0.1, 0.05), victims=VICTIMS, defenses=DEFENSES)
    return fabricate_table(tmp_path_factory.mktemp("table"), made)


@pytest.fixture(scope="module")
def table(folder: Path) -> str:
    return html(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return html(fabricate_digits(tmp_path_factory.mktemp("digits")))


@pytest.mark.parametrize("which", ["table", "digits"])
def test_no_sentence_counts_hits_or_speaks_of_targets(which: str, request: pytest.FixtureRequest):
    found = re.sub(r"<(tr|table|caption)[^>]*settings.*", "", request.getfixturevalue(which).split('id="repeat"')[0])
    said = text(found).lower()
    for each in (
        "freshly trained",
        "networks hit",
        "were hit",
        "of their target",
        "its target",
        "base rate",
        "success",
    ):
        assert each not in said, each
    labels = [a["aria-label"] for _, a in Elements(found).found if a.get("aria-label")]
    assert not [label for label in labels if re.search(r"\bhit\b|target", label or "")]
    assert not re.search(r">networks hit|>accuracy on clean", found)


def test_every_panel_of_a_table_is_there(table: str):
    ids = [a["id"] for _, a in Elements(table).found if "id" in a]
    wanted = ["verdict", "curves", "results", "confusions", "defenses", "poisons", "crafting", "training", "repeat"]
    assert [each for each in ids if each in wanted] == wanted
    assert not {"trials", "features", "polytopes", "planes"} & set(ids)
    said = text(table)
    for each in ("workclass : Private → Never-worked", "Poison row 1, from row 3", "capital-gain 68 %", "white-box"):
        assert each in said
    assert "What defenses leave" not in said
    assert "logistic-regression: what defenses leave of back-gradient" in said
    assert "Error 13.5 % [12.5–14.6 %]: clearly lower than without a defense (tests adjusted for 2 defenses)." in said
    assert "the 95 % interval of the paired difference (Student's t) lies below 0" in said


def test_every_panel_of_digits_is_there(digits: str):
    assert "“8” called “3” against the amount of poison" in text(digits)
    assert digits.count('class="wrong wished"') == 2
    poisons = digits.split('id="poisons"')[1].split("</section>")[0]
    assert poisons.count("<img") == 12 * 2 + 1 + 12 * 2  # pairs and mean of the attack, pairs of flips
    assert text(f"<body>{poisons}").count("“8” → “3”") == 24


def test_numbers_in_the_table_are_those_of_the_store(table: str):
    cell = table.split('<table class="results transfer">')[1].split("</table>")[0].split("back-gradient")[1]
    assert "27 % 26–28 % +20.0 points [+19.6 to +20.5] white-box" in re.sub(
        r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)
    ).replace("\N{NO-BREAK SPACE}", " ")


def test_planes_are_shown_where_they_were_kept(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        add_craft(store, "back-gradient", 0.1, 0, table_rows("back-gradient", 0, 4))
        for attack in ("", "back-gradient"):
            add_victim(store, attack, boundary=a_plane())
    found = html(tmp_path)
    assert "Where the boundary runs" in found
    assert "Classes over a plane, logistic-regression, trained with poison: 2 rows, 1 of them poison" in found


def test_is_one_safe_offline_file(tmp_path: Path):
    victims = {HOSTILE[0]: 0.07}
    made = Made(
        victims=victims, defenses={"none": 1.0, HOSTILE[0]: 0.4}, attacks={"back-gradient": 0.2, HOSTILE[1]: 0.1}
    )
    fabricate_table(tmp_path, made, classes=(HOSTILE[0], HOSTILE[3]))
    found = html(tmp_path)
    elements = Elements(found).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert found.count("</style>") == 1
    assert not re.search(r"https?://|@import", found)
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for tag, a in elements if tag == "a"} <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")


def test_intervals_in_the_sentence_are_small_and_names_in_it_escaped(tmp_path: Path):
    made = Made(attacks={"back-gradient": 0.4})
    fabricate_digits(tmp_path, made)
    with Store(tmp_path) as store:
        store.describe(classes=[*"01234567", "<b>[x]</b>", "9"], experiment=settings(kind="specific", source=8))
    sentence = html(tmp_path).split('<p class="sentence">')[1].split("</p>")[0]
    assert "&lt;b&gt;" in sentence
    assert "<b>" not in sentence
    assert re.search(r"<small>\[\d", sentence)


def test_same_run_same_bytes(tmp_path: Path):
    fabricate_digits(tmp_path, Made(attacks={"back-gradient": 0.4}, trials=2))
    assert html(tmp_path) == html(tmp_path)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_run_under_way_says_what_is_missing(tmp_path: Path, steps: int):
    """Nothing crafted, then a poison, then a clean victim: no panel may fail, and none may call it zero."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), jobs=9)
        if steps > 0:
            add_craft(store, "back-gradient", 0.1, 0, table_rows("back-gradient", 0, 4))
        if steps > 1:
            add_victim(store, "")
    said = text(html(tmp_path))
    assert "No poisoned victim has been judged yet." in said
    assert "There is nothing to compare yet" in said
    assert "0 %" not in said


def test_without_clean_victims_no_rise_is_claimed(tmp_path: Path):
    said = text(html(fabricate_table(tmp_path, Made(clean=False))))
    assert "no victim was judged on clean data" in said
    assert "Clean data not run" in said
    assert "unknown" in said


def test_the_summary_holds_means_differences_and_the_verdict(folder: Path):
    found = tables.summary(read(folder))
    json.dumps(found, allow_nan=False)
    assert found["verdict"]["sentence"].startswith("10\N{NO-BREAK SPACE}% poison raises the error")
    assert found["verdict"]["standing"] == "landed"
    assert len(found["rows"]) == 2 * 3 * 2 * 3
    row = found["rows"][0]
    assert (row["attack"], row["defense"], row["measure"], row["of_verdict"]) == (
        "back-gradient",
        "none",
        "Error",
        True,
    )
    assert row["rise"]["mean"] == pytest.approx(row["success"]["mean"] - row["base_rate"])
    assert row["rise"]["above"]
    assert row["above_random_flips"]["mean"] == pytest.approx(0.15, abs=0.01)
    assert row["total_share"] == pytest.approx(40 / 440)
    assert row["error"]["mean"] == pytest.approx(row["success"]["mean"], abs=0.001)
    assert row["success"]["high"] - row["success"]["low"] < 0.05  # Student's, and not Wilson's of five successes
    assert next(each for each in found["rows"] if each["attack"] == "random-flips")["above_random_flips"] is None
    assert {each["of_verdict"] for each in found["rows"] if each["scenario"].startswith("5")} == {False}


def test_controls_of_dropping_defenses_are_compared_by_means(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        rates = {"none": 0.3, "slab": 0.15, "random-drop (like slab)": 0.29, "top-loss-drop (like slab)": 0.22}
        for name, rate in rates.items():
            of = ["slab"] if "like" in name else None
            for trial in range(5):
                own = rate + 0.003 * trial + 0.001 * ((trial * len(name)) % 3)
                add_victim(store, "back-gradient", defense=name, trial=trial, rate=own, success=own, control_of=of)
                add_victim(store, "", defense=name, trial=trial, rate=0.07, control_of=of)
    rows = {row["defense"]: row for row in tables.summary(read(tmp_path))["rows"]}
    assert rows["slab"]["comparison"]["worth"] == "beyond"
    assert "Error 15." in rows["slab"]["comparison"]["words"].replace("\N{NO-BREAK SPACE}", " ")
    assert rows["random-drop (like slab)"]["comparison"] is None
