"""Inputs on one scale."""

from __future__ import annotations

from dataclasses import replace

import torch

from mithridate.ops.standard import standardised
from tests.conftest import stripes
from tests.defenses.tables import table


def test_columns_of_a_table_have_a_mean_and_a_deviation_each():
    data = table([[1.0, 200.0], [3.0, 500.0]], [0, 1], mean=(1.0, 300.0), std=(2.0, 100.0))
    assert standardised(data).tolist() == [[0.0, -1.0], [1.0, 2.0]]


def test_a_space_that_names_no_scale_is_taken_as_it_is():
    assert standardised(table([[1.0, 200.0]], [0])).tolist() == [[1.0, 200.0]]


def test_channels_of_images_have_one_each_and_images_are_flattened():
    data = stripes(4, seed=1)
    data = replace(data, space=replace(data.space, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)))
    found, images = standardised(data), data.all_inputs()
    assert found.shape == (4, 3 * 12 * 12)
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.3, 4.0))):
        expected = (images[:, channel] - mean) / std
        assert torch.allclose(found.reshape(4, 3, 12, 12)[:, channel], expected, atol=1e-6)
