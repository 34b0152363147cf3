from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from mithridate.config import parse
from mithridate.datasets.breast_cancer import BreastCancer
from mithridate.errors import ConfigError
from mithridate.settings import plain


def test_holds_every_row_of_scikit_learn_once():
    found, original = BreastCancer().load(), load_breast_cancer()
    ids = torch.cat([found.train.ids, found.test.ids]).numpy()
    assert sorted(ids) == list(range(569))
    for part in (found.train, found.test):
        assert np.array_equal(part.inputs.numpy(), original.data[part.ids.numpy()].astype(np.float32))
        assert np.array_equal(part.labels.numpy(), original.target[part.ids.numpy()])
    columns = found.train.space.columns
    assert [each.name for each in columns] == list(original.feature_names)
    assert {each.kind for each in columns} == {"real"}
    assert [each.high for each in columns] == original.data.max(0).astype(np.float32).tolist()
    assert found.train.space.classes == ("malignant", "benign")


def test_the_seed_decides_what_is_held_out():
    assert BreastCancer().load().test.digest() == BreastCancer().load().test.digest()
    assert BreastCancer().load().test.ids.tolist() != BreastCancer(seed=1).load().test.ids.tolist()


def test_cuts_and_survives_yaml():
    source = BreastCancer(classes=("benign", "malignant"), train_rows=50, test_rows=20)
    found = source.load()
    assert (len(found.train), len(found.test), found.train.space.classes) == (50, 20, ("benign", "malignant"))
    assert parse(BreastCancer, plain(source)) == source
    with pytest.raises(ConfigError, match="held_out"):
        BreastCancer(held_out=1.0)
