"""Promises of the verdict on attacks that degrade: plain words, and honest ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mithridate.report.combinations import cells
from mithridate.report.damage import damage
from mithridate.report.error_curves import error_curves
from mithridate.report.load import read
from mithridate.report.verdict import Verdict
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

NO_BREAK = "\N{NO-BREAK SPACE}"


def of(folder: Path) -> Verdict:
    run = read(folder)
    found = damage(run, cells(run))
    assert found is not None
    return found


def said(folder: Path) -> str:
    return of(folder).sentence.replace(NO_BREAK, " ")


def by_hand(folder: Path, rates: dict[str, list[float]], **changes: Any) -> Path:
    """Victims with these error rates, one a trial: ``clean``, attacks, and defenses as attack/defense."""
    with Store(folder, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        for name, values in rates.items():
            attack, _, defense = name.partition("/")
            for trial, rate in enumerate(values):
                where = {"trial": trial, "rate": rate, "success": rate, "error": rate}
                add_victim(store, attack.replace("clean", ""), defense=defense or "none", **where, **changes)
                if attack != "clean" and not defense:
                    add_craft(store, attack, 0.1, trial, table_rows(attack, trial, 4))
    return folder


CLEAN = [0.06, 0.07, 0.08, 0.07, 0.07]


def plus(rise: float, wobble: float = 0.004) -> list[float]:
    return [rate + rise + wobble * (-1) ** k for k, rate in enumerate(CLEAN)]


def test_says_what_the_error_was_and_became_and_what_flips_do_alone(tmp_path: Path):
    by_hand(
        tmp_path,
        {"clean": CLEAN, "back-gradient": plus(0.15), "random-flips": plus(0.04), "back-gradient/knn": plus(0.05)},
    )
    assert said(tmp_path) == (
        "10 % poison raises the error from 7.0 % [6.1–7.9 %] to 22 % [21–23 %]; random label flips alone raise it to "
        "11 %; knn brings it back to 12 %."
    )
    assert of(tmp_path).standing == "landed"


def test_names_the_best_of_several_defenses(tmp_path: Path):
    rates = {
        f"back-gradient/{name}": plus(rise, wobble=0.002)
        for name, rise in (("roni", 0.14), ("slab", 0.08), ("knn", 0.05))
    }
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.15)} | rates)
    assert said(tmp_path).endswith("; knn, the best of 3 defenses, brings it back to 12 %.")


@pytest.mark.parametrize(
    ("names", "end"),
    [(["roni"], "; roni does not clearly lower it."), (["roni", "slab"], "; none of 2 defenses clearly lowers it.")],
)
def test_defenses_that_do_nothing_bring_nothing_back(tmp_path: Path, names: list[str], end: str):
    rates = {f"back-gradient/{name}": plus(0.149, wobble=-0.004) for name in names}
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.15)} | rates)
    assert said(tmp_path).endswith(end)


@pytest.mark.parametrize(
    ("rates", "end"),
    [
        ({"slab": 0.03}, "; with slab it is 10 %, but that may be the dropping of rows alone."),
        (
            {"slab": 0.03, "roni": 0.16},
            "; with slab it is 10 %, the lowest of 2 defenses, but that may be the dropping of rows alone.",
        ),
        (
            {"slab": 0.03, "knn": 0.05},
            "; knn, the best of the defenses that clearly do more than drop rows, brings it back to 12 %.",
        ),
    ],
)
def test_no_defense_is_a_hero_for_dropping_rows(tmp_path: Path, rates: dict[str, float], end: str):
    """SLAB drops rows here, and no control was run."""
    defended = {f"back-gradient/{name}": plus(rise, wobble=0.002) for name, rise in rates.items()}
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.15)} | defended)
    assert said(tmp_path).endswith(end)


def test_an_attack_no_better_than_flips_is_called_so(tmp_path: Path):
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.041), "random-flips": plus(0.04, wobble=-0.004)})
    assert said(tmp_path) == (
        "10 % poison raises the error from 7.0 % [6.1–7.9 %] to 11 % [10–12 %]; "
        "that is not clearly more than random label flips, which give 11 % [10–12 %]."
    )
    found = of(tmp_path)
    assert found.standing == "unclear"
    assert "not clearly more than random label flips" in found.standing_text


def test_an_attack_worse_than_flips_is_called_so(tmp_path: Path):
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.04), "random-flips": plus(0.1)})
    assert "that is clearly less than random label flips, which give 17 %" in said(tmp_path)


def test_flips_that_do_nothing_leave_the_error(tmp_path: Path):
    by_hand(tmp_path, {"clean": CLEAN, "back-gradient": plus(0.15), "random-flips": plus(0.0)})
    assert "random label flips alone leave it at 7.1 %" in said(tmp_path)


def test_overlapping_intervals_are_no_rise_but_paired_ones_may_be(tmp_path: Path):
    """Trials differ by far more than poison does: pairing sees a rise of 2 points, in all of them."""
    hard = [0.05, 0.2, 0.1, 0.3, 0.15]
    by_hand(tmp_path / "paired", {"clean": hard, "back-gradient": [r + 0.02 + 0.001 * k for k, r in enumerate(hard)]})
    assert said(tmp_path / "paired").startswith("10 % poison raises the error")
    by_hand(tmp_path / "mixed", {"clean": hard, "back-gradient": [each + 0.02 for each in hard[1:] + hard[:1]]})
    assert said(tmp_path / "mixed").startswith("10 % poison does not clearly raise the error: 18 %")
    assert of(tmp_path / "mixed").standing == "unclear"
    assert "overlap" not in of(tmp_path / "mixed").standing_text


def test_poison_that_helps_has_missed(tmp_path: Path):
    by_hand(tmp_path, {"clean": plus(0.1), "back-gradient": plus(0.02)})
    assert of(tmp_path).standing == "missed"
    assert "does not clearly raise the error" in said(tmp_path)


def test_one_trial_raises_no_claim(tmp_path: Path):
    by_hand(tmp_path, {"clean": [0.07], "back-gradient": [0.3], "random-flips": [0.1]})
    assert said(tmp_path) == (
        "In one trial, 10 % poison came with the error at 30 %, against 7.0 % without it; "
        "random label flips alone came with 10 %."
    )
    assert of(tmp_path).standing == "unclear"
    assert "[" not in of(tmp_path).standing_text


def test_without_clean_victims_nothing_is_compared(tmp_path: Path):
    by_hand(tmp_path, {"back-gradient": plus(0.15)})
    assert said(tmp_path).endswith("; no victim was judged on clean data.")
    assert of(tmp_path).standing == "uncontrolled"


def test_is_about_the_attack_even_where_flips_were_crafted_first(tmp_path: Path):
    by_hand(tmp_path, {"random-flips": plus(0.04), "loss-flips": plus(0.05), "back-gradient": plus(0.15)})
    assert of(tmp_path).cell.attack == "back-gradient"
    assert [count.label for count in of(tmp_path).counts] == [
        "Poison by back-gradient",
        "Random label flips (random-flips)",
        "Label flips chosen by their loss (loss-flips)",
    ]


def test_is_about_flips_where_there_is_nothing_else(tmp_path: Path):
    by_hand(tmp_path, {"clean": CLEAN, "random-flips": plus(0.04)})
    assert said(tmp_path) == "10 % poison raises the error from 7.0 % [6.1–7.9 %] to 11 % [10–12 %]."


def test_is_about_the_base_scenario(tmp_path: Path):
    fabricate_table(tmp_path, Made(budgets=(0.05, 0.1, 0.02)))
    assert said(tmp_path).startswith("5 % poison raises")


def test_an_error_specific_attack_is_told_by_its_classes(tmp_path: Path):
    fabricate_digits(tmp_path)
    assert said(tmp_path).startswith("10 % poison raises the share of “8” called “3” from 7.4 %")
    details = [each.replace(NO_BREAK, " ") for each in of(tmp_path).details]
    assert any(each.startswith("The error over the whole test set was 11 %") for each in details)


def test_says_how_much_poison_there_was(tmp_path: Path):
    effort = of(fabricate_table(tmp_path)).details[0]
    assert (
        "added 40 rows (10 % of the clean rows and 9.09 % of what is trained on), with labels of its choice" in effort
    )


def test_bars_end_above_every_interval(tmp_path: Path):
    found = of(fabricate_table(tmp_path))
    assert found.full == 0.3
    assert max(count.estimate.high for count in found.counts) <= found.full


def test_a_clean_victim_of_all_trials_is_one_victim(tmp_path: Path):
    found = of(fabricate_table(tmp_path, Made(resample=False)))
    assert [count.hits for count in found.counts] == ["5 trials"] * 3 + ["1 victim"]


def test_nothing_is_said_before_a_poisoned_victim_was_judged(tmp_path: Path):
    by_hand(tmp_path, {"clean": CLEAN})
    run = read(tmp_path)
    assert damage(run, cells(run)) is None


def test_counts_rows_instead_of_repeating_the_budget(tmp_path: Path):
    """2 % of 57 rows pay for 2 of them: 3.51 % of the clean rows, 3.39 % of what is trained on."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        for trial in range(5):
            rows = table_rows("back-gradient", trial, 2)
            add_craft(store, "back-gradient", 0.02, trial, rows, training_rows=57, total_share=2 / 59)
            for attack, rate in (("", 0.07), ("back-gradient", 0.2)):
                add_victim(store, attack, budget=0.02, trial=trial, rate=rate + trial / 100, success=rate + trial / 100)
    assert said(tmp_path).startswith("3.51 % poison ")
    assert "added 2 rows (3.51 % of the clean rows and 3.39 % of what is trained on)" in of(tmp_path).details[0]
    run = read(tmp_path)
    assert run.degradation is not None
    curves = error_curves(cells(run), of(tmp_path).cell, run.degradation)
    assert curves is not None
    assert curves.shares == "3.51 % of the clean rows are 3.39 % of what is trained on"
    assert "at 3.51 %" in curves.figures[0].svg.replace(NO_BREAK, " ")


@pytest.mark.parametrize("still", [True, False])
def test_says_where_an_attack_moved_nothing(tmp_path: Path, still: bool):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        for trial in range(2):
            tensors = table_rows("back-gradient", trial, 4)
            add_craft(store, "back-gradient", 0.1, trial, tensors | ({"inputs": tensors["base"]} if still else {}))
            add_victim(store, "back-gradient", trial=trial, rate=0.2)
    words = "back-gradient moved none of these rows: they differ from clean ones in their labels at most."
    assert (words in of(tmp_path).details) is still
