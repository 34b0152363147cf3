from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mithridate.config import parse
from mithridate.datasets.digits import Digits
from mithridate.errors import ConfigError
from mithridate.settings import plain
from mithridate.source import Source


def test_holds_every_digit_of_scikit_learn_once_in_natural_units():
    found, original = Digits().load(), load_digits()
    ids = torch.cat([found.train.ids, found.test.ids]).numpy()
    assert sorted(ids) == list(range(1797))
    assert len(found.test) == pytest.approx(0.2 * 1797, abs=5)
    for part in (found.train, found.test):
        inputs, labels = part.take(slice(None))
        assert np.allclose(inputs[:, 0].numpy(), original.images[part.ids.numpy()] / 16, atol=1e-7)
        assert np.array_equal(labels.numpy(), original.target[part.ids.numpy()])
    assert found.train.space.levels == 17
    assert torch.equal(found.train.space.quantise(found.train.all_inputs()), found.train.all_inputs())


def test_the_seed_decides_what_is_held_out():
    assert Digits().load().test.digest() == Digits().load().test.digest()
    assert Digits().load().test.ids.tolist() != Digits(seed=1).load().test.ids.tolist()


def test_cuts_and_survives_yaml():
    source = Digits(classes=(3, 8), train_rows=50, test_rows=20, held_out=0.5)
    found = source.load()
    assert (len(found.train), len(found.test), found.train.space.classes) == (50, 20, ("3", "8"))
    assert parse(Source, plain(source)) == source
    with pytest.raises(ConfigError, match="held_out"):
        Digits(held_out=1.0)
