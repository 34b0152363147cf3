"""The plane of a victim on a table of two columns: every place has the class that the victim calls it."""

from __future__ import annotations

import json

import torch

from mithridate.boundary import boundary
from mithridate.dataset import Dataset, Space
from mithridate.model import Classifier
from tests.conftest import stripes

SPACE = Space(shape=(2,), num_classes=2, bounds=(-10.0, 10.0))


class Above(Classifier):
    """Calls a place 1 where its second value is above twice its first."""

    def features(self, inputs):
        return inputs

    def head(self, features):
        side = features[:, 1] - 2 * features[:, 0]
        return torch.stack([-side, side], dim=1)

    def head_parameters(self):
        return []


def rows():
    inputs = torch.tensor([[-1.0, 0.0], [3.0, 4.0], [0.0, -4.0], [1.0, 2.0]])
    return Dataset(inputs=inputs, labels=torch.tensor([0, 1, 1, 0]), ids=torch.tensor([5, 6, 7, 8]), space=SPACE)


def test_every_place_has_the_class_that_the_victim_calls_it():
    found = boundary(Above(), rows(), poison_ids=torch.tensor([7, 99]), steps=7)
    assert (len(found["x"]), len(found["y"]), len(found["classes"])) == (7, 7, 7)
    assert found["x"] == sorted(found["x"])
    assert (found["x"][0], found["x"][-1], found["y"][0], found["y"][-1]) == (-1.2, 3.2, -4.4, 4.4)
    for y, row in zip(found["y"], found["classes"], strict=True):
        for x, called in zip(found["x"], row, strict=True):
            assert called == int(y > 2 * x)
    assert found["points"] == [[0, -4, 1, True], [-1, 0, 0, False], [3, 4, 1, False], [1, 2, 0, False]]
    json.dumps(found)


def test_poison_comes_first_where_rows_are_left_out():
    found = boundary(Above(), rows(), poison_ids=torch.tensor([8]), limit=2)
    assert [point[3] for point in found["points"]] == [True, False]


def test_other_data_have_none():
    data = stripes(12, seed=1)
    assert boundary(Above(), data, poison_ids=data.ids[:1]) is None
