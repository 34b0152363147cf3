from __future__ import annotations

import pytest
import torch

from mithridate.config import parse
from mithridate.datasets import named, wellknown
from mithridate.datasets.named import CIFAR10, MNIST, FashionMNIST
from mithridate.errors import AbsentError, DataError, MissingExtraError
from mithridate.settings import plain
from mithridate.source import Source
from tests.datasets.generated import images, labels, png, shared_data, write_table


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no data folder, and a hub that is not installed."""
    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))

    def absent(repository, *, part, label):
        raise MissingExtraError(f"reading '{repository}'", "datasets")

    monkeypatch.setattr(wellknown, "hub_rows", absent)
    return tmp_path


def place(folder, file, rows, seed=0):
    write_table(folder / file, [png(each) for each in images(rows, seed=seed)], labels(rows, 10), names=())


@pytest.mark.parametrize("cls", [CIFAR10, MNIST, FashionMNIST])
def test_one_sentence_says_what_to_do_when_the_data_are_nowhere(cache, cls):
    with pytest.raises(DataError) as raised:
        cls().load()
    sentence = str(raised.value)
    assert "\n" not in sentence
    for word in (str(cache), "MITHRIDATE_DATA", "mithridate[datasets]", "train-00000-of-00001.parquet"):
        assert word in sentence


def test_the_first_rows_serve_those_who_ask_for_no_more(cache):
    place(cache / "cifar10", "mini-train.parquet", 30)
    place(cache / "cifar10", "mini-test.parquet", 20, seed=1)
    found = CIFAR10(train_rows=30, test_rows=5).load()
    assert torch.equal(found.train.inputs, torch.from_numpy(images(30)))
    assert found.train.space.classes[3] == "cat"
    assert CIFAR10(classes=("cat", "dog"), train_rows=6, test_rows=4).load().train.ids.tolist() == [
        3,
        5,
        13,
        15,
        23,
        25,
    ]
    for settings in (
        {"train_rows": 31, "test_rows": 5},
        {"test_rows": 5},
        {"classes": ("cat", "dog"), "train_rows": 7},
    ):
        with pytest.raises(DataError, match=r"only the first rows are there, in .*mini-train\.parquet: ask for fewer"):
            CIFAR10(**settings).load()


def test_the_data_folder_comes_before_the_cache_and_full_files_before_first_rows(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(named, "_MNIST", named._MNIST.__class__(**{**vars(named._MNIST), "train": 30, "test": 20}))
    monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path / "data"))
    place(cache / "mnist", "train-00000-of-00001.parquet", 30, seed=2)
    place(cache / "mnist", "test-00000-of-00001.parquet", 20, seed=3)
    place(tmp_path / "data" / "mnist", "mini-train.parquet", 12, seed=4)
    first = MNIST(train_rows=12).load().train
    assert torch.equal(first.inputs, torch.from_numpy(images(30, seed=2)[:12]))
    place(tmp_path / "data" / "mnist", "train-00000-of-00001.parquet", 30, seed=5)
    assert torch.equal(MNIST().load().train.inputs, torch.from_numpy(images(30, seed=5)))


def test_a_full_file_with_too_few_rows_is_refused(cache):
    place(cache / "mnist", "train-00000-of-00001.parquet", 30)
    with pytest.raises(DataError, match=r"holds 30 rows, but the train set of MNIST has 60000"):
        MNIST(train_rows=10).load()


def test_a_failing_hub_is_told_of(cache, monkeypatch):
    def failing(repository, *, part, label):
        raise AbsentError(f"'{repository}' could not be reached")

    monkeypatch.setattr(wellknown, "hub_rows", failing)
    with pytest.raises(
        DataError, match=r"the train set of MNIST was not found in .*'ylecun/mnist' could not be reached"
    ):
        MNIST().load()


@pytest.mark.parametrize(("cls", "shape"), [(CIFAR10, (3, 32, 32)), (MNIST, (1, 28, 28)), (FashionMNIST, (1, 28, 28))])
def test_real_first_rows(monkeypatch, cls, shape):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    found = cls(train_rows=40, test_rows=20).load()
    assert found.train.space.shape == shape
    assert found.train.ids.tolist() == list(range(40))
    assert len(found.test) == 20


def test_a_cut_does_not_depend_on_which_file_served_it(monkeypatch, tmp_path):
    data = shared_data()
    if not (data / "mnist" / "train-00000-of-00001.parquet").is_file():
        pytest.skip("the full MNIST is not here")
    monkeypatch.setenv("MITHRIDATE_DATA", str(data))
    source = MNIST(classes=("7", 1), train_rows=200, test_rows=50)
    whole = source.load()
    for part in ("train", "test"):
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / f"mini-{part}.parquet").symlink_to(data / "mnist" / f"mini-{part}.parquet")
    monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path))
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    assert source.load().train.digest() == whole.train.digest()
    assert source.load().test.digest() == whole.test.digest()


@pytest.mark.slow
def test_the_whole_of_cifar10_has_the_published_statistics(monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    found = CIFAR10().load()
    assert (len(found.train), len(found.test)) == (50_000, 10_000)
    # as commonly printed with CIFAR-10 recipes, to four digits
    assert found.train.space.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert found.train.space.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)


def test_settings_survive_yaml():
    for source in (CIFAR10(classes=("cat", 5), train_rows=10), MNIST(classes=("7", 1)), FashionMNIST()):
        assert parse(Source, plain(source)) == source
