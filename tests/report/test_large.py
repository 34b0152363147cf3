"""Very large runs: read by their scalars, numbers over all networks, and a page that stays small."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mithridate.report import combinations, page, reading, tables, trials
from mithridate.report.load import Run, read
from tests.report.fabricate_large import ATTACKS, Size, fabricate_large

SIZE = Size(trials=6, runs=2, pictures=1)
MOST = 1500
"""Networks read whole here, so that a run which is made in half a second counts as large."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate_large(tmp_path_factory.mktemp("runs") / "large", SIZE)


@pytest.fixture(scope="module")
def run(large: Path) -> Run:
    return read(large, most=MOST)


@pytest.fixture(scope="module")
def whole(large: Path) -> Run:
    """The slow and obvious way: every row read whole."""
    return read(large, most=10**9)


def test_every_network_is_there_and_a_limited_number_was_read_whole(run: Run) -> None:
    assert run.partial is not None
    assert (len(run.victims), run.partial.of) == (SIZE.networks, SIZE.networks)
    count = sum(victim.whole for victim in run.victims)
    assert count == run.partial.read
    assert MOST / 2 < count < MOST + 100


def test_a_run_of_as_many_networks_as_may_be_read_whole_is(large: Path, whole: Run) -> None:
    assert whole.partial is None
    assert all(victim.whole for victim in whole.victims)
    assert read(large, most=SIZE.networks).partial is None


def test_of_every_combination_the_first_trials_are_read_whole(run: Run) -> None:
    groups: dict[tuple[str | None, ...], dict[bool, set[int]]] = {}
    for each in run.victims:
        place = (each.control, each.attack, each.scenario, each.victim, each.defense)
        groups.setdefault(place, {True: set(), False: set()})[each.whole].add(each.trial)
    last = SIZE.trials - 1  # the row added last is read too, for what its defense is a control of
    assert all(0 in found[True] for found in groups.values())
    assert all(max(found[True] - {last}) < min(found[False] | {last + 1}) for found in groups.values())


def test_the_order_of_networks_is_that_of_runs_read_whole(run: Run, whole: Run) -> None:
    assert [each.key for each in run.victims] == [each.key for each in whole.victims]


def plain(value: Any) -> Any:
    """Numbers rounded, because sums over equal values are taken in another order; without what whole rows tell."""
    if isinstance(value, dict):
        left_out = ("facts", "facts_of", "certified")
        return {name: plain(each) for name, each in value.items() if name not in left_out}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return round(value, 9) if isinstance(value, float) else value


def test_every_number_is_that_of_a_run_read_whole(run: Run, whole: Run) -> None:
    found, expected = tables.summary(run), tables.summary(whole)
    assert len(found["rows"]) == 4 * 5 * 2 * 6
    assert plain(found["rows"]) == plain(expected["rows"])
    assert found["seconds_saved"] == pytest.approx(expected["seconds_saved"])
    assert (run.done, run.seconds) == (whole.done, pytest.approx(whole.seconds))


def test_says_of_how_many_networks_its_facts_are(run: Run) -> None:
    assert run.partial is not None
    found = tables.summary(run)
    assert found["read_whole"] == {"read": run.partial.read, "of": SIZE.networks, "words": run.partial.words}
    row = next(each for each in found["rows"] if each["defense"] == "dp-sgd")
    assert 0 < row["facts_of"] < row["victims"]
    trials_read = row["facts_of"] // SIZE.runs
    assert row["facts"]["epsilon"] == pytest.approx(sum(3 + trial % 5 for trial in range(trials_read)) / trials_read)


def test_takes_time_and_room_in_proportion(tmp_path: Path) -> None:
    """A million networks may take 20 s, of which figures are a fixed part: here a fiftieth of the rest."""
    size = Size(trials=21, pictures=1)
    folder = fabricate_large(tmp_path, size)
    started = time.process_time()
    run = read(folder, most=MOST)
    summary = tables.as_json(run)
    assert time.process_time() - started < 5  # 1 s on an idle core; quadratic passes took minutes
    html = page.html(run)
    assert run.partial is not None
    assert run.partial.of == size.networks > 20_000
    assert run.partial.words in html
    assert len(html.encode()) + len(summary.encode()) < 3_000_000


def test_a_combination_of_very_many_networks_has_a_square_for_each_trial(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_DENSE", 20)
    monkeypatch.setattr(trials, "_WIDE", 4)
    cell = next(each for each in combinations.cells(run) if each.poisoned)
    (only,) = trials.every_network(run, [cell])
    ((label, strips),) = only.trials
    assert [len(strip.squares) for strip in strips] == [4, 4, 4]
    left = [each for each in cell.poisoned if each.trial >= 4]
    hit = sum(each.success for each in left)
    assert label == f"trials 0 to 3, one square each; in 2 further trials {hit:g} of {len(left)} networks hit"
    first = [each.success for each in cell.poisoned if each.trial == 0]
    assert strips[0].squares[0].share == sum(first) / len(first)
    shown = sum(each.success for each in cell.poisoned if each.trial < 4)
    assert f"{shown:g} of {4 * SIZE.runs} networks hit" in strips[0].text


def test_of_very_many_crafts_the_curves_of_the_first_trials_are_kept(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CRAFTS", 100)
    monkeypatch.setattr(reading, "_CARDS", 2)
    found = read(large, most=MOST).crafts
    assert len(found) == len(ATTACKS) * 5 * SIZE.trials
    assert {craft.trial for craft in found if craft.trace} == {0, 1}
    assert {craft.rows for craft in found} == {160}


def test_a_row_that_is_no_result_is_refused_by_name_however_it_is_read(tmp_path: Path) -> None:
    from mithridate.errors import StoreError
    from mithridate.store import Store
    from tests.report.fabricate import add_victim

    with Store(tmp_path, create=True) as store:
        for trial in range(3):
            add_victim(store, "attack", trial, hit=True)
        store.add("the-key", "victim", store.rows()[0] | {"success": 1.5})
    with pytest.raises(StoreError, match="the-key"):
        read(tmp_path, most=1)
