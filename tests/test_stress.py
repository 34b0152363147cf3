"""A stress test is an experiment whose parts fit the table, or a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from mithridate.datasets.table import Table
from mithridate.errors import ConfigError, DataError, ProblemsError
from mithridate.preflight import problems
from mithridate.stress import stress_test


def table(folder, rows=200, classes=2, seed=0):
    """A CSV of two numbers and a class that follows from them."""
    draws = np.random.default_rng(seed)
    values = draws.normal(size=(rows, 2))
    labels = np.digitize(values[:, 0], np.linspace(-0.5, 0.5, classes - 1)) if classes > 2 else values[:, 0] > 0
    lines = ["a,b,y", *(f"{x:.3f},{z:.3f},{'uvw'[int(label)]}" for (x, z), label in zip(values, labels, strict=True))]
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Table(file=str(path), target="y")


@pytest.mark.parametrize(("classes", "loss"), [(2, "logistic"), (3, "softmax")])
def test_what_it_asks_for_fits_the_table(tmp_path, classes, loss):
    found = stress_test(table(tmp_path, classes=classes), name="s")
    assert problems(found) == []
    assert found.surrogates[0].loss == loss
    assert found.resample
    assert any("ranges of columns are those of the whole table" in note for note in found.notes)
    assert found.training_rows + found.threat.goal.known <= 160
    assert [threat.budget for threat in found.scenarios()] == [0.05, 0.02, 0.1]


def test_the_rows_of_a_trial_can_be_limited(tmp_path):
    assert stress_test(table(tmp_path), name="s", rows=50).training_rows == 50


def test_the_first_victim_named_is_judged_first(tmp_path):
    found = stress_test(table(tmp_path), name="s", victims=("naive-bayes", "knn"))
    assert [each.estimator for each in found.victims] == ["naive-bayes", "knn"]


def test_a_large_budget_is_not_doubled_beyond_a_half(tmp_path):
    assert [threat.budget for threat in stress_test(table(tmp_path), name="s", budget=0.4).scenarios()] == [0.4, 0.16]


def test_too_few_rows_are_a_sentence(tmp_path):
    with pytest.raises(DataError, match="at least 60 training rows"):
        stress_test(table(tmp_path, rows=70), name="s")


@pytest.mark.parametrize(
    ("budget", "sentence"), [(5.0, "did you mean 5 %"), (0.0, "but it is 0"), (-1.0, "but it is -1")]
)
def test_a_budget_that_is_no_share_is_a_sentence(tmp_path, budget, sentence):
    with pytest.raises(ConfigError, match=sentence):
        stress_test(table(tmp_path), name="s", budget=budget)


def test_a_victim_named_twice_is_a_sentence(tmp_path):
    with pytest.raises(ProblemsError, match="victims must all be different"):
        stress_test(table(tmp_path), name="s", victims=("knn", "knn"))
