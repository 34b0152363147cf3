"""Losses and answers row by row."""

from __future__ import annotations

import math

import pytest
import torch

from mithridate.ops.losses import is_right, row_losses

NAN = float("nan")


def test_losses_are_minus_the_log_likelihood_and_infinite_where_they_are_no_number():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [NAN, 0.0], [0.0, -math.inf]])
    found = row_losses(logits, torch.tensor([1, 0, 0, 1])).tolist()
    assert found == [pytest.approx(math.log(4 / 3)), pytest.approx(math.log(2)), math.inf, math.inf]


def test_a_row_is_right_where_its_label_alone_has_the_largest_logit():
    logits = torch.tensor([[1.0, 2.0, 0.0], [2.0, 2.0, 0.0], [3.0, 2.0, 9.0], [NAN, 0.0, 0.0], [9.0, NAN, 0.0]])
    assert is_right(logits, torch.tensor([1, 0, 0, 0, 0])).tolist() == [True, False, False, False, False]
