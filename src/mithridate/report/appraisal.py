"""A defense appraised in words: how it did against none and against its controls, and what it cost."""

from __future__ import annotations

from dataclasses import replace

from mithridate.report.comparison import Against, Comparison, Worth
from mithridate.report.effects import Effect
from mithridate.report.words import (
    ALIKE,
    bounds,
    chance,
    count,
    interval,
    listed,
    percent,
    plural,
    points,
    signed,
    times,
)
from mithridate.stats import Difference, Estimate

_WORTH: dict[Worth, str] = {
    "beyond": "clearly below {}",
    "lower": "clearly lower than without a defense",
    "dropping": "not clearly below {}, so what it does may be the dropping alone",
    "unequal": "clearly lower than without a defense, but {} dropped another number of rows, so no more can be said",
    "uncontrolled": "clearly lower than without a defense, but {}, so it may be the dropping alone",
    "none": "not clearly lower than without a defense",
    "worse": "clearly higher than without a defense, which helps the poisoner",
    "unlanded": "no credit, because without a defense the attack has not clearly landed",
    "missing": "nothing can be said, because these trials were not run without a defense",
}


def headline(comparison: Comparison, measure: str = "Success") -> str:
    """The comparison in one sentence, for the verdict: rates, intervals, what they are worth, and the accuracy.

    ``measure`` is what the rates are of: Success, Error.
    """
    digits = 1 if comparison.graded else 0
    parts = [success(comparison, measure)]
    if comparison.undefended:
        parts.append(f"{percent(comparison.undefended.estimate.mean, digits)} without a defense")
    parts += [f"{percent(each.estimate.mean, digits)} with {each.name}" for each in comparison.controls]
    return f"{', '.join(parts)}: {worth(comparison)}.{_cost(comparison)}"


def _cost(comparison: Comparison) -> str:
    gap = comparison.accuracy
    if gap is None:
        return ""
    if comparison.graded:
        return f" Without poison: error {signed(-100 * gap.mean, 1)} points."
    return f" Clean accuracy {signed(100 * gap.mean, 1)} points."


def sentences(comparison: Comparison, measure: str = "Success") -> list[str]:
    """The comparison in full: success and what it is worth, what was dropped, what it cost."""
    dropped = _dropped(comparison.effect) if comparison.drops else ""
    said = f"{success(comparison, measure)}: {worth(comparison)}."
    return [each for each in (said, dropped, _price(comparison)) if each]


def others(comparison: Comparison) -> list[str]:
    """What it is compared with, each with its own success and the difference over the trials that both have."""
    plain = [_other(comparison.undefended)] if comparison.undefended else []
    return plain + [_other(each) + ("" if each.equal else ", another number of rows") for each in comparison.controls]


def _other(other: Against) -> str:
    found = other.difference
    said = f"{other.words}: {_rate(other.estimate, graded=other.graded)}, difference "
    if found.trials < 2 and other.graded:
        return f"{said}{signed(100 * found.mean, 1)} points in one trial"
    digits = 1 if other.graded else 0
    return f"{said}{points(found, digits)}, {_chance(found)}, {plural(found.trials, 'trial')}"


def _chance(found: Difference) -> str:
    return chance(found.chance) + (f" adjusted for {found.family} defenses" if found.family > 1 else "")


def worth(comparison: Comparison) -> str:
    """What the numbers say, with the controls that stand in the way of more."""
    if comparison.worth == "unequal":
        said = listed([each.name for each in comparison.rivals if not each.equal])
    elif comparison.worth == "uncontrolled":
        said = _unasked(comparison) if not comparison.missing else f"{listed(comparison.missing)} was not run"
    elif comparison.worth == "beyond":
        names = [each.name for each in comparison.rivals]
        said = "both controls" if len(names) > 1 else listed(names)
    else:
        said = listed([each.name for each in comparison.rivals if not each.difference.below])
    text = _WORTH[comparison.worth].format(said) + _beside_others(comparison)
    if comparison.twins and comparison.worth in ("beyond", "dropping", "unequal"):
        return f"{text} ({listed(comparison.twins)} does nearly the same as this defense and need not be beaten)"
    return text


def _beside_others(comparison: Comparison) -> str:
    """That tests were adjusted for the defenses compared beside this one, where what is said rests on tests."""
    against = comparison.undefended
    if against is None or against.difference.family < 2 or comparison.worth == "unlanded":
        return ""
    found = against.difference
    hopeless = not against.graded and found.family * 0.5**found.trials > 0.05
    more = f"; over {plural(found.trials, 'trial')} none can be clear" if hopeless else ""
    return f" (tests adjusted for {found.family} defenses{more})"


def _unasked(comparison: Comparison) -> str:
    """Why there is no control to be beaten, though all that were asked for were run."""
    if comparison.twins and comparison.controls:
        return f"its only control, {listed(comparison.twins)}, does nearly the same"
    return "no control that drops as many rows was asked for"


def success(comparison: Comparison, measure: str = "Success") -> str:
    """A rate of success with its interval."""
    return f"{measure} {_rate(comparison.estimate, graded=comparison.graded)}"


def _rate(estimate: Estimate, *, graded: bool) -> str:
    if graded and estimate.trials < 2:
        return percent(estimate.mean, 1)
    digits = 1 if graded else 0
    spread = bounds(estimate) if estimate.low == estimate.high else interval(estimate, digits)
    return f"{percent(estimate.mean, digits)} [{spread}]"


def _dropped(found: Effect) -> str:
    if found.dropped is None:
        return "How many rows it dropped was not recorded."
    share = f" ({percent(found.share, 1)})" if found.share is not None else ""
    text = f"It dropped {count(found.dropped)} rows{share} on average"
    if found.recall is None or found.clean_drop is None:
        return f"{text}."
    return f"{text}: {percent(found.recall)} of the poison and {percent(found.clean_drop, 1)} of the clean rows."


def _price(comparison: Comparison) -> str:
    gap, ratio, parts = comparison.accuracy, comparison.effect.times, []
    if gap is not None and comparison.graded:
        gap = replace(gap, mean=-gap.mean, low=-gap.high, high=-gap.low)
    if gap is not None:
        what = "error without poison" if comparison.graded else "clean accuracy"
        parts.append(f"{what} {_gap(gap, graded=comparison.graded)}")
    if ratio is not None:
        parts.append(f"{times(ratio)} the time of an undefended network")
    return f"Its price: {listed(parts)}." if parts else ""


def _gap(found: Estimate, *, graded: bool) -> str:
    mean = f"{signed(100 * found.mean, 1)} points"
    if found.trials < 2:
        return mean
    return f"{mean} [{ALIKE}]" if graded and found.low == found.high else points(found, 1)
