"""A defense is a function from learner to learner; stacking defenses is a fold, no defense is the identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from mithridate.learner import Learner


class Defense(ABC):
    """A published way of training more safely. Kinds are frozen dataclasses in ``defenses/``, one method a file."""

    name: ClassVar[str]

    @abstractmethod
    def protect(self, learner: Learner) -> Learner:
        """A learner that trains as ``learner`` does, protected."""


def protect(learner: Learner, defenses: Sequence[Defense]) -> Learner:
    """The learner inside a stack of defenses, the first one innermost."""
    for defense in defenses:
        learner = defense.protect(learner)
    return learner


def stack_name(defenses: Sequence[Defense]) -> str:
    """The name of a stack of defenses, for tables: ``none``, or names joined by ``+``."""
    return " + ".join(defense.name for defense in defenses) or "none"
