"""What a run's own trials can tell, beside its rows and in its verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate.power import below, sentence
from mithridate.report.combinations import by_trial, cells
from mithridate.report.load import read
from mithridate.report.powers import power
from mithridate.report.tables import summary
from mithridate.report.verdict import verdict
from tests.report.fabricate import fabricate
from tests.report.fabricate_degrade import fabricate_table


def test_summary_and_verdict_say_what_the_trials_can_tell(tmp_path: Path) -> None:
    run = read(fabricate(tmp_path, trials=20, runs=1, noise=False, maps=False))
    cell = cells(run)[0]
    told = summary(run)["power"]
    rate = sum(victim.success for victim in cell.poisoned) / 20
    assert told["sentence"] == sentence(by_trial(cell.poisoned))
    assert (told["trials"], told["worth_victims"], told["rate"]) == (20, 20, pytest.approx(rate))
    assert told["below"] == below(20, round(rate, 2))
    found = verdict(run)
    assert found is not None
    assert told["sentence"] in found.details


def test_mean_shares_have_no_such_power(tmp_path: Path) -> None:
    assert power(cells(read(fabricate_table(tmp_path)))) is None
