from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.dataset import channel_statistics
from mithridate.datasets.rows import Rows, check_cut, held_out, numbered, split
from mithridate.errors import ConfigError, DataError
from mithridate.seeding import Seed
from tests.datasets.generated import images

NAMES = ("cat", "dog", "horse")


def rows(labels, *, place="here", seed=0, classes=NAMES, channels=1, **shape):
    pictures = images(len(labels), seed=seed, channels=channels, **shape)
    return numbered(place, np.array(labels, dtype=np.int64), lambda at: pictures[at], classes=classes)


TRAIN, TEST = rows([0, 1, 2, 0, 1, 2, 1]), rows([2, 1, 0], seed=1, place="there")


def test_all_rows_in_their_order():
    found = split(TRAIN, TEST)
    assert torch.equal(found.train.inputs, torch.from_numpy(images(7, channels=1)))
    assert found.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 1]
    assert found.test.ids.tolist() == [0, 1, 2]
    assert found.train.space == found.test.space
    assert found.train.space.classes == NAMES


def test_classes_are_renumbered_in_the_order_asked_for_and_ids_stay():
    found = split(TRAIN, TEST, classes=("horse", 1))
    assert found.train.labels.tolist() == [1, 0, 1, 0, 1]
    assert found.train.ids.tolist() == [1, 2, 4, 5, 6]
    assert torch.equal(found.train.inputs, torch.from_numpy(images(7, channels=1)[[1, 2, 4, 5, 6]]))
    assert found.test.labels.tolist() == [0, 1]
    assert found.train.space.classes == ("horse", "dog")
    assert found.train.space.num_classes == 2


def test_rows_are_the_first_of_the_classes_kept():
    found = split(TRAIN, TEST, classes=("horse", "dog"), train_rows=3, test_rows=1)
    assert found.train.ids.tolist() == [1, 2, 4]
    assert found.test.ids.tolist() == [0]


def test_reads_only_the_rows_that_are_kept():
    asked = []

    def inputs(at):
        asked.extend(at.tolist())
        return images(7, channels=1)[at]

    split(numbered("here", TRAIN.labels, inputs, classes=NAMES), TEST, classes=("cat", "dog"), train_rows=2)
    assert asked == [0, 1]


def test_statistics_are_those_of_the_rows_that_are_left():
    found = split(TRAIN, TEST, train_rows=2)
    kept = images(7, channels=1)[:2] / 255
    assert found.train.space.mean[0] == pytest.approx(kept.mean(), abs=1e-6)
    assert found.train.space.std[0] == pytest.approx(kept.std(), abs=1e-6)


@pytest.mark.parametrize("count", [255, 256, 600])
def test_statistics_in_chunks_are_those_of_the_whole(count):
    codes = torch.from_numpy(images(count))
    mean, std = channel_statistics(codes, split(TRAIN, TEST).train.space)
    values = codes.double() / 255
    assert mean == pytest.approx(values.mean([0, 2, 3]).tolist(), abs=2e-6)
    assert std == pytest.approx(values.std([0, 2, 3], correction=0).tolist(), abs=2e-6)


def test_unnamed_classes_are_counted_over_both_parts():
    found = split(rows([0, 1, 0], classes=()), rows([2, 0], classes=()))
    assert found.train.space.num_classes == 3
    assert found.train.space.classes == ()


def test_kept_unnamed_classes_are_named_by_their_numbers():
    found = split(rows([0, 1, 2, 2], classes=()), rows([2, 1], classes=()), classes=(2, 1))
    assert found.train.space.classes == ("2", "1")


def test_grey_and_coloured_parts_become_alike():
    found = split(rows([0, 1, 2]), rows([0, 1, 2], channels=3))
    assert found.train.space.shape == found.test.space.shape == (3, 4, 5)
    assert torch.equal(found.train.inputs[:, 0], found.train.inputs[:, 2])


@pytest.mark.parametrize(
    ("train", "test", "settings", "sentence"),
    [
        (
            TRAIN,
            TEST,
            {"classes": ("cat", "hors")},
            r"no class 'hors'; did you mean 'horse'\? .?allowed: cat, dog, hor",
        ),
        (TRAIN, TEST, {"classes": ("cat", 3)}, r"there is no class 3; labels run from 0 to 2"),
        (TRAIN, TEST, {"classes": ("cat", 0)}, r"classes name one class twice: cat, 0"),
        (rows([0, 1], classes=()), TEST, {"classes": ("cow", "dog")}, r"no class 'cow'"),
        (TRAIN, TEST, {"train_rows": 8}, r"here: train_rows asks for 8 rows, but it holds 7"),
        (TRAIN, rows([0, 0], place="there"), {"classes": (1, 2)}, r"there holds no rows of the classes asked for"),
        (rows([0, 3, 1]), TEST, {}, r"here: row 1 has label 3, but labels must lie in 0\.\.2"),
        (TRAIN, rows([0, -1], place="there"), {}, r"there: row 1 has label -1, .*without a label"),
        (rows([0, 255, 1], classes=()), rows([0], classes=()), {}, r"highest label is 255, but no row has label 2"),
        (rows([1, 2, 1], classes=()), rows([1], classes=()), {}, r"highest label is 2, but no row has label 0"),
        (rows([0, 0], classes=()), rows([0], classes=()), {}, r"all 2 training rows are of one class"),
        (rows([], classes=()), rows([], classes=()), {}, r"here holds no rows"),
        (rows([]), TEST, {}, r"here holds no rows"),
        (TRAIN, TEST, {"train_rows": 1}, r"all 1 training rows are of one class"),
        (
            TRAIN,
            rows([0], classes=("a", "b", "c"), place="there"),
            {},
            r"here has the classes cat, .*there has a, b, c",
        ),
        (rows([0, 1], classes=("a", "a")), rows([0], classes=()), {}, r"two classes are called 'a'"),
        (TRAIN, rows([0], height=9, place="there"), {}, r"here has inputs of shape \(1, 4, 5\), but there of shape"),
    ],
)
def test_says_what_is_wrong_and_where(train, test, settings, sentence):
    with pytest.raises(DataError, match=sentence):
        split(train, test, **settings)


def test_codes_beside_floats_become_floats_of_the_same_value():
    floats = numbered("there", np.array([0, 1]), lambda at: images(2, channels=1)[at] / np.float32(255))
    for found in (split(TRAIN, floats).train, split(floats, TRAIN).test):
        assert found.space.levels is None
        assert torch.equal(found.inputs, torch.from_numpy(images(7, channels=1)).float() / 255)


def test_refuses_repeated_ids():
    twice = Rows(place="here", labels=TRAIN.labels, ids=np.zeros(7, dtype=np.int64), inputs=TRAIN.inputs)
    with pytest.raises(DataError, match="here: two rows have the same id"):
        split(twice, TEST)


@pytest.mark.parametrize(
    ("cut", "sentence"),
    [
        (((), 0, None), "train_rows must be at least 1"),
        (((), None, -4), "test_rows must be at least 1 .* but it is -4"),
        ((("cat",), None, None), "at least 2 classes"),
        ((("cat", "cat"), None, None), "must be different"),
    ],
)
def test_settings_that_leave_nothing_are_refused_before_anything_is_read(cut, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_cut(*cut)


def test_holding_out_takes_the_fraction_of_every_class_and_no_row_twice():
    labels = np.array([0] * 10 + [1] * 20 + [2] * 2 + [3])
    train, test = held_out(labels, 0.2, Seed(3))
    assert sorted([*train, *test]) == list(range(33))
    assert np.bincount(labels[test], minlength=4).tolist() == [2, 4, 1, 0]
    assert np.array_equal(test, held_out(labels, 0.2, Seed(3))[1])
    assert not np.array_equal(test, held_out(labels, 0.2, Seed(4))[1])
