"""The verdict on a folder: each kind is answered for by what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from mithridate.scan.calibration import Copy, Measured, share
from mithridate.scan.tails import LEVEL, tail
from mithridate.scan.verdict import Answer, State, Verdict, verdict

CLEAN = np.random.default_rng(0).normal(-5, 2, 2000)
PLANTED = np.random.default_rng(1).normal(7, 1, 25)


def poisoned(rows: int) -> np.ndarray:
    return np.append(CLEAN, np.linspace(6, 9, rows))


def copy(planted: np.ndarray) -> Copy:
    """A copy in which the first rows are planted."""
    return Copy(scores={"loss": np.append(planted, CLEAN)}, rows={"odd": np.arange(len(planted))})


def able(*, hits: int = 24, method: str = "loss") -> Measured:
    return Measured(method=method, kind="odd", recall=share(hits, 25), alarms=share(20, 2000), tries=1)


def state(scores: np.ndarray, copies: list[Copy], found: Measured) -> State:
    (answer,) = verdict({"loss": scores}, copies, [found]).answers
    return answer.state


def test_rows_as_far_out_as_planted_ones_make_a_folder_suspect() -> None:
    assert state(poisoned(12), [copy(PLANTED)], able()) == "suspect"


def test_a_folder_is_clean_where_planted_rows_would_have_been_noticed() -> None:
    assert state(CLEAN, [copy(PLANTED)], able()) == "nothing found"


def test_nothing_is_said_where_planted_rows_went_unnoticed() -> None:
    few = copy(PLANTED[:3])  # found each, but too few to be noticed as a group
    assert state(CLEAN, [few], able()) == "cannot tell"
    assert state(CLEAN, [copy(PLANTED), few], able()) == "cannot tell", "noticed in one of two copies"
    assert state(CLEAN, [copy(PLANTED), copy(PLANTED), few], able()) == "nothing found"


def test_nothing_is_said_by_a_method_that_cannot_tell() -> None:
    assert state(poisoned(12), [copy(PLANTED)], able(hits=1)) == "cannot tell"
    assert state(poisoned(12), [copy(PLANTED)], able(method="another")) == "cannot tell"


def test_more_tests_ask_for_stronger_evidence() -> None:
    scores = next(
        each for each in map(poisoned, range(4, 12)) if (found := tail(each, PLANTED)) and LEVEL / 500 < found.p < LEVEL
    )
    assert state(scores, [copy(PLANTED)], able()) == "suspect"
    kinds = [f"kind {k}" for k in range(500)]
    many = Copy(scores={"loss": np.append(PLANTED, CLEAN)}, rows={kind: np.arange(25) for kind in kinds})
    measured = [
        Measured(method="loss", kind=kind, recall=share(24, 25), alarms=share(20, 2000), tries=1) for kind in kinds
    ]
    assert {each.state for each in verdict({"loss": scores}, [many], measured).answers} != {"suspect"}


@pytest.mark.parametrize(
    ("states", "right"),
    [
        (["cannot tell", "suspect", "nothing found"], "suspect"),
        (["cannot tell", "nothing found"], "nothing found"),
        (["cannot tell", "cannot tell"], "cannot tell"),
    ],
)
def test_the_folder_is_what_its_worst_known_kind_is(states: list[State], right: State) -> None:
    answers = tuple(Answer(kind=str(k), state=each, method="", tail=None) for k, each in enumerate(states))
    assert Verdict(answers=answers).state == right


def test_the_strongest_answer_is_the_one_least_likely_by_chance() -> None:
    weak, strong = tail(poisoned(8), PLANTED), tail(poisoned(20), PLANTED)
    assert weak is not None
    assert strong is not None
    assert strong.p < weak.p
    answers = tuple(
        Answer(kind=kind, state="suspect", method="loss", tail=each) for kind, each in (("a", weak), ("b", strong))
    )
    strongest = Verdict(answers=answers).strongest
    assert strongest is not None
    assert strongest.kind == "b"
