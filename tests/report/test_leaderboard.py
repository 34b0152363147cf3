"""Promises of the leaderboard: only like is ranked with like, no place where nothing is clear, nothing is hidden."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.learners.recipes import recipe
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.report import leaderboard_page
from mithridate.report.leaderboard import Leaderboard, Ranking, leaderboard
from mithridate.report.load import read
from mithridate.report.standings import Fact
from mithridate.settings import plain
from mithridate.store import Store
from tests.report.fabricate_defenses import EPIC, NONE, Made
from tests.report.fabricate_grid import ALL, Grid, fabricate_grid
from tests.report.test_page import HOSTILE, Elements

BASE = ((32 / 255, 0.04),)
ONE = Grid(trials=12, scenarios=BASE, holes=False, published=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fabricate_grid(folder / "alpha", ONE)
    attacks = {"gradient-matching": 1.0, "sleeper-agent": 0.6}
    fabricate_grid(folder / "beta", replace(ONE, trials=15, attacks=attacks, holes=False), seed=9)
    fabricate_grid(folder / "other", replace(ONE, trials=2, data="elsewhere", made=(NONE, EPIC)))
    return folder


@pytest.fixture(scope="module")
def board(runs: Path) -> Leaderboard:
    return leaderboard([runs / "alpha", runs / "beta", runs / "other"])


def ranking(board: Leaderboard, attack: str) -> Ranking:
    return next(each for each in board.groups[0].defenses if each.attack == attack)


def test_only_runs_of_the_same_data_threat_and_victim_share_a_list(board: Leaderboard):
    assert [group.protocol.data for group in board.groups] == ["made-up", "elsewhere"]
    assert {place.fact.run for place in board.groups[0].attacks.places} == {"alpha", "beta"}
    assert {place.fact.run for place in board.groups[1].attacks.places} == {"other"}


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"name": "made-up", "rows": 10}},
        {"threat": {"budget": 0.04, "labels": "dirty"}},
        {"victims": [{"model": "resnet18"}]},
        {"threat": {"budget": 0.04, "perturbation": {"name": "linf", "radius": 32 / 255, "slack": 1 / 255}}},
        {"training_rows": 300},
        {"targets": "correct"},
        {"resample": True},
        {"surrogates": [{"model": "resnet18"}]},
    ],
    ids=["data", "threat", "victim", "slack", "training rows", "targets", "resample", "surrogates"],
)
def test_settings_that_differ_keep_runs_apart_even_under_equal_names(tmp_path: Path, change: dict[str, object]):
    fabricate_grid(tmp_path / "a", replace(ONE, trials=1))
    fabricate_grid(tmp_path / "b", replace(ONE, trials=1), **change)
    assert len(leaderboard([tmp_path / "a", tmp_path / "b"]).groups) == 2


def test_other_settings_that_differ_are_said(board: Leaderboard):
    assert board.groups[0].notes == (
        "trials: 12 from number 0 on, seed 7 in alpha; 15 from number 0 on, seed 9 in beta",
    )
    assert board.groups[1].notes == ()


def test_the_strongest_attack_and_the_safest_defense_come_first(board: Leaderboard):
    means = [place.fact.mean for place in board.groups[0].attacks.places]
    assert means == sorted(means, reverse=True)
    safe = [place.fact.mean for place in ranking(board, "gradient-matching").places if place.place]
    assert safe == sorted(safe)


def test_a_place_counts_those_that_are_clearly_better(board: Leaderboard):
    for found, sign in ((board.groups[0].attacks, 1), (ranking(board, "gradient-matching"), -1)):
        ranked = [each for each in found.places if each.place]
        for k, each in enumerate(ranked):
            better = [o for o in ranked if (o.fact.low > each.fact.high if sign > 0 else o.fact.high < each.fact.low)]
            assert each.place == 1 + len(better)
            assert each.unclear == (k > 0 and ranked[k - 1] not in better)
    assert any(each.unclear for each in board.groups[0].attacks.places)
    assert max(each.place or 0 for each in board.groups[0].attacks.places) > 1


def test_an_oracle_and_defenses_of_an_attack_that_did_not_land_have_no_place(board: Leaderboard):
    for place in ranking(board, "gradient-matching").places:
        assert (place.place is None) == place.fact.oracle
    unlanded = ranking(board, "random-noise")
    assert all(place.place is None and not place.fact.credited for place in unlanded.places)
    assert all("did not clearly land" in place.fact.worth for place in unlanded.places)


def test_controls_have_no_line(board: Leaderboard):
    controls = {each.name for each in ALL if each.control_of}
    facts: list[Fact] = [place.fact for group in board.groups for each in group.defenses for place in each.places]
    assert facts
    assert not controls & {fact.defense for fact in facts}


def test_attacks_of_one_name_with_other_settings_are_told_apart(tmp_path: Path):
    grid = replace(ONE, trials=1, made=(NONE, EPIC), attacks={"gradient-matching": 1.0})
    for name, steps in (("a", 80), ("b", 9)):
        fabricate_grid(tmp_path / name, grid, attacks=[{"name": "gradient-matching", "steps": steps, "restarts": 1}])
    (found,) = leaderboard([tmp_path / "a", tmp_path / "b"]).groups
    names = {"a": "gradient-matching (steps=80)", "b": "gradient-matching (steps=9)"}
    assert {place.fact.run: place.fact.attack for place in found.attacks.places} == names
    assert {each.attack: [place.fact.run for place in each.places] for each in found.defenses} == {
        names["a"]: ["a"],
        names["b"]: ["b"],
    }


def test_defenses_of_one_name_with_other_settings_are_told_apart(tmp_path: Path):
    grid = replace(ONE, trials=3, made=(NONE, Made(name="deep-knn", success=0.1)), attacks={"gradient-matching": 1.0})
    for name, expected in (("a", 0.01), ("b", 0.2)):
        fabricate_grid(tmp_path / name, grid, defenses=[[], [{"name": "deep-knn", "expected": expected}]])
    (found,) = leaderboard([tmp_path / "a", tmp_path / "b"]).groups
    names = {place.fact.run: place.fact.defense for place in found.defenses[0].places}
    assert names == {"a": "deep-knn (expected=0.01)", "b": "deep-knn (expected=0.2)"}


def test_runs_on_other_rows_of_data_called_the_same_are_not_ranked_and_the_page_says_why(tmp_path: Path):
    for name in ("a", "b"):
        fabricate_grid(tmp_path / name, replace(ONE, trials=1, made=(NONE,), attacks={"gradient-matching": 1.0}))
        with Store(tmp_path / name) as store:
            store.describe(data_digest=f"digest {name}")
    board = leaderboard([tmp_path / "a", tmp_path / "b"])
    assert [group.apart for group in board.groups] == [(), ("those of a: the rows of the data",)]
    assert "Not ranked with those of a: the rows of the data." in leaderboard_page.html(board)


def test_lines_that_have_no_room_still_count_in_the_places_of_others(runs: Path, monkeypatch: pytest.MonkeyPatch):
    folders = [runs / "alpha", runs / "beta"]
    (whole,) = leaderboard(folders).groups
    monkeypatch.setattr("mithridate.report.leaderboard._MOST", 7)
    cut = leaderboard(folders)
    shown = [*cut.groups[0].attacks.places, *(each for found in cut.groups[0].defenses for each in found.places)]
    every = [*whole.attacks.places, *(each for found in whole.defenses for each in found.places)]
    assert shown == every[:7]
    assert cut.left_out == len(every) - 7


def test_damaged_and_empty_folders_are_a_sentence_and_the_rest_is_shown(runs: Path, tmp_path: Path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "store.sqlite").write_bytes(b"no database" * 100)
    with Store(tmp_path / "begun", create=True):
        pass
    board = leaderboard([tmp_path / "broken", tmp_path / "absent", runs / "other", tmp_path / "begun"])
    assert [each.name for each in board.entrants] == ["other", "begun"]
    assert len(board.problems) == 3
    assert "damaged" in board.problems[0]
    assert "no run" in board.problems[1]
    assert "no judged network" in board.problems[2]
    page = leaderboard_page.html(board)
    assert page.count('class="notice"') == 3


def test_nothing_to_read_is_refused_with_every_reason(tmp_path: Path):
    with pytest.raises(StoreError, match=r"nothing to show.*absent.*other"):
        leaderboard([tmp_path / "absent", tmp_path / "other"])


def test_a_folder_named_twice_counts_once_and_names_alike_are_told_apart(runs: Path, tmp_path: Path):
    fabricate_grid(tmp_path / "other", replace(ONE, trials=1))
    board = leaderboard([runs / "other", tmp_path / "other", runs / ".." / runs.name / "other"])
    assert [each.name for each in board.entrants] == [f"{runs.name}/other", f"{tmp_path.name}/other"]


def test_an_unfinished_run_is_stamped(tmp_path: Path):
    fabricate_grid(tmp_path, replace(ONE, trials=1))
    with Store(tmp_path) as store:
        store.describe(jobs=5000)
    board = leaderboard([tmp_path])
    assert board.entrants[0].jobs.endswith(" of 5000 jobs")
    assert all(place.fact.unfinished for place in board.groups[0].attacks.places)


def test_the_page_is_one_safe_offline_file(tmp_path: Path):
    made = (NONE, Made(name=HOSTILE[0], success=0.3))
    grid = replace(ONE, trials=1, attacks={HOSTILE[1]: 1.0}, made=made, name=HOSTILE[0], data=HOSTILE[3])
    fabricate_grid(tmp_path / "a", grid, title=HOSTILE[2])
    board = leaderboard_page.write([tmp_path / "a"], tmp_path / "out" / "board.html")
    page = (tmp_path / "out" / "board.html").read_text(encoding="utf-8")
    assert page == leaderboard_page.html(board)
    elements = Elements(page).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert page.count("</style>") == 1
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import", page)
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= set(ids)


def test_who_knew_what_is_shown_where_the_run_says_it(board: Leaderboard):
    fact = board.groups[0].attacks.places[0].fact
    assert fact.knows == ()
    told = replace(board.groups[0].attacks.places[0], fact=replace(fact, knows=("attack: the <data>",)))
    attacks = replace(board.groups[0].attacks, places=(told,))
    page = leaderboard_page.html(replace(board, groups=(replace(board.groups[0], attacks=attacks),)))
    assert "<li>attack: the &lt;data&gt;</li>" in page


def test_the_numbers_are_those_of_the_store(runs: Path, board: Leaderboard):
    run = read(runs / "alpha")
    own = [v for v in run.victims if (v.control, v.attack, v.defense) == ("attack", "gradient-matching", "epic")]
    fact = next(
        p.fact for p in ranking(board, "gradient-matching").places if (p.fact.run, p.fact.defense) == ("alpha", "epic")
    )
    assert fact.mean == pytest.approx(sum(v.success for v in own) / len(own))
    assert (fact.trials, fact.victims) == (12, len(own))
    assert fact.seconds == pytest.approx(sum(v.seconds for v in own) / len(own))


def test_victims_of_two_recipes_are_not_ranked_together_even_under_equal_names(tmp_path: Path):
    net = SmallConvNet(widths=(16, 32, 64))
    for name in ("paper-40", "fast"):
        settings = plain(recipe(name, model=net))
        fabricate_grid(tmp_path / name, replace(ONE, trials=1), victims=[settings], surrogates=[])
    found = leaderboard([tmp_path / "paper-40", tmp_path / "fast"]).groups
    assert [{place.fact.run for place in group.attacks.places} for group in found] == [{"paper-40"}, {"fast"}]
    assert found[1].apart == ("those of paper-40: victim, surrogates",)
