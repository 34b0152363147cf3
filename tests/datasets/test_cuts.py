"""Cuts of each class, and what networks are told to normalise with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mithridate.config import parse, setting
from mithridate.datasets import wellknown
from mithridate.datasets.bundled import Bundled
from mithridate.datasets.named import CIFAR10, CIFAR100, MNIST, FashionMNIST
from mithridate.datasets.rows import check_cut, numbered, split
from mithridate.errors import ConfigError, DataError, MissingExtraError, ProblemsError
from mithridate.settings import plain
from tests.datasets.generated import images, labels, png, write_table

NAMES = ("cat", "dog", "horse")
CUT = [CIFAR10, MNIST, FashionMNIST, Bundled, CIFAR100]


def rows(numbers, *, place="here", classes=NAMES):
    pictures = images(len(numbers), channels=1)
    return numbered(place, np.array(numbers, dtype=np.int64), lambda at: pictures[at], classes=classes)


#             0  1  2  3  4  5  6  7  8  9
TRAIN = rows([1, 0, 0, 2, 1, 0, 2, 2, 1, 0])
TEST = rows([2, 1, 0], place="there")


def kept(**settings):
    return split(TRAIN, TEST, **settings).train.ids.tolist()


def test_each_class_is_cut_by_the_order_of_its_own_rows_and_ids_stay():
    assert kept(per_class="0:1") == [0, 1, 3]
    assert kept(per_class="1:3") == [2, 4, 5, 6, 7, 8]
    assert kept(per_class="0:3") == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert split(TRAIN, TEST, per_class="1:3").train.labels.tolist() == [0, 1, 0, 2, 2, 1]


def test_cuts_after_the_classes_and_before_the_rows():
    assert kept(classes=("horse", 0), per_class="1:3") == [2, 5, 6, 7]
    assert kept(classes=("cat", "dog"), per_class="2:3") == [5, 8]
    assert kept(classes=("cat", "dog"), per_class="1:3", train_rows=2) == [2, 4]
    assert kept(classes=(0, 1), per_class="0:3", train_rows=6) == [0, 1, 2, 4, 5, 8]


def test_leaves_the_test_part_alone():
    whole, part = split(TRAIN, TEST), split(TRAIN, TEST, per_class="1:2")
    assert part.test.digest() == whole.test.digest()
    assert part.test.ids.tolist() == [0, 1, 2]


def test_neighbouring_cuts_share_no_row_and_miss_none():
    first, second = Bundled(per_class="0:300").load().train, Bundled(per_class="300:486").load().train
    assert not set(first.ids.tolist()) & set(second.ids.tolist())
    whole = Bundled(per_class="0:486").load().train
    assert sorted([*first.ids.tolist(), *second.ids.tolist()]) == whole.ids.tolist()
    assert first.labels.bincount().tolist() == [300] * 5
    assert second.labels.bincount().tolist() == [186] * 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"per_class": "1:4"}, r"here: per_class asks for rows 1:4 of each class, but class 'dog' has 3"),
        ({"per_class": "4:5", "classes": (0, 2)}, r"class 'cat' has 4"),
        (
            {"per_class": "0:2", "train_rows": 7},
            r"here: train_rows asks for 7 rows, but it holds 6 of these classes",
        ),
        ({"per_class": "1:2", "classes": ("cat", "dog"), "train_rows": 3}, r"asks for 3 rows, but it holds 2"),
    ],
)
def test_a_class_with_too_few_rows_is_named(settings, sentence):
    with pytest.raises(DataError, match=sentence):
        split(TRAIN, TEST, **settings)


def test_a_class_without_a_name_is_told_by_its_number():
    with pytest.raises(DataError, match=r"rows 0:4 of each class, but class '1' has 3"):
        split(rows(TRAIN.labels, classes=()), rows([0, 1], classes=()), per_class="0:4")


@pytest.mark.parametrize("wrong", ["4800", "4800:", ":50", "-1:5", "0:5:2", "a:b", "0 : 5", "1e3:5", "0:5\n", "0-5"])
def test_other_forms_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"per_class must be first:end, two whole numbers"):
        check_cut((), None, None, wrong)


@pytest.mark.parametrize("wrong", ["5:5", "50:0", "0:0"])
def test_empty_cuts_are_refused(wrong):
    with pytest.raises(ConfigError, match=rf"must end behind its first row .* but it is '{wrong}'"):
        check_cut((), None, None, wrong)


@pytest.mark.parametrize("cls", CUT)
def test_every_source_that_is_cut_refuses_before_it_reads(cls):
    with pytest.raises(ConfigError, match="per_class"):
        cls(per_class="5:5")


@pytest.mark.parametrize("cls", CUT)
def test_settings_survive_yaml(cls):
    source = cls(per_class="10:50", classes=(0, 1), train_rows=5)
    assert parse(cls, plain(source)) == source
    with pytest.raises(ProblemsError, match=r"per_class must end behind"):
        parse(cls, {"per_class": "50:10"})


def place(folder, file, count):
    write_table(folder / file, [png(each) for each in images(count)], labels(count, 10), names=())


def test_first_rows_serve_a_cut_that_they_hold_whole(tmp_path, monkeypatch):
    def absent(repository, *, part, label):
        raise MissingExtraError(f"reading '{repository}'", "datasets")

    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    monkeypatch.setattr(wellknown, "hub_rows", absent)
    place(tmp_path / "mnist", "mini-train.parquet", 39)  # class 9 has 3 rows, the others 4
    place(tmp_path / "mnist", "mini-test.parquet", 20)
    assert MNIST(per_class="1:3", test_rows=20).load().train.ids.tolist() == list(range(10, 30))
    assert MNIST(per_class="3:4", classes=(0, 8), test_rows=2).load().train.ids.tolist() == [30, 38]
    assert MNIST(per_class="1:3", train_rows=20, test_rows=20).load().train.ids.tolist() == list(range(10, 30))
    for asked in ({"per_class": "3:4"}, {"per_class": "1:3", "train_rows": 21}):
        with pytest.raises(DataError, match=r"mini-train\.parquet: ask for fewer with per_class"):
            MNIST(**asked, test_rows=20).load()


class TestNormalisation:
    def test_replaces_that_of_both_parts(self):
        found = split(TRAIN, TEST, mean=(0.25,), std=(0.5,))
        for part in (found.train, found.test):
            assert (part.space.mean, part.space.std) == ((0.25,), (0.5,))

    def test_half_of_it_leaves_the_other_computed(self):
        usual = split(TRAIN, TEST).train.space
        assert split(TRAIN, TEST, std=(0.5,)).train.space == replace(usual, std=(0.5,))
        assert split(TRAIN, TEST, mean=(0.25,)).test.space == replace(usual, mean=(0.25,))

    def test_changes_no_row(self):
        assert split(TRAIN, TEST, mean=(0.25,)).train.digest() == split(TRAIN, TEST).train.digest()

    @pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"mean": (0.5,)}, r"mean must have a number for each of 3 channels \(or be empty\), but it has 1"),
            ({"std": (0.5,) * 4}, r"std must have a number for each of 3 channels"),
            ({"std": (0.2, 0.0, 0.2)}, r"std must be positive"),
            ({"std": (0.2, -0.1, 0.2)}, r"std must be positive"),
            ({"mean": (0.2, float("nan"), 0.2)}, r"must be finite"),
            ({"std": (0.2, float("inf"), 0.2)}, r"must be finite"),
        ],
    )
    def test_that_no_colour_image_has_is_refused(self, cls, settings, sentence):
        with pytest.raises(ConfigError, match=sentence):
            cls(**settings)

    @pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
    def test_survives_yaml(self, cls):
        source = cls(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
        assert parse(cls, plain(source)) == source
        assert setting(cls, "std", [0.2, "1/4", "30 %"]) == (0.2, 0.25, 0.3)

    def test_reaches_the_data(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path))
        place(tmp_path / "cifar10", "mini-train.parquet", 20)
        place(tmp_path / "cifar10", "mini-test.parquet", 10)
        found = CIFAR10(train_rows=20, test_rows=10, mean=(0.1, 0.2, 0.3)).load()
        assert found.train.space.mean == found.test.space.mean == (0.1, 0.2, 0.3)
        kept = torch.from_numpy(images(20)) / 255
        assert found.train.space.std == pytest.approx(kept.std([0, 2, 3], correction=0).tolist(), abs=1e-5)
