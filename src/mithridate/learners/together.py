"""Many trainings of one shape from start to end, side by side: each becomes what it would alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from mithridate.learner import Progress
from mithridate.learners import stacked
from mithridate.learners.running import Run
from mithridate.watch import Step, Watch

if TYPE_CHECKING:
    from mithridate.learners.sgd import SGD

Curve = tuple[tuple[float, float], ...]


def trained(
    learner: SGD, runs: Sequence[Run], batches: Callable[[Run], Sequence[Tensor]], *, watch: Watch
) -> list[Progress]:
    """The ends of trainings that all have :func:`~mithridate.learners.stacked.layers`; those of one shape together."""
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, run in enumerate(runs):
        layers = stacked.layers(learner, run)
        shapes[len(run.data), *(size for each in layers for size in each.weight.shape)].append(number)
    ends: dict[int, Progress] = {}
    for numbers in shapes.values():
        found = _side_by_side(learner, [runs[number] for number in numbers], batches, watch)
        ends |= dict(zip(numbers, found, strict=True))
    return [ends[number] for number in range(len(runs))]


def _side_by_side(
    learner: SGD, runs: Sequence[Run], batches: Callable[[Run], Sequence[Tensor]], watch: Watch
) -> list[Progress]:
    """The ends of trainings of one shape."""
    ends, curves, side = list[Progress](), [Curve()] * len(runs), stacked.Side(learner, runs)
    for run in runs:
        learner.start.ready(run.model)
    for epoch in range(learner.epochs):
        for run in runs:
            run.drop()
        points = side.epoch([batches(run) for run in runs])
        ends = [
            run.reached(epoch=epoch + 1, epochs=learner.epochs, loss=loss, accuracy=accuracy)
            for run, (loss, accuracy) in zip(runs, points, strict=True)
        ]
        curves = [(*curve, point) for curve, point in zip(curves, points, strict=True)]
        mean = {"loss": sum(loss for loss, _ in points) / len(points)}
        watch(Step("training", epoch + 1, learner.epochs, mean))
    side.write()
    for run in runs:
        run.model.eval()
    return [replace(end, earlier=curve[:-1]) for end, curve in zip(ends, curves, strict=True)]
