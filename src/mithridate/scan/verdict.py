"""What a scan says of the folder as a whole: suspect, nothing found, or cannot tell; the rule is in ``tails.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mithridate.scan.calibration import Copy, Measured
from mithridate.scan.methods import Floats
from mithridate.scan.tails import LEVEL, Tail, noticed, tail

State = Literal["suspect", "nothing found", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of one kind of poison."""

    kind: str
    state: State
    method: str
    """Who says so; empty where nobody can tell."""
    tail: Tail | None
    """The test of the user's rows; None where there was none to be made."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of the folder."""

    answers: tuple[Answer, ...]
    """One for each kind of planted poison."""

    @property
    def state(self) -> State:
        """Suspect where any answer is; else nothing found where any answer is; else cannot tell."""
        states = {each.state for each in self.answers}
        order: tuple[State, ...] = ("suspect", "nothing found", "cannot tell")
        return next(each for each in order if each in states)

    @property
    def strongest(self) -> Answer | None:
        """The answer that makes the folder suspect; None where it is not."""
        suspect = [each for each in self.answers if each.state == "suspect" and each.tail]
        return min(suspect, key=lambda each: each.tail.p if each.tail else 1.0, default=None)


def verdict(scores: Mapping[str, Floats], copies: Sequence[Copy], found: Sequence[Measured]) -> Verdict:
    """The verdict by the methods in ``scores``, all steady: by method, the scores ``(N,)`` of the user's rows."""
    kinds = list(copies[0].rows)
    able = [(each.method, each.kind) for each in found if each.able and each.method in scores]
    answers = []
    for kind in kinds:
        tested = [_answer(name, kind, scores[name], copies, len(able)) for name in scores if (name, kind) in able]
        order = ("suspect", "nothing found", "cannot tell")
        unknown = Answer(kind=kind, state="cannot tell", method="", tail=None)
        answers.append(min(tested, key=lambda each: order.index(each.state), default=unknown))
    return Verdict(answers=tuple(answers))


def _answer(name: str, kind: str, scores: Floats, copies: Sequence[Copy], tests: int) -> Answer:
    planted = np.concatenate([copy.scores[name][copy.rows[kind]] for copy in copies])
    own = tail(scores, planted)
    if own is not None and own.p * tests < LEVEL:
        return Answer(kind=kind, state="suspect", method=name, tail=own)
    known = noticed([tail(_with(copy, name, kind), planted) for copy in copies], LEVEL / tests)
    return Answer(kind=kind, state="nothing found" if known else "cannot tell", method=name if known else "", tail=own)


def _with(copy: Copy, name: str, kind: str) -> Floats:
    """Scores in a copy of the rows nobody planted, and of those planted of one kind."""
    kept = copy.others()
    kept[copy.rows[kind]] = True
    return copy.scores[name][kept]
