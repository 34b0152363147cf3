"""Promises of the page: one safe offline file that says what is missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.report import page
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import CLASSES, COMMAND, add_craft, add_victim, experiment, fabricate, fail
from tests.report.fabricate_polytopes import SOURCE, fabricate_polytopes

HOSTILE = ("<script>alert(1)</script>", "a\"b' onerror=x", "{{ 7 * 7 }}", "</style>", "日本 &amp; $x$")


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def html(folder: Path) -> str:
    return page.html(read(folder))


def text(folder: Path) -> str:
    return words(html(folder))


def words(page: str) -> str:
    """A page without its tags, on one line."""
    body = page.split("<body>")[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_is_written_beside_the_store(folder: Path):
    path = page.write(folder)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_same_run_same_bytes(folder: Path):
    assert html(folder) == html(folder)


def test_names_from_data_are_escaped_everywhere(tmp_path: Path):
    fabricate(tmp_path, classes=HOSTILE, defenses=("none", HOSTILE[0]))
    with Store(tmp_path) as store:
        store.describe(experiment=experiment(name=HOSTILE[0], about=HOSTILE[1]), command=HOSTILE[0], notes=[HOSTILE[0]])
        fail(store, HOSTILE[0])
    found = html(tmp_path)
    elements = Elements(found).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "49" not in found.split("Classes")[1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found
    assert found.count("</style>") == 1


def test_refers_to_nothing_outside_itself(folder: Path):
    found = html(folder)
    for tag, attributes in Elements(found).found:
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"https?://|@import", found)
    assert all(value.startswith("#") for value in re.findall(r"url\(([^)]*)\)", found))


def test_twenty_trials_stay_under_three_megabytes(tmp_path: Path):
    fabricate(tmp_path, trials=20, runs=2, size=96)
    path = page.write(tmp_path)
    assert path.stat().st_size < 3_000_000
    assert path.read_text(encoding="utf-8").count('<article class="card"') == 20


def test_has_one_heading_and_a_name_for_every_picture(folder: Path):
    elements = Elements(html(folder)).found
    assert sum(tag == "h1" for tag, _ in elements) == 1
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= set(ids)


def test_shows_settings_versions_notes_and_the_command(folder: Path):
    found = text(folder)
    for each in (COMMAND, "attacks[0].steps", "2.9.0", "0.12549 (32/255)", "chosen on trials 100 to 109"):
        assert each in found


def test_shows_curves_where_scenarios_differ(tmp_path: Path):
    fabricate(tmp_path, trials=2, runs=1, scenarios=((32 / 255, 0.04), (16 / 255, 0.04), (32 / 255, 0.01)))
    found = html(tmp_path)
    assert "Success over radius" in found
    assert "Success over budget" in found
    assert ">16/255</text>" in found


def test_one_scenario_needs_no_curve(folder: Path):
    assert "Where the attack stops working" not in text(folder)


def test_a_run_without_any_row_still_has_a_page(tmp_path: Path):
    with Store(tmp_path, create=True):
        pass
    assert "No poisoned network has been judged yet." in text(tmp_path)
    assert "no poison has been crafted" in text(tmp_path)


def test_an_interrupted_run_says_how_far_it_came(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=experiment(), jobs=30, classes=list(CLASSES), command=COMMAND)
        add_craft(store, 0)
        add_craft(store, 0, radius=0.05)
        assert "2 of 30 jobs done" in text(tmp_path)
        assert "No poisoned network has been judged yet." in text(tmp_path)
        add_victim(store, "attack", 0, hit=True)
    found = text(tmp_path)
    assert "3 of 30 jobs done" in found
    assert "1 of 12 networks" in found
    rows = html(tmp_path).split('<table class="results">')[1].split("</table>")[0].split("<tr>")
    assert [row.count("not run") for row in rows[2:]] == [2, 5]  # no controls; no victim on the second scenario
    assert "0&nbsp;%" not in rows[3]
    assert "0\N{NO-BREAK SPACE}%" not in rows[3]


def test_failures_are_shown(tmp_path: Path):
    fabricate(tmp_path, trials=1, runs=1)
    with Store(tmp_path) as store:
        fail(store)
    found = text(tmp_path)
    assert "1 job failed." in found
    assert "the loss of victim 3 became NaN at epoch 4" in found
    assert "&lt;here&gt;" in html(tmp_path)


def test_a_finished_run_has_no_warning(folder: Path):
    assert 'class="notice"' not in html(folder)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"base": False}, "The clean originals are not stored, so no difference can be shown."),
        ({"noise": False}, "not run"),
        ({"clean": False}, "No clean network was judged"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, missing: dict[str, bool], said: str):
    fabricate(tmp_path, trials=2, runs=1, **missing)
    assert said in text(tmp_path)


def test_without_maps_there_is_no_feature_space(tmp_path: Path):
    fabricate(tmp_path, trials=1, runs=1, maps=False)
    assert "feature space" not in text(tmp_path).lower()


def test_a_lost_poison_set_is_said(tmp_path: Path):
    fabricate(tmp_path, trials=1, runs=1)
    for path in (tmp_path / "poisons").rglob("*.safetensors"):
        path.unlink()
    assert "The poison set is not in the run folder, or cannot be read." in text(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="no run"):
        page.write(tmp_path)


def test_variations_may_have_fewer_trials(tmp_path: Path):
    fabricate(tmp_path, trials=2, runs=2, scenarios=((0.1, 0.04), (0.05, 0.04)))
    with Store(tmp_path) as store:
        store.describe(experiment=experiment(trials=3, runs=2, vary_trials=2))
    found = text(tmp_path)
    assert found.count("4 of 6 networks") == 1  # the base scenario lacks a trial, the variation lacks nothing
    assert found.count("4 networks") == 1


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Feature-space attacks under hostile names, 50 trials in 18 networks."""
    folder = tmp_path_factory.mktemp("featured")
    attacks = ("bullseye-polytope",)
    return html(
        fabricate_polytopes(folder, trials=50, networks=18, attacks=attacks, name=HOSTILE[0], source=HOSTILE[1])
    )


def test_feature_space_attacks_of_many_networks_stay_under_three_megabytes(featured: str):
    assert len(featured.encode()) < 3_000_000
    section = featured.split('<section id="polytopes"')[1].split("</section>")[0]
    assert section.count("<svg") == 3 * 4  # trials, networks
    assert "14 further networks of this trial are not drawn" in section


def test_names_of_networks_and_sources_are_escaped(featured: str):
    elements = Elements(featured).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= set(ids)


def test_published_numbers_knowledge_and_pretraining_are_shown(tmp_path: Path):
    fabricate_polytopes(tmp_path, trials=1, networks=1)
    found = text(tmp_path)
    assert f"over 100 trials ({SOURCE})" in found
    assert "white-box" in found
    assert "resnet18, 40 epochs, on cifar10, seed 0 cifar10, classes bird/cat, per class 0:1000 2000 91.3" in found


def test_without_any_of_that_the_page_is_as_before(folder: Path):
    found = html(folder)
    for each in ("Where the poison lies", "Published", "white-box", "pretrained before", "Distance to the target"):
        assert each not in found.split("</style>")[1]
