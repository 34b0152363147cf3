"""(b), (c) Gradient matching: exactness and step time of every backend in every number format, and whole crafts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import Place
from gpu_pieces.results import measured, row
from gpu_pieces.timing import timed
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.learner import Hook, Learner, Progress
from mithridate.learners.augment import Augmentation, augmented
from mithridate.model import Classifier
from mithridate.ops.criteria import cross_entropy
from mithridate.ops.gradients import EXACT, Derivatives, Matched, parameter_gradient
from mithridate.ops.matching import similarity
from mithridate.seeding import Seed

FORMATS = ("float32", "tf32", "bf16")
BACKENDS = ("double", "reverse-over-forward", "compiled", "gated-difference", "smoothed")
_TINY = ("double", "gated-difference")
LEAST = {"float32": 0.999, "tf32": 0.99, "bf16": 0.97}
"""Cosine to float64 that an exact backend must keep."""
GAINS = {"tf32": 1.5, "bf16": 4.0}
"""Times that the best exact step should be faster than eager double backward in TF32."""


def ways(place: Place) -> Iterator[tuple[str, str]]:
    """Backends and formats that go together: differences need float32. Few where the size is tiny."""
    for backend in _TINY if place.tiny else BACKENDS:
        for precision in FORMATS if backend in EXACT else FORMATS[:1]:
            yield backend, precision


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Poison rows as a trained network sees them, and the gradient that theirs is to point along."""

    model: nn.Module
    clean: Tensor
    labels: Tensor
    target: tuple[Tensor, ...]
    space: Space

    @staticmethod
    def made(place: Place, network: str, rows: int) -> Problem:
        """The first rows of a class, and a test row of another class that is to be called this one."""
        data, model = place.data(), place.network(network)
        wanted = data.train.labels == data.train.labels[0]
        mine = wanted.nonzero()[:rows, 0]
        other = (data.test.labels != data.train.labels[0]).nonzero()[:1, 0]
        test, _ = data.test.take(other)
        inputs, labels = data.train.take(mine)
        target = parameter_gradient(model, test, labels[:1], criterion=cross_entropy)
        return Problem(model=model, clean=inputs, labels=labels, target=target, space=data.train.space)

    def double(self) -> Problem:
        """The same in float64."""
        return Problem(
            model=copy.deepcopy(self.model).double(),
            clean=self.clean.double(),
            labels=self.labels,
            target=tuple(each.double() for each in self.target),
            space=self.space,
        )

    def derivatives(self, backend: str, precision: str) -> Derivatives:
        """By one backend. Raises :class:`RuntimeError` where it does not work with this network."""
        found = Derivatives(
            self.model,
            self.clean,
            self.labels,
            criterion=cross_entropy,
            backend=backend,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            micro_batch=512,
        )
        if found.backend != backend:
            raise RuntimeError(found.note)
        return found

    def matched(self, derivatives: Derivatives, shown: Tensor) -> Matched:
        """The objective and its derivative at what is shown."""
        return derivatives.matched(shown, self.labels, objective=self._distance, scale=1 / len(shown))

    def _distance(self, gradient: Sequence[Tensor]) -> Tensor:
        return similarity(gradient, self.target)


def exactness_units(place: Place) -> list[Unit]:
    """Every network in every way."""
    return [
        Unit(
            name=f"{network}, {backend}, {precision}",
            run=lambda n=network, b=backend, p=precision: _exactness(place, n, b, p),
        )
        for network in place.size.networks
        for backend, precision in ways(place)
    ]


def _exactness(place: Place, network: str, backend: str, precision: str) -> Found:
    """Cosine, share of equal signs and relative error to double backward in float64, of both derivatives."""
    problem: Problem = place.once(f"problem {network}", lambda: Problem.made(place, network, place.size.probed))

    def reference() -> Matched:
        exact = problem.double()
        return exact.matched(exact.derivatives("double", "float32"), exact.clean)

    exact: Matched = place.once(f"exact {network}", reference)
    found = problem.matched(problem.derivatives(backend, precision), problem.clean)
    ours, theirs = found.inputs.double().flatten(), exact.inputs.flatten()
    gradients = (torch.cat([each.double().flatten() for each in side.parameters]) for side in (found, exact))
    return {
        "cosine": float(functional.cosine_similarity(ours, theirs, dim=0)),
        "equal_signs": float((ours.sign() == theirs.sign()).double().mean()),
        "relative_error": float((ours - theirs).norm() / theirs.norm()),
        "gradient_cosine": float(functional.cosine_similarity(*gradients, dim=0)),
        "objective_error": abs(float(found.value) - float(exact.value)),
        "values": len(ours),
        "rows": len(problem.clean),
        "accuracy_of_network": place.once(f"accuracy {network}", lambda: place.accuracy(place.network(network))),
    }


def exactness_rows(found: Mapping[str, Found]) -> list[Row]:
    """Cosines with what they must be; only a look where the backend is not exact."""
    lines = []
    for name, each in measured(found).items():
        _, backend, precision = name.split(", ")
        least = None if backend == "smoothed" else LEAST[precision]
        said = f"equal signs {each['equal_signs']:.5f}, relative error {each['relative_error']:.3g}"
        line = row(f"cosine to float64: {name}", [each["cosine"]], "", at_least=least, note=said)
        lines.append({**line, "value": round(each["cosine"], 7), "range": "", "n": each["values"]})
    return lines


def step_units(place: Place) -> list[Unit]:
    """A crafting step on ResNet-18 in every way."""
    return [
        Unit(name=f"{backend}, {precision}", run=lambda b=backend, p=precision: _step(place, b, p))
        for backend, precision in ways(place)
    ]


def _step(place: Place, backend: str, precision: str) -> Found:
    """Augmentation, objective, and the way back to the change: what a step costs but for Adam and the projection."""
    problem: Problem = place.once("problem of steps", lambda: Problem.made(place, "resnet18", place.size.poisons))
    derivatives = problem.derivatives(backend, precision)
    augmentation, draws = Augmentation(), Seed(1).generator(place.device)

    def run() -> Tensor:
        change = torch.zeros_like(problem.clean, requires_grad=True)
        shown = augmented(problem.clean + change, augmentation, space=problem.space, generator=draws)
        return torch.autograd.grad(shown, change, problem.matched(derivatives, shown).inputs)[0]

    return {**timed(run, place, calls=3), "poisons": len(problem.clean)}


def step_rows(found: Mapping[str, Found]) -> list[Row]:
    """Milliseconds, and how many times faster than eager double backward in TF32."""
    there = measured(found)
    lines = [
        {
            **row(
                f"step, {name}",
                [1000 * each["seconds"]],
                "ms",
                spread=[1000 * end for end in each["range"]],
                note=f"{each['poisons']} poisons, first call {each['first_seconds']:.1f} s",
            ),
            "n": each["rounds"],
        }
        for name, each in there.items()
    ]
    peer = there.get("double, tf32")
    for precision, least in GAINS.items():
        ours = [there[f"{each}, {precision}"]["seconds"] for each in sorted(EXACT) if f"{each}, {precision}" in there]
        gains = [peer["seconds"] / min(ours)] if peer and ours else []
        lines.append(row(f"best exact {precision} step against eager TF32", gains, "times", at_least=least))
    return lines


@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Learner):
    """A surrogate that is trained already, so that crafting alone is timed."""

    name = "given"
    model: Classifier

    def build(self, space: Space, seed: Seed) -> Classifier:
        """The network."""
        return self.model

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """The augmentation of ``paper-40``."""
        return augmented(inputs, Augmentation(), space=space, generator=generator)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """The network, at once."""
        yield Progress(epoch=1, epochs=1, model=self.model, loss=0.0, accuracy=0.0)


EXACTNESS = Piece(
    name="exactness",
    about="The derivative that poison follows, by every backend and format, against double backward in float64.",
    units=exactness_units,
    rows=exactness_rows,
)
STEPS = Piece(
    name="steps",
    about="A gradient-matching step for 500 poisons on ResNet-18 by every backend and format.",
    units=step_units,
    rows=step_rows,
)
