"""How often each interval of the statistics holds the truth: python benchmarks/interval_coverage.py [--out F].

Every line draws 10 000 samples from a known distribution and counts how many of their 95 % intervals hold the true
value; a confidence sequence counts only where it does so after every trial. A count itself is uncertain by 0.4 points.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import scipy
from scipy.stats import beta

from mithridate.intervals import Array, Method, bounds
from mithridate.pairing import bootstrap
from mithridate.sequential import confidence_sequence, wealth_paths
from mithridate.stats import differences, mean_interval, rates

DRAWS = 10_000
LOW, HIGH = 0.935, 0.97
"""Between which coverage is as it should be."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    interval: str
    case: str
    coverage: float
    width: float
    """Mean width of the intervals."""

    @property
    def said(self) -> str:
        """Whether it lies where it should."""
        return "too low" if self.coverage < LOW else "above" if self.coverage > HIGH else ""


def line(interval: str, case: str, truth: float, low: Array, high: Array) -> Line:
    """Count the intervals that hold the truth."""
    held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return Line(interval=interval, case=case, coverage=float(held.mean()), width=float((high - low).mean()))


def binomial(method: Method, n: int, rate: float, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """One victim a trial."""
    hits = np.random.default_rng([seed, n, round(1000 * rate)]).binomial(n, rate, draws)
    low, high = bounds(hits / n, float(n), method=method)
    return line(method, f"n={n}, rate={rate}", rate, low, high)


def over_rates(method: Method, n: int, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """One victim a trial, the true rate drawn from all of [0.02, 0.98]: how the interval does on average."""
    source = np.random.default_rng([seed, n])
    truth = source.uniform(0.02, 0.98, draws)
    low, high = bounds(source.binomial(n, truth) / n, float(n), method=method)
    held = (low <= truth) & (truth <= high)
    return Line(method, f"n={n}, rates of 0.02-0.98", float(held.mean()), float((high - low).mean()))


def clusters(trials: int, victims: int, rate: float, icc: float, draws: int, seed: int) -> Array:
    """Hits ``(draws, trials, victims)``: beta-binomial trials with this intraclass correlation."""
    source = np.random.default_rng([seed, trials, victims, round(1000 * rate), round(1000 * icc)])
    if icc == 0:
        own = np.full((draws, trials), rate)
    elif icc == 1:
        own = (source.random((draws, trials)) < rate).astype(np.float64)
    else:
        alike = 1 / icc - 1
        own = source.beta(alike * rate, alike * (1 - rate), (draws, trials))
    return source.binomial(1, np.repeat(own[:, :, None], victims, 2)).astype(np.float64)


def clustered(
    method: Method, trials: int, victims: int, rate: float, icc: float, *, draws: int = DRAWS, seed: int = 0
) -> Line:
    """Several victims a trial."""
    _, low, high = rates(clusters(trials, victims, rate, icc, draws, seed), method=method)
    return line(f"clustered {method}", f"{trials} x {victims}, rate={rate}, icc={icc}", rate, low, high)


def two_kinds(
    method: Method, trials: int, victims: int, share: float, other: float, *, draws: int = DRAWS, seed: int = 0
) -> Line:
    """A share of trials is always hit, the others at a rate of their own: what few hits cannot show."""
    _, low, high = rates(kinds(trials, victims, share, other, draws, seed), method=method)
    case = f"{trials} x {victims}, {share} of trials always, else {other}"
    return line(f"clustered {method}", case, share + (1 - share) * other, low, high)


def kinds(trials: int, victims: int, share: float, other: float, draws: int, seed: int) -> Array:
    """Hits ``(draws, trials, victims)`` of two kinds of trials."""
    source = np.random.default_rng([seed, trials, victims, round(1000 * share), round(1000 * other)])
    own = np.where(source.random((draws, trials)) < share, 1.0, other)
    return source.binomial(1, np.repeat(own[:, :, None], victims, 2)).astype(np.float64)


def gated(trials: int, victims: int, rate: float, icc: float, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """The one-sided upper bound of a gate, which counts trials alone."""
    return upper(clusters(trials, victims, rate, icc, draws, seed), f"rate={rate}, icc={icc}", rate)


def gated_kinds(trials: int, victims: int, share: float, other: float, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """The same of two kinds of trials."""
    hits = kinds(trials, victims, share, other, draws, seed)
    return upper(hits, f"{share} of trials always, else {other}", share + (1 - share) * other)


def upper(hits: Array, case: str, truth: float) -> Line:
    """The upper bound of :func:`mithridate.report.bounding.success_bounds` at 95 %."""
    trials, victims = hits.shape[1:]
    high = bounds(hits.mean((1, 2)), float(trials), confidence=0.9, method="exact")[1]
    return line("gate, one-sided", f"{trials} x {victims}, {case}", truth, np.zeros(len(hits)), high)


def naive(trials: int, victims: int, rate: float, icc: float, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """The same with every victim counted as independent: what not to do."""
    hits = clusters(trials, victims, rate, icc, draws, seed)
    low, high = bounds(hits.mean((1, 2)), float(trials * victims))
    return line("naive wilson", f"{trials} x {victims}, rate={rate}, icc={icc}", rate, low, high)


def student(trials: int, kind: str, *, draws: int = DRAWS, seed: int = 0) -> Line:
    """Means of one real value a trial."""
    source = np.random.default_rng([seed, trials])
    size = (draws, trials)
    drawn = source.normal(0.2, 0.03, size) if kind == "normal" else source.beta(2, 8, size)
    found = [mean_interval(list(values)) for values in drawn]
    low, high = (np.array([getattr(each, name) for each in found]) for name in ("low", "high"))
    return line("Student's t", f"{trials} trials, {kind}", 0.2, low, high)


def pairs(trials: int, victims: int, first: float, second: float, alike: float, draws: int, seed: int) -> list[Array]:
    """Two sides over the same trials; a trial that is hard for one is for the other. ``alike`` 0: independent."""
    source = np.random.default_rng([seed, trials, victims, round(100 * first), round(100 * second)])
    hard = source.random((draws, trials))
    sides = []
    for rate in (first, second):
        own = beta.ppf(hard, alike * rate, alike * (1 - rate)) if alike else np.full(hard.shape, rate)
        sides.append(source.binomial(1, np.repeat(own[:, :, None], victims, 2)).astype(np.float64))
    return sides


def paired(
    trials: int, victims: int, first: float, second: float, alike: float, *, draws: int = DRAWS, seed: int = 0
) -> Line:
    """The difference of two rates over the same trials."""
    _, low, high = differences(*pairs(trials, victims, first, second, alike, draws, seed))
    case = f"{trials} x {victims}, {first} less {second}, {'independent' if not alike else f'alike {alike}'}"
    return line("paired difference", case, first - second, low, high)


def bootstrapped(trials: int, first: float, second: float, *, draws: int = 1000, seed: int = 0) -> Line:
    """The same by BCa bootstrap of the trials; 1000 samples, because each draws 1000 times itself."""
    one, two = pairs(trials, 1, first, second, 2.0, draws, seed)
    gaps = one.mean(-1) - two.mean(-1)
    found = [bootstrap(list(each), seed=k, draws=1000) for k, each in enumerate(gaps)]
    low, high = (np.array([getattr(each, name) for each in found]) for name in ("low", "high"))
    return line("paired bootstrap", f"{trials} x 1, {first} less {second}, alike 2.0", first - second, low, high)


def looked_at_often(rate: float, victims: int, *, trials: int = 200, draws: int = DRAWS, seed: int = 0) -> Line:
    """A confidence sequence looked at after every trial: it holds only where it always held. Icc 0.3."""
    hits = clusters(trials, victims, rate, 0.3 if victims > 1 else 0.0, draws, seed).mean(-1)
    held, widths = always_held(hits, rate)
    case = f"1-{trials} trials x {victims}, rate={rate}"
    return Line("confidence sequence", case, float(held.mean()), float(widths.mean()))


def always_held(values: Array, truth: float) -> tuple[Array, Array]:
    """Whether the true mean was in the interval after every trial, and the last widths; ``values`` ``(draws, trials)``.

    The gambler's money against the truth alone says so: :func:`mithridate.sequential.wealth_paths`.
    """
    paths = wealth_paths(values, truth)
    widths = [confidence_sequence(list(each)).width for each in values[:50]]
    return paths.max(1) < 20, np.array(widths)


def stopped(rate: float, width: float, *, ceiling: int = 400, draws: int = 300, seed: int = 0) -> Line:
    """What ``--until-width`` reports: the interval at the first whole block where it is narrow enough."""
    source = np.random.default_rng([seed, round(1000 * rate)])
    low, high = [], []
    for _ in range(draws):
        values = list(source.binomial(1, rate, ceiling).astype(float))
        found = next(
            (each for k in range(5, ceiling + 1, 5) if (each := confidence_sequence(values[:k])).width <= width), None
        )
        found = found or confidence_sequence(values)
        low.append(found.low)
        high.append(found.high)
    return line("stopped at width", f"{width}, rate={rate}, at most {ceiling}", rate, np.array(low), np.array(high))


def clustered_lines(methods: tuple[Method, ...]) -> Iterator[Line]:
    """Several victims a trial: at a rate of 40 %, at low ones, of two kinds of trials, and before the gate."""
    sizes = ((5, 2), (5, 8), (10, 4), (20, 2), (20, 8), (50, 4), (100, 8))
    few = ((10, 2), (10, 8), (10, 20), (20, 2), (20, 8), (20, 20), (30, 2), (30, 20), (100, 4))
    for method in methods:
        for size, icc in product(sizes, (0.0, 0.2, 0.5, 0.9)):
            yield clustered(method, *size, 0.4, icc)
        for size, rate, icc in product(few, (0.05, 0.1), (0.2, 0.5, 0.9)):
            yield clustered(method, *size, rate, icc)
        for size, shares in product(((20, 8), (20, 20), (30, 20)), ((0.05, 0.003), (0.1, 0.01), (0.05, 0.02))):
            yield two_kinds(method, *size, *shares)
    for size, rate, icc in product(((10, 20), (20, 8), (20, 20), (40, 5), (60, 4)), (0.05, 0.2), (0.0, 0.2, 0.5, 0.9)):
        yield gated(*size, rate, icc)
    for size, shares in product(((20, 8), (20, 20), (30, 20)), ((0.05, 0.003), (0.1, 0.01), (0.05, 0.02))):
        yield gated_kinds(*size, *shares)


def table() -> Iterator[Line]:
    """Every line."""
    methods: tuple[Method, ...] = ("wilson", "exact")
    for method in methods:
        for n in (5, 10, 20, 50, 100):
            for rate in (0.02, 0.1, 0.3, 0.5, 0.9):
                yield binomial(method, n, rate)
            yield over_rates(method, n)
    yield from clustered_lines(methods)
    yield from (naive(trials, 4, 0.4, 0.5) for trials in (10, 100))
    yield from (student(trials, kind) for kind in ("normal", "beta(2, 8)") for trials in (3, 5, 10, 30))
    for trials, victims in ((5, 1), (10, 1), (10, 2), (20, 1), (20, 4), (100, 1)):
        for first, second, alike in ((0.7, 0.1, 0.0), (0.7, 0.1, 1.0), (0.5, 0.5, 0.0), (0.5, 0.4, 1.0)):
            yield paired(trials, victims, first, second, alike)
    yield from (bootstrapped(trials, 0.7, 0.3) for trials in (5, 10, 20, 50))
    yield from (looked_at_often(rate, victims) for victims in (1, 4) for rate in (0.05, 0.3, 0.5))
    yield from (stopped(rate, 0.2) for rate in (0.05, 0.5))


def main() -> None:
    """Print the table, and write it with the versions that made it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the table as JSON")
    out: Path | None = parser.parse_args().out
    start, lines = time.perf_counter(), []
    print(f"{'interval':22} {'case':46} {'coverage':>9} {'width':>6}")
    for each in table():
        lines.append(each)
        print(f"{each.interval:22} {each.case:46} {each.coverage:9.2%} {each.width:6.3f} {each.said}", flush=True)
    if out:
        made = {"command": " ".join(sys.argv), "python": platform.python_version(), "numpy": np.__version__}
        made |= {"scipy": scipy.__version__, "seconds": str(round(time.perf_counter() - start))}
        found = {"made": made, "nominal": 0.95, "draws": DRAWS, "lines": [asdict(each) for each in lines]}
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
