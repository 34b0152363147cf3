from __future__ import annotations

import json

import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.export import write_folder
from mithridate.datasets.folder import Folder
from mithridate.errors import ConfigError, DataError
from mithridate.settings import plain
from mithridate.source import Source
from tests.conftest import stripes
from tests.datasets.generated import images, labels, png, write_class_folders

PICTURES = images(12)


def test_train_and_test_folders_are_read_one_image_of_each_class_in_turn(tmp_path):
    write_class_folders(tmp_path / "train", PICTURES, [0] * 2 + [1] * 6 + [2] * 4)
    write_class_folders(tmp_path / "test", images(3, seed=1), labels(3))
    found = Folder(path=tmp_path).load()
    order = [0, 2, 8, 1, 3, 9, 4, 10, 5, 11, 6, 7]  # a0 b2 c8, a1 b3 c9, b4 c10, ...
    assert torch.equal(found.train.inputs, torch.from_numpy(PICTURES[order]))
    assert found.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 1, 2, 1, 1]
    assert found.train.ids.tolist() == list(range(12))
    assert found.train.space.classes == ("a", "b", "c")
    assert torch.equal(found.test.inputs, torch.from_numpy(images(3, seed=1)))


def test_a_part_of_every_class_is_held_out_by_seed(tmp_path):
    write_class_folders(tmp_path, PICTURES, labels(12))
    found = Folder(path=tmp_path, held_out=0.25).load()
    assert found.test.labels.bincount().tolist() == [1, 1, 1]
    assert sorted([*found.train.ids.tolist(), *found.test.ids.tolist()]) == list(range(12))
    assert found.train.digest() == Folder(path=tmp_path, held_out=0.25).load().train.digest()
    assert any(
        Folder(path=tmp_path, held_out=0.25, seed=s).load().test.ids.tolist() != found.test.ids.tolist()
        for s in (1, 2, 3)
    )
    for part in (found.train, found.test):
        assert torch.equal(part.inputs, torch.from_numpy(PICTURES[part.ids.numpy()]))


def test_other_files_are_passed_over(tmp_path):
    write_class_folders(tmp_path, PICTURES, labels(12))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").write_text("no class")
    assert Folder(path=tmp_path).load().train.space.classes == ("a", "b", "c")


def test_settings_survive_yaml(tmp_path):
    source = Folder(path=str(tmp_path), held_out=0.5, classes=("a", "b"), size=8)
    assert parse(Source, plain(source)) == source


def lone(part):
    def make(folder):
        write_class_folders(folder / part, PICTURES, labels(12))

    return make


def unalike(folder):
    lone("train")(folder)
    write_class_folders(folder / "test", PICTURES, labels(12), names=("a", "b", "d"))


def hollow(folder):
    lone(".")(folder)
    (folder / "d").mkdir()


def broken(folder):
    lone(".")(folder)
    (folder / "b" / "zzz.png").write_bytes(png(PICTURES[0])[:50])


def odd(folder):
    lone(".")(folder)
    (folder / "b" / "zzz.png").write_bytes(png(images(1, height=9)[0]))


def alone(folder):
    write_class_folders(folder, PICTURES[:4], [0] * 4)


def unreadable(folder):
    lone(".")(folder)
    (folder / "b" / "zzz.png").mkdir()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, r"has no sub-folders; it must have one a class"),
        (lone("train"), r"has the folder train/ but no test/; give both"),
        (lone("test"), r"has the folder test/ but no train/"),
        (unalike, r"train has the classes a, b, c, but .*test has a, b, d"),
        (hollow, r"d holds no images \(allowed: \.bmp, "),
        (broken, r"zzz\.png: its 50 bytes cannot be decoded as an image"),
        (odd, r"zzz\.png: this image is 5 x 9 pixels, but the first one is 5 x 4"),
        (alone, r"2 classes|one class"),
        (unreadable, r"zzz\.png cannot be read: Is a directory"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, make, sentence):
    make(tmp_path)
    with pytest.raises(DataError, match=sentence):
        Folder(path=tmp_path).load()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        Folder(path=tmp_path / "nowhere").load()


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_a_fraction_that_leaves_nothing_is_refused_at_once(fraction):
    with pytest.raises(ConfigError, match="held_out must lie between 0 and 1"):
        Folder(path="a", held_out=fraction)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ("{", "mithridate.json is damaged"),
        ("[]", "is not a manifest of the form"),
        ("[" * 100_000, "mithridate.json"),
        (json.dumps({"format": "other", "classes": {}}), "is not a manifest of the form"),
        (json.dumps({"format": "mithridate image folder 1", "classes": {"a": 3}}), "is not a manifest of the form"),
        (json.dumps({"format": "mithridate image folder 1", "classes": {"..": "a"}}), "'..', which is no plain folder"),
        (json.dumps({"format": "mithridate image folder 1", "classes": {"/etc": "a"}}), "no plain folder name"),
        (json.dumps({"format": "mithridate image folder 1", "classes": {"gone": "a"}}), "no folder .*gone"),
    ],
)
def test_a_damaged_or_devious_manifest_is_refused(tmp_path, manifest, sentence):
    write_class_folders(tmp_path, PICTURES, labels(12))
    (tmp_path / "mithridate.json").write_text(manifest)
    with pytest.raises(DataError, match=sentence):
        Folder(path=tmp_path).load()


def test_beside_a_manifest_files_are_named_by_id(tmp_path):
    write_folder(stripes(9, seed=1), tmp_path / "all")
    stray = next((tmp_path / "all").glob("0*")) / "stray.png"
    stray.write_bytes(png(PICTURES[0]))
    with pytest.raises(DataError, match=r"stray\.png: beside a manifest, an image must be named by its id"):
        Folder(path=tmp_path / "all").load()
