"""The best of several restarts, as it is noted and read again."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.poison import Poison
from mithridate.restarts import Best, Contest, halvings
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


def test_halvings_come_after_a_half_a_quarter_an_eighth():
    assert halvings(250, 8) == [31, 62, 125, 250]
    assert halvings(60, 5) == [7, 15, 30, 60]
    assert halvings(2, 8) == [1, 1, 1, 2]
    assert halvings(250, 1) == [250]


def played(contest, scores):
    """The contest after one more turn of each restart left."""
    for k in contest.left:
        assert contest.turn == k
        contest = contest.beside(Checkpoint(tensors={"at": torch.full((1,), float(k))}), scores[k])
    return contest


def test_the_worse_half_is_given_up_again_and_again():
    scores = {0: 0.5, 1: math.nan, 2: 0.1, 3: 0.5, 4: 0.4}
    contest = played(Contest(left=(0, 1, 2, 3, 4)), scores)
    assert (contest.left, contest.halved, contest.scores) == ((0, 2, 4), 1, ())
    assert {k: float(each.tensors["at"]) for k, each in contest.states.items()} == {0: 0.0, 2: 2.0, 4: 4.0}
    contest = played(contest, {0: 0.3, 2: 0.2, 4: 0.1})
    assert contest.left == (2, 4)
    assert played(contest, {2: 0.1, 4: 0.1}).left == (2,)


def test_a_contest_that_was_noted_goes_on_where_it_stood(tmp_path):
    contest = played(Contest(left=(0, 1, 2)), {0: 0.3, 1: 0.2, 2: 0.1})
    contest = contest.beside(Checkpoint(tensors={"at": torch.ones(1)}, facts={"step": 4}), 0.7)
    checkpoint.write(contest.state(descent=Checkpoint(facts={"step": 3})), tmp_path / "note")
    state = checkpoint.read(tmp_path / "note")
    again = Contest.of(state.under("contest"), 3)
    assert (again.left, again.halved, again.scores, again.turn) == ((1, 2), 1, (0.7,), 2)
    assert again.states[1].facts == {"step": 4}
    assert float(again.states[2].tensors["at"]) == 2.0
    assert state.under("descent").facts == {"step": 3}
    assert Contest.of(Checkpoint(), 3).left == (0, 1, 2)
