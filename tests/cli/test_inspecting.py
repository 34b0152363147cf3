"""The poisoning benchmark's pickles can be looked at from the command line, and run nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mithridate.cli import app
from mithridate.datasets.bundled import Bundled
from mithridate.errors import FormatError


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
