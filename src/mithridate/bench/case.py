"""What is measured: a case (a plain form, fast forms, their accuracy) and a growth (how cost grows with one size)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from mithridate.errors import ConfigError, nearest

Limit = Literal["conv fp32", "conv bf16", "matmul fp32", "copy"]
"""A ceiling of the machine, measured before the cases: GFLOP/s, or GB/s for ``copy``."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a form's accuracy, with what is asked of it."""

    name: str
    """What it is, e.g. "cosine to float64"."""
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is as asked; a number that is not finite never is, where anything is asked."""
        above = self.at_least is None or self.value >= self.at_least
        below = self.at_most is None or self.value <= self.at_most
        return above and below

    def sentence(self) -> str:
        """What it is and what was asked: "cosine is 0.98, but must be at least 0.999"."""
        asked = [
            f"at {word} {bound:g}"
            for word, bound in (("least", self.at_least), ("most", self.at_most))
            if bound is not None
        ]
        return f"{self.name} is {self.value:.6g}" + (f", but must be {' and '.join(asked)}" if not self.holds else "")


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way of computing a case, prepared: ``run`` may be called any number of times, and does the same each time."""

    run: Callable[[], object]
    """The first call may compile or fill caches: it is timed apart. What it returns is thrown away."""
    work: float | None = None
    """What a call needs: GFLOP counted in the form's own units (2 a multiply-add); GB moved where the limit is copy."""
    limit: Limit = "conv fp32"
    """The ceiling that ``work`` a second is compared with."""


@dataclass(frozen=True, kw_only=True)
class Forms:
    """A case made ready, in the process that measures it."""

    plain: Form
    """What a straightforward peer does: from ``mithridate.bench.plain``."""
    fast: Mapping[str, Form]
    """Ours, by name (a backend, an engine, a recipe)."""
    accuracy: Callable[[], Mapping[str, Sequence[Figure]]]
    """The figures of each fast form (and of ``plain`` where that says something); called once, outside the clock."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Forms that cannot run here, with the reason: ``{"numba": "numba is not installed"}``."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison. Light: everything that costs anything happens in ``prepare``."""

    name: str
    """Path, network or kind, and size: ``gm-step/convnet/P100``. The path is the group."""
    about: str
    """One line for people: what is computed, and what the plain form is."""
    size: Mapping[str, int]
    """Plain numbers: poisons, rows, classes, networks, batch, steps, ..."""
    prepare: Callable[[Mapping[str, int]], Forms]
    """Makes the forms for a size, with torch's current number of threads. Raises :class:`MithridateError` with a
    sentence where something is missing (data, an extra): the case is then skipped, and the sentence shown."""
    tiny: Mapping[str, int] | None = None
    """A size at which the tests check the accuracy in under a second; default: ``size``."""
    items: str | None = None
    """The size of which ``size[items]`` are done a call, for a rate: "images" gives images/s."""
    must: Mapping[str, float] = field(default_factory=dict)
    """Fast form -> how many times faster than plain it must be; ``--check`` fails under 70 % of it."""
    stretch: Mapping[str, float] = field(default_factory=dict)
    """Fast form -> how many times faster it may get."""
    lighter: Mapping[str, float] = field(default_factory=dict)
    """Fast form -> by what factor its peak memory must be lower than plain's; checked as ``must`` is."""
    quick: bool = False
    """Whether it belongs to the 60-second subset of CI: a round of all its forms takes well under a second."""

    @property
    def group(self) -> str:
        """The path it belongs to: what stands before the first slash of its name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How seconds (or peak memory) grow with one size: an exponent is fitted, and compared in full runs."""

    name: str
    """As a case's: ``gm-step/growth/poisons``."""
    about: str
    parameter: str
    """What grows: "poisons", "rows", ..."""
    sizes: Sequence[int]
    """At least four, from small to large."""
    prepare: Callable[[int], Callable[[], object]]
    """What is measured, made ready for one size; as a form's ``run``."""
    exponent: float
    """Expected: cost ~ size ** exponent."""
    tolerance: float = 0.15
    """How far from the expected exponent the fitted one's interval may stay."""
    measures: Literal["seconds", "memory"] = "seconds"
    tiny: Sequence[int] | None = None
    """Sizes for the tests; default: the first two."""

    @property
    def group(self) -> str:
        """The path it belongs to."""
        return self.name.partition("/")[0]


@cache
def cases() -> Mapping[str, Case | Growth]:
    """Every case and growth of :mod:`mithridate.bench.cases`, by name, module after module."""
    from mithridate.bench import cases as folder

    found: dict[str, Case | Growth] = {}
    for each in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        for case in importlib.import_module(f"{folder.__name__}.{each}").CASES:
            assert case.name not in found, f"two cases are called {case.name}"
            found[case.name] = case
    return found


def chosen(names: Sequence[str], known: Mapping[str, Case | Growth]) -> list[Case | Growth]:
    """The cases so called, or whose names begin so up to a slash, in the order of ``known``; all where none is named.

    Raises :class:`ConfigError` for a name that is no case's and begins none.
    """
    for name in names:
        if not any(_is(name, each) for each in known):
            groups = {each.partition("/")[0] for each in known}
            raise ConfigError(f"there is no case '{name}': {nearest(name, [*known, *groups])}")
    return [case for name, case in known.items() if not names or any(_is(each, name) for each in names)]


def _is(asked: str, name: str) -> bool:
    return name == asked or name.startswith(asked.rstrip("/") + "/")
