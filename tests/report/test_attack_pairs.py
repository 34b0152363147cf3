"""Attacks against each other: over the same trials, adjusted for their number, on the page and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from scipy.stats import binomtest

from mithridate.pairing import holm
from mithridate.report import attack_pairs, page, tables
from mithridate.report.combinations import cells, chosen
from mithridate.report.compared import of_attacks
from mithridate.report.load import Run, read
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, experiment
from tests.report.test_page import Elements

HITS = {"matching": range(12), "polytope": range(4), "collision": [0, 1, 11]}
"""The trials whose network each attack hits."""


def made(folder: Path, hits: dict[str, Sequence[int]], *, trials: int = 12, runs: int = 1) -> Run:
    with Store(folder, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=trials, runs=runs))
        for (attack, those), trial in itertools.product(hits.items(), range(trials)):
            add_craft(store, trial, attack=attack)
            for number in range(runs):
                add_victim(store, "attack", trial, hit=trial in those, run=number, attack=attack)
    return read(folder)


def test_every_two_attacks_are_compared_over_their_trials_and_adjusted_for_all(tmp_path: Path) -> None:
    run = made(tmp_path, HITS)
    found = tables.summary(run)["attack_comparisons"]
    alone = {("matching", "polytope"): (8, 0), ("matching", "collision"): (9, 0), ("polytope", "collision"): (2, 1)}
    adjusted = holm([binomtest(one, one + two).pvalue for one, two in alone.values()])
    for row, (names, (one, two)), chance in zip(found, alone.items(), adjusted, strict=True):
        assert (row["first"]["attack"], row["second"]["attack"]) == names
        assert row["discordant"] == {"first_only": one, "second_only": two}
        assert row["difference"]["mean"] == pytest.approx((two - one) / 12)
        assert row["difference"]["low"] <= row["difference"]["mean"] <= row["difference"]["high"]
        assert row["bootstrap"]["low"] <= row["bootstrap"]["mean"] <= row["bootstrap"]["high"]
        assert (row["test"], row["p"], row["adjusted_for"]) == ("McNemar", pytest.approx(chance), 3)
        assert row["clear"] == ("matching" in names)


def test_the_page_shows_a_table_of_them_the_verdicts_first(tmp_path: Path) -> None:
    run = made(tmp_path, {**HITS, **{f"attack {k}": range(k) for k in range(3)}})
    text = page.html(run)
    assert "Attacks against each other" in text
    found = attack_pairs.attack_pairs(run, cells(run), chosen(cells(run)))
    assert found is not None
    assert (len(found.lines), found.left_out, found.family) == (10, 5, 15)
    assert all("matching" in line.names for line in found.lines[:5])
    assert {line.names[1]: line.said for line in found.lines[:5]}["attack 0"] == "matching is clearly stronger"
    assert found.lines[0].discordant == "8 against 0"
    ids = [attributes["id"] for _, attributes in Elements(text).found if "id" in attributes]
    assert ids.count("attack-pairs") == 1


def test_one_attack_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    run = made(tmp_path, {"matching": [1]}, trials=3)
    assert tables.summary(run)["attack_comparisons"] == []
    assert attack_pairs.attack_pairs(run, cells(run), None) is None
    assert "nothing to compare" in of_attacks(attack_pairs.pairs_of(run, cells(run)))[0]


def test_several_victims_a_trial_have_no_discordant_trials(tmp_path: Path) -> None:
    run = made(tmp_path, {"matching": range(6), "polytope": [0]}, trials=6, runs=2)
    (row,) = tables.summary(run)["attack_comparisons"]
    assert (row["test"], row["discordant"], row["trials"]) == ("sign flips", None, 6)
    (_, said) = of_attacks(attack_pairs.pairs_of(run, cells(run)))
    assert said.startswith("- polytope against matching")


def test_an_attack_that_is_an_oracle_is_stamped_wherever_it_is_compared(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=3, runs=1))
        for attack, trial in itertools.product(("matching", "seer"), range(3)):
            add_craft(store, trial, attack=attack)
            add_victim(store, "attack", trial, hit=True, attack=attack, oracle=attack == "seer")
    run = read(tmp_path)
    found = cells(run)
    assert "- seer (oracle) against matching, " in of_attacks(attack_pairs.pairs_of(run, found))[1]
    (row,) = attack_pairs.rows(run, found)
    assert [row[side]["oracle"] for side in ("first", "second")] == [False, True]
