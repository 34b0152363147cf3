"""Numbers as readers expect them: shares, intervals, durations, sizes and class names in running text."""

from __future__ import annotations

from mithridate.stats import Estimate


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


def duration(seconds: float) -> str:
    """Seconds as "48 s", "3 min 12 s" or "2 h 5 min"."""
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
