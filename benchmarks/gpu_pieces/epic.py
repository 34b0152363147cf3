"""(e) A round of EPIC on 50,000 rows: the gradients of all, and the selection of those that stand alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import Place
from gpu_pieces.results import measured, row
from gpu_pieces.timing import timed
from mithridate.defenses.epic import EPIC
from mithridate.ops.confidence import confidences, evaluating

FRACTIONS = (0.1, 0.3)


def units(place: Place) -> list[Unit]:
    """Gradients, then the selection for each share of medoids."""
    return [
        Unit(name="gradients", run=lambda: _gradients(place)),
        *(
            Unit(name=f"selection, fraction {each:g}", run=lambda each=each: _selection(place, each))
            for each in FRACTIONS
        ),
    ]


def _defense(fraction: float) -> EPIC:
    return EPIC.preset("release-40", fraction=fraction)


def _beliefs(place: Place) -> Tensor:
    """Softmax outputs of all rows, as a round takes them."""
    data, defense, model = place.data().train, _defense(0.1), place.network("resnet18")
    rows = defense.ground(data.ids, torch.ones(len(data), dtype=torch.bool, device=place.device))
    with evaluating(model):
        parts = torch.split(rows, defense.batch_size)
        return torch.cat([confidences(model, data.take(part)[0], use_bias=defense.use_bias) for part in parts])


def _gradients(place: Place) -> Found:
    return {**timed(lambda: _beliefs(place), place), "rows": len(place.data().train)}


def _selection(place: Place, fraction: float) -> Found:
    data, defense = place.data().train, _defense(fraction)
    beliefs: Tensor = place.once("beliefs", lambda: _beliefs(place))
    active = torch.ones(len(data), dtype=torch.bool, device=place.device)
    rows = defense.ground(data.ids, active)

    def run() -> int:
        choice = defense.chosen(beliefs, rows=rows, labels=data.labels, ids=data.ids, active=active)
        return len(choice.ids)

    return {**timed(run, place), "rows": len(data), "dropped": run()}


def rows(found: Mapping[str, Found]) -> list[Row]:
    """Seconds of each part, and of a round."""
    there = measured(found)
    lines = [
        {**row(f"EPIC's {name}", [each["seconds"]], "s", spread=each["range"]), "n": each["rounds"]}
        for name, each in there.items()
    ]
    whole = [there[name]["seconds"] for name in ("gradients", "selection, fraction 0.1") if name in there]
    return [*lines, row("EPIC's round, fraction 0.1", [sum(whole)] if len(whole) == 2 else [], "s")]


PIECE = Piece(name="epic", about="A round of EPIC (release-40) on all training rows.", units=units, rows=rows)
