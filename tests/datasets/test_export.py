from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mithridate.dataset import Column, Dataset, Space
from mithridate.datasets.bundled import Bundled
from mithridate.datasets.digits import Digits
from mithridate.datasets.export import write_folder, write_parquet
from mithridate.datasets.folder import Folder
from mithridate.datasets.manifest import folder_names
from mithridate.datasets.parquet import Parquet
from mithridate.errors import DataError
from mithridate.poison import FIRST_APPENDED
from tests.conftest import stripes
from tests.datasets.generated import images
from tests.tables import rows

ODD = (
    "../../escape",
    "/etc",
    "a\\b",
    "",
    ".",
    "..",
    "CON",
    "猫",
    "猫!",
    "a" * 300,
    "new\nline",
    "nul\0l",
    "T-shirt/top",
)
WRITERS = pytest.mark.parametrize("write", [write_parquet, write_folder])


def dataset(rows=12, *, channels=3, classes=("cat", "dog", "T-shirt/top"), first_id=40):
    space = Space(shape=(channels, 4, 5), num_classes=len(classes), levels=256, classes=classes)
    labels = torch.arange(rows) % len(classes)
    return Dataset.of(torch.from_numpy(images(rows, channels=channels)), labels, space=space, first_id=first_id)


def read_back(folder, kind):
    if kind == "parquet":
        return Parquet(train=folder / "train", test=folder / "test").load()
    return Folder(path=folder).load()


def written(folder, kind, train, test):
    for part, data in (("train", train), ("test", test)):
        if kind == "parquet":
            write_parquet(data, folder / part / "rows.parquet")
        else:
            write_folder(data, folder / part)
    return read_back(folder, kind)


def same(found, expected):
    return found.digest() == expected.digest() and found.space.classes == expected.space.classes


@pytest.mark.parametrize("kind", ["parquet", "folder"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_written_is_read_back_bit_for_bit(tmp_path, kind, channels):
    train, test = dataset(channels=channels), dataset(7, channels=channels, first_id=0)
    found = written(tmp_path, kind, train, test)
    assert same(found.train, train)
    assert same(found.test, test)


def test_the_hub_library_reads_the_parquet_with_class_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    library = pytest.importorskip("datasets", reason="the 'datasets' extra is not installed")
    data = dataset()
    write_parquet(data, tmp_path / "rows.parquet")
    read = library.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train")
    assert read.features["label"].names == list(data.space.classes)
    assert read["id"][:] == data.ids.tolist()
    assert read["label"][:] == data.labels.tolist()
    assert np.array_equal(np.asarray(read[3]["image"]), data.inputs[3].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_real_images_are_read_back_bit_for_bit(tmp_path, kind):
    data = Bundled(train_rows=120, test_rows=60).load()
    found = written(tmp_path, kind, data.train, data.test)
    assert same(found.train, data.train)
    assert same(found.test, data.test)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_class_names_of_any_characters_come_back_and_lead_nowhere(tmp_path, kind):
    data = dataset(2 * len(ODD), classes=ODD)
    found = written(tmp_path / "inside" / "here", kind, data, data)
    assert same(found.train, data)
    assert [each.name for each in tmp_path.iterdir()] == ["inside"]
    assert [each.name for each in (tmp_path / "inside").iterdir()] == ["here"]


def test_folder_names_are_plain_different_and_sorted_as_the_labels():
    names = folder_names([*ODD, *map(str, range(100))])
    assert len({name.lower() for name in names}) == len(names)
    assert sorted(names) == list(names)
    assert all(name.isascii() and name.replace("_", "").replace("-", "").isalnum() and len(name) < 60 for name in names)


def test_a_folder_of_poisoned_rows_in_another_order_comes_back_by_id(tmp_path):
    data = dataset()
    shuffled = data.at(torch.tensor([5, 3, 11, 0]))
    write_folder(shuffled, tmp_path / "train")
    write_folder(data, tmp_path / "test")
    found = Folder(path=tmp_path).load().train
    assert same(found, shuffled.rows(torch.tensor([40, 43, 45, 51])))


def test_floats_are_written_as_the_levels_that_store_them(tmp_path):
    data = dataset()
    floats = replace(data, inputs=data.all_inputs())
    found = written(tmp_path, "parquet", floats, floats)
    assert torch.equal(found.train.inputs, data.inputs)


def test_a_class_without_rows_keeps_its_place(tmp_path):
    data = dataset()
    kept = data.at(data.labels != 1)
    for kind in ("parquet", "folder"):
        assert same(written(tmp_path / kind, kind, kept, data).train, kept)


def test_unnamed_classes_are_written_by_number(tmp_path):
    data = replace(dataset(), space=replace(dataset().space, classes=()))
    found = written(tmp_path, "folder", data, data)
    assert found.train.space.classes == ("0", "1", "2")


def test_files_are_ordinary_png_named_by_id(tmp_path):
    write_folder(dataset(), tmp_path / "out")
    with Image.open(tmp_path / "out" / "0_cat" / "43.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (5, 4))


@WRITERS
def test_refuses_to_overwrite_and_leaves_what_is_there(tmp_path, write):
    place = tmp_path / "taken"
    place.write_text("mine")
    with pytest.raises(DataError, match=r"taken exists already and is not overwritten; choose another name"):
        write(dataset(), place)
    assert place.read_text() == "mine"


@WRITERS
def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"out cannot be written: "):
        write(dataset(), tmp_path / "file" / "out")


@WRITERS
def test_leaves_nothing_behind_when_it_fails(tmp_path, write, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mithridate.datasets.export._png", full)
    with pytest.raises(DataError, match=r"out cannot be written: No space left on device"):
        write(dataset(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@WRITERS
def test_leaves_nothing_but_what_it_was_asked_for(tmp_path, write):
    write(stripes(9, seed=1), tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_table_is_written_as_it_was_before_its_groups_were_spread(tmp_path):
    data = rows(30, seed=2, first_id=FIRST_APPENDED)
    data = replace(data, space=replace(data.space, classes=("no", "yes")))
    write_parquet(data, tmp_path / "table.parquet")
    read = pq.read_table(tmp_path / "table.parquet").to_pylist()
    expected = [
        data.space.describe(row) | {"label": data.space.name(int(label)), "id": int(row_id)}
        for row, label, row_id in zip(data.inputs, data.labels, data.ids, strict=True)
    ]
    assert [{**each, "income": float(str(np.float32(each["income"])))} for each in read] == expected
    assert torch.equal(torch.tensor([each["income"] for each in read]), data.inputs[:, 1])


def test_a_table_with_a_label_of_its_own_loses_none(tmp_path):
    space = Space.table((Column(name="label"), Column(name="label_"), Column(name="x")), num_classes=2)
    write_parquet(Dataset.of(torch.rand(2, 3), torch.arange(2), space=space), tmp_path / "table.parquet")
    assert pq.read_schema(tmp_path / "table.parquet").names == ["label", "label_", "x", "label__", "id"]


def test_a_table_is_no_folder_of_images(tmp_path):
    with pytest.raises(DataError, match="cannot be written as a folder of images; write it as Parquet"):
        write_folder(rows(4), tmp_path / "out")


@WRITERS
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (Digits(train_rows=20).load().train, r"only 8-bit images .* these have 17 levels in \[0, 1\]"),
        (replace(dataset(), space=replace(dataset().space, bounds=(-1.0, 1.0))), r"256 levels in \[-1, 1\]"),
        (
            Dataset.of(torch.rand(4, 3, 2, 2), torch.arange(4) % 2, space=Space(shape=(3, 2, 2), num_classes=2)),
            r"these have real numbers",
        ),
        (
            Dataset.of(torch.rand(4, 6), torch.arange(4) % 2, space=Space(shape=(6,), num_classes=2)),
            r"only images with 1 or 3 channels .* shape \(6,\)",
        ),
        (dataset().at(slice(0, 0)), r"the data set has no rows"),
    ],
    ids=["17 levels", "bounds", "real", "table", "empty"],
)
def test_refuses_what_png_cannot_hold(tmp_path, write, data, sentence):
    with pytest.raises(DataError, match=sentence):
        write(data, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_byte_never_changes_a_row_unseen(tmp_path):
    data, file = dataset(24, channels=1), tmp_path / "a.parquet"
    write_parquet(data, file)
    write_parquet(data, tmp_path / "b.parquet")
    stored = file.read_bytes()
    refused = 0
    for place in range(0, len(stored), 5):
        file.write_bytes(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :])
        try:
            found = Parquet(train=file, test=tmp_path / "b.parquet", id=None).load().train
        except DataError:
            refused += 1
            continue
        assert torch.equal(found.inputs, data.inputs)
        assert torch.equal(found.labels, data.labels)
    assert refused > len(stored) / 10
