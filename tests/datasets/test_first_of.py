"""The first source that can be loaded: which is read, what is passed over, what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from mithridate.config import parse, setting
from mithridate.datasets import wellknown
from mithridate.datasets.bundled import Bundled
from mithridate.datasets.first_of import FirstOf
from mithridate.datasets.named import CIFAR10
from mithridate.errors import AbsentError, ConfigError, DataError, MissingExtraError, ProblemsError
from mithridate.settings import plain
from mithridate.source import Source

SMALL = Bundled(train_rows=10, test_rows=5)
OTHER = Bundled(train_rows=12, test_rows=5)


@dataclass(frozen=True, kw_only=True)
class Failing(Source):
    """A source whose loading fails, and is counted."""

    name: ClassVar[str] = "failing"
    loads: ClassVar[list[str]] = []

    error: Exception

    def load(self):
        self.loads.append(str(self.error))
        raise self.error


@pytest.fixture(autouse=True)
def count():
    Failing.loads.clear()
    return Failing.loads


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache, and a hub that must not be asked without its extra."""

    def absent(repository, *, part, label):
        raise MissingExtraError(f"reading '{repository}'", "datasets")

    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    monkeypatch.setattr(wellknown, "hub_rows", absent)


def test_loads_the_first_that_can_and_no_later_one(count):
    later = Failing(error=DataError("not asked"))
    found = FirstOf(sources=(SMALL, OTHER, later)).load()
    assert found.train.digest() == SMALL.load().train.digest()
    assert FirstOf(sources=(OTHER, SMALL)).load().train.digest() == OTHER.load().train.digest()
    assert count == []


@pytest.mark.parametrize("error", [AbsentError("not here"), MissingExtraError("reading it", "datasets")])
def test_goes_on_where_data_or_an_extra_are_missing(error, count):
    found = FirstOf(sources=(Failing(error=error), SMALL)).load()
    assert found.train.digest() == SMALL.load().train.digest()
    assert len(count) == 1


@pytest.mark.parametrize(
    "error", [ConfigError("wrong"), DataError("damaged"), ValueError("a fault of ours"), KeyboardInterrupt()]
)
def test_any_other_failure_is_not_passed_over(error):
    with pytest.raises(type(error)):
        FirstOf(sources=(Failing(error=error), SMALL)).load()


def test_where_none_can_every_reason_is_told_in_order(count):
    sources = (Failing(error=AbsentError("it is away")), Failing(error=MissingExtraError("reading it", "datasets")))
    with pytest.raises(DataError) as raised:
        FirstOf(sources=sources).load()
    sentence = str(raised.value)
    assert sentence.startswith(
        "none of the 2 sources can be loaded; failing: it is away; failing: reading it needs the"
    )
    assert "\n" not in sentence
    assert count == ["it is away", str(sources[1].error)]


def test_none_are_refused():
    with pytest.raises(ConfigError, match="at least one source"):
        FirstOf(sources=())


def test_a_set_that_is_nowhere_gives_way_to_the_bundled_one(nowhere):
    found = FirstOf(sources=(CIFAR10(), SMALL)).load()
    assert found.train.digest() == SMALL.load().train.digest()
    with pytest.raises(
        DataError, match=r"none of the 1 sources .* cifar10: the train set of CIFAR-10 was not found in"
    ):
        FirstOf(sources=(CIFAR10(),)).load()


def test_reads_from_yaml_with_names_alone_or_with_settings():
    settings = {"name": "first-of", "sources": [{"name": "cifar10", "per_class": "0:50"}, "bundled"]}
    expected = FirstOf(sources=(CIFAR10(per_class="0:50"), Bundled()))
    assert parse(FirstOf, settings) == expected
    assert parse(FirstOf, plain(expected)) == expected
    assert setting(FirstOf, "sources", ["bundled"]) == (Bundled(),)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, r"sources: this setting is needed"),
        ({"sources": []}, r"at least one source"),
        ({"sources": "bundled"}, r"sources: a list is needed, but this is 'bundled'"),
        ({"sources": ["bundled", "cifar11"]}, r"sources\[1\]\.name: .*did you mean 'cifar10'"),
        ({"sources": [{"name": "bundled", "train_rows": 0}]}, r"sources\[0\]: train_rows must be at least 1"),
    ],
)
def test_what_is_wrong_in_yaml_is_told_with_its_place(settings, sentence):
    with pytest.raises(ProblemsError, match=sentence):
        parse(FirstOf, settings)
