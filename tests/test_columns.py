"""Columns of tables: nonsense is refused, the nearest valid row is found, and a fault is named by row and column."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from mithridate.columns import Column, difference
from mithridate.dataset import Dataset, Space, channel_statistics
from mithridate.errors import DataError
from mithridate.settings import fingerprint, plain
from tests.tables import ADA, COLUMNS, TABLE, one_hot, rows, tables

AGE = COLUMNS[0]


def valid(row, space):
    """Whether a row keeps every promise of its columns, looked at one by one."""
    sums = {}
    for column, value in zip(space.columns, row, strict=True):
        if not torch.tensor(column.low) <= value <= torch.tensor(column.high):  # ends as float32
            return False
        if column.kind != "real" and value != int(value):
            return False
        if column.kind == "one-hot":
            sums[column.group] = sums.get(column.group, 0) + value
    return all(each == 1 for each in sums.values())


def any_rows(space, seed, spread):
    """Rows of any numbers, in and around the range of each column."""
    draws = torch.Generator().manual_seed(seed)
    return rows(3, space=space, seed=seed).inputs + spread * torch.randn(3, len(space.columns), generator=draws)


class TestColumn:
    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"name": ""}, "no name"),
            ({"kind": "text"}, "'age' is 'text', but kinds are real, integer, binary, one-hot"),
            ({"low": 91}, r"lower and a higher finite number, but has \[91, 90\]"),
            ({"high": float("inf")}, "finite"),
            ({"low": float("nan")}, "finite"),
            ({"kind": "real", "high": 1e300}, "finite"),
            ({"low": 16.5}, r"whole numbers up to 16777216 .* \[16.5, 90\]; make it real"),
            ({"high": 2**24 + 1}, r"\[17, 16777217\]; make it real"),
            ({"kind": "binary"}, r"holds 0 or 1, not 17\.\.90"),
            ({"group": "ages"}, "one-hot columns alone need a group"),
            ({"kind": "one-hot", "low": 0, "high": 1}, "need a group and a category"),
        ],
    )
    def test_refuses_what_no_value_could_stand_in(self, wrong, sentence):
        with pytest.raises(DataError, match=sentence):
            replace(AGE, **wrong)

    def test_whole_and_broken_ends_are_one_column(self):
        assert Column(name="a", low=0, high=3) == Column(name="a", low=0.0, high=3.0)
        assert fingerprint(Column(name="a", low=0, high=3)) == fingerprint(Column(name="a", low=0.0, high=3.0))


class TestTable:
    @pytest.mark.parametrize(
        ("columns", "sentence"),
        [
            ((), "at least one column"),
            ((AGE, AGE), "two columns are called 'age'"),
            ((*one_hot("a", "x"), AGE, *one_hot("a", "y")), "'a' do not stand together"),
            ((*one_hot("a", "x"), replace(one_hot("a", "x")[0], name="other")), "'a' stand for one category"),
            ((*one_hot("age", "x"), AGE), "a column and a group of one-hot columns are both called 'age'"),
            (one_hot("a", "x") + one_hot("a", "y", mutable=False), "some one-hot columns of 'a' are mutable and some"),
        ],
    )
    def test_refuses_columns_that_make_no_table(self, columns, sentence):
        with pytest.raises(DataError, match=sentence):
            Space.table(columns, num_classes=2)

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"shape": (8,)}, r"9 columns have the shape \(9,\) and no levels, but have shape \(8,\)"),
            ({"levels": 256}, "levels 256"),
            ({"bounds": (0.0, 1.0)}, r"span the columns, \(-2.5, 10000.0\), but they are \(0.0, 1.0\)"),
            ({"mean": (1.0,)}, "a number for each of 9"),
        ],
    )
    def test_refuses_a_space_of_another_shape(self, wrong, sentence):
        with pytest.raises(DataError, match=sentence):
            replace(TABLE, **wrong)

    def test_images_keep_the_fingerprint_and_digest_that_they_had_before_there_were_columns(self):
        space = Space(shape=(1,), num_classes=2)
        assert fingerprint(space) == "3927cf98b0d3bdff2723a3d9"
        assert list(plain(space)) == ["shape", "num_classes", "bounds", "levels", "classes", "mean", "std"]
        data = Dataset.of(torch.tensor([[0.5], [0.25]]), torch.tensor([0, 1]), space=space)
        assert data.digest() == "060d938bdae9852ed0417bfb9d37650e20feada57b26f7330c28dec218f94901"  # of that release

    def test_columns_count_in_fingerprint_and_digest(self):
        data = rows(3)
        tamed = replace(TABLE, columns=(replace(AGE, mutable=False), *COLUMNS[1:]))
        assert fingerprint(tamed) != fingerprint(TABLE)
        assert replace(data, space=tamed).digest() != data.digest()
        assert replace(data, space=replace(TABLE)).digest() == data.digest()


class TestSnapping:
    @given(tables(), st.integers(0, 1000), st.sampled_from([0.1, 3.0, 1e7]))
    def test_any_row_ends_on_a_valid_one_and_stays_there(self, space, seed, spread):
        found = space.encode(any_rows(space, seed, spread))
        assert found.dtype == torch.float32
        assert all(valid(row, space) for row in found)
        assert space.layout.fault(found) is None
        assert torch.equal(space.encode(found), found)
        assert torch.equal(space.quantise(found), found)
        assert all(valid(row, space) for row in space.encode(space.clamp(any_rows(space, seed, spread))))

    @given(st.integers(0, 1000), st.floats(0.1, 3))
    def test_no_valid_row_is_nearer(self, seed, spread):
        columns = (
            Column(name="n", kind="integer", low=-1, high=2),
            *one_hot("g", "a", "b"),
            Column(name="b", kind="binary"),
        )
        space = Space.table(columns, num_classes=2)
        wild = any_rows(space, seed, spread)
        every = torch.tensor([[n, *g, b] for n, g, b in product((-1, 0, 1, 2), ((1, 0), (0, 1)), (0, 1))]).float()
        best = torch.cdist(wild.double(), every.double()).amin(1)
        found = (space.encode(wild).double() - wild.double()).norm(dim=1)
        assert torch.allclose(found, best, atol=1e-9)

    def test_by_hand(self):
        wild = torch.tensor(
            [[40.6, -3.0, 0.2, 0.7, 0.7, 0.4, 2.0, 5.0, 1850.0], [17.5, 1e5, -1.0, -2.0, -1.0, 0.5, 0, 0, 3000]]
        )
        assert TABLE.encode(wild).tolist() == [
            [41, -2.5, 0, 1, 0, 0, 0, 1, 1900],
            [18, 10_000, 1, 0, 0, 0, 1, 0, 2020],
        ]

    def test_double_rows_are_rounded_before_they_lose_digits(self):
        space = Space.table((Column(name="n", kind="integer", high=2**24), Column(name="x", low=0.1)), num_classes=2)
        found = space.encode(torch.tensor([[2**24 - 0.6, 0.0]], dtype=torch.float64))
        assert found[0, 0] == 2**24 - 1
        assert space.layout.fault(found) is None

    def test_nothing_is_minus_zero(self):
        space = Space.table((Column(name="n", kind="integer", low=-1), Column(name="x", low=-1)), num_classes=2)
        assert not bool(torch.signbit(space.encode(torch.tensor([[-0.2, -0.0]]))).any())

    def test_clamp_keeps_to_each_column(self):
        found = TABLE.clamp(torch.full((1, 9), 50.0, dtype=torch.float64))
        assert found.dtype == torch.float64
        assert found.tolist() == [[50, 50, 1, 1, 1, 1, 1, 1, 1900]]
        image = Space(shape=(1, 1, 2), num_classes=2)
        assert image.clamp(torch.tensor([[[[-1.0, 0.5]]]])).flatten().tolist() == [0, 0.5]


class TestFaults:
    @pytest.mark.parametrize(
        ("place", "value", "sentence"),
        [
            (0, 91.0, r"row 1: column 'age' holds 91, but must lie in \[17, 90\]"),
            (0, 36.5, "row 1: column 'age' holds 36.5, but must hold a whole number"),
            (1, -2.6, r"row 1: column 'income' holds -2.6, but must lie in \[-2.5, 10000\]"),
            (5, 0.1, "row 1: column 'married' holds 0.1, but must hold a whole number"),
            (4, 1.0, "row 1: 2 of the columns of 'work' hold 1, but exactly one of them must"),
            (3, 0.0, "row 1: 0 of the columns of 'work' hold 1"),
            (6, 0.5, "row 1: column 'sex=female' holds 0.5, but must hold a whole number"),
            (8, float("nan"), "row 1 holds NaN or infinite"),
        ],
    )
    def test_the_first_invalid_row_is_named_with_column_and_value(self, place, value, sentence):
        inputs = torch.tensor([ADA, ADA, ADA])
        inputs[1:, place] = value
        with pytest.raises(DataError, match=sentence):
            Dataset.of(inputs, torch.zeros(3), space=TABLE)

    def test_valid_rows_pass_also_in_float64(self):
        space = Space.table((Column(name="x", low=0.1, high=0.3),), num_classes=2)
        ends = torch.tensor([[0.1], [0.3]], dtype=torch.float64)
        assert len(Dataset.of(ends, torch.zeros(2), space=space)) == 2
        assert Dataset.of(torch.tensor([ADA]), torch.zeros(1), space=TABLE).inputs.tolist() == [list(ADA)]

    @given(tables(), st.integers(0, 1000), st.sampled_from([0.3, 1.0]))
    def test_a_row_is_refused_if_and_only_if_it_is_not_valid(self, space, seed, spread):
        wild = any_rows(space, seed, spread)
        mixed = torch.where(
            torch.rand(wild.shape, generator=torch.Generator().manual_seed(seed)) < 0.3, wild, space.encode(wild)
        )
        fault = space.layout.fault(mixed)
        broken = [k for k, row in enumerate(mixed) if not valid(row, space)]
        assert (fault and fault[0]) == (broken[0] if broken else None)


class TestWithin:
    @given(
        tables(), st.integers(0, 1000), st.sampled_from([0.2, 5.0]), st.sampled_from([0.0, 0.1, 0.7, 1.0, float("inf")])
    )
    def test_lies_where_it_may_and_stays_there(self, space, seed, spread, reach):
        layout, clean, wild = space.layout, rows(3, space=space, seed=seed).inputs, any_rows(space, seed + 1, spread)
        found = layout.within(wild, clean, reach=reach)
        assert torch.equal(layout.clamped(found), found)
        assert float(((found - clean) / layout.unit()).abs().max()) <= reach + 1e-6 * float(
            (clean / layout.unit()).abs().max() + 1
        )
        for group in layout.groups:
            assert torch.allclose(found[:, group].sum(1), torch.ones(3))
        assert torch.equal(found[:, layout.fixed], clean[:, layout.fixed])
        assert torch.equal(layout.within(found, clean, reach=reach), found)
        assert torch.equal(layout.within(clean, clean, reach=reach), clean)

    @pytest.mark.parametrize("reach", [0.3, 1.0])
    def test_a_group_is_moved_to_the_nearest_allowed_point(self, reach):
        space = Space.table(one_hot("g", "a", "b", "c"), num_classes=2)
        clean = torch.tensor([[0.0, 1.0, 0.0]])
        for seed in range(5):
            wild = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed))
            found = space.layout.within(wild, clean, reach=reach)[0]
            ends = [(max(0, c - reach), min(1, c + reach)) for c in clean[0].tolist()]
            oracle = minimize(
                lambda x, wild=wild: ((x - wild[0].numpy()) ** 2).sum(),
                clean[0].numpy(),
                bounds=ends,
                constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
                options={"ftol": 1e-12},
            )
            assert found.tolist() == pytest.approx(oracle.x.tolist(), abs=1e-5)


class TestTowards:
    @given(tables(), st.integers(0, 1000), st.sampled_from([0.2, 5.0]))
    def test_ends_on_valid_rows_no_further_than_before(self, space, seed, spread):
        layout, clean = space.layout, rows(3, space=space, seed=seed).inputs
        moved = layout.within(any_rows(space, seed + 1, spread), clean, reach=float("inf"))
        found = layout.towards(moved, clean)
        assert all(valid(row, space) for row in found)
        hair = 4e-7 * layout.high.abs().max() + 4e-7 * layout.low.abs().max() + 1e-5
        assert bool(((found - clean).norm(dim=1) <= (moved - clean).norm(dim=1) + hair).all())
        assert torch.equal(layout.towards(clean, clean), clean)

    def test_by_hand(self):
        clean, moved = torch.tensor([ADA, ADA]), torch.tensor([ADA, ADA])
        moved[0, :6] = torch.tensor([38.9, 7.5, 0.0, 0.4, 0.6, 0.7])
        moved[1, :6] = torch.tensor([33.1, 7.5, 0.0, 0.0, 1.0, 0.0])
        assert TABLE.layout.towards(moved, clean)[:, :6].tolist() == [[38, 7.5, 0, 1, 0, 1], [34, 7.5, 0, 0, 1, 0]]

    def test_a_whole_number_that_float32_missed_by_a_hair_is_that_number(self):
        clean, moved = torch.tensor([ADA]), torch.tensor([ADA])
        moved[0, 0] = 38.999998
        assert TABLE.layout.towards(moved, clean)[0, 0] == 39


def test_random_rows_are_spread_over_every_value():
    found = rows(6000, seed=3).inputs
    ages = torch.unique(found[:, 0], return_counts=True)
    assert ages[0].tolist() == list(range(17, 91))
    assert float(ages[1].float().min()) > 40  # 81 expected, standard deviation 9
    for group in TABLE.layout.groups:
        share = found[:, group].mean(0)
        assert torch.allclose(share, torch.full_like(share, 1 / len(share)), atol=0.03)
    assert float(found[:, 5].mean()) == pytest.approx(0.5, abs=0.03)


def test_a_row_is_described_by_column():
    described = TABLE.describe(torch.tensor(ADA))
    assert described == {"age": 36, "income": 250.5, "work": "state", "married": 1, "sex": "female", "born": 1915}
    assert [type(each) for each in described.values()] == [int, float, str, int, str, int]
    assert TABLE.describe(torch.tensor([36, 0.1, *ADA[2:]]))["income"] == 0.1  # not the 0.10000000149 of float32
    with pytest.raises(DataError, match="named columns"):
        Space(shape=(2,), num_classes=2).describe(torch.zeros(2))


def test_a_difference_of_columns_is_said_in_words():
    assert difference(COLUMNS, COLUMNS) is None
    assert difference(COLUMNS[:2], COLUMNS) == ("2 columns", "9")
    other = (*COLUMNS[:8], replace(COLUMNS[8], kind="real", low=0.5, mutable=True))
    assert difference(other, COLUMNS) == (
        "the column 'born' (real, 0.5..2020)",
        "'born' (integer, 1900..2020, not mutable)",
    )
    assert str(COLUMNS[2]) == "'work=private' (one-hot of 'work': 'private')"


def test_statistics_of_a_table_are_those_of_its_columns():
    data = rows(50)
    inputs = data.inputs.clone()
    inputs[:, 0] = 40  # constant: its range stands for the deviation that it has not
    inputs[:, 1] *= 1e-6  # small numbers keep their digits
    mean, std = channel_statistics(inputs, TABLE)
    values = inputs.double().numpy()
    assert mean == pytest.approx(values.mean(0), rel=1e-5)
    assert std[0] == 73
    assert std[1:] == pytest.approx(values.std(0)[1:], rel=1e-5)
    assert replace(TABLE, mean=mean, std=std).std == std
    assert mean[1] < 0.01


def test_a_poisoned_table_is_a_table():
    data, more = rows(4), rows(2, seed=5, first_id=100)
    after = data.updated(more).checked()
    assert len(after) == 6
    assert torch.equal(after.inputs[4:], more.inputs)
