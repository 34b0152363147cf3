"""One hypergradient by all poison rows: our formulas against torch's graph through all steps of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mithridate.bench.case import Case, Figure, Form, Forms, Growth

if TYPE_CHECKING:
    from mithridate.ops.fullbatch import Rows

_SIZE = {"clean": 100, "poison": 20, "seen": 400, "width": 784}
"""Rows of the back-gradient paper's MNIST experiment."""


def drawn(count: int, width: int, seed: int) -> Rows:
    """Rows as sparse as digits, with labels at random."""
    import numpy as np

    from mithridate.ops.fullbatch import Rows

    draws = np.random.default_rng(seed)
    inputs = draws.random((count, width)) * (draws.random((count, width)) < 0.2)
    return Rows(inputs=inputs, targets=draws.integers(2, size=(count, 1)).astype(float))


def _made(size: Mapping[str, int]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours and torch's gradient by the poison rows."""
    import numpy as np
    import torch

    from mithridate.bench.plain.hypergradient import linear, perceptron, unrolled
    from mithridate.ops.descent import Descent
    from mithridate.ops.fullbatch import Beginning
    from mithridate.ops.scores import LOSSES
    from mithridate.ops.unroll import hypergradient
    from mithridate.ops.upper import Direct, Hidden

    width, hidden, steps = size["width"], size["hidden"], size["steps"]
    rows, seen = drawn(size["clean"] + size["poison"], width, 0), drawn(size["seen"], width, 1)
    shapes = ((width, hidden), (hidden,), (hidden, 1), (1,)) if hidden else ((width, 1), (1,))
    draws = np.random.default_rng(7)
    start = [0.1 * draws.normal(size=shape) for shape in shapes]
    tensors = [tuple(torch.from_numpy(part) for part in (each.inputs, each.targets)) for each in (rows, seen)]

    def ours() -> Any:
        found = hypergradient(
            rows,
            seen,
            upper=(Hidden if hidden else Direct)(LOSSES["logistic"]),
            descent=Descent(steps=steps, lr=0.1),
            start=Beginning(first=start[0], upper=tuple(start[1:])),
            chosen=slice(size["clean"], None),
        )
        return found.inputs

    def plain() -> Any:
        (inputs, targets), others = tensors[0], tensors[1]
        return unrolled(
            perceptron if hidden else linear,
            [torch.from_numpy(each) for each in start],
            rows=(inputs, targets),
            seen=(others[0], others[1]),
            poison=size["poison"],
            steps=steps,
            lr=0.1,
        )[1].numpy()

    return ours, plain


def _prepared(size: Mapping[str, int]) -> Forms:
    import numpy as np

    ours, plain = _made(size)

    def accuracy() -> dict[str, list[Figure]]:
        wanted = plain()
        apart = float(np.linalg.norm(ours() - wanted) / np.linalg.norm(wanted))
        return {"formulas": [Figure(name="relative error", value=apart, at_most=1e-10)]}

    return Forms(plain=Form(run=plain), fast={"formulas": Form(run=ours)}, accuracy=accuracy)


def _of_steps(steps: int, hidden: int) -> Callable[[], object]:
    return _made({**_SIZE, "hidden": hidden, "steps": steps})[0]


def _case(kind: str, hidden: int, steps: int) -> Case:
    network = f"a perceptron with {hidden} hidden units" if hidden else "a logistic regression"
    return Case(
        name=f"hypergradient/{kind}/T{steps}",
        about=f"through {steps} steps of {network}, 120 rows of 784 numbers; plain: one graph of torch's",
        size={**_SIZE, "hidden": hidden, "steps": steps},
        tiny={"clean": 10, "poison": 3, "seen": 20, "width": 15, "hidden": min(hidden, 3), "steps": 5},
        items="steps",
        prepare=_prepared,
        must={"formulas": 7.0},
        stretch={"formulas": 10.0},
        quick=not hidden,
    )


CASES = (
    _case("logistic", 0, 100),
    _case("mlp", 10, 200),
    *(
        Growth(
            name=f"hypergradient/growth/{kind}-steps",
            about="a hypergradient by 20 rows through more steps of the training",
            parameter="steps",
            sizes=(100, 200, 400, 800),
            prepare=partial(_of_steps, hidden=hidden),
            exponent=1.0,
            tolerance=0.25,
            tiny=(3, 5),
        )
        for kind, hidden in (("logistic", 0), ("mlp", 10))
    ),
)
