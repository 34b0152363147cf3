"""The poisoning benchmark's pickles can be looked at from the command line, and run nothing."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mithridate.cli import app
from mithridate.dataset import Dataset
from mithridate.datasets.bundled import Bundled
from mithridate.errors import FormatError
from mithridate.goal import Aims
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.poisonset import write
from tests.tables import ADA, TABLE


@pytest.fixture
def pickles(tmp_path: Path) -> Path:
    train = Bundled(train_rows=40).load().train
    frogs = (train.labels == 4).nonzero().flatten()[:3]
    images = [train.inputs[k].permute(1, 2, 0).numpy().copy() for k in frogs]
    images[0][0, 0, 0] ^= 8
    (tmp_path / "poisons.pickle").write_bytes(pickle.dumps([(image, 4) for image in images]))
    (tmp_path / "base_indices.pickle").write_bytes(pickle.dumps(train.ids[frogs].tolist()))
    (tmp_path / "target.pickle").write_bytes(pickle.dumps((images[1], 0)))
    return tmp_path


def test_benchmark_pickles_are_summed_up(pickles: Path) -> None:
    said = CliRunner().invoke(app, ["inspect", str(pickles), "--data", "bundled"])
    assert said.exit_code == 0, said.output
    assert "frog 3" in said.output
    assert "1 input of class 'bird' is to be called 'frog'" in said.output
    assert "largest change 255ths  8" in said.output


def test_a_hostile_pickle_is_refused(pickles: Path) -> None:
    (pickles / "target.pickle").write_bytes(b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R.")
    with pytest.raises(FormatError, match=r"posix.*system"):
        CliRunner().invoke(app, ["inspect", str(pickles), "--data", "bundled"], catch_exceptions=False)


def test_appended_rows_of_a_table_are_summed_up(tmp_path: Path) -> None:
    data = Dataset.of(torch.tensor([ADA, ADA]), torch.tensor([0, 1]), space=TABLE)
    base = data.rows(torch.arange(30) % 2)
    inputs = base.inputs.clone()
    inputs[:7, 0] = 90
    rows = replace(base, inputs=inputs, ids=FIRST_APPENDED + torch.arange(30))
    poison = Poison(rows=rows, origins=base.ids)
    aims = Aims(inputs=data.inputs, labels=data.labels, wanted=None)
    write(tmp_path / "set", poison=poison, base=base, aims=aims, details={}, data_digest="")
    said = CliRunner().invoke(app, ["inspect", str(tmp_path / "set")])
    assert said.exit_code == 0, said.output
    assert "columns          age, income, work, married, sex, born\n" in said.output
    assert "changed columns  age 7\n" in said.output
    assert "largest change   0.7397\n" in said.output  # 54 of 73 years
    assert f"origins          {', '.join(['0, 1'] * 10)} and 10 more\n" in said.output
    whole = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "set"), "--json"]).output)
    assert whole["origins"] == [0, 1] * 15


@pytest.mark.parametrize("flipped", [True, False])
def test_label_flips_are_said_to_change_no_column(tmp_path: Path, flipped: bool) -> None:
    data = Dataset.of(torch.tensor([ADA, ADA]), torch.tensor([0, 1]), space=TABLE)
    rows = replace(data, labels=1 - data.labels) if flipped else data
    aims = Aims(inputs=data.inputs, labels=data.labels, wanted=None)
    write(tmp_path / "set", poison=Poison(rows=rows), base=data, aims=aims, details={}, data_digest="")
    said = CliRunner().invoke(app, ["inspect", str(tmp_path / "set")])
    assert said.exit_code == 0, said.output
    assert f"changed columns  {'none (labels only)' if flipped else 'none'}\n" in said.output
    assert "largest change   none\n" in said.output
    whole = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "set"), "--json"]).output)
    assert (whole["changed_columns"], whole["largest_change"]) == ({}, 0.0)
