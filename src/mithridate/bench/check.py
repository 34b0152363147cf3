"""What is wrong with what was found, a sentence each: accuracy, ratios far below what they must be, exponents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mithridate.bench.case import Figure
from mithridate.bench.result import PLAIN, CaseFound, Found, GrowthFound, Unmeasured
from mithridate.bench.timing import LEAST_ROUNDS

SHARE = 0.7
"""A ratio fails below this share of what it must be: noise of shared machines is no reason to fail."""


def problems(found: Found) -> list[str]:
    """All that is wrong. Absolute times are never judged; what lacks something here, such as data, passes."""
    return inaccurate(found) + slow(found)


def inaccurate(found: Found) -> list[str]:
    """What measuring again would not mend."""
    if isinstance(found, Unmeasured):
        return [f"{found.name}: {found.why}"] if found.failed else []
    if isinstance(found, GrowthFound):
        return []
    figures = {name: form.accuracy for name, form in found.forms.items()} | dict(found.untimed)
    return [f"{found.name}: {each}" for each in wrong(figures)]


def wrong(figures: Mapping[str, Sequence[Figure]]) -> list[str]:
    """The figures of a case's forms that are not as asked."""
    return [f"the {each.sentence()}, with {name}" for name in figures for each in figures[name] if not each.holds]


def slow(found: Found) -> list[str]:
    """What noise may have caused."""
    if isinstance(found, CaseFound):
        return list(_low(found))
    return list(_steep(found)) if isinstance(found, GrowthFound) else []


def _low(found: CaseFound) -> Iterator[str]:
    if len(found.forms[PLAIN].round_seconds) < LEAST_ROUNDS:
        return  # the time was over: too little to judge by
    for what, asked, given in (
        ("times faster", found.must, lambda form: found.faster(form).middle),
        ("times less memory", found.lighter, found.spared),
    ):
        for form, must in asked.items():
            ratio = given(form) if form in found.forms else None
            if ratio is not None and ratio < SHARE * must:
                yield (
                    f"{found.name}: {form} is {ratio:.2f} {what} than plain, but must be {must:g} and may not be "
                    f"under {SHARE:.0%} of that, {SHARE * must:.2f}"
                )


def _steep(found: GrowthFound) -> Iterator[str]:
    fit = found.fitted
    if abs(fit.exponent - found.exponent) > found.tolerance:
        yield (
            f"{found.name}: {found.measures} grow with {found.parameter} to the power of {fit.exponent:.2f} "
            f"[{fit.low:.2f}, {fit.high:.2f}], but {found.exponent:g} within {found.tolerance:g} is expected"
        )
