from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.parquet import Parquet
from mithridate.errors import ConfigError, DataError
from mithridate.settings import plain
from mithridate.source import Source
from tests.datasets.generated import NAMES, images, labels, png, shared_data, write_pair, write_table

ENCODED = [png(each) for each in images()]


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_pixels_labels_names_and_numbers_the_rows(tmp_path, channels):
    train, test = write_pair(tmp_path, channels=channels)
    found = Parquet(train=train, test=test).load()
    assert torch.equal(found.train.inputs, torch.from_numpy(images(channels=channels)))
    assert torch.equal(found.test.inputs, torch.from_numpy(images(6, seed=1, channels=channels)))
    assert found.train.labels.tolist() == labels().tolist()
    assert found.train.ids.tolist() == list(range(9))
    assert found.train.space.classes == NAMES
    assert (found.train.space.levels, found.train.space.bounds) == (256, (0.0, 1.0))


def test_a_cut_over_row_groups_and_files_takes_the_right_rows(tmp_path):
    pictures = images(20)
    files = [
        write_table(
            tmp_path / f"train-{k}.parquet", [png(p) for p in pictures[k * 10 :][:10]], labels(20)[k * 10 :][:10]
        )
        for k in range(2)
    ]
    test = write_table(tmp_path / "test" / "0.parquet", ENCODED, labels())
    for where in (tuple(files), str(tmp_path / "train-*.parquet"), [str(file) for file in files]):
        found = Parquet(
            train=tuple(where) if isinstance(where, list) else where, test=test.parent, classes=(2, 0)
        ).load()
        kept = [row for row in range(20) if labels(20)[row] != 1]
        assert found.train.ids.tolist() == kept
        assert torch.equal(found.train.inputs, torch.from_numpy(pictures[kept]))
    found = Parquet(train=tuple(files), test=test, classes=(2, 0), train_rows=9).load()
    assert found.train.ids.tolist() == kept[:9]
    assert torch.equal(found.train.inputs, torch.from_numpy(pictures[kept[:9]]))


def test_columns_by_other_names(tmp_path):
    train, test = write_pair(tmp_path, image="photo", label="kind")
    found = Parquet(train=train, test=test, image="photo", label="kind").load()
    assert found.train.space.classes == NAMES
    train, test = write_pair(tmp_path / "usual", image="img", label="fine_label")
    assert len(Parquet(train=train, test=test).load().train) == 9


def test_plain_binary_images_are_read(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array(ENCODED), "label": labels()}), file)
    found = Parquet(train=file, test=write_pair(tmp_path)[1]).load()
    assert torch.equal(found.train.inputs, torch.from_numpy(images()))


def test_the_id_column_gives_the_ids(tmp_path):
    test = write_pair(tmp_path)[1]
    train = write_table(tmp_path / "a.parquet", ENCODED, labels(), id=np.arange(9) * 7 + 100)
    assert Parquet(train=train, test=test).load().train.ids.tolist() == list(range(100, 163, 7))
    assert Parquet(train=train, test=test, id=None).load().train.ids.tolist() == list(range(9))


def test_the_same_settings_load_the_same_rows_and_survive_yaml(tmp_path):
    train, test = write_pair(tmp_path)
    source = Parquet(train=(str(train),), test=str(test), classes=("dog", 0), train_rows=4)
    assert source.load().train.digest() == source.load().train.digest()
    assert parse(Source, plain(source)) == source


def test_real_images_of_many_modes_are_read_with_a_size():
    folder = shared_data() / "imagenette-mini"
    found = Parquet(
        train=str(folder / "train-*.parquet"),
        test=str(folder / "validation-*.parquet"),
        classes=("tench", "golf ball"),
        size=32,
    ).load()
    assert found.train.space.shape == (3, 32, 32)
    assert found.train.labels.bincount().tolist() == [40, 40]
    assert found.train.ids.tolist() == [*range(40), *range(320, 360)]


def bad(folder, encoded=ENCODED, numbers=None, **settings):
    return write_table(folder / "bad.parquet", encoded, labels() if numbers is None else numbers, **settings)


def nearly(row, data):
    return [*ENCODED[:row], data, *ENCODED[row + 1 :]]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            {"image": "imgae"},
            r"bad\.parquet has no column 'image' or 'img'; name it with image \(columns: imgae, label\)",
        ),
        (
            {"label": "y"},
            r"bad\.parquet has no column 'label' or 'fine_label'; name it with label \(columns: image, y\)",
        ),
        ({"numbers": ["cat"] * 9, "names": ()}, r"column 'label' holds string; they must be whole numbers from 0"),
        ({"numbers": [0.5] * 9}, r"column 'label' holds double"),
        ({"numbers": [0, 1, None, *[0] * 6]}, r"row 2 has nothing in column 'label'"),
        ({"numbers": [0, 9, *[0] * 7]}, r"bad\.parquet: row 1 has label 9, but labels must lie in 0\.\.2"),
        ({"numbers": [0] * 9}, r"bad\.parquet: all 9 training rows are of one class"),
        ({"encoded": nearly(5, b"no image")}, r"bad\.parquet, row 5: its 8 bytes cannot be decoded as an image"),
        ({"encoded": nearly(5, None)}, r"bad\.parquet: row 5 has no image bytes"),
        ({"encoded": nearly(5, png(images(1, height=8)[0]))}, r"bad\.parquet, row 5: this image is 5 x 8 pixels, but"),
        ({"encoded": [], "numbers": pa.array([], pa.int64())}, r"bad\.parquet holds no rows"),
        ({"id": pa.array(["x"] * 9)}, r"column 'id' holds string; set id to none to number the rows"),
        ({"id": pa.array([1] * 9)}, r"bad\.parquet: two rows have the same id"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, written, sentence):
    train = bad(tmp_path, **written)
    with pytest.raises(DataError, match=sentence):
        Parquet(train=train, test=write_pair(tmp_path)[1]).load()


def test_an_unknown_column_is_answered_with_the_nearest(tmp_path):
    train, test = write_pair(tmp_path)
    with pytest.raises(DataError, match=r"no single column 'imag'; did you mean 'image'\? .?allowed: image, label"):
        Parquet(train=train, test=test, image="imag").load()
    with pytest.raises(DataError, match=r"no single column 'rowid'"):
        Parquet(train=train, test=test, id="rowid").load()


def test_images_that_are_numbers_are_refused(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [1, 2], "label": [0, 1]}), file)
    with pytest.raises(DataError, match=r"column 'image' holds int64, but images must be struct<bytes"):
        Parquet(train=file, test=write_pair(tmp_path)[1]).load()


def test_files_that_are_missing_empty_or_named_twice(tmp_path):
    train, test = write_pair(tmp_path)
    (tmp_path / "empty").mkdir()
    for where, sentence in (
        (tmp_path / "no.parquet", "train: there is no file, folder or match for"),
        (str(tmp_path / "no-*.parquet"), "train: there is no file, folder or match for"),
        (tmp_path / "empty", "train: the folder .* holds no .parquet file"),
        ((), "train: no Parquet file is named"),
        ((train, train), "train.parquet is named twice"),
        (test, "test.parquet is among the training and the test files"),
        (tmp_path, "test.parquet is among the training and the test files"),
    ):
        with pytest.raises(DataError, match=sentence):
            Parquet(train=where, test=test).load()


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    train, test = write_pair(tmp_path)
    train.write_bytes(train.read_bytes()[:keep])
    with pytest.raises(
        DataError, match=r"train\.parquet cannot be read as Parquet \(damaged, cut short or another form"
    ):
        Parquet(train=train, test=test).load()


@pytest.mark.parametrize("setting", [{"train_rows": 0}, {"size": 0}, {"size": 5000}, {"classes": ("cat",)}])
def test_impossible_settings_are_refused_at_once(setting):
    with pytest.raises(ConfigError):
        Parquet(train="a", test="b", **setting)
