"""What a hypergradient costs: our formulas against torch's unrolling, many candidate sets at once against one by one.

    python benchmarks/hypergradients.py [--rounds 15]

The setting is that of the back-gradient paper's MNIST experiment: 100 clean and 20 poison rows (one or 20 a candidate
set) of 784 numbers and a bias, 400 validation rows, float64. The plain way is torch's: one autograd graph through
all steps, with torch's own loss. Both sides of a case run in turn in one process, on one thread; ratios are those of
a round, so that a slow moment hits both. ``apart`` is how far the two sides' gradients are from each other. Writes
``benchmarks/results/hypergradients.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mithridate import runtime
from mithridate.attack import craft
from mithridate.attacks.back_gradient import BackGradient
from mithridate.bilevel import Bilevel, Method, Steering, Unrollable
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims, Degrade
from mithridate.learner import Around, Hook, Learner, Progress
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.recipes import recipe
from mithridate.model import Classifier
from mithridate.ops.candidates import candidates
from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Beginning, Form, Rows
from mithridate.ops.scores import LOSSES, Array
from mithridate.ops.unroll import hypergradient
from mithridate.ops.upper import Direct, Hidden, Upper
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel, Unbounded

PLACE = Path(__file__).parent / "results" / "hypergradients.json"
CLEAN, POISON, SEEN, WIDTH, HIDDEN = 100, 20, 400, 784, 10
LOSS, torch_loss = LOSSES["logistic"], functional.binary_cross_entropy_with_logits
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Gradient = Callable[[], Array]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    if any(os.environ.get(name) != count for name, count in ONE_THREAD.items()):  # read when NumPy is imported
        return subprocess.run([sys.executable, *sys.argv], env={**os.environ, **ONE_THREAD}, check=False).returncode
    runtime.use_threads(1)
    started = time.monotonic()
    linear, hidden = Descent(steps=100, lr=0.1), Descent(steps=200, lr=0.1)
    found = [
        one("logistic regression, T = 100, Gram form", Direct(LOSS), linear, "gram", asked.rounds),
        one("logistic regression, T = 100, plain form", Direct(LOSS), linear, "plain", asked.rounds),
        one("perceptron with 10 hidden units, T = 200, Gram form", Hidden(LOSS), hidden, "gram", asked.rounds),
        one("perceptron with 10 hidden units, T = 200, plain form", Hidden(LOSS), hidden, "plain", asked.rounds),
        whole("whole logistic attack: 20 rows, 60 steps", "logistic-attacker", asked.rounds),
        whole("whole perceptron attack: 20 rows, 60 steps", "mlp-10-attacker", min(asked.rounds, 5)),
        *(many(sets, own, linear, asked.rounds) for own in (1, POISON) for sets in (10, 40, 160)),
    ]
    result = {
        "name": "hypergradients",
        "about": "Milliseconds of wall time (least and median over rounds) of a hypergradient by all poison rows, in "
        "turn with the other way; ratios are medians over rounds, with their range.",
        "command": f"python benchmarks/hypergradients.py --rounds {asked.rounds}",
        "environment": {**runtime.describe(torch.device("cpu")), "threads": 1},
        "core_seconds": round(time.monotonic() - started),
        "measured": found,
        "rows": [],
    }
    PLACE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


def one(case: str, upper: Upper, descent: Descent, form: Form, rounds: int) -> dict[str, Any]:
    """One hypergradient by our formulas, against torch's unrolling."""
    rows, seen, start = drawn(CLEAN + POISON, 0), drawn(SEEN, 1), begun(upper)
    how = {"upper": upper, "descent": descent, "start": start, "chosen": slice(CLEAN, None), "form": form}
    return compared(
        case,
        lambda: hypergradient(rows, seen, **how).inputs,  # type: ignore[arg-type]
        "unrolling by torch",
        lambda: unrolled(rows, seen, upper, descent, start),
        rounds=rounds,
        calls=1,
    )


def many(sets: int, own: int, descent: Descent, rounds: int) -> dict[str, Any]:
    """Many candidate sets of ``own`` rows each in one sweep, against a sweep for each; times are of one set."""
    clean, seen, start = drawn(CLEAN, 0), drawn(SEEN, 1), begun(Direct(LOSS))
    drawn_sets = [drawn(own, 2 + number) for number in range(sets)]
    inputs, targets = np.stack([each.inputs for each in drawn_sets]), np.stack([each.targets for each in drawn_sets])

    def together() -> Array:
        return candidates(clean, inputs, targets, seen, loss=LOSS, descent=descent, start=start).inputs

    def alone(each: Rows) -> Array:
        rows = Rows(
            inputs=np.concatenate([clean.inputs, each.inputs]), targets=np.concatenate([clean.targets, each.targets])
        )
        chosen = slice(CLEAN, None)
        return hypergradient(rows, seen, upper=Direct(LOSS), descent=descent, start=start, chosen=chosen).inputs

    def in_turn() -> Array:
        return np.stack([alone(each) for each in drawn_sets])

    name = f"logistic regression, T = 100, {sets} candidate sets of {own}"
    return compared(name, together, "one by one", in_turn, rounds=rounds, calls=sets)


def whole(case: str, name: str, rounds: int) -> dict[str, Any]:
    """A whole attack, against the same one whose every gradient is unrolled by torch."""
    space = Space(shape=(WIDTH,), num_classes=2)
    clean, seen = (
        Dataset.of(torch.from_numpy(each.inputs).float(), torch.from_numpy(each.targets[:, 0]).long(), space=space)
        for each in (drawn(CLEAN, 0), drawn(SEEN, 1))
    )
    threat = ThreatModel(goal=Degrade(), budget=POISON / CLEAN, perturbation=Unbounded(), labels="dirty", rows="append")
    aims = threat.goal.draw(clean, seen, Seed(0), validation=seen).known
    learner = recipe(name, initial_seed=7)

    def crafted(surrogate: Learner) -> Array:
        poison = craft(BackGradient(), clean, threat=threat, aims=aims, surrogates=(surrogate,), seed=Seed(1))
        found: Array = poison.rows.inputs.double().numpy()
        return found

    slow = ByTorch(learner=learner)
    return compared(case, lambda: crafted(learner), "unrolling by torch", lambda: crafted(slow), rounds=rounds, calls=1)


@dataclass(frozen=True, kw_only=True)
class ByTorch(Around, Unrollable):
    """A learner whose training is differentiated in the plain way."""

    name: ClassVar[str] = "by-torch"
    learner: GradientDescent

    def build(self, space: Space, seed: Seed) -> Classifier:
        """As inside."""
        return self.learner.build(space, seed)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """As inside."""
        yield from self.learner.train(data, seed=seed, hooks=hooks, resume=resume)

    def bilevel(self, clean: Dataset, aims: Aims, *, seed: Seed) -> Bilevel:
        """By torch."""
        start = self.learner.build(clean.space, seed.child("weights")).beginning()
        return TorchBilevel(clean, aims, upper=self.learner.upper(), descent=self.learner.descent(), start=start)


class TorchBilevel(Bilevel):
    """Every gradient from one graph through all steps."""

    def __init__(self, clean: Dataset, aims: Aims, *, upper: Upper, descent: Descent, start: Beginning) -> None:
        """Prepare the rows that stay."""
        self.upper, self.descent, self.start = upper, descent, start
        self.clean, self.seen = rows_of(clean.all_inputs(), clean.labels), rows_of(aims.inputs, aims.labels)

    def value(self, inputs: Tensor, labels: Tensor) -> float:
        """Through the gradient, which is not the fastest way, but is asked for only once."""
        return self.steering(inputs, labels).value

    def steering(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        method: Method = "stored",
        last: int | None = None,
        by_labels: bool = False,
    ) -> Steering:
        """One unrolled training."""
        poison = rows_of(inputs, labels)
        rows = Rows(
            inputs=np.concatenate([self.clean.inputs, poison.inputs]),
            targets=np.concatenate([self.clean.targets, poison.targets]),
        )
        value, found = unrolled_with_value(rows, self.seen, self.upper, self.descent, self.start)
        return Steering(value=value, inputs=torch.from_numpy(found), labels=torch.zeros(len(labels), 2))


def rows_of(inputs: Tensor, labels: Tensor) -> Rows:
    """Rows as the first layer sees them."""
    return Rows(inputs=inputs.double().numpy(), targets=labels[:, None].double().numpy())


def compared(case: str, ours: Gradient, against: str, other: Gradient, *, rounds: int, calls: int) -> dict[str, Any]:
    """Times of both sides in turn, and by how much ours is faster."""
    gap = np.linalg.norm(ours() - other()) / np.linalg.norm(other())  # and both are warm
    times = [(seconds(ours) / calls, seconds(other) / calls) for _ in range(rounds)]
    ratios = [slow / quick for quick, slow in times]
    least, median = ([round(1e3 * of(each), 3) for each in zip(*times, strict=True)] for of in (min, statistics.median))
    return {
        "case": case,
        "against": against,
        "ms": [least[0], median[0]],
        "against_ms": [least[1], median[1]],
        "times_faster": round(statistics.median(ratios), 2),
        "range": [round(min(ratios), 2), round(max(ratios), 2)],
        "rounds": rounds,
        "apart": float(f"{gap:.1e}"),
    }


def seconds(work: Gradient) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def drawn(count: int, seed: int) -> Rows:
    """Rows as sparse as digits, with labels at random."""
    draws = np.random.default_rng(seed)
    inputs = draws.random((count, WIDTH)) * (draws.random((count, WIDTH)) < 0.2)
    return Rows(inputs=inputs, targets=draws.integers(2, size=(count, 1)).astype(float))


def begun(upper: Upper) -> Beginning:
    """Where training begins: linear learners at 0, perceptrons at random."""
    if isinstance(upper, Direct):
        return Beginning(first=np.zeros((WIDTH, 1)), upper=(np.zeros(1),))
    draws = np.random.default_rng(7)
    shapes = ((WIDTH, HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,))
    first, *above = (0.1 * draws.normal(size=shape) for shape in shapes)
    return Beginning(first=first, upper=tuple(above))


def unrolled(rows: Rows, seen: Rows, upper: Upper, descent: Descent, start: Beginning) -> Array:
    """The gradient in the plain way."""
    return unrolled_with_value(rows, seen, upper, descent, start)[1]


def unrolled_with_value(
    rows: Rows, seen: Rows, upper: Upper, descent: Descent, start: Beginning
) -> tuple[float, Array]:
    """The plain way: one autograd graph through all steps."""
    inputs, targets = torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets)
    poison = inputs[CLEAN:].clone().requires_grad_()
    both = torch.cat([inputs[:CLEAN], poison])
    parts = [torch.from_numpy(each).clone().requires_grad_() for each in (start.first, *start.upper)]
    for _ in range(descent.steps):
        loss = torch_loss(upper.scores(both @ parts[0], tuple(parts[1:])), targets)
        slopes = torch.autograd.grad(loss, parts, create_graph=True)
        parts = [each - descent.lr * slope for each, slope in zip(parts, slopes, strict=True)]
    scores = upper.scores(torch.from_numpy(seen.inputs) @ parts[0], tuple(parts[1:]))
    value = torch_loss(scores, torch.from_numpy(seen.targets))
    (found,) = torch.autograd.grad(value, poison)
    gradient: Array = found.numpy()
    return float(value.detach()), gradient


if __name__ == "__main__":
    sys.exit(main())
