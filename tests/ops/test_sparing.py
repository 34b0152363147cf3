"""Rows that may go without emptying a class."""

from __future__ import annotations

import torch

from mithridate.ops.sparing import expendable, spared
from tests.defenses.clouds import rows


def test_the_last_row_of_each_class_is_not_expendable():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    assert expendable(labels).tolist() == [True, True, True, False, False, False]
    assert expendable(labels[:0]).tolist() == []


def test_of_a_class_that_would_go_whole_the_least_suspect_row_stays():
    data = rows([0, 0, 1, 1, 1, 2])
    flagged = torch.tensor([True, False, True, True, True, True])
    scores = torch.tensor([9.0, 0.0, 3.0, 1.0, 2.0, 7.0])
    assert spared(flagged, scores, data).tolist() == [True, False, True, False, True, False]
    assert flagged.tolist() == [True, False, True, True, True, True]


def test_of_equally_suspect_rows_that_of_the_lowest_id_stays():
    data = rows([0, 0, 0, 1], ids=[5, 2, 9, 0])
    flagged = torch.tensor([True, True, True, False])
    assert spared(flagged, torch.ones(4), data).tolist() == [True, False, True, False]
