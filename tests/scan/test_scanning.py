"""A scan from end to end, on the toy task and with a network that has learnt it on other rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.scan import telling
from mithridate.scan.methods import Floats, Loss, Method
from mithridate.scan.probing import Frozen, Views
from mithridate.scan.scanning import Findings, amounts, check_rate, scan
from mithridate.seeding import Seed
from mithridate.watch import Step
from tests.scan.material import material, network

LOSS: tuple[Method, ...] = (Loss(),)


@dataclass(frozen=True, kw_only=True)
class Lots(Method):
    """Draws lots."""

    name: str = "lots"

    def scores(self, views: Views, data: Dataset, *, seed: Seed) -> Floats:
        return np.random.default_rng(seed.value % 2**32).random(len(data))


@cache
def scanned(rows: int, wrong: int, seed: int = 1) -> tuple[Findings, set[int]]:
    found, odd = material(rows, wrong=wrong, seed=seed)
    return scan(found, probe=Frozen(model=network()), methods=(Loss(), Lots()), seed=Seed(0)), set(odd.tolist())


def test_wrong_labels_are_found_and_come_first() -> None:
    found, odd = scanned(1000, 10)
    assert found.verdict.state == "suspect"
    assert len(odd & set(found.order[:10].tolist())) >= 9
    assert telling.sentence(found).startswith("Suspect rows found: ")
    assert found.flagged[sorted(odd)].sum() >= 8


def test_a_clean_folder_is_called_clean() -> None:
    found, _ = scanned(1000, 0)
    assert found.verdict.state == "nothing found"
    assert 0 < found.flagged.sum() <= 10, "1 % lie above any threshold of 1 %"
    told = telling.sentence(found)
    assert told.startswith("Nothing found, as far as can be told: no more rows stand out than in clean data, and")
    assert f"{found.flagged.sum()} of 1000 rows lie above a threshold" in told


def test_a_probe_that_learnt_nothing_cannot_tell() -> None:
    found, _ = material(300, wrong=5)
    labels = torch.randint(3, (300,), generator=torch.Generator().manual_seed(0))
    hopeless = replace(found, data=replace(found.data, labels=labels))
    result = scan(hopeless, probe=Frozen(model=network()), methods=LOSS, seed=Seed(0))
    assert result.verdict.state == "cannot tell"
    assert not result.flagged.any()
    assert telling.sentence(result).startswith("Cannot tell: poison planted in a copy")
    assert "No method can flag" not in telling.sentence(result)
    assert "the order of the list means little" in telling.sentence(result)


def test_a_method_that_draws_lots_has_no_part() -> None:
    found, _ = scanned(1000, 10)
    able = {each.method for each in found.measured if each.able}
    assert "lots" not in able
    assert "loss" in able
    for row in telling.facts(found)["first"]:
        assert "lots" not in row["flagged_by"]


def test_the_same_seed_finds_the_same_and_the_data_stay_as_they_are() -> None:
    found, _ = material(300, wrong=5)
    before = found.data.digest()
    one, same = (scan(found, probe=Frozen(model=network()), methods=LOSS, seed=Seed(3)) for _ in range(2))
    assert found.data.digest() == before
    first, second = telling.facts(one), telling.facts(same)
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert telling.table(one) == telling.table(same)
    other = scan(found, probe=Frozen(model=network()), methods=LOSS, seed=Seed(4))
    assert telling.facts(other)["calibration"] != first["calibration"]


def test_rows_of_small_classes_are_not_judged() -> None:
    found, _ = material(300)
    labels = found.data.labels.clone()
    few = (labels == 2).nonzero()[:, 0]
    labels[few[5:]] = 0
    small = replace(found, data=replace(found.data, labels=labels))
    result = scan(small, probe=Frozen(model=network()), methods=LOSS, seed=Seed(0))
    assert np.isnan(result.scores["loss"][few[:5].numpy()]).all()
    assert set(result.order[-5:].tolist()) == set(few[:5].tolist())
    assert not result.flagged[few[:5].numpy()].any()
    json.dumps(telling.facts(result), allow_nan=False)


def test_every_row_is_in_the_table_once_with_its_rank() -> None:
    found, _ = scanned(1000, 10)
    table = telling.table(found)
    assert sorted(table["row"]) == list(range(1000))
    assert table["place"] == list(range(1, 1001))
    scores = np.array(table["loss_score"])
    assert table["loss_rank"] == [1 + int((scores > each).sum()) for each in scores]
    assert table["flagged"] == found.flagged[found.order].tolist()
    names = [found.material.data.space.name(int(label)) for label in found.material.data.labels]
    assert table["label"] == [names[row] for row in table["row"]]


def test_words_say_what_was_found_of_the_planted_rows() -> None:
    found, _ = scanned(1000, 10)
    told = {(each["method"], each["kind"]): each for each in telling.facts(found)["calibration"]}
    cell = told["loss", "mislabelled"]
    assert cell["words"] == (
        f"would have found {cell['recall']['hits']} of {cell['recall']['of']} planted; "
        f"{cell['false_alarms']['share']:.1%} false alarms"
    )
    assert told["lots", "mislabelled"]["words"].startswith("cannot tell (")


def test_progress_is_told() -> None:
    found, _ = material(120)
    steps: list[Step] = []
    scan(found, probe=Frozen(model=network()), methods=LOSS, seed=Seed(0), watch=steps.append, rate=0.02)
    stages = list(dict.fromkeys(each.stage for each in steps))
    assert stages[0] == "your data"
    assert stages[1:] == [f"copy {k} of {len(stages) - 1}" for k in range(1, len(stages))]


@pytest.mark.parametrize(
    ("rows", "right"), [(100, (3, 4)), (300, (8, 4)), (2000, (10, 3)), (5000, (25, 1)), (50_000, (100, 1))]
)
def test_small_data_are_planted_little_and_often(rows: int, right: tuple[int, int]) -> None:
    assert amounts(rows, rows) == right


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.5, 1.0, float("nan")])
def test_a_false_alarm_rate_that_means_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"must lie between 0 and 0\.5"):
        check_rate(rate, 1000)


def test_a_false_alarm_rate_of_less_than_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"of 200 rows is less than one row.*use at least 0\.005"):
        check_rate(0.004, 200)
    check_rate(0.005, 200)
