"""One case or growth measured, in the process that calls."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mithridate.bench.case import Case, Figure, Form, Forms, Growth
from mithridate.bench.fit import fitted
from mithridate.bench.peak import peak
from mithridate.bench.processor import Usage, foreign, usage
from mithridate.bench.result import PLAIN, CaseFound, GrowthFound, Measured
from mithridate.bench.timing import Times, alternated


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much measuring is worth."""

    rounds: int = 5
    budget: float = math.inf
    """Seconds after which a case begins no further round, three at least."""
    whole: bool = True
    """Whether all forms are timed, and their peak memory measured, in a further process for each; otherwise those
    alone of which a ratio is asked (all where none is)."""


Figures = Mapping[str, Sequence[Figure]]


def timed(
    case: Case,
    effort: Effort,
    *,
    clock: Callable[[], float] = time.perf_counter,
    tell: Callable[[Figures | CaseFound], object] = lambda so_far: None,
) -> CaseFound:
    """The accuracy and the times of a case; its memory is to be had from :func:`memory`.

    ``tell`` hears of the accuracy as soon as it is known, and after each round of what is known then.
    """
    forms = case.prepare(case.size)
    figures = forms.accuracy()
    tell(figures)
    runs = _worth(case, _all(forms), effort)
    before: list[Usage | None] = []

    def found(times: Mapping[str, Times]) -> CaseFound:
        return _found(case, forms, runs, times, figures, foreign(before[0], usage()))

    return found(
        alternated(
            {name: form.run for name, form in runs.items()},
            rounds=effort.rounds,
            budget=effort.budget,
            clock=clock,
            begin=lambda: before.append(usage()),
            after=lambda times: tell(found(times)),
        )
    )


def _found(
    case: Case,
    forms: Forms,
    runs: Mapping[str, Form],
    times: Mapping[str, Times],
    figures: Figures,
    others: float | None,
) -> CaseFound:
    """What is known of a case."""
    return CaseFound(
        name=case.name,
        about=case.about,
        size=dict(case.size),
        forms={
            name: Measured(
                first_seconds=times[name].first_seconds,
                calls=times[name].calls,
                round_seconds=times[name].round_seconds,
                accuracy=tuple(figures.get(name, ())),
                work=form.work,
                limit=form.limit,
            )
            for name, form in runs.items()
        },
        absent=dict(forms.absent),
        untimed={name: tuple(each) for name, each in figures.items() if name not in runs},
        foreign=others,
        items=case.items,
        must=dict(case.must),
        stretch=dict(case.stretch),
        lighter=dict(case.lighter),
    )


def _worth(case: Case, forms: Mapping[str, Form], effort: Effort) -> Mapping[str, Form]:
    """The forms that are timed."""
    asked = {PLAIN, *case.must}
    few = {name: form for name, form in forms.items() if name in asked}
    return few if len(few) > 1 and not effort.whole else forms


def memory(case: Case, form: str) -> tuple[int, int] | None:
    """Peak and kept bytes of one form (``plain`` or a fast one); for a fresh process. See :func:`~.peak.peak`."""
    return peak(_all(case.prepare(case.size))[form].run)


def grown(growth: Growth, effort: Effort, *, clock: Callable[[], float] = time.perf_counter) -> GrowthFound:
    """The seconds of a growth at all sizes, in turn, and the exponent they fit."""
    before: list[Usage | None] = []
    times = alternated(
        {str(size): growth.prepare(size) for size in growth.sizes},
        rounds=effort.rounds,
        budget=effort.budget,
        clock=clock,
        begin=lambda: before.append(usage()),
    )
    costs = [statistics.median(times[str(size)].round_seconds) for size in growth.sizes]
    return of_costs(growth, costs, foreign=foreign(before[0], usage()))


def bytes_at(growth: Growth, size: int) -> int | None:
    """Peak bytes at one size; for a fresh process."""
    found = peak(growth.prepare(size))
    return None if found is None else found[0]


def of_costs(growth: Growth, costs: list[float], *, foreign: float | None) -> GrowthFound:
    """What costs at all sizes of a growth say."""
    return GrowthFound(
        name=growth.name,
        about=growth.about,
        parameter=growth.parameter,
        sizes=tuple(growth.sizes),
        costs=tuple(costs),
        measures=growth.measures,
        exponent=growth.exponent,
        tolerance=growth.tolerance,
        fitted=fitted(growth.sizes, [max(each, 1e-12) for each in costs]),
        foreign=foreign,
    )


def _all(forms: Forms) -> dict[str, Form]:
    assert PLAIN not in forms.fast, f"no fast form may be called {PLAIN}"
    return {PLAIN: forms.plain, **forms.fast}
