from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.bundled import Bundled
from mithridate.datasets.named import CIFAR10
from mithridate.errors import DataError
from mithridate.settings import plain
from mithridate.source import Source
from tests.datasets.generated import shared_data

FOLDER = files("mithridate.datasets") / "bundled"
CLASSES = ("bird", "cat", "deer", "dog", "frog")


def test_loads_what_the_readme_tells_of():
    found = Bundled().load()
    assert (found.train.inputs.shape, found.test.inputs.shape) == ((2531, 3, 32, 32), (491, 3, 32, 32))
    assert found.train.space.classes == CLASSES
    assert sorted(found.train.labels.bincount().tolist())[:: len(CLASSES) - 1] == [486, 519]


def test_equals_those_rows_of_cifar10(monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    found = Bundled().load()
    other = CIFAR10(classes=CLASSES, train_rows=2531, test_rows=491).load()
    assert found.train.digest() == other.train.digest()
    assert found.test.digest() == other.test.digest()


def test_the_files_are_those_the_readme_tells_of():
    readme = (FOLDER / "README.md").read_text()
    told = dict(re.findall(r"`([a-z0-9-]+\.parquet)`.*`([0-9a-f]{64})`", readme))
    held = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in FOLDER.iterdir() if "parquet" in each.name
    }
    assert told == held
    assert "**Licence:**" in readme


def test_is_small():
    assert sum(len(each.read_bytes()) for each in FOLDER.iterdir()) < 8_000_000


def test_cuts_and_survives_yaml():
    source = Bundled(classes=("frog", 1), train_rows=30, test_rows=10)
    found = source.load()
    assert found.train.space.classes == ("frog", "cat")
    rows = Bundled().load().train.rows(found.train.ids)
    assert torch.equal(rows.inputs, found.train.inputs)
    assert [(4, 1)[label] for label in found.train.labels.tolist()] == rows.labels.tolist()
    assert parse(Source, plain(source)) == source


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"no class 'cats'; did you mean 'cat'\?"):
        Bundled(classes=("cats", "dog")).load()
