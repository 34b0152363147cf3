"""Data sets: rows found by their ids whatever the order, values that survive storage, and digests of everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space, channel_statistics
from mithridate.errors import DataError

SPACE = Space(shape=(1, 2, 2), num_classes=4, levels=256)
REAL = Space(shape=(3,), num_classes=4, bounds=(-5.0, 5.0))


def numbered(ids, *, space=SPACE, shift=0):
    """8-bit rows whose every value is their id (modulo 256), plus ``shift``; labels are ids modulo 4."""
    ids = torch.as_tensor(ids, dtype=torch.int64)
    codes = ((ids + shift) % 256).to(torch.uint8)
    return Dataset(inputs=codes[:, None, None, None].expand(-1, 1, 2, 2).clone(), labels=ids % 4, ids=ids, space=space)


some_ids = st.lists(st.integers(-50, 10**12), min_size=1, max_size=12, unique=True)


class TestSpace:
    @given(
        st.integers(2, 256),
        st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (2.0, 2.5)]),
        st.lists(st.floats(0, 1), min_size=1, max_size=20),
    )
    def test_quantise_is_the_nearest_level_and_stays_there(self, levels, bounds, fractions):
        space = Space(shape=(1,), num_classes=2, bounds=bounds, levels=levels)
        low, high = bounds
        values = low + (high - low) * torch.tensor(fractions, dtype=torch.float64)[:, None]
        grid = torch.linspace(low, high, levels, dtype=torch.float64)
        nearest = (values - grid[None]).abs().amin(1)
        found = space.quantise(values.float())
        assert float(((found[:, 0] - values[:, 0]).abs() - nearest).abs().max()) < 1e-6 * max(abs(low), abs(high), 1)
        assert torch.equal(space.quantise(found), found)

    def test_every_code_survives_decoding_and_encoding(self):
        for levels in (2, 17, 256):
            for bounds in ((0.0, 1.0), (-3.0, 7.0)):
                space = Space(shape=(1,), num_classes=2, levels=levels, bounds=bounds)
                codes = torch.arange(levels, dtype=torch.uint8)[:, None]
                assert torch.equal(space.encode(space.decode(codes)), codes)
                assert float(space.decode(codes).min()) == bounds[0]
                assert float(space.decode(codes).max()) == bounds[1]

    def test_images_decode_as_division_by_255(self):
        codes = torch.arange(256, dtype=torch.uint8)[:, None]
        assert torch.equal(SPACE.decode(codes), codes.float() / 255)

    def test_values_outside_the_bounds_are_stored_as_the_bounds(self):
        assert SPACE.encode(torch.tensor([-0.3, 1.7])).tolist() == [0, 255]

    def test_real_numbers_are_stored_as_they_are(self):
        values = torch.tensor([[0.1234567, -4.0, 3.0]])
        assert torch.equal(REAL.quantise(values), values)

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"num_classes": 1}, "at least 2 classes, but this data has 1"),
            ({"shape": ()}, "positive numbers"),
            ({"shape": (3, 0, 2)}, r"positive numbers, but it is \(3, 0, 2\)"),
            ({"levels": 257}, "2..256"),
            ({"levels": 1}, "2..256"),
            ({"bounds": (1.0, 0.0)}, "lower and a higher"),
            ({"bounds": (0.0, 0.0)}, "lower and a higher"),
            ({"bounds": (float("nan"), 1.0)}, "lower and a higher"),
            ({"classes": ("a", "b")}, "2 class names were given for 4 classes"),
            ({"mean": (0.5, 0.5)}, "mean must have a number for each of 1 channels"),
            ({"std": (0.5, 0.5)}, "std must have a number for each of 1 channels"),
            ({"std": (0.0,)}, "std must be positive"),
        ],
    )
    def test_refuses_what_no_data_could_live_in(self, wrong, sentence):
        with pytest.raises(DataError, match=sentence):
            replace(SPACE, **wrong)


class TestRows:
    @given(some_ids, st.randoms(use_true_random=False))
    def test_positions_point_at_their_ids_in_any_order(self, ids, random):
        data = numbered(ids)
        wanted = random.choices(ids, k=len(ids))  # unsorted, repeated
        assert data.ids[data.positions(torch.tensor(wanted))].tolist() == wanted
        rows = data.rows(torch.tensor(wanted))
        assert rows.ids.tolist() == wanted
        assert rows.inputs[:, 0, 0, 0].tolist() == [k % 256 for k in wanted]
        assert rows.labels.tolist() == [k % 4 for k in wanted]

    @given(some_ids, st.lists(st.integers(-50, 100), max_size=8))
    def test_without_leaves_out_exactly_those_ids(self, ids, gone):
        rest = numbered(ids).without(torch.tensor(gone, dtype=torch.int64))
        assert rest.ids.tolist() == [k for k in ids if k not in gone]
        assert rest.inputs[:, 0, 0, 0].tolist() == [k % 256 for k in rest.ids.tolist()]

    @given(some_ids, some_ids)
    def test_updated_replaces_known_ids_in_place_and_appends_new_ones(self, ids, others):
        data, rows = numbered(ids), numbered(others, shift=100)
        after = data.updated(rows)
        expected = {k: k % 256 for k in ids} | {k: (k + 100) % 256 for k in others}
        assert after.ids.tolist() == list(expected)  # a dict keeps places, and appends
        assert after.inputs[:, 0, 1, 1].tolist() == list(expected.values())
        assert after.labels.tolist() == [k % 4 for k in expected]
        assert data.digest() == numbered(ids).digest()

    def test_updated_with_no_rows_is_the_same(self):
        data = numbered([4, 2])
        assert data.updated(data.without(data.ids)).digest() == data.digest()

    @pytest.mark.parametrize("ids", [[7], [0, 7], [-1]])
    def test_an_unknown_id_is_named(self, ids):
        with pytest.raises(DataError, match=f"id {ids[-1]} is not in the data set of 3 rows"):
            numbered([5, 0, 3]).rows(torch.tensor(ids))

    def test_no_rows_hold_no_id(self):
        empty = numbered([1]).without(torch.tensor([1]))
        assert len(empty.rows(torch.zeros(0, dtype=torch.int64))) == 0
        with pytest.raises(DataError, match="which has no rows"):
            empty.rows(torch.tensor([1]))

    def test_take_is_float_in_natural_units(self):
        inputs, labels = numbered([51, 255, 3]).take(torch.tensor([1, 0]))
        assert inputs.dtype == torch.float32
        assert inputs[:, 0, 0, 0].tolist() == [1.0, pytest.approx(0.2)]
        assert labels.tolist() == [3, 3]


class TestUpdatedStorage:
    def test_floats_written_over_codes_are_rounded_to_codes(self):
        rows = replace(numbered([2]), inputs=torch.full((1, 1, 2, 2), 100.4 / 255))
        after = numbered([1, 2]).updated(rows)
        assert after.inputs.dtype == torch.uint8
        assert after.inputs[:, 0, 0, 0].tolist() == [1, 100]

    def test_codes_written_over_floats_keep_their_value(self):
        data = replace(numbered([1, 2]), inputs=numbered([1, 2]).all_inputs())
        after = data.updated(numbered([2], shift=49))
        assert after.inputs.dtype == torch.float32
        assert after.inputs[1, 0, 0, 0] == pytest.approx(51 / 255)

    def test_codes_of_another_scale_keep_their_value(self):
        coarse = replace(SPACE, levels=16)
        after = numbered([1, 2]).updated(numbered([15], space=coarse))  # code 15 of 16 is white
        assert after.inputs[2].unique().tolist() == [255]

    def test_another_shape_or_number_of_classes_is_refused(self):
        for space in (replace(SPACE, num_classes=5), replace(SPACE, shape=(1, 2, 3))):
            rows = Dataset.of(torch.zeros(1, *space.shape), torch.zeros(1), space=space)
            with pytest.raises(DataError, match="cannot be written over"):
                numbered([1]).updated(rows)

    def test_an_id_named_twice_is_refused(self):
        with pytest.raises(DataError, match="same id"):
            numbered([1, 2]).updated(numbered([9, 9]))


class TestChecks:
    def make(self, **changes):
        inputs, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2])
        return Dataset(**{"inputs": inputs, "labels": labels, "ids": torch.arange(3), "space": SPACE, **changes})

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"inputs": torch.rand(3, 2, 2)}, r"space asks for \(N, 1, 2, 2\)"),
            ({"labels": torch.tensor([0, 1])}, "3 inputs need 3 labels"),
            ({"ids": torch.arange(4)}, "3 inputs need 3 labels and 3 ids"),
            ({"labels": torch.zeros(3, 1, dtype=torch.int64)}, "3 inputs need 3 labels"),
            ({"labels": torch.zeros(3)}, "must be int64"),
            ({"inputs": torch.zeros(3, 1, 2, 2, dtype=torch.int64)}, "uint8 or floats, but are torch.int64"),
            (
                {"inputs": torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "space": replace(SPACE, levels=None)},
                "8-bit inputs need a space with levels",
            ),
        ],
    )
    def test_shapes_and_types(self, changes, sentence):
        with pytest.raises(DataError, match=sentence):
            self.make(**changes)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_nan_and_infinity_are_named_by_row(self, value):
        inputs = torch.rand(3, 1, 2, 2)
        inputs[1, 0, 1, 0] = value
        with pytest.raises(DataError, match="row 1 holds NaN or infinite"):
            self.make(inputs=inputs).checked()

    def test_unscaled_images_are_told_to_be_divided(self):
        with pytest.raises(DataError, match=r"values from 0 to 200, .* \[0, 1\] \(divide 8-bit images by 255"):
            self.make(inputs=torch.tensor([0.0, 0.5, 200.0])[:, None, None, None] * torch.eye(2)).checked()

    def test_codes_beyond_the_levels_are_named(self):
        with pytest.raises(DataError, match=r"row 0 holds the code 17, but codes must lie in 0\.\.16"):
            numbered([17, 3], space=replace(SPACE, levels=17)).checked()

    @pytest.mark.parametrize("label", [-1, 4])
    def test_labels_outside_the_classes_are_named(self, label):
        with pytest.raises(DataError, match=f"row 2 has label {label}, but labels must lie in 0..3"):
            self.make(labels=torch.tensor([0, 3, label])).checked()

    def test_repeated_ids_and_no_rows(self):
        with pytest.raises(DataError, match="same id"):
            self.make(ids=torch.tensor([1, 2, 1])).checked()
        with pytest.raises(DataError, match="no rows"):
            numbered([1]).without(torch.tensor([1])).checked()

    def test_good_data_pass_and_are_numbered(self):
        data = Dataset.of(torch.rand(3, 1, 2, 2), torch.tensor([0.0, 1.0, 2.0]), space=SPACE, first_id=7)
        assert data.ids.tolist() == [7, 8, 9]
        assert data.labels.dtype == torch.int64


def test_the_digest_changes_with_any_change_and_only_then():
    data = numbered([3, 1, 2])
    changed = [
        numbered([3, 1, 2], shift=1),
        replace(data, labels=torch.tensor([3, 1, 1])),
        replace(data, ids=torch.tensor([3, 1, 4])),
        data.at(torch.tensor([1, 0, 2])),
        data.at(slice(0, 2)),
        replace(data, space=replace(SPACE, num_classes=5)),
        replace(data, space=replace(SPACE, bounds=(0.0, 2.0))),
        replace(data, space=replace(SPACE, levels=255)),
        replace(data, space=replace(SPACE, shape=(2, 2, 1)), inputs=data.inputs.reshape(3, 2, 2, 1)),
    ]
    for k in range(data.inputs.numel()):
        flipped = data.inputs.clone()
        flipped.view(-1)[k] ^= 1
        changed.append(replace(data, inputs=flipped))
    digests = {each.digest() for each in changed}
    assert len(digests) == len(changed)
    assert data.digest() not in digests
    assert numbered([3, 1, 2]).digest() == data.digest()
    assert data.rows(torch.tensor([3, 1, 2])).digest() == data.digest()


def test_channel_statistics_are_those_of_numpy():
    space = Space(shape=(2, 3, 3), num_classes=2, levels=256)
    codes = torch.randint(0, 256, (20, 2, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    codes[:, 1] = 51  # constant: the deviation is kept off zero
    mean, std = channel_statistics(codes, space)
    values = codes.numpy() / 255.0
    assert mean == pytest.approx(values.mean((0, 2, 3)), abs=1e-6)
    assert std[0] == pytest.approx(values[:, 0].std(), abs=1e-6)
    assert std[1] == 1e-3
