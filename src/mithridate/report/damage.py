"""The verdict on an attack that degrades, in words: what the error was, what it became, and what flips alone do."""

from __future__ import annotations

from collections.abc import Sequence

from mithridate.report import beside, stopped
from mithridate.report.combinations import Cell, in_base_scenario
from mithridate.report.combinations import chosen as first_judged
from mithridate.report.comparison import Comparison, comparisons
from mithridate.report.degrading import Degradation, baseline
from mithridate.report.load import Control, Run, Victim
from mithridate.report.means import average, gap
from mithridate.report.pictures import rows
from mithridate.report.verdict import Count, Standing, Verdict, knowledge, standing
from mithridate.report.words import fine, listed, plural, points, signed, with_interval
from mithridate.stats import Difference, Estimate

_ENDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Rates at which the bars of the verdict may end."""
_READ = 5000
"""Poison rows looked at for whether any moved."""


def damage(run: Run, found: Sequence[Cell]) -> Verdict | None:
    """The verdict over the combination of :func:`chosen`; None while no poisoned victim was judged."""
    cell, goal = chosen(run, found), run.degradation
    if cell is None or goal is None:
        return None
    flips = flips_beside(found, cell)
    kind, text = _standing(cell, flips, goal)
    counts = _counts(found, cell, goal)
    most = max(count.estimate.high for count in counts)
    return Verdict(
        cell=cell,
        sentence=_sentence(found, cell, flips, goal),
        standing=kind,
        standing_text=text,
        counts=counts,
        details=(
            _effort(cell, goal),
            *stopped.sentences(stopped.stopping(run.sequential)),
            *_unmoved(run, cell),
            *knowledge(cell),
            *_overall(cell, goal),
            *_published(run, cell),
        ),
        full=next(end for end in _ENDS if end >= most),
    )


def chosen(run: Run, found: Sequence[Cell]) -> Cell | None:
    """What the verdict is about: undefended, in the base scenario, and no baseline, as far as there is such a thing."""
    judged = [cell for cell in found if cell.poisoned and cell.defense == "none"]
    own = [cell for cell in judged if not baseline(cell.attack)]
    return next((cell for cell in own or judged if in_base_scenario(run, cell)), first_judged(own or found))


def flips_beside(found: Sequence[Cell], cell: Cell) -> Cell | None:
    """Random flips in the place of the attack of ``cell``, judged on the same victim; None where they were not run."""
    place = (cell.scenario, cell.victim, cell.defense)
    same = [each for each in found if (each.scenario, each.victim, each.defense) == place and each.poisoned]
    return next((each for each in same if each.attack.startswith("random-flips") and each != cell), None)


def poison_share(cell: Cell) -> str:
    """How much poison there is: 5 % poison."""
    share = next((craft.share for craft in cell.crafts if craft.share), None)
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}% poison" if share else "The poison"


def _sentence(found: Sequence[Cell], cell: Cell, flips: Cell | None, goal: Degradation) -> str:
    """As in: 5 % poison raises the error from 7.1 % [..] to 22 % [..]; random label flips alone raise it to 11 %."""
    hit, base, rise = average(cell.poisoned), average(cell.clean), gap(cell.poisoned, cell.clean)
    poison = poison_share(cell)
    assert hit is not None
    if base is None or rise is None:
        start = f"With {poison[:1].lower()}{poison[1:]}, {goal.noun} is {with_interval(hit)}"
        return f"{start}; no victim was judged on clean data."
    if hit.trials < 2:
        start = (
            f"In one trial, {poison} came with {goal.noun} at {fine(hit.mean)}, against {fine(base.mean)} without it"
        )
    elif rise.above:
        start = f"{poison} raises {goal.noun} from {with_interval(base)} to {with_interval(hit)}"
    else:
        against = f"{with_interval(hit)}, against {with_interval(base)} without it"
        start = f"{poison} does not clearly raise {goal.noun}: {against}"
    parts = [start, *_beside_flips(cell, flips)]
    if rise.above:
        parts += _brought_back(comparisons(found, cell))
    return f"{'; '.join(parts)}."


def _beside_flips(cell: Cell, flips: Cell | None) -> list[str]:
    """What random flips of as many rows do alone, and whether the attack does more."""
    rate = average(flips.poisoned) if flips else None
    if flips is None or rate is None:
        return []
    more, rise = gap(cell.poisoned, flips.poisoned), gap(flips.poisoned, cell.clean)
    if more is None or more.trials < 2:
        return [f"random label flips alone came with {fine(rate.mean)}"]
    if not more.above:
        verb = "clearly less than" if more.below else "not clearly more than"
        return [f"that is {verb} random label flips, which give {with_interval(rate)}"]
    verb = "raise it to" if rise is not None and rise.above else "leave it at"
    return [f"random label flips alone {verb} {fine(rate.mean)}"]


def _brought_back(compared: Sequence[Comparison]) -> list[str]:
    """What the best defense makes of it, if any clearly lowers it, and by more than dropping as many other rows."""
    own = [each for each in compared if not each.cell.oracle and each.undefended]
    clear = [each for each in own if each.undefended and each.undefended.difference.below]
    if not own:
        return []
    if not clear:
        name = own[0].cell.defense if len(own) == 1 else f"none of {len(own)} defenses"
        return [f"{name} {'does not clearly lower' if len(own) == 1 else 'clearly lowers'} it"]
    lowest = min(clear, key=lambda each: each.estimate.mean)
    best = min((each for each in clear if each.good), key=lambda each: each.estimate.mean, default=None)
    if best is None:
        among = "" if len(own) == 1 else f", the lowest of {len(own)} defenses"
        left = fine(lowest.estimate.mean)
        return [f"with {lowest.cell.defense} it is {left}{among}, but that may be the dropping of rows alone"]
    among = "" if len(own) == 1 else f", the best of {len(own)} defenses,"
    if best is not lowest:
        among = ", the best of the defenses that clearly do more than drop rows,"
    return [f"{best.cell.defense}{among} brings it back to {fine(best.estimate.mean)}"]


def _standing(cell: Cell, flips: Cell | None, goal: Degradation) -> tuple[Standing, str]:
    """Whether the attack did harm, by paired differences over trials, and more than flips alone."""
    found, rise = standing(cell), gap(cell.poisoned, cell.clean)
    if rise is None:
        return found, "No clean victim was judged, so nothing here says what the rate is without poison."
    if rise.trials < 2:
        return "unclear", f"One trial: {_by(rise)}, and nothing says how much of it is chance. More trials would tell."
    trials = plural(rise.trials, "trial")
    if found != "landed":
        end = " More trials would tell." if found == "unclear" else ""
        return found, f"No clear harm over {trials}: {goal.noun} differs by {_by(rise)} from that on clean data.{end}"
    more = gap(cell.poisoned, flips.poisoned) if flips else None
    if more is None:
        return found, f"The attack landed: {goal.noun} rises by {_by(rise)} over {trials}."
    if more.above:
        return found, (
            f"The attack landed: {goal.noun} rises by {_by(rise)} over {trials}, and lies {_by(more)} above that of "
            "random label flips."
        )
    return "unclear", (
        f"The poison does harm ({_by(rise)} over {trials}), but not clearly more than random label flips: "
        f"the difference is {_by(more)}."
    )


def _by(found: Difference) -> str:
    return points(found, 1) if found.trials > 1 else f"{signed(100 * found.mean, 1)} points"


def _counts(found: Sequence[Cell], cell: Cell, goal: Degradation) -> tuple[Count, ...]:
    """The bars: this attack, the others in its place, noise, clean data."""
    place = (cell.scenario, cell.victim, cell.defense)
    others = [
        each for each in found if each != cell and (each.scenario, each.victim, each.defense) == place and each.poisoned
    ]
    bars: list[tuple[Control, str, Sequence[Victim]]] = [("attack", f"Poison by {cell.attack}", cell.poisoned)]
    bars += [("noise", _called(each.attack), each.poisoned) for each in others]
    bars += [("noise", "Random noise of the same size", cell.noise), ("clean", "Clean data", cell.clean)]
    return tuple(
        Count(control=control, label=label, hits=_sample(victims, estimate), estimate=estimate)
        for control, label, victims in bars
        if (estimate := average(victims))
    )


def _called(attack: str) -> str:
    """A bar's label: in words for a baseline, whose name stands behind them."""
    words = baseline(attack)
    return f"{words.capitalize()} ({attack})" if words else f"Poison by {attack}"


def _sample(victims: Sequence[Victim], estimate: Estimate) -> str:
    trials = len({victim.trial for victim in victims})
    shared = estimate.victims < len(victims)
    return plural(estimate.victims, "victim") if shared else plural(trials, "trial")


def _effort(cell: Cell, goal: Degradation) -> str:
    """What the poisoner did."""
    hit = average(cell.poisoned)
    assert hit is not None
    sample = (
        f"Means over {plural(hit.trials, 'independent trial')}, {plural(hit.victims, 'victim')}, with 95 % intervals."
    )
    if hit.trials < 2:
        sample = f"{plural(hit.victims, 'victim').capitalize()}, of one trial."
    if not cell.crafts:
        return sample
    craft = cell.crafts[0]
    shares = [f"{100 * craft.share:.3g} % of the clean rows"] if craft.share else []
    if craft.total_share and goal.appended:
        shares.append(f"{100 * craft.total_share:.3g} % of what is trained on")
    share = f" ({listed(shares)})" if shares else ""
    verb = "added" if goal.appended else "changed"
    labels = "with labels of its choice" if goal.dirty else "with their true labels"
    return f"The poisoner {verb} {plural(craft.rows, 'row')}{share}, {labels}. {sample}"


def _unmoved(run: Run, cell: Cell) -> list[str]:
    """A word on attacks that were to move rows and moved none: no row of their first poison set, as far as kept."""
    if baseline(cell.attack) or not cell.crafts:
        return []
    found = rows(run, cell.crafts[0], _READ)
    if found is None or found.base is None or not len(found.inputs) or abs(found.inputs - found.base).max() > 0:
        return []
    return [f"{cell.attack} moved none of these rows: they differ from clean ones in their labels at most."]


def _overall(cell: Cell, goal: Degradation) -> list[str]:
    """Error-specific: what became of all the other rows."""
    poisoned, clean = (average(side, lambda each: each.error) for side in (cell.poisoned, cell.clean))
    if not goal.confusion or poisoned is None:
        return []
    without = f", and {with_interval(clean)} without poison" if clean else ""
    return [f"The error over the whole test set was {with_interval(poisoned)}{without}."]


def _published(run: Run, cell: Cell) -> list[str]:
    return beside.sentences(beside.beside(run, cell))
