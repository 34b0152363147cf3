"""Computing time that a run did not spend, because what jobs have in common was computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mithridate.report.remembering import once

if TYPE_CHECKING:
    from mithridate.report.load import Craft, Run, Surrogate
    from mithridate.report.victims import Victim


@dataclass(frozen=True, kw_only=True)
class Savings:
    """Seconds saved, by what was shared."""

    found: float
    """Networks, or work of defenses, that an earlier run or job left behind."""
    surrogates: float
    """Surrogates that several crafts share."""
    clean: float
    """Networks that are judged on the targets of several trials."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.found + self.surrogates + self.clean

    @property
    def parts(self) -> Mapping[str, float]:
        """The parts of a second and more, by what they are, the largest first."""
        named = {
            "surrogates shared by several poisons": self.surrogates,
            "networks judged on several trials": self.clean,
            "networks and features found done": self.found,
        }
        parts = sorted(named.items(), key=lambda each: -each[1])
        return {name: seconds for name, seconds in parts if seconds >= 1}


def savings(run: Run) -> Savings:
    """What a run saved; rows of older releases do not say with which surrogates a poison was crafted."""
    return run.remember("savings", lambda: _savings(run))


def _savings(run: Run) -> Savings:
    found = sum([each.treatment.reused for each in once(run.victims)]) + sum(each.reused for each in run.pretrainings)
    return Savings(found=found, surrogates=_shared(run.crafts, run.surrogates), clean=_judged_again(run.victims))


def _shared(crafts: Sequence[Craft], surrogates: Sequence[Surrogate]) -> float:
    """Seconds of each surrogate, times the poisons that share it less one; 0 where its poisons are yet to come."""
    users = Counter(number for craft in crafts for number in craft.surrogates)
    costs: dict[int, list[float]] = {}
    for each in surrogates:
        if each.number is not None:
            costs.setdefault(each.number, []).append(each.seconds)
    means = {number: sum(values) / len(values) for number, values in costs.items()}  # several in adaptive runs
    return sum(means[number] * max(0, count - len(costs[number])) for number, count in users.items() if number in means)


def _judged_again(victims: Sequence[Victim]) -> float:
    """Seconds of each training, times the trials that it is judged on less one: its rows all say what it took."""
    firsts = once(victims)
    if len(firsts) == len(victims):
        return 0.0
    return max(0.0, sum([each.seconds for each in victims]) - sum([each.seconds for each in firsts]))
