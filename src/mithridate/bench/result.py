"""What was found: of a case, of a growth, or why there is nothing; and each of them as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mithridate.bench.case import Figure, Limit
from mithridate.bench.fit import Fitted

PLAIN = "plain"
"""What the plain form is called in results."""
Ceilings = Mapping[Limit, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One form of a case."""

    first_seconds: float
    """The first call, with compiling."""
    calls: int
    """Calls a round."""
    round_seconds: tuple[float, ...]
    """Seconds a call, for each round; in the same rounds as the other forms."""
    accuracy: tuple[Figure, ...] = ()
    work: float | None = None
    """GFLOP, or GB where the limit is copy, a call."""
    limit: Limit = "conv fp32"
    peak_bytes: int | None = None
    """Memory that a call needs above what is held before it; None where it was not measured."""
    kept_bytes: int | None = None
    """Memory that the form keeps between calls."""

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.round_seconds)

    @property
    def compile_seconds(self) -> float:
        """How much longer the first call took."""
        return max(0.0, self.first_seconds - self.median)

    @property
    def speed(self) -> float | None:
        """GFLOP/s, or GB/s."""
        return None if self.work is None else self.work / self.median


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster (or lighter) than the plain form."""

    middle: float
    """The median over rounds of seconds plain / seconds, both of one round."""
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CaseFound:
    """A case that was measured."""

    name: str
    about: str
    size: Mapping[str, int]
    forms: Mapping[str, Measured]
    """``plain`` and the fast ones."""
    absent: Mapping[str, str] = field(default_factory=dict)
    untimed: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)
    """The accuracy of forms that were not timed: a quick run times those alone of which a ratio is asked."""
    foreign: float | None = None
    """The share of the processor that others used during the rounds, in [0, 1]."""
    items: str | None = None
    must: Mapping[str, float] = field(default_factory=dict)
    stretch: Mapping[str, float] = field(default_factory=dict)
    lighter: Mapping[str, float] = field(default_factory=dict)
    tries: int = 1
    """How often it was measured: again where a ratio was too low, in case others were using the machine."""
    code: str = ""
    """The version of all code that the case can reach."""

    @property
    def fast(self) -> Mapping[str, Measured]:
        """All forms but the plain one."""
        return {name: form for name, form in self.forms.items() if name != PLAIN}

    def faster(self, form: str) -> Ratio:
        """How many times faster a form is than the plain one, paired by round."""
        pairs = zip(self.forms[PLAIN].round_seconds, self.forms[form].round_seconds, strict=True)
        ratios = [slow / max(quick, 1e-12) for slow, quick in pairs]
        return Ratio(middle=statistics.median(ratios), low=min(ratios), high=max(ratios))

    def spared(self, form: str) -> float | None:
        """How many times less memory a form needs than the plain one; None where that was not measured."""
        plain, ours = self.forms[PLAIN].peak_bytes, self.forms[form].peak_bytes
        return None if plain is None or ours is None else plain / max(ours, 1)

    def rate(self, form: str) -> float | None:
        """Items a second."""
        return self.size[self.items] / self.forms[form].median if self.items else None


@dataclass(frozen=True, kw_only=True)
class GrowthFound:
    """A growth that was measured."""

    name: str
    about: str
    parameter: str
    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    """Median seconds, or bytes."""
    measures: str
    exponent: float
    """Expected."""
    tolerance: float
    fitted: Fitted
    foreign: float | None = None
    tries: int = 1
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """A case or growth of which there is nothing."""

    name: str
    why: str
    failed: bool
    """Whether it broke; otherwise something is missing here."""


Found = CaseFound | GrowthFound | Unmeasured


def as_json(found: Found, ceilings: Ceilings) -> dict[str, Any]:
    """All that is known, and what follows from it; floats to five digits."""
    told = asdict(found)
    if isinstance(found, CaseFound):
        for name in found.forms:
            told["forms"][name] |= _derived(found, name, ceilings)
        told["kind"], told["rounds"] = "case", len(found.forms[PLAIN].round_seconds)
    else:
        told["kind"] = "growth" if isinstance(found, GrowthFound) else "unmeasured"
    rounded: dict[str, Any] = _rounded(told)
    return rounded


def from_json(told: Mapping[str, Any]) -> Found:
    """What :func:`as_json` wrote. Raises ``ValueError`` (of pydantic) or ``KeyError`` for anything else."""
    from pydantic import TypeAdapter

    kinds: dict[str, Any] = {"case": CaseFound, "growth": GrowthFound, "unmeasured": Unmeasured}
    found: Found = TypeAdapter(kinds[told["kind"]]).validate_python(told)
    return found


def _derived(found: CaseFound, name: str, ceilings: Ceilings) -> dict[str, Any]:
    form = found.forms[name]
    ratio, speed = found.faster(name), form.speed
    ceiling = ceilings.get(form.limit)
    return {
        "median_seconds": form.median,
        "min_seconds": min(form.round_seconds),
        "compile_seconds": form.compile_seconds,
        "times_faster": None if name == PLAIN else ratio.middle,
        "times_faster_range": None if name == PLAIN else [ratio.low, ratio.high],
        "times_lighter": None if name == PLAIN else found.spared(name),
        "items_per_second": found.rate(name),
        "work_per_second": speed,
        "share_of_limit": None if speed is None or not ceiling else speed / ceiling,
        "accuracy": [{**asdict(each), "holds": each.holds} for each in form.accuracy],
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value
