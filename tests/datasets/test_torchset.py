from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from mithridate.datasets.torchset import TorchDataset
from mithridate.errors import DataError
from tests.datasets.generated import images, labels

CODES = images(9)


class Items:
    """A map-style data set of whatever is in a list."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


def pairs(inputs, numbers=None):
    return Items(list(zip(inputs, labels(len(inputs)).tolist() if numbers is None else numbers, strict=True)))


PICTURES = [Image.fromarray(each.transpose(1, 2, 0).copy()) for each in CODES]


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(torch.from_numpy(CODES), torch.from_numpy(labels())),
        TensorDataset(torch.from_numpy(CODES).float() / 255, torch.from_numpy(labels())),
        pairs(PICTURES),
        pairs(list(CODES.transpose(0, 2, 3, 1)), list(labels().astype(np.int32))),
        pairs(list(CODES), [torch.tensor([label]) for label in labels()]),
    ],
    ids=["tensors", "floats", "pillow", "channels last", "labels in tensors"],
)
def test_every_form_gives_the_same_rows(data):
    found = TorchDataset(train=data, test=data, class_names=("a", "b", "c")).load()
    assert torch.equal(found.train.inputs, torch.from_numpy(CODES))
    assert found.train.labels.tolist() == labels().tolist()
    assert found.train.ids.tolist() == list(range(9))
    assert found.train.space.classes == ("a", "b", "c")


def test_tables_are_read_with_bounds():
    table = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(table, torch.from_numpy(labels()))
    assert torch.equal(TorchDataset(train=data, test=data, bounds=(-9, 9)).load().train.inputs, table)


class Flipping(Items):
    """Turns every other image that it is asked for."""

    def __getitem__(self, row):
        self.turn = not getattr(self, "turn", False)
        image, label = super().__getitem__(row)
        return (image[:, ::-1].copy() if self.turn else image), label


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


GOOD = pairs(list(CODES))
LIST = [(each, 0) for each in CODES]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (Flipping([(each, k % 3) for k, each in enumerate(CODES)]), r"row 0 is not the same twice; take random transf"),
        (Stream(), r"the training set has no length; a map-style data set is needed"),
        (None, r"the training set has no length"),
        (Items([]), r"the training set has no rows"),
        (Items([CODES[0]]), r"row 0 is a ndarray, but items must be \(input, label\)"),
        (Items([(CODES[0], 0, 0)]), r"row 0 is a tuple, but items must be"),
        (Items([*LIST[:3], (CODES[0, :, :2], 1)]), r"row 3 is uint8 of shape \(3, 2, 5\), but the first one is uint8"),
        (Items([*LIST[:3], (CODES[0] / 255, 1)]), r"row 3 is float64"),
        (Items([*LIST[:3], (CODES[0], "cat")]), r"the label of row 3 holds <U3, but it must hold numbers"),
        (Items([*LIST[:3], (CODES[0], 0.5)]), r"row 3 has the label 0\.5, but labels must be whole numbers"),
        (Items([*LIST[:3], (CODES[0], [0, 1])]), r"row 3 has the label \[0, 1\]"),
        (Items([*LIST[:3], ("a.png", 1)]), r"row 3 holds <U5, but it must hold numbers"),
        (Items(LIST), r"all 9 training rows are of one class"),
        (pairs(list(CODES / 64 - 2)), r"the training set: row 0 holds values from -1"),
        (pairs([Image.new("I;16", (4, 4))] * 9), r"row 0: images must have 8 bits a channel"),
        (pairs(list(np.full((9, 3, 4, 5), np.nan))), r"the training set: row 0 holds NaN"),
    ],
)
def test_says_what_is_wrong_and_where(data, sentence):
    with pytest.raises(DataError, match=sentence):
        TorchDataset(train=data, test=GOOD).load()
