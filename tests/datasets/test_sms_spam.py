from __future__ import annotations

import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.sms_spam import SMSSpam
from mithridate.errors import AbsentError, ConfigError
from mithridate.settings import plain
from tests.datasets.generated import shared_data


@pytest.fixture
def messages(monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    return pq.read_table(shared_data() / "text/sms_spam.parquet").to_pylist()


def words(message):
    """The words of a message, told apart by hand."""
    return Counter(re.findall(r"\w\w+", message["sms"].lower()))


def columns(split):
    return [each.name for each in split.train.space.columns]


def test_counts_the_words_of_every_message(messages):
    found = SMSSpam(words=80).load()
    assert sorted(torch.cat([found.train.ids, found.test.ids]).tolist()) == list(range(5574))
    for part in (found.train, found.test):
        for row, key, label in zip(part.inputs.tolist(), part.ids.tolist(), part.labels.tolist(), strict=True):
            held = words(messages[key])
            assert row == [held[name] for name in columns(found)]
            assert label == messages[key]["label"]
    assert found.train.space.classes == ("ham", "spam")


def test_the_words_are_the_commonest_of_the_training_messages_that_are_left(messages):
    found = SMSSpam(words=60, train_rows=300).load()
    counted = sum((words(messages[key]) for key in found.train.ids.tolist()), Counter())
    least = min(counted[name] for name in columns(found))
    assert len(columns(found)) == 60
    assert all(count <= least for name, count in counted.items() if name not in columns(found))
    assert columns(SMSSpam(words=60, train_rows=300, test_rows=9).load()) == columns(found)
    assert columns(SMSSpam(words=60, train_rows=300, seed=1).load()) != columns(found)


def test_a_word_may_occur_as_often_as_in_some_message(messages):
    found = SMSSpam(words=40, train_rows=500, test_rows=300).load()
    held = torch.cat([found.train.all_inputs(), found.test.all_inputs()])
    for place, column in enumerate(found.train.space.columns):
        assert (column.kind, column.low, column.high) == ("integer", 0, float(held[:, place].max()))
    halves = found.train.space.quantise(found.train.all_inputs() * 0.7 + 0.3)
    assert torch.equal(halves, halves.round())


def test_cuts_and_survives_yaml(messages):
    source = SMSSpam(words=10, classes=("spam", "ham"), train_rows=100, test_rows=40)
    found = source.load()
    assert (len(found.train), len(found.test), found.train.space.classes) == (100, 40, ("spam", "ham"))
    assert all(
        messages[key]["label"] == 1 - label
        for key, label in zip(found.train.ids.tolist(), found.train.labels.tolist(), strict=True)
    )
    assert parse(SMSSpam, plain(source)) == source


def test_says_where_to_put_it_and_refuses_no_words(monkeypatch, tmp_path):
    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    with pytest.raises(AbsentError, match=r"there is no text/sms_spam.parquet in .*MITHRIDATE_DATA"):
        SMSSpam().load()
    with pytest.raises(ConfigError, match="words must be at least 1"):
        SMSSpam(words=0)
