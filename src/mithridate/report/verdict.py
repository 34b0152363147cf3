"""The verdict in words: what the poisoner got, what happens without him, and whether the difference is evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mithridate.power import sentence
from mithridate.report import beside, stopped
from mithridate.report.combinations import Cell, accuracy, by_trial, cells, chosen, success
from mithridate.report.load import Control, Run, Target, Victim
from mithridate.report.means import gap
from mithridate.report.remembering import is_sequential
from mithridate.report.words import KNOWLEDGE, interval, percent, plural, quoted, with_article
from mithridate.stats import Estimate

Standing = Literal["landed", "unclear", "missed", "uncontrolled"]


@dataclass(frozen=True, kw_only=True)
class Count:
    """One bar of the verdict."""

    control: Control
    label: str
    hits: str
    """As in: 12 of 20."""
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What stands at the top of the page."""

    cell: Cell
    sentence: str
    standing: Standing
    standing_text: str
    counts: tuple[Count, ...]
    details: tuple[str, ...]
    full: float = 1.0
    """The rate at the right end of the bars, in (0, 1]."""


LABELS: dict[Control, str] = {
    "attack": "Trained on poisoned data",
    "noise": "Trained with random noise of the same size",
    "clean": "Trained on clean data",
}


def verdict(run: Run) -> Verdict | None:
    """The verdict over the first combination with results; None while no poisoned network was judged."""
    cell = chosen(cells(run))
    if cell is None:
        return None
    found = standing(cell)
    return Verdict(
        cell=cell,
        sentence=_sentence(run, cell),
        standing=found,
        standing_text=_standing_text(cell, found),
        counts=_counts(cell),
        details=(
            *knowledge(cell),
            _effort(cell),
            *stopped.sentences(stopped.stopping(run.sequential)),
            sentence(by_trial(cell.poisoned)),
            *beside.sentences(beside.beside(run, cell)),
            _cost(cell),
        ),
    )


def hits_of(victims: Sequence[Victim]) -> tuple[int, int, str]:
    """Hits, out of how many, and of what: networks where each has one target, or else targets."""
    if all((len(victim.targets) if victim.whole else victim.judged) <= 1 for victim in victims):
        return sum(victim.success >= 0.5 for victim in victims), len(victims), "network"
    hits = sum(round(victim.success * victim.judged) for victim in victims)  # targets holds a few of many
    return hits, sum(victim.judged for victim in victims), "target"


def _sentence(run: Run, cell: Cell) -> str:
    """As in: 12 of 20 freshly trained networks called this “4” a “9”; 0 of 20 when trained on clean data."""
    hits, total, unit = hits_of(cell.poisoned)
    what = _what(run, cell.poisoned)
    if unit == "network":
        text = f"{hits} of {plural(total, 'freshly trained network')} {what}"
    else:
        text = f"{plural(len(cell.poisoned), 'freshly trained network')} {what}, for {hits} of {total} targets"
    if cell.clean:
        hits, total, _ = hits_of(cell.clean)
        networks = len({victim.training for victim in cell.clean})
        if networks == len(cell.clean):
            text += f"; {hits} of {total} when trained on clean data"
        else:
            text += f"; the {plural(networks, 'network')} trained on clean data did so {hits} of {total} times"
    return f"{text}."


def _what(run: Run, victims: Sequence[Victim]) -> str:
    """What the networks did to their target, by name where every target has the same two classes."""
    targets = [target for victim in victims for target in victim.targets]
    pairs = {(target.true, target.wanted) for target in targets}
    every = all(victim.whole for victim in victims)
    one = every and len({(victim.trial, target.id) for victim in victims for target in victim.targets}) == 1
    if not targets:
        return "did what the poisoner wanted"
    if all(wanted is None for _, wanted in pairs):
        return "got this target wrong" if one else "got their target wrong"
    if len(pairs) > 1 or not every:
        return "called their target what the poisoner wanted"
    true, wanted = pairs.pop()
    new = with_article(run.class_name(wanted))
    if one:
        return f"called this {quoted(run.class_name(true))} {new}"
    return f"called {with_article(run.class_name(true))} {new}"


def example(run: Run, target: Target) -> str:
    """What the poisoner wants of one target, in words."""
    if target.wanted is None:
        return f"{quoted(run.class_name(target.true))}, to be called anything else"
    return f"{quoted(run.class_name(target.true))}, to be called {quoted(run.class_name(target.wanted))}"


def standing(cell: Cell) -> Standing:
    """Whether poisoned networks are hit more often than every control, by more than their intervals allow.

    Where success is a mean share of test rows: whether it is clearly higher than on clean data, over the same trials.
    Where trials were added by what they showed, the intervals are those that allow for it, here as well.
    """
    if cell.graded:
        return _graded(cell)
    hit = success(cell.poisoned)
    controls = [estimate for estimate in (success(cell.clean), success(cell.noise)) if estimate]
    assert hit is not None
    if hit.mean == 0:
        return "missed"
    if not cell.clean:
        return "uncontrolled"
    if hit.mean <= max(control.mean for control in controls):
        return "missed"
    return "landed" if hit.low > max(control.high for control in controls) else "unclear"


def _graded(cell: Cell) -> Standing:
    rise = gap(cell.poisoned, cell.clean)
    if rise is None:
        return "uncontrolled"
    above = rise.above
    if is_sequential(cell.poisoned):
        hit, base = success(cell.poisoned), success(cell.clean)
        above = hit is not None and base is not None and hit.low > base.high
    return "landed" if above else "unclear" if rise.mean > 0 else "missed"


def _standing_text(cell: Cell, found: Standing) -> str:
    hit = success(cell.poisoned)
    assert hit is not None
    without = "without poison or with random noise" if cell.noise else "without poison"
    if found == "landed":
        return f"The attack landed: the networks were hit more often than {without}, and the intervals are apart."
    if found == "unclear":
        return (
            f"The attack may have landed: the networks were hit more often than {without}, but the intervals overlap. "
            "More trials would tell."
        )
    if found == "uncontrolled":
        return "No clean network was judged, so nothing here says how often this happens without poison."
    most = f"a success rate of up to {percent(hit.high)} would still fit these numbers"
    if hit.mean == 0:
        return f"The attack did not land in this run: no network was hit. With {plural(hit.trials, 'trial')}, {most}."
    return f"The attack did not land in this run: the networks were hit no more often than {without} ({most})."


def _counts(cell: Cell) -> tuple[Count, ...]:
    found = []
    controls: tuple[Control, ...] = ("attack", "noise", "clean")
    for control in controls:
        victims = cell.group(control)
        estimate = success(victims)
        if estimate is not None:
            hits, total, _ = hits_of(victims)
            label = LABELS[control] + _shared(victims)
            found.append(Count(control=control, label=label, hits=f"{hits} of {total}", estimate=estimate))
    return tuple(found)


def _shared(victims: Sequence[Victim]) -> str:
    """How networks that were judged on several trials are counted; empty where each had a trial of its own."""
    trainings, trials = len({victim.training for victim in victims}), len({victim.trial for victim in victims})
    if trainings == len(victims):
        return ""
    return f" ({plural(trainings, 'network')}, judged on the targets of {plural(trials, 'trial')})"


def knowledge(cell: Cell) -> list[str]:
    """What the attacker knows of the victim, where that was recorded."""
    if cell.box is None:
        return []
    meaning = f": {KNOWLEDGE[cell.box]}" if cell.box in KNOWLEDGE else ""
    return [f"{cell.box.capitalize()}{meaning}."]


def _effort(cell: Cell) -> str:
    """What the poisoner did, and how sure the rate is."""
    hit = success(cell.poisoned)
    assert hit is not None
    text = (
        f"Success rate {percent(hit.mean)} (95 % interval {interval(hit)}; {plural(hit.trials, 'independent trial')})."
    )
    if not cell.crafts:
        return text
    craft = cell.crafts[0]
    share = f" ({100 * craft.budget:.3g} % of the set allowed)" if craft.budget else ""
    return f"{text} The poisoner changed {plural(craft.rows, 'training row')}{share}{_within(craft.radius)}."


def _within(radius: str) -> str:
    """The allowed change of one row, in words."""
    if radius.startswith("linf "):
        return f", no pixel by more than {radius.removeprefix('linf ')}"
    return f", each within {radius}" if radius else ""


def _cost(cell: Cell) -> str:
    """What the poison did to the accuracy that its owner looks at."""
    poisoned, clean = accuracy(cell.poisoned), accuracy(cell.clean)
    if poisoned is None:
        return "The accuracy on clean test data was not measured."
    text = f"Accuracy on clean test data was {percent(poisoned.mean, 1)}"
    return f"{text}, and {percent(clean.mean, 1)} without poison." if clean else f"{text} with the poison in."
