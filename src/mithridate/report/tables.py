"""The result table as JSON: one row for each attack, scenario, victim and defense, with its controls and intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mithridate.report import attack_pairs
from mithridate.report.appraisal import headline
from mithridate.report.beside import beside
from mithridate.report.combinations import Cell, accuracy, cells, peak_memory, seconds, success
from mithridate.report.comparison import Against, Comparison, comparisons
from mithridate.report.damage import damage, flips_beside
from mithridate.report.effects import certified, effect
from mithridate.report.load import Run, read
from mithridate.report.means import average, gap
from mithridate.report.powers import power
from mithridate.report.remembering import is_sequential
from mithridate.report.stopped import notice, sequential, stopping
from mithridate.stats import Difference, Estimate
from mithridate.store import write_atomically

_EQUAL = 1e-9
"""Intervals of means narrower than this are of values that agree."""


def summary(run: Run) -> dict[str, Any]:
    """The table as JSON-able rows. Combinations without a judged network are left out: they are no zeros.

    ``success``, ``base_rate`` (networks trained on clean data, judged on the same targets) and ``noise_control`` (the
    same rows with random noise of the same size) are rates in [0, 1] with 95 % intervals clustered by trial;
    ``base_rate`` and ``noise_control`` are null where they were not run. Accuracies are means in [0, 1] with
    Student's t intervals. Where trials were added until a rate was known well enough, ``interval`` is ``sequential``
    (else null): ``success`` and the rates beside it have intervals that hold however often one looked, and
    ``sequential`` repeats that of the success; ``stopped`` says in words why such a run has no more trials.

    ``seconds`` adds up crafts and poisoned trainings;
    ``peak_memory`` is in bytes.

    ``box`` is what the attacker knows of the victim (``white-box``, ``grey-box``, ``black-box``; null where that was
    not recorded). ``published`` lists what others published for the row: ``rate`` in [0, 1], ``trials``, ``source``,
    and ``ours``, which says where our interval lies: ``below``, ``above``, or around it (``agrees``).

    Of defenses: ``control_of`` names those a row is a control of, ``oracle`` says that a number rests on what nobody
    could know, and ``ledger`` who knew and assumed what; ``dropped`` (rows), ``dropped_share``, ``poison_recall`` and
    ``clean_drop`` (shares of the poisoned and of the clean rows that were removed), ``facts`` and ``certified`` are
    means over the poisoned trainings, as are ``seconds_per_victim`` and ``times_undefended``. ``comparison`` (null for
    controls, and without defense) says what the defense is ``worth``, with the differences in success over the trials
    that both sides have; each ``chance`` is adjusted for as many defenses as ``adjusted_for`` says.

    Of attacks that degrade, ``success`` and the rates beside it are means of the share of test rows that is wrong, or
    mistaken as wished (``measure`` says which), with Student's t intervals over trials; bounds that are equal are no
    interval, because all trials agree or there is but one. Rows have in addition ``rise``
    (over clean data) and ``above_random_flips`` (null where those were not run), each the paired difference with its
    interval and p, ``error`` (over the whole test set, in [0, 1]), ``total_share`` (poisoned rows in all that is
    trained on), and ``of_verdict`` where attack, scenario and victim are those of the verdict. That stands beside the
    rows as ``verdict``, with its ``sentence``, its ``standing`` and what says so (``words``).

    ``attack_comparisons`` holds every two attacks over their shared trials, by scenario and victim, without a defense.

    ``power`` (null where success is a mean share) says which rates the trials of the verdict can tell from their own.

    ``seconds_saved`` is the computing time that was not spent, because surrogates, clean networks, and what was found
    done are shared (:mod:`mithridate.report.savings`). Of a very large run, ``read_whole`` says of how many networks
    (``read`` of ``of``) the whole rows were read: ``facts`` and ``certified`` are means over those (``facts_of``
    networks of a row), all else is over all; null where
    every row was.
    """
    every = cells(run)
    found = [cell for cell in every if cell.poisoned]
    rows = [row for group in _groups(found) for row in _rows(run, group)]
    compared = attack_pairs.rows(run, every)
    said = damage(run, every)
    whole: dict[str, Any] = {"power": power(found), "stopped": notice(run) or None}
    whole |= {"seconds_saved": run.seconds_saved, "read_whole": _read_whole(run)}
    if said is None:
        return {"rows": rows, "attack_comparisons": compared} | whole
    verdict = {"sentence": said.sentence, "standing": said.standing, "words": said.standing_text}
    return {"rows": _degraded(run, found, rows, said.cell), "verdict": verdict, "attack_comparisons": compared} | whole


def write_summary(folder: Path) -> Path:
    """Write ``summary.json`` into a run folder. Raises :class:`~mithridate.errors.StoreError`."""
    path = Path(folder) / "summary.json"
    write_atomically(path, as_json(read(folder)))
    return path


def as_json(run: Run) -> str:
    """What ``summary.json`` holds."""
    return json.dumps(summary(run), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _read_whole(run: Run) -> dict[str, Any] | None:
    if run.partial is None:
        return None
    return {"read": run.partial.read, "of": run.partial.of, "words": run.partial.words}


def _degraded(run: Run, found: Sequence[Cell], rows: Sequence[dict[str, Any]], chosen: Cell) -> list[dict[str, Any]]:
    """Rows with what attacks that degrade have beside; the verdict is about ``chosen``."""
    places = {(cell.attack, cell.scenario, cell.victim, cell.defense): cell for cell in found}
    place = (chosen.attack, chosen.scenario, chosen.victim)
    more = []
    for row in rows:
        cell = places[row["attack"], row["scenario"], row["victim"], row["defense"]]
        flips = flips_beside(found, cell)
        more.append(
            row
            | {
                "of_verdict": (cell.attack, cell.scenario, cell.victim) == place,
                "measure": run.degradation.heading if run.degradation else None,
                "rise": _gap(gap(cell.poisoned, cell.clean)),
                "above_random_flips": _gap(gap(cell.poisoned, flips.poisoned)) if flips else None,
                "error": _mean(average(cell.poisoned, lambda victim: victim.error)),
                "total_share": cell.crafts[0].total_share if cell.crafts else None,
            }
        )
    return more


def _gap(found: Difference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "chance": found.chance,
        "trials": found.trials,
        "above": found.above,
        "below": found.below,
    }


def _groups(found: Sequence[Cell]) -> list[list[Cell]]:
    """Combinations that meet the same attack with the same victim."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell.attack, cell.scenario, cell.victim), []).append(cell)
    return list(groups.values())


def _rows(run: Run, group: Sequence[Cell]) -> list[dict[str, Any]]:
    plain = next((cell for cell in group if cell.defense == "none"), None)
    measure = run.degradation.heading if run.degradation else "Success"
    compared = {each.cell.defense: _compared(each, measure) for each in comparisons(group, group[0])}
    return [
        _row(run, cell) | _defended(run, cell, plain) | {"comparison": compared.get(cell.defense)} for cell in group
    ]


def _row(run: Run, cell: Cell) -> dict[str, Any]:
    hit, base, noise = success(cell.poisoned), success(cell.clean), success(cell.noise)
    assert hit is not None
    craft = cell.crafts[0] if cell.crafts else None
    return {
        "attack": cell.attack,
        "defense": cell.defense,
        "victim": cell.victim,
        "box": cell.box,
        "scenario": cell.scenario,
        "trials": hit.trials,
        "victims": hit.victims,
        "success": _interval(hit),
        "interval": "sequential" if is_sequential(cell.poisoned) else None,
        "sequential": _sequential(run, cell),
        "base_rate": base.mean if base else None,
        "base_rate_interval": _spread(base),
        "noise_control": noise.mean if noise else None,
        "noise_interval": _spread(noise),
        "clean_accuracy": _mean(accuracy(cell.poisoned)),
        "accuracy_without_poison": _mean(accuracy(cell.clean)),
        "seconds": seconds(cell),
        "peak_memory": peak_memory(cell),
        "radius": craft.radius if craft else None,
        "eps": craft.radius_value if craft else None,
        "budget": craft.budget if craft else None,
        "poisoned_rows": craft.rows if craft else None,
        "published": [
            {"rate": each.rate, "trials": each.trials, "source": each.source, "ours": each.ours, "words": each.words}
            for each in beside(run, cell)
        ],
    }


def _defended(run: Run, cell: Cell, plain: Cell | None) -> dict[str, Any]:
    found, certificate = effect(cell, plain), certified(cell)
    return {
        "control_of": list(cell.control_of),
        "oracle": cell.oracle,
        "ledger": [asdict(fact) for fact in run.ledger.of(cell.attack, cell.scenario, cell.victim, cell.defense)],
        "dropped": found.dropped,
        "dropped_share": found.share,
        "poison_recall": found.recall,
        "clean_drop": found.clean_drop,
        "seconds_per_victim": found.seconds,
        "times_undefended": found.times,
        "facts": {name: value if math.isfinite(value) else "infinite" for name, value in found.facts.items()},
        "facts_of": found.described,
        "certified": {"radius": list(certificate.radius), "accuracy": list(certificate.accuracy)}
        if certificate
        else None,
    }


def _compared(comparison: Comparison, measure: str) -> dict[str, Any]:
    """What a defense is worth, and the differences that say so."""
    return {
        "worth": comparison.worth,
        "words": headline(comparison, measure),
        "undefended": _against(comparison.undefended) if comparison.undefended else None,
        "controls": {each.name: _against(each) | {"dropped_as_many": each.equal} for each in comparison.controls},
        "controls_not_run": list(comparison.missing),
        "clean_accuracy_difference": _mean(comparison.accuracy),
    }


def _against(other: Against) -> dict[str, Any]:
    found = other.difference
    return {
        "difference": {"mean": found.mean, "low": found.low, "high": found.high},
        "chance": found.chance,
        "adjusted_for": found.family,
        "trials": found.trials,
    }


def _interval(estimate: Estimate | None) -> dict[str, float] | None:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high} if estimate else None


def _sequential(run: Run, cell: Cell) -> dict[str, float] | None:
    found = sequential(stopping(run.sequential), cell)
    return {"mean": found.mean, "low": found.low, "high": found.high} if found else None


def _mean(estimate: Estimate | None) -> dict[str, float | None] | None:
    """A mean with its interval; of a single training, or of equal ones, nothing is known but the value."""
    if estimate is not None and (estimate.victims < 2 or estimate.high - estimate.low < _EQUAL):
        return {"mean": estimate.mean, "low": None, "high": None}
    return dict(_interval(estimate) or {}) or None


def _spread(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {"low": estimate.low, "high": estimate.high, "trials": estimate.trials, "victims": estimate.victims}
