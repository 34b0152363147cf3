"""What a scan found, in sentences and as plain values that JSON, CSV, Parquet and the page hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from mithridate.scan.calibration import TOGETHER, Measured, Share
from mithridate.scan.planting import RADIUS
from mithridate.scan.scanning import Findings
from mithridate.scan.verdict import Answer

FIRST = 48
"""Rows that are told of one by one; the others are in the table of ids."""
KINDS = {
    "mislabelled": "the label replaced by any other one",
    "perturbed": f"label kept, pixels changed by at most {round(RADIUS * 255)}/255 to give it another class's features",
    "patched": "a patch in the corner, and the label of one class",
}
"""What was done to planted rows."""


def facts(findings: Findings) -> dict[str, Any]:
    """Everything but the scores of every row, as JSON knows it."""
    material, space = findings.material, findings.material.data.space
    return {
        "place": material.place,
        "rows": len(material.data),
        "shape": list(space.shape),
        "classes": [
            {"name": space.name(label), "rows": int((material.data.labels == label).sum())}
            for label in range(space.num_classes)
        ],
        "notes": list(material.notes),
        "state": findings.verdict.state,
        "verdict": sentence(findings),
        "answers": [_answer(each) for each in findings.verdict.answers],
        "false_alarm_rate": findings.rate,
        "probe_accuracy": round(findings.accuracy, 6),
        "flagged": int(findings.flagged.sum()),
        "copies": findings.copies,
        "kinds": {kind: KINDS.get(kind, kind) for kind in dict.fromkeys(each.kind for each in findings.measured)},
        "calibration": [_measured(each) for each in findings.measured],
        "thresholds": {name: _number(each) for name, each in findings.thresholds.items()},
        "first": [row(findings, at) for at in findings.order[:FIRST].tolist()],
        "seconds": round(findings.seconds, 1),
    }


def sentence(findings: Findings) -> str:
    """The verdict, in a few sentences."""
    verdict = findings.verdict
    if verdict.strongest is not None:
        return f"Suspect rows found: {_suspect(verdict.strongest, findings)}"
    told = [each.kind for each in verdict.answers if each.state == "nothing found"]
    if told:
        limits = ", as far as can be told" if len(told) < len(verdict.answers) else ""
        return f"Nothing found{limits}: {_clean(findings, told)}"
    return f"Cannot tell: {_unknown(findings)}"


def _suspect(answer: Answer, findings: Findings) -> str:
    assert answer.tail is not None  # a suspect answer rests on one
    tail = answer.tail
    return (
        f"{tail.beyond} rows contradict their labels as strongly as the upper {tail.reach:.0%} of planted "
        f"{answer.kind} rows do, where {_few(tail.expected)} would if clean rows thinned out as they begin to. There "
        f"may be about {max(1, round(tail.surplus))} such rows; begin with the first {tail.beyond} of the list. "
        f"{_above(findings)}"
    )


def _clean(findings: Findings, told: list[str]) -> str:
    others = [each.kind for each in findings.verdict.answers if each.state == "cannot tell"]
    text = f"no more rows stand out than in clean data, and {_listed(told)} rows planted in a copy were noticed. "
    if others:
        text += f"Of {_listed(others)} rows it cannot tell: planted ones were not noticed either. "
    return text + _above(findings)


def _above(findings: Findings) -> str:
    count, rows = int(findings.flagged.sum()), len(findings.flagged)
    alarms = next((each.alarms.mean for each in findings.measured if each.method == TOGETHER), None)
    if alarms is None:
        return "No method can flag rows here."
    return f"{count} of {rows} rows lie above a threshold; of rows that are not poisoned, {alarms:.1%} would."


def _unknown(findings: Findings) -> str:
    text = (
        "poison planted in a copy of these data was not noticed either, so nothing follows from finding none. The "
        f"probe is right on {findings.accuracy:.0%} of the rows it has not seen; a better one (--model) or more rows "
        "may help. "
    )
    able = list(dict.fromkeys(each.method for each in findings.measured if each.able and each.method != TOGETHER))
    if not able:
        return text + "No method told planted rows from others; the order of the list means little."
    return text + f"{_listed(able)} found some planted rows, so the list has some order. {_above(findings)}"


def words(each: Measured) -> str:
    """What a method did with planted rows: "would have found 18 of 25 planted; 1.2 % false alarms"."""
    hits, total = round(each.recall.hits), each.recall.total
    text = f"would have found {hits} of {total} planted; {each.alarms.mean:.1%} false alarms"
    return text if each.able else f"cannot tell ({hits} of {total} planted; {each.alarms.mean:.1%} false alarms)"


def row(findings: Findings, at: int) -> dict[str, Any]:
    """One row: which it is, what it is called, what the probe says, and what each method does."""
    material, space = findings.material, findings.material.data.space
    able = {each.method for each in findings.measured if each.able}
    return {
        "row": at,
        "file": material.files[at] if material.files else None,
        "label": space.name(int(material.data.labels[at])),
        "predicted": space.name(int(findings.predicted[at])),
        "confidence": round(float(findings.confidence[at]), 6),
        "label_probability": round(float(findings.likelihood[at]), 6),
        "evidence": round(float(findings.evidence[at]), 3),
        "flagged": bool(findings.flagged[at]),
        "flagged_by": [
            name for name, each in findings.scores.items() if name in able and each[at] > findings.thresholds[name]
        ],
        "scores": {name: _number(each[at]) for name, each in findings.scores.items()},
    }


def table(findings: Findings) -> dict[str, list[Any]]:
    """Every row, the most suspect first, as columns."""
    order = findings.order
    material, space = findings.material, findings.material.data.space
    labels = material.data.labels.cpu().numpy()
    columns: dict[str, list[Any]] = {"place": list(range(1, len(order) + 1)), "row": order.tolist()}
    if material.files:
        columns["file"] = [material.files[at] for at in order.tolist()]
    columns |= {
        "label": [space.name(label) for label in labels[order].tolist()],
        "predicted": [space.name(label) for label in findings.predicted[order].tolist()],
        "label_probability": findings.likelihood[order].tolist(),
        "flagged": findings.flagged[order].tolist(),
        "evidence": findings.evidence[order].tolist(),
    }
    for name, scores in findings.scores.items():
        columns[f"{name}_score"] = [_number(value) for value in scores[order].tolist()]
        columns[f"{name}_rank"] = _ranks(scores)[order].tolist()
    return columns


def _ranks(scores: Any) -> Any:
    """The rank of each score, 1 the highest; equal scores share the better rank, and NaN comes last."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    return 1 + len(known) - np.searchsorted(np.sort(known), known, side="right")


def _measured(each: Measured) -> dict[str, Any]:
    return {
        "method": each.method,
        "kind": each.kind,
        "able": each.able,
        "recall": _share(each.recall),
        "false_alarms": _share(each.alarms),
        "words": words(each),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    found = {"kind": answer.kind, "state": answer.state, "method": answer.method or None}
    if answer.tail is None:
        return found
    tail = answer.tail
    return found | {
        "p": tail.p,
        "rows_beyond": tail.beyond,
        "rows_expected": round(tail.expected, 3),
        "mark": tail.mark,
        "planted_beyond": tail.reach,
        "estimate": round(tail.surplus, 1),
    }


def _share(share: Share) -> dict[str, Any]:
    return {"hits": share.hits, "of": share.total, "share": share.mean, "low": share.low, "high": share.high}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _few(number: float) -> str:
    return "fewer than 1" if number < 0.95 else f"about {number:.0f}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
