"""What was found, in words: one line for a pipe, the cells of one row for a terminal."""

from __future__ import annotations

from mithridate.bench.case import Limit
from mithridate.bench.result import PLAIN, CaseFound, Ceilings, Found, GrowthFound, Unmeasured

COLUMNS = ("case", "form", "seconds", "faster", "rate", "of the limit", "memory", "accuracy")
BUSY = 0.05
"""The share of the processor used by others from which a case is marked."""


def line(found: Found, ceilings: Ceilings, *, known: bool = False) -> str:
    """One line, however long."""
    if isinstance(found, Unmeasured):
        return f"{found.name}: {'FAILED' if found.failed else 'skipped'}: {found.why}"
    if isinstance(found, GrowthFound):
        return f"{found.name}: {growth(found)}{_aside(found, known)}"
    told = [f"plain {seconds(found.forms[PLAIN].median)}"]
    told += [", ".join(each for each in _cells(found, name, ceilings)[1:] if each) for name in found.fast]
    told = [told[0], *(f"{name} {each}" for name, each in zip(found.fast, told[1:], strict=True))]
    told += [f"{name} not measured: {why}" for name, why in found.absent.items()]
    return f"{found.name}: {'; '.join(told)}{_aside(found, known)}"


def rows(found: Found, ceilings: Ceilings, *, known: bool = False) -> list[tuple[str, ...]]:
    """Rows of a table with :data:`COLUMNS`: a line for every form, or one that says what there is instead."""
    empty = ("",) * (len(COLUMNS) - 3)
    if isinstance(found, Unmeasured):
        return [(found.name, "", "FAILED" if found.failed else "skipped", *empty[1:], found.why)]
    if isinstance(found, GrowthFound):
        return [(found.name, "", *empty, growth(found) + _aside(found, known))]
    made = [("", *_cells(found, name, ceilings)) for name in found.forms]
    made[0] = (found.name, *made[0][1:-1], (made[0][-1] + _aside(found, known)).lstrip("; "))
    return made + [("", name, "", *empty[1:], why) for name, why in found.absent.items()]


def seconds(value: float) -> str:
    """A time with three digits: 0.27 ms."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{_digits(value * factor)} {unit}"
    raise AssertionError


def size(value: float) -> str:
    """Bytes in MiB, or kiB where there are few."""
    return f"{_digits(value / 2**20)} MiB" if value >= 2**20 else f"{_digits(value / 2**10)} kiB"


def speed(value: float, limit: Limit) -> str:
    """Work a second."""
    return f"{_digits(value)} {'GB' if limit == 'copy' else 'GFLOP'}/s"


def growth(found: GrowthFound) -> str:
    """The fitted exponent, its interval and what is expected."""
    fit = found.fitted
    ends = [seconds(each) if found.measures == "seconds" else size(each) for each in (found.costs[0], found.costs[-1])]
    return (
        f"{found.measures} ~ {found.parameter} ^ {fit.exponent:.2f} [{fit.low:.2f}, {fit.high:.2f}] "
        f"(expected {found.exponent:g} within {found.tolerance:g}); "
        f"{ends[0]} at {found.sizes[0]:,}, {ends[1]} at {found.sizes[-1]:,}"
    )


def _cells(found: CaseFound, name: str, ceilings: Ceilings) -> tuple[str, ...]:
    """Form, seconds, ratio with range and what it must be, rate, share of the limit, memory, accuracy."""
    form, rate, ratio = found.forms[name], found.rate(name), found.faster(name)
    spared, ceiling, work = found.spared(name), ceilings.get(form.limit), form.speed
    faster = f"{_digits(ratio.middle)}x ({_digits(ratio.low)}-{_digits(ratio.high)})"
    must = f", must {found.must[name]:g}x" if name in found.must else ""
    memory = "" if form.peak_bytes is None else size(form.peak_bytes)
    lighter = "" if spared is None or name == PLAIN else f" ({_digits(spared)}x less)"
    compiled = f" + {seconds(form.compile_seconds)} once" if form.compile_seconds > 1 else ""
    return (
        name,
        seconds(form.median) + compiled,
        "" if name == PLAIN else faster + must,
        (f"{rate:,.0f} {found.items}/s" if rate is not None else "")
        or ("" if work is None else speed(work, form.limit)),
        "" if work is None or not ceiling else f"{work / ceiling:.0%} of {form.limit}",
        memory + lighter,
        "; ".join(each.sentence() for each in form.accuracy),
    )


def _aside(found: CaseFound | GrowthFound, known: bool) -> str:
    """What a reader should know of how it was measured."""
    told = ["known already"] if known else []
    told += [f"measured {found.tries} times: too slow at first"] if found.tries > 1 else []
    if found.foreign is not None and found.foreign > BUSY:
        told += [f"others used {found.foreign:.0%} of the processor"]
    return f"; {'; '.join(told)}" if told else ""


def _digits(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
