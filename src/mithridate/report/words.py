"""Numbers as readers expect them: shares, intervals, durations, sizes and class names in running text."""

from __future__ import annotations

from collections.abc import Sequence

from mithridate.stats import Difference, Estimate

KNOWLEDGE = {
    "white-box": "one or more of the attacker's networks start from the victim's weights",
    "grey-box": "the attacker's networks have the victim's architecture, but other weights",
    "black-box": "the attacker's networks have other architectures than the victim's",
}
"""What the words for an attacker's knowledge mean: those that :mod:`mithridate.knowledge` computes."""

ALIKE = "all trials alike"
"""What stands in the place of an interval where all trials agree: few equal values are no certainty."""


def percent(share: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as "60 %", without claiming 0 % or 100 % for what is only near them."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    if digits == 0 and ((text == "0" and share > 0) or (text == "100" and share < 1)):
        text = f"{100 * share:.1f}"
    return f"{text}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate, digits: int = 0) -> str:
    """The bounds of an interval as "39–78 %"."""
    return f"{100 * estimate.low:.{digits}f}–{100 * estimate.high:.{digits}f}\N{NO-BREAK SPACE}%"


def fine(share: float | None) -> str:
    """A share in [0, 1] in about two digits: "7.1 %", "22 %"."""
    return percent(share, _digits(share or 0.0))


def with_interval(estimate: Estimate) -> str:
    """A mean share with its interval: "7.1 % [6.2–8.0 %]"; a single one has none."""
    if estimate.trials < 2:
        return fine(estimate.mean)
    return f"{fine(estimate.mean)} [{bounds(estimate)}]"


def bounds(estimate: Estimate) -> str:
    """The bounds of an interval in as many digits as its mean has."""
    if estimate.low == estimate.high:
        return ALIKE
    return interval(estimate, _digits(estimate.mean))


def _digits(share: float) -> int:
    return 1 if share < 0.0995 else 0


def duration(seconds: float) -> str:
    """Seconds as "48 s", "3 min 12 s" or "2 h 5 min"; below a tenth as "35 ms"."""
    if 0 < seconds < 0.0995:
        return f"{max(1, round(1000 * seconds))}\N{NO-BREAK SPACE}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\N{NO-BREAK SPACE}s"
    if whole < 3600:
        return f"{whole // 60}\N{NO-BREAK SPACE}min {whole % 60}\N{NO-BREAK SPACE}s"
    return f"{whole // 3600}\N{NO-BREAK SPACE}h {whole % 3600 // 60}\N{NO-BREAK SPACE}min"


def size(count: int | None) -> str:
    """Bytes as "312 MB" (1 MB is a million bytes); a dash where they were not measured."""
    if count is None:
        return "–"
    if count < 1e9:
        return f"{count / 1e6:.0f}\N{NO-BREAK SPACE}MB"
    return f"{count / 1e9:.1f}\N{NO-BREAK SPACE}GB"


def quoted(name: str) -> str:
    """A class name in quotation marks."""
    return f"“{name}”"


def with_article(name: str) -> str:
    """A class name in quotation marks after "a" or "an", as it is spoken."""
    spoken_with_vowel = name[:1].lower() in set("aeiou8") or name in {"11", "18"}
    return f"{'an' if spoken_with_vowel else 'a'} {quoted(name)}"


def plural(count: int, noun: str) -> str:
    """A number of things: 1 trial, 2 trials."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def points(difference: Difference | Estimate, digits: int = 0) -> str:
    """A difference of two shares in percentage points, with its interval: "−58 points [−80 to −31]"."""
    if isinstance(difference, Difference) and difference.low == difference.high:
        return f"{signed(100 * difference.mean, digits)} points [{ALIKE}]"
    mean, low, high = (signed(100 * each, digits) for each in (difference.mean, difference.low, difference.high))
    return f"{mean} points [{low} to {high}]"


def signed(value: float, digits: int = 0) -> str:
    """A number with its sign, which nought has not."""
    number = f"{abs(value):.{digits}f}"
    sign = "" if float(number) == 0 else "\N{MINUS SIGN}" if value < 0 else "+"
    return sign + number


def chance(value: float) -> str:
    """A probability as "p = 0.03", or "p < 0.001"."""
    return (
        "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"
        if value < 0.001
        else f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{value:.2g}"
    )


def times(ratio: float | None) -> str:
    """A ratio as "1.8 ×"; a dash where it is not known."""
    if ratio is None:
        return "–"
    return f"{ratio:.1f}\N{NO-BREAK SPACE}×" if ratio < 10 else f"{ratio:.0f}\N{NO-BREAK SPACE}×"


def count(value: float | None) -> str:
    """A mean number of things: whole, or with a decimal where that says more; a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def listed(parts: Sequence[str]) -> str:
    """Things in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def length(value: float | None) -> str:
    """A distance in two significant digits; a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:.2g}" if 0.001 <= value < 100 else f"{value:.0f}" if value >= 100 else f"{value:.3f}"
