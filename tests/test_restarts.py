"""The best of several restarts, as it is noted and read again."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.poison import Poison
from mithridate.restarts import Best
from tests.conftest import stripes

ROWS = stripes(4, seed=1)


def poison(value: float) -> Poison:
    inputs = torch.full((4, *ROWS.space.shape), value)
    return Poison(rows=replace(ROWS, inputs=inputs), trace={"loss": (1.0, value)})


def test_what_was_noted_is_still_the_one_to_beat(tmp_path):
    best = Best().beside(poison(0.1), 0.5).beside(poison(0.2), 0.7)
    checkpoint.write(best.state(descent=Checkpoint(facts={"step": 3})), tmp_path / "note")
    state = checkpoint.read(tmp_path / "note")
    assert state.under("descent").facts == {"step": 3}
    again = Best.of(state.under("best"), ROWS)
    assert (again.restarts, again.score) == (2, 0.5)
    assert again.poison.rows.digest() == poison(0.1).rows.digest()
    assert again.poison.trace == {"loss": (1.0, 0.1)}
    assert again.beside(poison(0.3), 0.6).poison is again.poison
    assert again.beside(better := poison(0.3), 0.4).poison is better


def test_a_score_that_is_no_number_is_noted_as_the_worst(tmp_path):
    checkpoint.write(Best().beside(poison(0.1), math.nan).state(), tmp_path / "note")
    again = Best.of(checkpoint.read(tmp_path / "note").under("best"), ROWS)
    assert (again.restarts, again.score) == (1, math.inf)
    assert again.beside(poison(0.2), 3.0).score == 3.0


def test_nothing_noted_is_nothing_done():
    again = Best.of(Checkpoint(), ROWS)
    assert (again.restarts, again.poison) == (0, None)
