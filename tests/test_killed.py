"""A campaign survives: whatever ends it and whatever its folder meets, the rows at the end are those of a quiet run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mithridate import campaign, config
from mithridate.errors import StoreError
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from tests import lives
from tests.cli.calls import Caller, written
from tests.cli.conftest import call  # noqa: F401 (a fixture)
from tests.lives import rows
from tests.runs import CPU, begun, carried_out, tiny

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of a run that nothing disturbed, one job at a time."""
    folder = tmp_path_factory.mktemp("quiet")
    experiment = config.parse(Experiment, lives.LIVING)
    assert not [each.error for each in carried_out(experiment, folder) if each.error]
    assert lives.wrongs(folder, lives.rows(folder)) == []
    return lives.rows(folder)


def reached(jobs: int) -> Any:
    """Whether a run has reported so many jobs."""
    return lambda life: life.jobs >= jobs


@pytest.mark.timeout(900)  # starts the command several times, beside whatever else runs
def test_killed_at_random_moments_until_it_is_done(quiet: Rows, tmp_path: Path) -> None:
    draws = random.Random(20)
    path, folder = lives.written(tmp_path), tmp_path / "run"
    ends = [(signal.SIGKILL, 1), (signal.SIGINT, 2), (signal.SIGKILL, 2), (signal.SIGTERM, 1)]
    for end, workers in ends:
        life = lives.begun(path, folder, workers=workers)
        lives.waited(life, reached(draws.randint(0 if end == signal.SIGKILL else 1, 3)))
        time.sleep(draws.uniform(0, 0.4))
        lives.killed(life, number=end, everyone=end != signal.SIGTERM)
        assert life.code in (0, 130, -signal.SIGKILL), life.errors
        assert life.errors == ""
        if life.code == 130:
            assert "Go on with:  mithridate run" in life.said
        if life.code == 0:  # this machine is fast: it was done before, and begins anew
            assert lives.wrongs(folder, quiet) == []
            shutil.rmtree(folder)
    life = lives.ended(lives.begun(path, folder, workers=1))
    assert (life.code, life.errors) == (0, "")
    assert lives.wrongs(folder, quiet) == []


@pytest.mark.timeout(900)  # starts the command several times, beside whatever else runs
def test_goes_on_when_a_worker_is_killed(quiet: Rows, tmp_path: Path) -> None:
    path, folder = lives.written(tmp_path), tmp_path / "run"
    life = lives.begun(path, folder, workers=2)
    for jobs in (0, 3):
        assert lives.waited(life, lambda life, jobs=jobs: life.jobs >= jobs and bool(lives.workers(life)))
        os.kill(lives.workers(life)[-1], signal.SIGKILL)
    lives.ended(life)
    assert (life.code, life.errors) == (0, ""), life.said
    assert lives.wrongs(folder, quiet) == []


class TestFullDisk:
    @pytest.mark.parametrize("pages", [0, 1, 3])
    def test_stops_with_a_sentence_and_goes_on_once_there_is_room(
        self, pages: int, finished: Path, tmp_path: Path
    ) -> None:
        with begun(tiny(), tmp_path) as store:
            (size,) = store._base.execute("PRAGMA page_count").fetchone()
            store._base.execute(f"PRAGMA max_page_count = {size + pages}")
            with pytest.raises(StoreError, match=r"the disk is full: .* free space and run again"):
                list(campaign.run(tiny(), store, executor=Local(), device=CPU, report=lambda job, step: None))
        kept = rows(tmp_path)
        assert kept.items() <= rows(finished).items()
        assert len(kept) < len(rows(finished))
        carried_out(tiny(), tmp_path)
        assert rows(tmp_path) == rows(finished)


class TestTwoAtOnce:
    def test_the_second_refuses_and_the_first_is_unharmed(
        self,
        finished: Path,
        tmp_path: Path,
        call: Caller,  # noqa: F811
    ) -> None:
        path, folder = written(tmp_path), tmp_path / "run"
        torch.set_num_threads(1)
        with begun(tiny(), folder) as store:
            ends = campaign.run(tiny(), store, executor=Local(), device=CPU, report=lambda job, step: None)
            next(ends)
            said = call("run", path, "--out", folder)
            assert said.code == 1
            assert f"'{folder}' is in use by another run" in said.err
            assert f"process {os.getpid()}" in said.err
            list(ends)
        assert rows(folder) == rows(finished)


class TestOrphans:
    """Files that a killed run left without a row: never read as results."""

    def test_of_another_trial_are_crafted_over(self, finished: Path, tmp_path: Path) -> None:
        crafts = [job for job in tiny().jobs() if job.kind == "craft"]
        begun(tiny(), tmp_path / "run").close()
        (tmp_path / "run" / "poisons").mkdir(exist_ok=True)
        one, other = (finished / "poisons" / job.key for job in crafts)
        shutil.copytree(one, tmp_path / "run" / "poisons" / other.name)
        shutil.copytree(other, tmp_path / "run" / "poisons" / one.name)
        carried_out(tiny(), tmp_path / "run")
        assert rows(tmp_path / "run") == rows(finished)

    def test_half_written_are_crafted_over(self, finished: Path, tmp_path: Path) -> None:
        begun(tiny(), tmp_path / "run").close()
        for job in tiny().jobs():
            folder = tmp_path / "run" / "poisons" / job.key
            folder.mkdir(parents=True)
            (folder / "poison.safetensors").write_bytes(b"\0" * 100)
            (folder / "manifest.json").write_text("{")
        carried_out(tiny(), tmp_path / "run")
        assert rows(tmp_path / "run") == rows(finished)
