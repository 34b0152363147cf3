from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.spambase import Spambase
from mithridate.errors import ConfigError, DataError
from mithridate.settings import plain
from tests.datasets.generated import shared_data


@pytest.fixture
def original(monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    return pq.read_table(shared_data() / "tabular/spambase.parquet")


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Nothing but what comes with the package."""
    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))


def test_holds_every_row_once_as_the_original_has_it(original):
    found = Spambase().load()
    ids = torch.cat([found.train.ids, found.test.ids]).numpy()
    assert sorted(ids) == list(range(4601))
    for part in (found.train, found.test):
        for place, column in enumerate(part.space.columns):
            values = original.column(column.name).to_numpy()
            assert np.array_equal(part.inputs[:, place].numpy(), values[part.ids.numpy()].astype(np.float32))
            assert (column.low, column.high) == (np.float32(values.min()), np.float32(values.max()))
        assert np.array_equal(part.labels.numpy(), original.column("label").to_numpy()[part.ids.numpy()])
    assert [each.name for each in found.train.space.columns] == original.column_names[:57]
    whole = [each.name for each in found.train.space.columns if each.kind == "integer"]
    assert whole == ["capital_run_length_longest", "capital_run_length_total"]


def test_binary_is_which_words_and_signs_are_there(original):
    found = Spambase(form="binary").load()
    assert found.train.space.shape == (54,)
    assert {each.kind for each in found.train.space.columns} == {"binary"}
    for place, column in enumerate(found.train.space.columns):
        there = original.column(column.name).to_numpy()[found.train.ids.numpy()] > 0
        assert np.array_equal(found.train.inputs[:, place].numpy(), there)


def test_the_copy_in_the_package_is_the_same(original, alone, monkeypatch):
    bundled = Spambase().load()
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    assert Spambase().load().train.digest() == bundled.train.digest()


def test_its_first_rows_are_of_both_classes_and_decided_by_the_seed(alone):
    found = Spambase(train_rows=100, test_rows=50).load()
    assert found.train.labels.bincount(minlength=2).min() > 20
    assert found.train.ids.tolist() == Spambase(train_rows=100).load().train.ids.tolist()
    assert found.train.ids.tolist() != Spambase(train_rows=100, seed=1).load().train.ids.tolist()
    assert len(Spambase(held_out=0.5).load().test) == pytest.approx(2300, abs=2)


def test_another_file_of_that_name_is_refused(alone, tmp_path):
    folder = tmp_path / "tabular"
    folder.mkdir()
    (folder / "spambase.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as that Parquet file"):
        Spambase().load()


def test_survives_yaml_and_refuses_what_leaves_nothing():
    source = Spambase(form="binary", train_rows=100, classes=("spam", "ham"))
    assert parse(Spambase, plain(source)) == source
    with pytest.raises(ConfigError, match="held_out"):
        Spambase(held_out=0)
