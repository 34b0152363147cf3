"""Things that remember what was computed over them: the numbers of a large run are asked for again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mithridate.report.victims import Victim

T = TypeVar("T")


class Remembering:
    """What never changes, so that what was computed over it once holds for good. Forgotten with the thing itself."""

    def remember(self, name: str, compute: Callable[[], T]) -> T:
        """The result of ``compute`` under ``name``, computed at most once."""
        memory: dict[str, Any] = vars(self).setdefault("_memory", {})
        if name not in memory:
            memory[name] = compute()
        found: T = memory[name]
        return found


class Networks(tuple["Victim", ...], Remembering):
    """The networks of one control of one combination, in the order of the run."""

    sequential = False
    """Whether the number of their trials was chosen by looking at results, and intervals must allow for it."""

    @property
    def trials(self) -> dict[int, list[Victim]]:
        """The networks of every trial, in the order in which trials first come."""
        return self.remember("trials", lambda: _trials(self))


def networks(victims: Sequence[Victim]) -> Networks:
    """Networks that remember; those that do already as they are."""
    return victims if isinstance(victims, Networks) else Networks(victims)


def like(victims: Iterable[Victim], other: Sequence[Victim]) -> Networks:
    """Networks whose trials were chosen as those of ``other`` were."""
    found = Networks(victims)
    found.sequential = is_sequential(other)
    return found


def is_sequential(victims: Sequence[Victim]) -> bool:
    """Whether the number of their trials was chosen by looking at results."""
    return isinstance(victims, Networks) and victims.sequential


def remembered(victims: Sequence[Victim], name: str, compute: Callable[[], T]) -> T:
    """The result of ``compute``, which ``victims`` remember where they can."""
    return victims.remember(name, compute) if isinstance(victims, Networks) else compute()


def remembered_of_both(first: Sequence[Victim], second: Sequence[Victim], name: str, compute: Callable[[], T]) -> T:
    """The result of ``compute`` over two groups, which the first remembers where both can."""
    if not isinstance(first, Networks) or not isinstance(second, Networks):
        return compute()
    # the second is kept beside the result, so that nothing else can get its id
    return first.remember(f"{name} {id(second)}", lambda: (second, compute()))[1]


def once(victims: Sequence[Victim]) -> Sequence[Victim]:
    """One row for each training: the first."""
    return remembered(victims, "once", lambda: _once(victims))


def successes(victims: Sequence[Victim]) -> dict[int, list[float]]:
    """The success of every network, by trial, in the order in which trials first come."""
    return remembered(victims, "successes", lambda: _successes(victims))


def _once(victims: Sequence[Victim]) -> Sequence[Victim]:
    if all(victim.training is victim.key for victim in victims):  # as read of very many: each its own
        return victims
    firsts: dict[str, Victim] = {}
    for victim in victims:
        firsts.setdefault(victim.training, victim)
    return list(firsts.values())


def _successes(victims: Sequence[Victim]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for victim in victims:
        found.setdefault(victim.trial, []).append(victim.success)
    return found


def _trials(victims: Sequence[Victim]) -> dict[int, list[Victim]]:
    found: dict[int, list[Victim]] = {}
    for victim in victims:
        found.setdefault(victim.trial, []).append(victim)
    return found
