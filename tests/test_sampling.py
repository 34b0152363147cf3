"""Which rows a victim trains on: the benchmark's rule, against a slow and obvious one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.sampling import parts, training_part
from mithridate.seeding import Seed

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


def cut(data, **settings):
    """The ids of training, validation and own rows."""
    found = parts(data, **settings)
    return [[] if each is None else each.ids.tolist() for each in (found.train, found.validation, found.own)]


sizes = st.fixed_dictionaries(
    {"size": st.integers(0, 24), "validation": st.integers(0, 24), "own": st.booleans(), "at_random": st.booleans()}
)


class TestParts:
    @given(st.data(), sizes, st.integers(0, 2**40))
    def test_share_no_row_and_have_the_sizes_asked_for(self, data, asked, seed):
        count = data.draw(st.integers(3, 40))
        labels = [0, 1, 2, *data.draw(st.lists(st.integers(0, 2), min_size=count - 3, max_size=count - 3))]
        given_rows = rows(labels, data.draw(st.permutations(range(10, 10 + count))))
        bases = [] if asked["at_random"] else data.draw(st.lists(st.sampled_from(given_rows.ids.tolist()), max_size=3))
        own = asked["size"] if asked["own"] else 0
        settings = {**asked, "own": own, "base_ids": bases, "seed": Seed(seed)}
        try:
            found = parts(given_rows, **settings)
        except ConfigError:
            assert asked["size"] + own + asked["validation"] + 3 + len(bases) > count or not asked["at_random"]
            return
        drawn = [each for each in (found.train, found.validation, found.own) if each is not None]
        ids = torch.cat([each.ids for each in drawn])
        assert len(torch.unique(ids)) == len(ids)
        assert len(found.train) == (asked["size"] or count - asked["validation"] - own)
        assert (len(found.validation) if found.validation else 0) == asked["validation"]
        assert (len(found.own) if found.own else 0) == own
        assert set(found.train.labels.tolist()) == {0, 1, 2}
        assert set(bases) <= set(found.train.ids.tolist())
        for each in drawn:
            assert torch.equal(each.inputs, given_rows.rows(each.ids).inputs)
            assert torch.equal(each.labels, given_rows.rows(each.ids).labels)

    def test_are_drawn_anew_by_another_seed_and_alike_by_the_same(self):
        settings = {"size": 10, "validation": 8, "own": 10, "at_random": True}
        data = rows(LABELS * 4)
        one, same, other = (cut(data, **settings, seed=Seed(seed)) for seed in (1, 1, 2))
        assert one == same
        assert all(mine != theirs for mine, theirs in zip(one, other, strict=True))

    def test_every_row_is_as_likely_as_any_other_to_be_in_each(self):
        data, counts = rows([0, 1] * 10), torch.zeros(3, 20)
        for seed in range(600):
            for k, ids in enumerate(cut(data, size=5, validation=4, own=5, at_random=True, seed=Seed(seed))):
                counts[k, ids] += 1
        expected = torch.tensor([[150.0], [120.0], [150.0]])  # within 4.5 standard deviations of a binomial
        assert float((counts - expected).abs().max()) < 4.5 * 150**0.5 * 0.87

    def test_a_class_of_one_row_is_always_trained_on(self):
        data = rows([0] * 20 + [1] * 20 + [2])
        for seed in range(60):
            for size, at_random in ((4, True), (0, True), (0, False)):
                train, held, own = cut(data, size=size, validation=12, own=size, at_random=at_random, seed=Seed(seed))
                assert 40 in train
                assert len({*train, *held, *own}) == len(train) + len(held) + len(own)

    def test_an_attacker_s_own_rows_change_nothing_for_anybody_else(self):
        data = rows(LABELS * 4)
        for at_random in (True, False):
            settings = {"size": 9, "validation": 20, "at_random": at_random, "seed": Seed(3)}
            one, other = (cut(data, own=own, **settings) for own in (0, 9))
            assert one[:2] == other[:2]

    def test_validation_rows_come_out_of_the_pool_before_the_first_rows_are_taken(self):
        """Where rows are not drawn at random, the benchmark's rule chooses among those that are left."""
        data = rows(LABELS * 4)
        train, held, own = cut(data, size=12, validation=25, own=12, base_ids=(58,), seed=Seed(5))
        assert train == training_part(data.without(torch.tensor(held)), size=12, base_ids=(58,)).ids.tolist()
        assert not {*held} & {*own}

    def test_without_any_of_it_are_what_they_were(self):
        data = rows(LABELS)
        assert parts(data, seed=Seed(0)).train is data
        assert parts(data, at_random=True, seed=Seed(0)).train is data
        found = parts(data, size=6, base_ids=(13,), seed=Seed(0))
        assert found.train.digest() == training_part(data, size=6, base_ids=(13,)).digest()
        assert found.validation is found.own is None

    @pytest.mark.parametrize(
        ("asked", "sentence"),
        [
            (
                {"size": 100, "validation": 400},
                "training_rows of 100 and 400 validation rows ask for 500 rows, but there are 300",
            ),
            (
                {"size": 100, "validation": 150, "own": 100},
                "training_rows of 100, 150 validation rows and 100 rows of the attacker's own ask for 350 rows, "
                "but there are 300",
            ),
            ({"size": 301}, "training_rows of 301 ask for 301 rows, but there are 300"),
            ({"validation": 400}, "400 validation rows ask for 400 rows, but there are 300"),
            (
                {"validation": 300},
                "the 0 rows that validation rows leave to train on cannot hold a row of each of the 3 classes",
            ),
            ({"size": 2}, "training_rows of 2 cannot hold a row of each of the 3 classes"),
            (
                {"validation": 299, "base_ids": (1, 2), "at_random": False},
                "2 base rows and 299 validation rows ask for 301 rows, but there are 300",
            ),
        ],
    )
    def test_sizes_that_do_not_fit_are_refused_in_a_sentence(self, asked, sentence):
        with pytest.raises(ConfigError) as caught:
            parts(rows(LABELS * 20), **{"at_random": True, "seed": Seed(0), **asked})
        assert str(caught.value) == sentence
