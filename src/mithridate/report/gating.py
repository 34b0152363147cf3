"""A gate for pipelines: whether a run shows that poison stays below a limit, exceeds it, or cannot tell.

Every bound is one-sided and holds by itself. The gate passes only where every cell does, so that one cell above its
limit keeps it shut: it lets such a run pass with a chance of at most 1 - confidence, however many cells there are, and
the upper bounds need no correction for their number (an intersection-union test: Berger 1982). That some cell exceeds
a limit is claimed where any does, so the lower bounds are corrected for the number of cells times that of limits
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mithridate.errors import ConfigError
from mithridate.halting import enough
from mithridate.report.before_gate import before_gate
from mithridate.report.bounding import (
    Bounded,
    accuracy_bounds,
    rise_bounds,
    success_bounds,
    trials_by_spread,
    trials_to_pass,
)
from mithridate.report.combinations import Cell, cells, same_attack
from mithridate.report.load import Run, read
from mithridate.report.stopped import stopping
from mithridate.report.verdict import standing
from mithridate.report.words import fine, plural, signed
from mithridate.store import Store

Outcome = Literal["passed", "exceeded", "unknown"]
"""``unknown``: cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run must keep to."""

    max_success: float | None = None
    """The highest rate of success of the poisoner, in [0, 1]."""
    max_rise: float | None = None
    """The highest rise of the error over clean data, in [0, 1]: for attacks that degrade."""
    min_accuracy: float | None = None
    """The lowest mean accuracy on clean test data of poisoned victims, in [0, 1]."""
    confidence: float = 0.95
    """Of every bound, one-sided, in (0.5, 1)."""
    allow_unlanded: bool = False
    """Let a defense pass though the attack it met did not land without it: such a pass says nothing of the defense."""

    @property
    def count(self) -> int:
        """How many limits there are."""
        return sum(limit is not None for limit in (self.max_success, self.max_rise, self.min_accuracy))

    def __post_init__(self) -> None:
        """Refuse no limit, and limits that are no shares."""
        limits = {"--max-success": self.max_success, "--max-rise": self.max_rise, "--min-accuracy": self.min_accuracy}
        if all(limit is None for limit in limits.values()):
            raise ConfigError("a gate needs a limit: --max-success 0.05, --max-rise 0.05 or --min-accuracy 0.8")
        for name, limit in limits.items():
            if limit is not None and not 0 <= limit <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, but it is {limit:g}")
        if not 0.5 < self.confidence < 1:
            raise ConfigError(f"--confidence must lie between 0.5 and 1 (0.95), but it is {self.confidence:g}")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit on one cell."""

    what: str
    """``success``, ``rise`` or ``accuracy``."""
    limit: float
    outcome: Outcome
    bounded: Bounded | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Gated:
    """One cell before the gate."""

    attack: str
    scenario: str
    victim: str
    defense: str
    checks: tuple[Check, ...]
    outcome: Outcome
    sentence: str

    @property
    def name(self) -> str:
        """Where it stands in the grid."""
        return f"{self.attack}, {self.scenario}, {self.victim}, {self.defense}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The gate over all its cells."""

    folder: Path
    limits: Limits
    outcome: Outcome
    cells: tuple[Gated, ...]
    unfinished: str = field(default="")
    """Why the run as a whole cannot pass; empty where all of it is done."""

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        count = plural(len(self.cells), "cell")
        if self.outcome == "passed":
            return f"Passed: all of {count} keep to the limits, with {_confidence(self.limits)} confidence."
        bad = [each for each in self.cells if each.outcome == self.outcome]
        if self.outcome == "exceeded":
            return f"Exceeded: {len(bad)} of {count} break a limit, with {_confidence(self.limits)} confidence."
        if self.unfinished:
            return f"Cannot tell: {self.unfinished}."
        return f"Cannot tell: {len(bad)} of {count} {'is' if len(bad) == 1 else 'are'} open, as said of each."


def gate(folder: Path, limits: Limits, *, attack: str | None = None, defense: str | None = None) -> Gate:
    """Judge the run in ``folder``: its defended cells, or the undefended ones where it has no defense.

    ``attack`` and ``defense`` choose among them by name (``none``: the undefended). Controls, attacks that are mere
    baselines, and defenses that use what no defender can know stand before the gate only where they are named; an
    attack that was told what no attacker can know always does, since it hits the more.

    A run whose jobs failed before there was any cell cannot be told of, as any other with failed jobs.

    Raises :class:`StoreError` where there is no run, :class:`ConfigError` where nothing fits.
    """
    run = read(folder)
    _check_fits(run, limits)
    every = cells(run)
    wanted = before_gate(run, every, attack, defense) if every or not run.failures else []
    found = tuple(_gated(run, each, every, limits, len(wanted) * limits.count) for each in wanted)
    unfinished = _unfinished(folder, run)
    outcomes = {each.outcome for each in found} | ({"unknown"} if unfinished else set())
    outcome: Outcome = "exceeded" if "exceeded" in outcomes else "unknown" if "unknown" in outcomes else "passed"
    return Gate(folder=Path(folder), limits=limits, outcome=outcome, cells=found, unfinished=unfinished)


def _check_fits(run: Run, limits: Limits) -> None:
    if run.degradation and limits.max_success is not None:
        raise ConfigError(
            "this attack degrades: its success is a share of test rows that is never 0; limit its rise with --max-rise"
        )
    if not run.degradation and limits.max_rise is not None:
        raise ConfigError("--max-rise is for attacks that degrade, which this is not; use --max-success")


def _unfinished(folder: Path, run: Run) -> str:
    """Why a run cannot pass as a whole; empty where it can."""
    if run.failures:
        return f"{plural(len(run.failures), 'job')} of this run failed; try them again with: mithridate retry {folder}"
    with Store(folder) as store:
        (jobs, left), known = store.queue.count(), enough(store)
    if not jobs and run.planned:
        jobs, left = run.planned, max(0, run.planned - run.done)
    if left and not known:
        return f"{left} of {plural(jobs, 'job')} are not done; go on with this run first"
    return ""


def _gated(run: Run, cell: Cell, every: Sequence[Cell], limits: Limits, count: int) -> Gated:
    found = tuple(_checks(run, cell, limits, count))
    outcomes = [each.outcome for each in found]
    reasons = [each.sentence for each in found]
    outcome: Outcome = "exceeded" if "exceeded" in outcomes else "unknown" if "unknown" in outcomes else "passed"
    unlanded = _unlanded(cell, every) if outcome == "passed" and not limits.allow_unlanded else ""
    if unlanded:
        outcome, reasons = "unknown", [*reasons, unlanded]
    return Gated(
        attack=cell.attack,
        scenario=cell.scenario,
        victim=cell.victim,
        defense=cell.defense,
        checks=found,
        outcome=outcome,
        sentence=" ".join(reasons),
    )


def _unlanded(cell: Cell, every: Sequence[Cell]) -> str:
    """Why a pass would say nothing of the defense; empty where the attack has landed without it."""
    if cell.defense == "none":
        return ""
    plain = next((each for each in same_attack(every, cell) if each.defense == "none" and each.poisoned), None)
    if plain is None:
        return "The attack was not run without a defense, so a pass would say nothing of this one."
    if standing(plain) != "landed":
        return "Without a defense the attack has not clearly landed, so a pass would say nothing (--allow-unlanded)."
    return ""


def _checks(run: Run, cell: Cell, limits: Limits, count: int) -> Iterator[Check]:
    """Each limit on one cell, of ``count`` checks in all."""
    above, below = limits.confidence, 1 - (1 - limits.confidence) / count
    if not cell.poisoned:
        wanted = {"success": limits.max_success, "rise": limits.max_rise, "accuracy": limits.min_accuracy}
        for what, limit in wanted.items():
            if limit is not None:
                yield _not_measured(what, limit, "no poisoned network was judged")
        return
    if limits.max_success is not None:
        bounded = success_bounds(cell, stopping(run.sequential), below=below, above=above)
        yield _at_most("success", limits.max_success, bounded, limits)
    if limits.max_rise is not None:
        rise = rise_bounds(cell, stopping(run.sequential), below=below, above=above)
        yield (
            _at_most("rise", limits.max_rise, rise, limits)
            if rise
            else _not_measured("rise", limits.max_rise, "no victim was judged on clean data")
        )
    if limits.min_accuracy is not None:
        looked = stopping(run.sequential)
        accuracy = accuracy_bounds(cell, looked, below=above, above=below)  # here the lower bound lets pass
        yield (
            _at_least(limits.min_accuracy, accuracy, limits)
            if accuracy
            else _not_measured("accuracy", limits.min_accuracy, "accuracy on clean data was not measured")
        )


def _not_measured(what: str, limit: float, why: str) -> Check:
    return Check(what=what, limit=limit, outcome="unknown", bounded=None, sentence=f"{what.capitalize()}: {why}.")


def _at_most(what: str, limit: float, found: Bounded, limits: Limits) -> Check:
    """A limit from above."""
    outcome: Outcome = "passed" if found.high <= limit else "exceeded" if found.low > limit else "unknown"
    share = _points if what == "rise" else fine
    text = f"{what.capitalize()} {share(found.mean)} in {plural(found.trials, 'trial')}, "
    if outcome == "exceeded":
        text += f"at least {share(found.low)}: above the limit of {share(limit)}."
    else:
        said = "within" if outcome == "passed" else "which may be above"
        text += f"at most {share(found.high)}, {said} the limit of {share(limit)}."
    if outcome == "unknown":
        text += _needed(what, limit, found, limits)
    return Check(what=what, limit=limit, outcome=outcome, bounded=found, sentence=text)


def _needed(what: str, limit: float, found: Bounded, limits: Limits) -> str:
    """How many trials would tell, where the mean stays as it is."""
    if found.mean >= limit:
        return " More trials at this mean would not bring it below the limit."
    if what == "success":
        return _in_all(trials_to_pass(found, limit, confidence=limits.confidence))
    return _in_all(trials_by_spread(found, limit - found.mean, 1 - found.mean, confidence=limits.confidence))


def _in_all(trials: int | None) -> str:
    return " More trials would tell." if trials is None else f" It would take about {trials} trials, if all stays so."


def _at_least(limit: float, found: Bounded, limits: Limits) -> Check:
    """A limit from below."""
    outcome: Outcome = "passed" if found.low >= limit else "exceeded" if found.high < limit else "unknown"
    text = f"Accuracy {fine(found.mean)} in {plural(found.trials, 'trial')}, "
    if outcome == "exceeded":
        text += f"at most {fine(found.high)}: below the limit of {fine(limit)}."
    else:
        said = "above" if outcome == "passed" else "which may be below"
        text += f"at least {fine(found.low)}, {said} the limit of {fine(limit)}."
    if outcome == "unknown" and found.mean > limit:
        needed = trials_by_spread(found, found.mean - limit, found.mean, confidence=limits.confidence)
        text += _in_all(needed)
    return Check(what="accuracy", limit=limit, outcome=outcome, bounded=found, sentence=text)


def _points(share: float) -> str:
    return f"{signed(100 * share, 1)} points"


def _confidence(limits: Limits) -> str:
    return f"{100 * limits.confidence:.3g}\N{NO-BREAK SPACE}%"
