"""The hub, through a stand-in that answers as its library does; the library itself where the extra is installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.hub import Hub
from mithridate.errors import DataError, MissingExtraError
from mithridate.settings import plain
from mithridate.source import Source
from tests.datasets.generated import NAMES, images, labels, png, write_pair


class Image:
    pass


class Value:
    pass


class ClassLabel:
    names = NAMES


class Table:
    """What ``datasets.Dataset`` does for us: columns, features, and Arrow tables by position."""

    def __init__(self, table, features):
        self.table, self.features, self.column_names = table, features, table.column_names

    def select_columns(self, names):
        return Table(self.table.select(names), self.features)

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        return self.table if isinstance(rows, slice) else self.table.take(rows)


def table(rows, seed, *, pictures=None, numbers=None, features=None):
    pictures = pictures or [{"bytes": png(each), "path": None} for each in images(rows, seed=seed)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    numbers = labels(rows) if numbers is None else numbers
    columns = pa.table({"img": pa.array(pictures, type=kind), "label": pa.array(numbers)})
    return Table(columns, features or {"img": Image(), "label": ClassLabel()})


@pytest.fixture
def library(monkeypatch):
    """A hub with one data set, ``me/set``; tests change its parts."""
    parts = {"train": table(9, 0), "test": table(6, 1)}

    def load_dataset(name, config, *, split, revision):
        if name != "me/set":
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nand a long trace")
        return parts[split]

    fake = SimpleNamespace(load_dataset=load_dataset, Image=Image, ClassLabel=ClassLabel, parts=parts)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return fake


def test_reads_pixels_labels_and_names(library):
    found = Hub(repository="me/set", classes=("dog", "cat"), train_rows=4).load()
    kept = [0, 1, 3, 4]
    assert found.train.ids.tolist() == kept
    assert found.train.labels.tolist() == [1, 0, 1, 0]
    assert torch.equal(found.train.inputs, torch.from_numpy(images()[kept]))
    assert found.train.space.classes == ("dog", "cat")


def test_images_that_lie_in_files_are_opened(library, tmp_path):
    for row, each in enumerate(images()):
        (tmp_path / f"{row}.png").write_bytes(png(each))
    pictures = [{"bytes": None, "path": str(tmp_path / f"{row}.png")} for row in range(9)]
    library.parts["train"] = table(9, 0, pictures=pictures)
    assert torch.equal(Hub(repository="me/set").load().train.inputs, torch.from_numpy(images()))
    (tmp_path / "4.png").unlink()
    with pytest.raises(DataError, match=r"me/set \(train\), row 4: its file .*4\.png cannot be read: No such file"):
        Hub(repository="me/set").load()


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"numbers": ["a"] * 9}, r"me/set \(train\): column 'label' must hold whole numbers from 0"),
        ({"numbers": [None] * 9}, r"column 'label' must hold whole numbers"),
        ({"numbers": [-1] * 9}, r"me/set \(train\): row 0 has label -1"),
        ({"features": {"img": Value(), "label": ClassLabel()}}, r"column 'img' must hold images, but it holds"),
        ({"pictures": [{"bytes": None, "path": None}] * 9}, r"me/set \(train\), row 0 has no image bytes"),
        ({"pictures": [{"bytes": b"no", "path": None}] * 9}, r"me/set \(train\), row 0: its 2 bytes cannot be decoded"),
    ],
)
def test_says_what_is_wrong_and_where(library, part, sentence):
    library.parts["train"] = table(9, 0, **part)
    with pytest.raises(DataError, match=sentence):
        Hub(repository="me/set").load()


def test_a_failing_network_is_one_sentence(library):
    with pytest.raises(
        DataError, match=r"'me/other' \(train\) could not be read .* ConnectionError: Couldn't"
    ) as raised:
        Hub(repository="me/other").load()
    assert "\n" not in str(raised.value)


def test_a_missing_part_is_named(library):
    with pytest.raises(DataError, match=r"'me/set' \(validation\) could not be read"):
        Hub(repository="me/set", test="validation").load()


def test_without_the_extra_the_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mithridate\[datasets\]'"):
        Hub(repository="me/set").load()


def test_settings_survive_yaml():
    source = Hub(repository="me/set", config="small", classes=("a", 1), size=32, revision="0" * 40)
    assert parse(Source, plain(source)) == source


def test_the_real_library_reads_a_folder_of_parquet(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    pytest.importorskip("datasets", reason="the 'datasets' extra is not installed")
    write_pair(tmp_path / "data")
    found = Hub(repository=str(tmp_path / "data"), classes=("cat", "dog")).load()
    kept = np.flatnonzero(labels() < 2)
    assert torch.equal(found.train.inputs, torch.from_numpy(images()[kept]))
    assert found.train.space.classes == ("cat", "dog")
