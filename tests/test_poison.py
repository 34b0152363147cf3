"""Poison as rows: rounding to what can be stored never leaves what was allowed."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.dataset import Dataset, Space
from mithridate.poison import FIRST_APPENDED, Poison, no_poison
from tests.tables import ADA, TABLE

bounds = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])


def clean_and_changed(space, codes, fractions):
    """Rows on levels, and the same rows moved to ``fractions`` of the range."""
    low, high = space.bounds
    stored = (torch.tensor(codes)[:, None] % space.levels).to(torch.uint8)
    clean = Dataset.of(stored, torch.zeros(len(codes)), space=space)
    return clean, replace(clean, inputs=(low + (high - low) * torch.tensor(fractions))[:, None].float())


@given(st.integers(2, 256), bounds, st.lists(st.tuples(st.integers(0, 255), st.floats(0, 1)), min_size=1, max_size=20))
def test_towards_is_the_last_level_on_the_way(levels, bounds, rows):
    space = Space(shape=(1,), num_classes=2, levels=levels, bounds=bounds)
    clean, changed = clean_and_changed(space, *zip(*rows, strict=True))
    found = Poison(rows=changed).towards(clean).rows.inputs[:, 0].long()
    step = (bounds[1] - bounds[0]) / (levels - 1)
    start = clean.inputs[:, 0].long()
    exact = (changed.inputs[:, 0].double() - bounds[0]) / step
    for here, there, code in zip(start.tolist(), exact.tolist(), found.tolist(), strict=True):
        assert abs(code - here) <= abs(there - here) + 1e-3  # never further
        assert abs(code - here) > abs(there - here) - 1 - 1e-3  # and not a level less than it might be
        assert (code - here) * (there - here) >= 0 or code == here  # on the way


def test_towards_keeps_a_whole_number_of_levels_despite_float_rounding():
    space = Space(shape=(1,), num_classes=2, levels=256)
    codes = torch.arange(248, dtype=torch.uint8)[:, None]
    clean = Dataset.of(codes, torch.zeros(248), space=space)
    for radius in range(1, 8):
        for sign in (1, -1):
            base = clean if sign > 0 else replace(clean, inputs=codes + 7)
            moved = replace(base, inputs=base.all_inputs() + sign * radius / 255)
            found = Poison(rows=moved).towards(base).rows.inputs.long()
            assert torch.equal(found, base.inputs.long() + sign * radius)


def test_towards_of_clean_rows_between_levels_stays_on_their_side():
    space = Space(shape=(1,), num_classes=2, levels=256)
    clean = Dataset.of(torch.tensor([[10.4 / 255], [10.4 / 255]]), torch.zeros(2), space=space)
    moved = replace(clean, inputs=torch.tensor([[15.6 / 255], [5.3 / 255]]))
    assert Poison(rows=moved).towards(clean).rows.inputs.flatten().tolist() == [15, 6]


def test_quantised_is_the_nearest_level_and_applies_as_such():
    space = Space(shape=(1,), num_classes=2, levels=256)
    data = Dataset.of(torch.tensor([[10], [20]], dtype=torch.uint8), torch.zeros(2), space=space)
    poison = Poison(rows=replace(data.at(slice(1, 2)), inputs=torch.tensor([[30.6 / 255]])), trace={"loss": (1.0,)})
    rounded = poison.quantised()
    assert rounded.rows.inputs.tolist() == [[31]]
    assert rounded.trace == poison.trace
    assert poison.apply(data).digest() == rounded.apply(data).digest()
    assert rounded.apply(data).inputs.tolist() == [[10], [31]]


def test_no_poison_changes_nothing():
    data = Dataset.of(torch.rand(3, 2), torch.zeros(3), space=Space(shape=(2,), num_classes=2))
    assert no_poison(data).apply(data).digest() == data.digest()
    assert no_poison(data).quantised().apply(data).digest() == data.digest()


def test_rows_began_as_those_with_their_ids_or_as_their_origins():
    data = Dataset.of(torch.rand(5, 2), torch.arange(5) % 2, space=Space(shape=(2,), num_classes=2), first_id=10)
    replaced = Poison(rows=data.rows(torch.tensor([13, 11])))
    assert replaced.clean(data).ids.tolist() == [13, 11]
    rows = replace(replaced.rows, ids=FIRST_APPENDED + torch.arange(2))
    assert Poison(rows=rows).clean(data) is None
    began = Poison(rows=rows, origins=torch.tensor([12, 12])).clean(data)
    assert torch.equal(began.inputs, data.inputs[[2, 2]])
    assert Poison(rows=rows, origins=torch.tensor([12, 99])).clean(data) is None
    assert len(no_poison(data).clean(data)) == 0


def test_poison_of_a_table_is_rounded_to_valid_rows():
    clean = Dataset.of(torch.tensor([ADA]), torch.zeros(1), space=TABLE)
    moved = clean.inputs.clone()
    moved[0, :6] = torch.tensor([38.9, 7.5, 0.0, 0.4, 0.6, 0.7])
    poison = Poison(rows=replace(clean, inputs=moved))
    assert poison.quantised().rows.inputs[0, :6].tolist() == [39, 7.5, 0, 0, 1, 1]
    assert poison.towards(clean).rows.inputs[0, :6].tolist() == [38, 7.5, 0, 1, 0, 1]
