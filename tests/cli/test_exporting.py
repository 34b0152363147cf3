"""Exporting poison in the benchmark's format, of all trials at once, and with the part of the data victims train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mithridate import config
from mithridate.experiment import Experiment
from mithridate.peers import read_benchmark
from mithridate.poisonset import read
from mithridate.store import Store
from tests.cli.calls import Caller
from tests.cli.given import SPLIT, TRIALS, protocol
from tests.runs import carried_out


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two trials whose victims train on 30 of 120 rows."""
    folder = tmp_path_factory.mktemp("ran")
    experiment = config.parse(Experiment, config.read_yaml(protocol(folder).read_text(), where="tiny"))
    assert not [ended for ended in carried_out(experiment, folder / "run") if ended.error]
    return folder / "run"


def kept(run: Path, trial: int) -> Path:
    with Store(run) as store:
        return run / next(row["folder"] for row in store.rows("craft") if row["trial"] == trial)


@pytest.mark.parametrize("option", ["--format", "--as"])
def test_as_benchmark_holds_what_the_poison_set_holds(call: Caller, ran: Path, tmp_path: Path, option: str) -> None:
    said = call("export", ran, "--to", tmp_path / "set", "--trial", "1", option, "benchmark")
    assert (said.code, said.err) == (0, "")
    assert sorted(each.name for each in (tmp_path / "set").iterdir()) == [
        "base_indices.pickle",
        "poisons.pickle",
        "target.pickle",
    ]
    found, ours = read_benchmark(tmp_path / "set", train=SPLIT.train), read(kept(ran, 1))
    assert found.poison.rows.digest() == ours.poison.rows.digest()
    assert torch.equal(found.aims.inputs, ours.aims.inputs)
    assert found.aims.labels.tolist() == [TRIALS[1][1]]


def test_of_all_trials_gives_a_folder_each(call: Caller, ran: Path, tmp_path: Path) -> None:
    said = call("export", ran, "--to", tmp_path / "ours", "--all")
    assert said.code == 0
    assert "Poison sets of 2 trials" in said.out
    assert sorted(each.name for each in (tmp_path / "ours").iterdir()) == ["0", "1"]
    for trial in (0, 1):
        for file in kept(ran, trial).iterdir():
            assert (tmp_path / "ours" / str(trial) / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("form", ["poisonset", "benchmark"])
def test_what_was_exported_is_judged_as_it_was_here(call: Caller, ran: Path, tmp_path: Path, form: str) -> None:
    """The same poison, the same victims: the same answers, whichever way it went."""
    assert call("export", ran, "--to", tmp_path / "sets", "--all", "--format", form).code == 0
    words = ("--protocol", protocol(tmp_path), "--out", tmp_path / "run", "--workers", "1")
    assert call("judge", tmp_path / "sets", *words).code == 0
    assert answers(tmp_path / "run") == answers(ran)
    assert len(answers(ran)) == 2


def answers(run: Path) -> list[object]:
    with Store(run) as store:
        victims = [row for row in store.rows("victim") if row["control"] == "attack"]
    return sorted(([row["trial"], row["targets"], row["clean_accuracy"], row["curve"]] for row in victims), key=str)


@pytest.mark.parametrize("form", ["poisonset", "benchmark"])
def test_of_the_whole_set_is_the_part_that_victims_train_on(call: Caller, ran: Path, tmp_path: Path, form: str) -> None:
    said = call("export", ran, "--to", tmp_path / "set", "--full", "folder", "--format", form)
    assert said.code == 0, said.err
    opened = [np.asarray(Image.open(path)) for path in (tmp_path / "set" / "train").rglob("*.png")]
    images = {image.transpose(2, 0, 1).tobytes() for image in opened}
    assert len(images) == len(opened) == 30
    poison = read(kept(ran, 0)).poison.rows
    assert images >= {each.numpy().tobytes() for each in poison.inputs}
    clean = {each.numpy().tobytes() for each in SPLIT.train.without(poison.ids).inputs}
    assert len(images & clean) == 30 - len(poison)


def test_of_what_the_format_cannot_hold_leaves_nothing_behind(call: Caller, finished: Path, tmp_path: Path) -> None:
    said = call("export", finished, "--to", tmp_path / "set", "--all", "--format", "benchmark")
    assert (said.code, said.out) == (1, "")
    assert "17 levels; export a poison set instead" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--format", "zip"], "--format can be poisonset or benchmark, but it is 'zip'"),
        (["--all", "--trial", "1"], "--all writes every trial"),
    ],
)
def test_a_mistake_is_a_sentence(call: Caller, finished: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    said = call("export", finished, "--to", tmp_path / "set", *words)
    assert (said.code, said.out) == (1, "")
    assert sentence in said.err
    assert list(tmp_path.iterdir()) == []


def test_prints_the_results_as_a_table(call: Caller, ran: Path) -> None:
    for kind, beginning in (("csv", "scenario,attack"), ("markdown", "| "), ("latex", "% needs ")):
        said = call("export", ran, "--table", kind)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(beginning)


def test_writes_the_results_into_a_new_file_alone(call: Caller, ran: Path, tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        for rows in ([], ["--rows"]):
            path = tmp_path / f"{kind}{len(rows)}"
            said = call("export", ran, "--table", kind, *rows, "--to", path)
            assert (said.code, said.err) == (0, "")
            assert path.stat().st_size > 100
            assert "exists already" in call("export", ran, "--table", kind, *rows, "--to", path).err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--table", "xls"), "--table can be parquet, csv, latex or markdown, but it is 'xls'"),
        (("--table", "parquet"), "say where to write it with --to FILE"),
        (("--table", "latex", "--rows"), "say csv or parquet"),
        (("--table", "csv", "--trial", "1"), "--trial chooses a poison set"),
        (("--table", "csv", "--all"), "--all chooses a poison set"),
        (("--table", "csv", "--to", "absent/table.csv"), "there is no folder 'absent'"),
        (("--rows",), "add --table csv"),
        ((), "say where to write the poison set with --to DIR"),
    ],
)
def test_what_makes_no_sense_together_is_a_sentence(
    call: Caller, ran: Path, words: tuple[str, ...], sentence: str
) -> None:
    said = call("export", ran, *words)
    assert (said.code, said.out) == (1, "")
    assert sentence in said.err
