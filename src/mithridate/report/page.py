"""The page: one offline HTML file with the verdict first and everything needed to repeat it last."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mithridate.report import (
    attack_pairs,
    beside,
    combinations,
    damage,
    defenses,
    degrade_panels,
    entries,
    gallery,
    heatmap,
    ledger,
    missing,
    panels,
    polytopes,
    publications,
    settings,
    stopped,
    stripes,
    tradeoff,
    trials,
    verdict,
    words,
)
from mithridate.report.combinations import Cell
from mithridate.report.fates import Fates, fates
from mithridate.report.load import Run, read
from mithridate.report.savings import savings
from mithridate.store import write_atomically

_HERE = Path(__file__).parent
_MOST_ROWS = 300
"""Combinations in the table of everything."""
_LITTLE_ROOM = 400_000
"""Bytes for the gallery of a campaign, whose maps and stripes need room."""
_MOST_CURVES = 12
"""Attacks, victims and defenses whose success is drawn over radius and budget."""


def write(folder: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The run may be unfinished: what is missing is named on the page. Raises
    :class:`~mithridate.errors.StoreError` where the run is absent or damaged, or the page cannot be written.
    """
    path = Path(folder) / "report.html"
    write_atomically(path, html(read(Path(folder))))
    return path


def html(run: Run) -> str:
    """The page as text; the same run gives the same bytes."""
    return environment().get_template("page.html.j2").render(_content(run))


def dressing() -> dict[str, Any]:
    """Style sheet and script, and the hash by which a page's policy lets that script run and no other."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return {
        "css": Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    }


def environment() -> Environment:
    """Jinja2 that escapes everything which is not markup of our own, and fails on a misspelt name."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": words.percent,
        "interval": words.interval,
        "fine": words.fine,
        "bounds": words.bounds,
        "points": words.points,
        "signed": words.signed,
        "bracketed": _bracketed,
        "duration": words.duration,
        "size": words.size,
        "plural": words.plural,
        "times": words.times,
        "count": words.count,
    }
    return environment


def _bracketed(text: str) -> Markup:
    """A sentence with its intervals small and in one piece; everything else is escaped."""
    return Markup(re.sub(r"(\[[^\]<]*\])", r"<small>\1</small>", str(escape(text))))  # noqa: S704 - escaped before


def _content(run: Run) -> dict[str, Any]:
    """Everything that the template shows."""
    found, goal = combinations.cells(run), run.degradation
    cell = damage.chosen(run, found) if goal else combinations.chosen(found)
    shown = cell or (found[0] if found else None)
    ended = fates(run)
    campaign = _of_grid(run, found, cell, ended)
    striped = campaign["stripes"] is not None
    return {
        "run": run,
        "savings": savings(run),
        "stopped": stopped.notice(run),
        **dressing(),
        "goal": goal,
        "verdict": damage.damage(run, found) if goal else verdict.verdict(run),
        "degraded": degrade_panels.degraded(run, found, cell, goal) if goal and cell else None,
        "rows": [] if goal else [_row(run, each) for each in found],
        **(_of_targets(run, found, cell, shown, striped=striped) if goal is None else _NO_TARGETS),
        "knowledge": words.KNOWLEDGE,
        "sources": beside.sources(run),
        "publications": publications.publications(run, found),
        "missing": missing.missing(run, ended),
        "memory": missing.memory(run),
        "most_rows": _MOST_ROWS,
        **campaign,
        "polytopes": polytopes.polytopes(run),
        "crafting": panels.crafting(run),
        "training": panels.training(shown) if shown else panels.training(_clean_only(run)),
        "defenses": defenses.defenses(run, found, cell),
        "ledger": ledger.lines(run.ledger),
        "settings": settings.groups(run.experiment),
    }


def _of_grid(run: Run, found: Sequence[Cell], cell: Cell | None, ended: Fates) -> dict[str, Any]:
    """What the page shows of several attacks or defenses at once; nothing of it for simple runs."""
    goal = run.degradation
    measure = goal.heading if goal else "Success"
    boards = entries.boards(run, found, cell, ended.failed) if entries.is_grid(found) else []
    return {
        "grid": heatmap.heatmaps(boards, goal),
        "stripes": None if goal else stripes.all_stripes(boards),
        "attack_pairs": attack_pairs.attack_pairs(run, found, cell) if boards else None,
        "trades": tradeoff.others(found, cell, measure) if cell and boards else [],
    }


_NO_TARGETS: dict[str, Any] = {
    "portrait": None,
    "success_curves": [],
    "curves_left_out": 0,
    "cards": [],
    "trials_in_all": 0,
    "judged": 0,
    "every_network": [],
    "walls": [],
    "walls_left_out": 0,
    "feature_space": [],
}
"""What the page shows of targets where the attacks have none."""


def _of_targets(
    run: Run, found: Sequence[Cell], cell: Cell | None, shown: Cell | None, *, striped: bool
) -> dict[str, Any]:
    """What the page shows of attacks on targets, and of no others; ``striped`` where stripes show every trial."""
    curved, left_out = _curved(found)
    every = not striped and (len(found) > 1 or _many(cell))
    walls = gallery.walls(run, room=_LITTLE_ROOM if striped else gallery.ROOM)
    return {
        "portrait": _portrait(run, cell) if cell else None,
        "success_curves": panels.success_curves(curved),
        "curves_left_out": left_out,
        "cards": trials.cards(run, shown) if shown else [],
        "trials_in_all": len(trials.numbers(shown)) if shown else 0,
        "judged": sum(bool(each.poisoned) for each in found),
        "every_network": trials.every_network(run, found) if every else [],
        "walls": walls,
        "walls_left_out": len({(each.attack, each.scenario) for each in run.crafts})
        - len({(wall.attack, wall.scenario) for wall in walls}),
        "feature_space": panels.feature_space(cell) if cell else [],
    }


def _curved(found: Sequence[Cell]) -> tuple[list[Cell], int]:
    """The combinations whose success is drawn over scenarios, the undefended first; how many are not. No controls."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in sorted(found, key=lambda each: each.defense != "none"):
        if cell.poisoned and cell.crafts and not cell.control_of:
            groups.setdefault((cell.attack, cell.victim, cell.defense), []).append(cell)
    varied = [group for group in groups.values() if len(group) > 1]
    kept = {id(cell) for group in varied[:_MOST_CURVES] for cell in group}
    return [cell for cell in found if id(cell) in kept], max(0, len(varied) - _MOST_CURVES)


def _portrait(run: Run, cell: Cell) -> dict[str, Any] | None:
    """The first target, for the head of the page."""
    first = min(cell.poisoned, key=lambda victim: victim.trial)
    target = first.targets[0] if first.targets else None
    craft = next((craft for craft in cell.crafts if craft.trial == first.trial), None)
    picture = trials.target_picture(run, craft, target)
    if picture is None or target is None:
        return None
    return {"picture": picture, "trial": first.trial, "what": verdict.example(run, target)}


def _row(run: Run, cell: Cell) -> dict[str, Any]:
    """One row of the table; estimates are None where nothing was run."""
    return {
        "cell": cell,
        "published": beside.beside(run, cell),
        "success": combinations.success(cell.poisoned),
        "base": combinations.success(cell.clean),
        "noise": combinations.success(cell.noise),
        "accuracy": combinations.accuracy(cell.poisoned),
        "accuracy_without": combinations.accuracy(cell.clean),
        "planned": combinations.planned(run, cell),
        "seconds": combinations.seconds(cell),
        "peak_memory": combinations.peak_memory(cell),
    }


def _many(cell: Cell | None) -> bool:
    """Whether a combination has more trials than cards."""
    return cell is not None and len({victim.trial for victim in cell.poisoned}) > trials.MOST


def _clean_only(run: Run) -> Cell:
    """A combination for runs that have trained nothing but clean networks yet."""
    clean = tuple(victim for victim in run.victims if victim.control == "clean")
    return Cell(attack="", scenario="", victim="", defense="none", crafts=(), poisoned=(), noise=(), clean=clean)
