"""CIFAR-100 in its Parquet form, generated: the real set is not here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets import named, wellknown
from mithridate.datasets.named import CIFAR100
from mithridate.errors import AbsentError, ConfigError, DataError, ProblemsError
from mithridate.settings import plain
from tests.datasets.generated import images, png, write_table

FINE, COARSE = named._CIFAR100_FINE.classes, named._CIFAR100_COARSE.classes
GROUPS = {"people": "baby boy girl man woman", "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree"}
"""Two of the 20 groups, from the page of the set."""


def write(folder, file, fine, *, seed=0):
    """A file by the hub's convention, whose groups follow from GROUPS."""
    group = {FINE.index(name): COARSE.index(each) for each, names in GROUPS.items() for name in names.split()}
    return write_table(
        folder / "cifar100" / file,
        [png(each) for each in images(len(fine), seed=seed, height=32, width=32)],
        fine,
        image="img",
        label="fine_label",
        names=["cra" if name == "crab" else name for name in FINE],  # as the hub has it
        coarse_label=pa.array([group[label] for label in fine]),
    )


@pytest.fixture
def data(tmp_path, monkeypatch):
    """40 training rows sorted by class (four of each of ten), 10 test rows, as the whole of the set."""
    numbers = sorted(FINE.index(name) for names in GROUPS.values() for name in names.split())
    for constant in ("_CIFAR100_FINE", "_CIFAR100_COARSE"):
        monkeypatch.setattr(named, constant, replace(getattr(named, constant), train=40, test=10))
    monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path))
    write(tmp_path, "train-00000-of-00001.parquet", np.repeat(numbers, 4))
    write(tmp_path, "test-00000-of-00001.parquet", np.array(numbers), seed=1)
    return numbers


def test_fine_labels_are_the_hundred_classes(data):
    found = CIFAR100().load()
    assert found.train.space.num_classes == 100
    assert found.train.labels.tolist() == [label for label in data for _ in range(4)]
    assert torch.equal(found.train.inputs, torch.from_numpy(images(40, height=32, width=32)))
    assert found.train.ids.tolist() == list(range(40))
    assert {found.train.space.name(label) for label in data} == set(" ".join(GROUPS.values()).split())


def test_coarse_labels_are_the_groups_of_the_same_rows(data):
    fine, coarse = CIFAR100().load(), CIFAR100(labels="coarse").load()
    assert coarse.train.space.num_classes == 20
    assert torch.equal(coarse.train.inputs, fine.train.inputs)
    for part, grouped in ((fine.train, coarse.train), (fine.test, coarse.test)):
        for label, group in zip(part.labels.tolist(), grouped.labels.tolist(), strict=True):
            assert part.space.name(label) in GROUPS[grouped.space.name(group)].split()


def test_is_cut_by_either_kind_of_class(data):
    found = CIFAR100(classes=("oak_tree", "baby"), per_class="1:3").load().train
    first = 4 * data.index(FINE.index("baby"))
    second = 4 * data.index(FINE.index("oak_tree"))
    assert found.ids.tolist() == [first + 1, first + 2, second + 1, second + 2]
    assert found.labels.tolist() == [1, 1, 0, 0]
    assert len(CIFAR100(labels="coarse", classes=("trees", "people"), per_class="10:20").load().train) == 20
    with pytest.raises(DataError, match=r"no class 'baby'.*allowed: aquatic_mammals"):
        CIFAR100(labels="coarse", classes=("baby", "trees")).load()


def test_the_hub_is_asked_for_the_label_that_is_wanted(tmp_path, monkeypatch):
    asked = []

    def hub(repository, *, part, label):
        asked.append((repository, part, label))
        raise AbsentError("no network")

    monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path))
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    monkeypatch.setattr(wellknown, "hub_rows", hub)
    for kind in ("fine", "coarse"):
        with pytest.raises(DataError, match=r"train set of CIFAR-100 was not found in .*cifar100.*no network"):
            CIFAR100(labels=kind).load()
    assert asked == [("uoft-cs/cifar100", "train", "fine_label"), ("uoft-cs/cifar100", "train", "coarse_label")]


def test_the_names_are_those_of_the_set():
    assert (len(FINE), len(COARSE)) == (100, 20)
    assert list(FINE) == sorted(set(FINE))  # the set numbers its classes by the alphabet
    assert list(COARSE) == sorted(set(COARSE))
    assert (FINE[0], FINE[26], FINE[99]) == ("apple", "crab", "worm")


def test_settings_survive_yaml():
    source = CIFAR100(labels="coarse", classes=("trees", 1), per_class="0:5")
    assert parse(CIFAR100, plain(source)) == source
    with pytest.raises(ProblemsError, match="labels: input should be 'fine' or 'coarse'"):
        parse(CIFAR100, {"labels": "medium"})
    with pytest.raises(ConfigError, match="std must have a number"):
        CIFAR100(std=(1.0,))
