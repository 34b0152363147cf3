"""Which rows a victim trains on: the benchmark's rule, against a slow and obvious one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.sampling import training_part

NAMES = ("cat", "dog", "owl")


def rows(labels, ids=None):
    """Rows whose input is their id."""
    ids = torch.tensor(range(len(labels)) if ids is None else ids, dtype=torch.int64)
    space = Space(shape=(1,), num_classes=3, bounds=(0.0, 1e6), classes=NAMES)
    return Dataset(inputs=ids[:, None].float(), labels=torch.tensor(labels), ids=ids, space=space)


def slow_and_obvious(data, size, base_ids):
    """The ids that are left: class by class, in the order of ids, bases first in the count but not in the order."""
    wanted = dict.fromkeys(range(3), size // 3)
    labels = dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True))
    kept = set()
    for each in base_ids:
        if each not in kept:
            kept.add(each)
            wanted[labels[each]] -= 1
    for each in sorted(labels):
        if each not in base_ids and wanted[labels[each]] > 0:
            kept.add(each)
            wanted[labels[each]] -= 1
    return sorted(kept) if not any(wanted.values()) else None


@given(st.data())
def test_is_the_benchmark_s_rule(data):
    count = data.draw(st.integers(3, 24))
    labels = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    ids = data.draw(st.permutations([7 * k + 3 for k in range(count)]))
    bases = data.draw(st.lists(st.sampled_from(ids), max_size=6))
    size = 3 * data.draw(st.integers(1, 6))
    given_rows = rows(labels, ids)
    expected = slow_and_obvious(given_rows, size, bases)
    if expected is None:
        with pytest.raises(ConfigError, match=f"training_rows of {size} asks for {size // 3} rows of class '"):
            training_part(given_rows, size=size, base_ids=bases)
        return
    found = training_part(given_rows, size=size, base_ids=bases)
    assert found.ids.tolist() == expected
    assert found.inputs[:, 0].tolist() == [float(each) for each in expected]
    assert torch.equal(found.labels, given_rows.rows(found.ids).labels)
    assert torch.bincount(found.labels, minlength=3).tolist() == [size // 3] * 3


LABELS = [0, 1, 2] * 5


def test_by_hand():
    """Two rows a class; base row 13 takes the place of 4, the second of its class."""
    assert training_part(rows(LABELS), size=6).ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert training_part(rows(LABELS), size=6, base_ids=(13,)).ids.tolist() == [0, 1, 2, 3, 5, 13]


def test_a_base_row_that_would_be_there_anyway_costs_no_other_its_place():
    assert training_part(rows(LABELS), size=6, base_ids=(4,)).ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_base_named_twice_counts_once():
    """Set-ups 78 and 84 of the benchmark's transfer track."""
    once, twice = (training_part(rows(LABELS), size=9, base_ids=each) for each in ((13,), (13, 13)))
    assert once.ids.tolist() == twice.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 13]


def test_the_order_of_the_rows_does_not_matter():
    data = rows(LABELS)
    shuffled = data.at(torch.randperm(len(data), generator=torch.Generator().manual_seed(1)))
    one, other = (training_part(each, size=6, base_ids=(9, 13)) for each in (data, shuffled))
    assert one.digest() == other.digest()


def test_all_rows_are_the_very_same_data():
    data = rows(LABELS)
    assert training_part(data, size=0, base_ids=(13,)) is data


def test_what_it_was_given_is_left_alone():
    data = rows(LABELS[::-1])
    before = replace(data, inputs=data.inputs.clone(), labels=data.labels.clone(), ids=data.ids.clone()).digest()
    training_part(data, size=6, base_ids=(9,))
    assert data.digest() == before


@pytest.mark.parametrize(
    ("size", "bases", "sentence"),
    [
        (7, (), "training_rows must be a multiple of the 3 classes, but it is 7"),
        (2, (), "training_rows must be a multiple of the 3 classes, but it is 2"),
        (18, (), "training_rows of 18 asks for 6 rows of class 'cat', which has 5 rows, 0 of them base rows"),
        (3, (1, 4), "training_rows of 3 asks for 1 rows of class 'dog', which has 5 rows, 2 of them base rows"),
    ],
)
def test_what_cannot_be_met_is_refused_in_a_sentence(size, bases, sentence):
    with pytest.raises(ConfigError) as caught:
        training_part(rows(LABELS), size=size, base_ids=bases)
    assert str(caught.value) == sentence
