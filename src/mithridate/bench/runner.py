"""All cases, one after another: each in processes of its own, again where noise may have spoilt it, or kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mithridate.bench import check, measure
from mithridate.bench.apart import BrokenError, LateError, MissingError, apart
from mithridate.bench.case import Case, Growth, cases
from mithridate.bench.measure import Effort, Figures
from mithridate.bench.result import PLAIN, CaseFound, Found, GrowthFound, Unmeasured

TRIES = 3
"""How often at most a case is measured whose ratios are too low."""
PLAN_LATE = "no time was left for it"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a list of cases is measured."""

    effort: Effort
    threads: int
    check: bool = False
    """Whether what is too slow is measured again."""
    until: float | None = None
    """When all must have ended, by ``time.monotonic``; what is left then is not measured."""


Measure = Callable[[Case | Growth, Plan], Found]


def measured(
    asked: Sequence[Case | Growth],
    plan: Plan,
    *,
    kept: Mapping[str, Found],
    measure: Measure | None = None,
    begin: Callable[[str], object] = lambda name: None,
) -> Iterator[tuple[Found, bool]]:
    """Each case with whether it was known before: from ``kept``, or measured. ``begin`` hears names before they are."""
    for number, case in enumerate(asked):
        if case.name in kept:
            yield kept[case.name], True
            continue
        begin(case.name)
        yield _tried(case, _paced(plan, len(asked) - number), measure or apart_measured), False


def _paced(plan: Plan, left: int) -> Plan:
    """A plan for the next of ``left`` cases: it ends after twice its share of the time left, so others have theirs.

    Its rounds take half a share; the rest is for making ready, accuracy, first calls and second tries.
    """
    if plan.until is None:
        return plan
    now = time.monotonic()
    share = max(0.0, plan.until - now) / left
    effort = replace(plan.effort, budget=min(plan.effort.budget, share / 2))
    return replace(plan, effort=effort, until=min(plan.until, now + 2 * share))


def _tried(case: Case | Growth, plan: Plan, measure: Measure) -> Found:
    """A case measured, up to three times where it is too slow; the last time counts."""
    found = measure(case, plan)
    for turn in range(2, TRIES + 1):
        if not plan.check or check.inaccurate(found) or not check.slow(found):
            break
        again = measure(case, plan)
        if isinstance(again, Unmeasured):
            break  # no time was left: what was found first stands
        found = replace(again, tries=turn)
    return found


def apart_measured(case: Case | Growth, plan: Plan) -> Found:
    """A case measured in fresh processes; what goes wrong becomes a sentence."""
    if plan.until is not None and time.monotonic() >= plan.until:
        return Unmeasured(name=case.name, why=PLAN_LATE, failed=False)
    try:
        return _growth(case, plan) if isinstance(case, Growth) else _case(case, plan)
    except MissingError as error:
        return Unmeasured(name=case.name, why=str(error), failed=False)
    except LateError:
        return Unmeasured(name=case.name, why=PLAN_LATE, failed=False)
    except BrokenError as error:
        return Unmeasured(name=case.name, why=str(error), failed=True)


def _case(case: Case, plan: Plan) -> Found:
    """The times of a case, as far as they came before the end, and memory where there was time for it."""
    notes: list[Figures | CaseFound] = []
    try:
        found = apart(timed_named, case.name, plan.effort, plan.threads, until=plan.until, heard=notes.append)
    except LateError:
        return _so_far(case, notes)
    forms, weighed = dict(found.forms), {PLAIN, *case.lighter} if case.lighter else set()
    for name in found.forms if plan.effort.whole else [each for each in found.forms if each in weighed]:
        try:
            held = apart(memory_named, case.name, name, plan.threads, until=plan.until)
        except LateError:
            break
        if held is not None:
            forms[name] = replace(forms[name], peak_bytes=held[0], kept_bytes=held[1])
    return replace(found, forms=forms)


def _so_far(case: Case, notes: Sequence[Figures | CaseFound]) -> Found:
    """What is known of a case whose time was over."""
    if not notes:
        return Unmeasured(name=case.name, why=PLAN_LATE, failed=False)
    last = notes[-1]
    if isinstance(last, CaseFound):
        return last
    wrong = check.wrong(last)
    why = "; ".join(wrong) or f"{PLAN_LATE}; it is accurate"
    return Unmeasured(name=case.name, why=why, failed=bool(wrong))


def _growth(growth: Growth, plan: Plan) -> GrowthFound:
    if growth.measures == "seconds":
        return apart(grown_named, growth.name, plan.effort, plan.threads, until=plan.until)
    costs = [apart(bytes_named, growth.name, size, plan.threads, until=plan.until) for size in growth.sizes]
    known = [each for each in costs if each is not None]
    if len(known) < len(costs):
        raise MissingError("this system does not tell peak memory")
    return measure.of_costs(growth, [float(each) for each in known], foreign=None)


def timed_named(
    name: str, effort: Effort, threads: int, tell: Callable[[Figures | CaseFound], object] = lambda so_far: None
) -> CaseFound:
    """As :func:`~.measure.timed`, for the case of this name; sets the number of torch's threads."""
    return measure.timed(_case_named(name, threads), effort, tell=tell)


def memory_named(name: str, form: str, threads: int) -> tuple[int, int] | None:
    """As :func:`~.measure.memory`."""
    return measure.memory(_case_named(name, threads), form)


def grown_named(name: str, effort: Effort, threads: int) -> GrowthFound:
    """As :func:`~.measure.grown`."""
    return measure.grown(_growth_named(name, threads), effort)


def bytes_named(name: str, size: int, threads: int) -> int | None:
    """As :func:`~.measure.bytes_at`."""
    return measure.bytes_at(_growth_named(name, threads), size)


def _case_named(name: str, threads: int) -> Case:
    found = _named(name, threads)
    assert isinstance(found, Case)
    return found


def _growth_named(name: str, threads: int) -> Growth:
    found = _named(name, threads)
    assert isinstance(found, Growth)
    return found


def _named(name: str, threads: int) -> Case | Growth:
    """Cases travel by name: what prepares them need not be picklable."""
    import torch

    torch.set_num_threads(threads)
    return cases()[name]
