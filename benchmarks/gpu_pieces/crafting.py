"""(c) A whole gradient-matching attack: 500 poisons of 50,000 rows, 250 steps, on ResNet-18, with 1 and 8 restarts."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.matching import Given
from gpu_pieces.place import Place
from gpu_pieces.results import measured, row
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.goal import Misclassify
from mithridate.ops.gradients import Precision
from mithridate.seeding import Seed
from mithridate.threat import Linf, ThreatModel
from mithridate.watch import Step

FORMATS: tuple[Precision, ...] = ("tf32", "bf16", "float32")
GOAL = 60.0
"""Seconds that a craft with 8 restarts may take."""


def units(place: Place) -> list[Unit]:
    """Each number of restarts in each format; the backend is that which ``auto`` takes."""
    return [
        Unit(name=f"{count} restarts, {kind}", run=lambda count=count, kind=kind: _crafted(place, count, kind))
        for count in place.size.restarts
        for kind in (FORMATS[:1] if place.tiny else FORMATS)
    ]


def _crafted(place: Place, restarts: int, precision: Precision) -> Found:
    """Seconds of crafting, interruptions not counted; it goes on from the notes of an earlier call."""
    name, data = f"craft-{restarts}-{precision}", place.data()
    attack = GradientMatching(steps=place.size.steps, restarts=restarts, micro_batch=512, precision=precision)
    threat = ThreatModel(budget=place.size.poisons / len(data.train), perturbation=Linf(radius=8 / 255))
    goal = Misclassify().draw(data.train, data.test, Seed(7))
    notes = place.notes(name, f"{attack} {threat} {len(data.train)}")
    seen: list[float] = []

    def watch(step: Step) -> None:
        seen.append(float(step.values.get("matching loss", 0.0)))
        place.check()

    surrogate = Given(model=place.network("resnet18"))
    place.wait()
    started = time.perf_counter()
    poison = attack.craft(
        data.train, threat, aims=goal.known, surrogates=[surrogate], seed=Seed(8), watch=watch, notes=notes
    )
    place.wait()
    seconds = notes.before + time.perf_counter() - started
    resumed = notes.before > 0
    notes.drop()
    return {
        "seconds": seconds,
        "poisons": len(poison.rows),
        "steps": attack.steps,
        "restarts": restarts,
        "loss": poison.trace["loss"][-1],
        "alignment": poison.trace["alignment"][-1],
        "resumed": resumed,
    }


def rows(found: Mapping[str, Found]) -> list[Row]:
    """Seconds of each; the goal is for the most restarts, in the fastest format."""
    there = measured(found)
    lines = [
        row(
            f"craft, {name}",
            [each["seconds"]],
            "s",
            note=f"{each['poisons']} poisons, {each['steps']} steps, compiling included, last loss {each['loss']:.4f}"
            + (", stopped and gone on with" if each["resumed"] else ""),
        )
        for name, each in there.items()
    ]
    many = max((each["restarts"] for each in there.values()), default=0)
    full = {n: each for n, each in there.items() if each["restarts"] == many and many > 1}
    best = min(full, key=lambda name: float(full[name]["seconds"]), default="")
    seconds = [full[best]["seconds"]] if best else []
    case = "craft with 8 restarts, fastest format" + (f" ({best})" if best else "")
    return [*lines, row(case, seconds, "s", at_most=GOAL)]


PIECE = Piece(
    name="craft",
    about="A whole craft of gradient matching for 500 poisons, surrogate trained before.",
    units=units,
    rows=rows,
)
