"""(d) Seconds and accuracy of victims on clean data: the paper's 40 epochs, and the ``fast`` recipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import NotThereError, Place, TimeUp
from gpu_pieces.results import mean_row, measured, row
from mithridate import checkpoint, config
from mithridate.checkpoint import Checkpoint
from mithridate.errors import FormatError, ProblemsError
from mithridate.learner import Learner
from mithridate.seeding import Seed

PAPER, FAST, ACCURACY = 25.0, 2.0, 0.94
"""Goals: seconds of a victim of ``paper-40``, seconds of a ``fast`` one, and the accuracy of this."""


def paper_units(place: Place) -> list[Unit]:
    """Victims trained the fast way, one after another, and one in float32 as published."""
    fast = place.fast()
    units = [
        Unit(name=f"fast settings {k}", run=lambda k=k: trained(place, "paper", place.learner(*_PAPER, **fast), k))
        for k in range(place.size.victims)
    ]
    return [*units, Unit(name="float32", run=lambda: trained(place, "float32", place.learner(*_PAPER), 0))]


_PAPER = ("paper-40", "resnet18")
_PLAIN = "on CUDA torch computes convolutions of float32 in TF32 unless told otherwise"


def fast_units(place: Place) -> list[Unit]:
    """Victims of the ``fast`` recipe."""
    return [
        Unit(name=f"fast {k}", run=lambda k=k: trained(place, "fast", fast_learner(place), k))
        for k in range(place.size.fast_victims)
    ]


def fast_learner(place: Place) -> Learner:
    """The learner of the ``fast`` recipe, as it is meant. Raises :class:`NotThereError` where there is none."""
    try:
        return config.parse(Learner, {**fast_settings(place), **place.fast()})
    except ProblemsError as error:
        raise NotThereError(f"there is no recipe called fast yet ({error})") from error


def fast_settings(place: Place) -> dict[str, Any]:
    """The ``fast`` recipe with its own network, in plain settings."""
    small = {"model": {"name": "fastnet", "widths": [4, 4]}, "epochs": place.size.epochs} if place.tiny else {}
    return {"recipe": "fast", **small}


def trained(place: Place, name: str, learner: Learner, number: int) -> Found:
    """Seconds of a training and the accuracy reached. Stopped, it goes on at the epoch where it was."""
    path = place.folder / "notes" / f"victim-{name}-{number}.safetensors"
    data, before = place.data().train, _noted(path, place)
    seconds, calls = list(before.facts.get("epochs", [])), int(before.facts.get("calls", 0)) + 1
    resume = before.under("training") if before.facts else None
    compiles = name not in place.kept  # the first of a process does
    place.kept[name] = True
    place.wait()
    started, last, here = time.perf_counter(), None, 0
    for last in learner.train(data, seed=Seed(100 + number), resume=resume):
        place.wait()
        here += 1
        if last.epoch > len(seconds):
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        if last.epoch < last.epochs and place.late():
            _note(path, last.state, {"epochs": seconds, "calls": calls})
            raise TimeUp({"epochs_done": last.epoch, "seconds": sum(seconds)})
    assert last is not None
    path.unlink(missing_ok=True)
    return {
        "seconds": sum(seconds),
        "epochs": last.epochs,
        "seconds_an_epoch": sorted(seconds)[len(seconds) // 2],
        "first_epoch": seconds[0],
        "accuracy": place.accuracy(last.model.eval()),
        "learner": str(learner),
        "loss": last.loss,
        "epochs_in_this_call": here,
        "calls": calls,
        "compiling_included": compiles or calls > 1,
    }


def _noted(path: Any, place: Place) -> Checkpoint:
    try:
        return checkpoint.read(path, device=place.device) if path.is_file() else Checkpoint()
    except FormatError:
        return Checkpoint()


def _note(path: Any, state: Any, facts: dict[str, Any]) -> None:
    if state is not None:
        checkpoint.write(Checkpoint(facts=facts).joined(training=state()), path)


def paper_rows(found: Mapping[str, Found]) -> list[Row]:
    """Seconds with the goal, and accuracies."""
    quick = measured(found, "fast settings")
    lines = _lines(quick, "paper-40 victim (bf16, channels last, compiled)", PAPER)
    plain = measured(found, "float32")
    return lines + [row("paper-40 victim, float32", [each["seconds"]], "s", note=_PLAIN) for each in plain.values()]


def fast_rows(found: Mapping[str, Found]) -> list[Row]:
    """Seconds and accuracy, both with their goals."""
    return _lines(measured(found, "fast"), "fast victim", FAST, accuracy=ACCURACY)


def _lines(found: Mapping[str, Found], what: str, goal: float, accuracy: float | None = None) -> list[Row]:
    """Seconds of all victims but the first of a process, which compiles; the first ones' apart."""
    done = [each for each in found.values() if "accuracy" in each]
    first = [each["seconds"] for each in done if each["compiling_included"]]
    rest = [each["seconds"] for each in done if not each["compiling_included"]]
    return [
        row(f"{what}, the first of a process", first, "s", note="compiling included"),
        row(f"{what}, those after it", rest, "s", at_most=goal),
        mean_row(f"{what}, accuracy", [each["accuracy"] for each in done], "share", at_least=accuracy),
    ]


VICTIMS = Piece(
    name="victims",
    about="Victims of the recipe paper-40 on 50,000 clean rows, ResNet-18.",
    units=paper_units,
    rows=paper_rows,
)
FAST_VICTIMS = Piece(
    name="fast-victims", about="Victims of the recipe fast on 50,000 clean rows.", units=fast_units, rows=fast_rows
)
