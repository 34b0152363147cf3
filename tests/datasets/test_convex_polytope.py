"""The split and the 50 set-ups of Zhu et al. 2019, against the labels of CIFAR-10 counted by hand."""

from __future__ import annotations

import json
from importlib.resources import files

import pyarrow.parquet as pq
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets import wellknown
from mithridate.datasets.convex_polytope import ConvexPolytopeData
from mithridate.datasets.named import CIFAR10
from mithridate.errors import DataError, MissingExtraError, ProblemsError
from mithridate.peers import read_setups
from mithridate.settings import plain
from tests.datasets.generated import shared_data

PRESET = files("mithridate.presets") / "convex-polytope-2019.json"
FROG, SHIP = 6, 8


@pytest.fixture(scope="module")
def folder():
    """Where the whole of CIFAR-10 is; skips where it is absent."""
    data = shared_data()
    if not (data / "cifar10" / "train-00000-of-00001.parquet").is_file():
        pytest.skip("the whole of CIFAR-10 is not here; name the folder above cifar10/ in MITHRIDATE_DATA")
    return data


@pytest.fixture(scope="module")
def by_class(folder):
    """Training indices of each class, in their order, as the file has its labels."""
    numbers = pq.read_table(folder / "cifar10" / "train-00000-of-00001.parquet", columns=["label"])["label"].to_pylist()
    return [[index for index, number in enumerate(numbers) if number == label] for label in range(10)]


@pytest.fixture(scope="module")
def transfer(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITHRIDATE_DATA", str(folder))
        return ConvexPolytopeData().load()


def set_ups(by_class):
    """The 50 set-ups, counted out: each target frog of the other 200, the first five ships of the 500 rows."""
    bases = by_class[SHIP][4800:4805]
    return [
        {"target class": FROG, "target index": 10_000 + frog, "base class": SHIP, "base indices": bases}
        for frog in by_class[FROG][4850:4900]
    ]


def as_text(setups):
    """One set-up a line, as the benchmark's are written."""
    return "[\n" + ",\n".join(json.dumps(each, separators=(",", ":")) for each in setups) + "\n]\n"


def test_fifty_rows_of_each_class_are_transferred_to(transfer, by_class):
    train = transfer.train
    assert train.ids.tolist() == sorted(index for indices in by_class for index in indices[4800:4850])
    for label, indices in enumerate(by_class):
        assert train.ids[train.labels == label].tolist() == indices[4800:4850]


def test_the_targets_stand_behind_the_test_rows(transfer, by_class):
    assert transfer.test.ids.tolist() == [*range(10_000), *(10_000 + index for index in by_class[FROG][4850:4900])]
    assert transfer.test.labels[10_000:].tolist() == [FROG] * 50


def test_rows_are_those_of_cifar10(transfer, folder, monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(folder))
    frogs = CIFAR10(classes=("ship", "frog"), per_class="4800:4900", test_rows=30).load()
    targets = transfer.test.at(slice(10_000, None))
    assert torch.equal(targets.inputs, frogs.train.rows(targets.ids - 10_000).inputs)
    ships = transfer.train.at(transfer.train.labels == SHIP)
    assert torch.equal(ships.inputs, frogs.train.rows(ships.ids).inputs)
    assert torch.equal(transfer.test.rows(frogs.test.ids).inputs, frogs.test.inputs)


def test_networks_normalise_as_the_authors_did(transfer):
    for part in (transfer.train, transfer.test):
        assert part.space.mean == (0.4914, 0.4822, 0.4465)
        assert part.space.std == (0.2023, 0.1994, 0.2010)


@pytest.mark.slow
def test_pretraining_is_on_the_first_rows_of_each_class(folder, by_class, transfer, monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(folder))
    found = ConvexPolytopeData(part="pretraining").load()
    assert found.train.ids.tolist() == sorted(index for indices in by_class for index in indices[:4800])
    assert found.test.ids.tolist() == list(range(10_000))
    assert found.train.space == transfer.train.space
    seen = {*transfer.train.ids.tolist(), *(transfer.test.ids[10_000:] - 10_000).tolist()}
    assert not seen & set(found.train.ids.tolist())


def test_pretraining_asks_for_the_first_4800_of_each_class(monkeypatch):
    asked = []

    def load(known, **settings):
        asked.append((known.title, settings["per_class"], settings["classes"], settings["train_rows"]))
        raise DataError("not loaded")

    monkeypatch.setattr("mithridate.datasets.named.load", load)
    with pytest.raises(DataError, match="not loaded"):
        ConvexPolytopeData(part="pretraining").load()
    assert asked == [("CIFAR-10", "0:4800", (), None)]


def test_set_ups_agree_with_the_labels(transfer):
    found = read_setups(PRESET)
    assert len({each.target_index for each in found}) == len(found) == 50
    for setup in found:
        assert (setup.target_class, setup.base_class, len(setup.base_indices)) == (FROG, SHIP, 5)
        assert transfer.test.rows(torch.tensor([setup.target_index])).labels.tolist() == [FROG]
        assert transfer.train.rows(torch.tensor(setup.base_indices)).labels.tolist() == [SHIP] * 5


def test_set_ups_are_what_the_split_gives(by_class):
    assert PRESET.read_text(encoding="utf-8") == as_text(set_ups(by_class))


def test_where_cifar10_is_nowhere_it_says_where_to_put_it(tmp_path, monkeypatch):
    def absent(repository, *, part, label):
        raise MissingExtraError(f"reading '{repository}'", "datasets")

    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    monkeypatch.setattr(wellknown, "hub_rows", absent)
    with pytest.raises(DataError, match="the train set of CIFAR-10 was not found in"):
        ConvexPolytopeData().load()


def test_settings_survive_yaml():
    source = ConvexPolytopeData(part="pretraining")
    assert parse(ConvexPolytopeData, plain(source)) == source
    with pytest.raises(ProblemsError, match="part: input should be 'pretraining' or 'transfer'"):
        parse(ConvexPolytopeData, {"part": "test"})
