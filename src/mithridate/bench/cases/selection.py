"""Greedy medoids of one class: ours, with numba and without, against the whole matrix and a lazy heap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mithridate.bench.case import Case, Figure, Form, Forms, Growth

if TYPE_CHECKING:
    from torch import Tensor

_NUMBA = "numba is not installed: pip install 'mithridate[fast]'"


def softmax_outputs(rows: int, width: int) -> Tensor:
    """Outputs ``(rows, width)`` float32 of the middle of training: the first logit leads by a gamma-distributed margin.

    About three quarters of the rows are called right, many of those with confidence.
    """
    import torch

    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, width, generator=draws)
    logits[:, 0] += -1.5 * torch.rand(rows, 3, generator=draws).clamp_min(1e-12).log().sum(1) - 1
    return (1.5 * logits).softmax(1)


def _prepared(size: Mapping[str, int]) -> Forms:
    from mithridate.bench.plain.selection import lazy_medoids, objective

    points, count = softmax_outputs(size["rows"], size["width"]), size["medoids"]
    forms = {name: run for name, run in engines(points, count).items() if run}

    def accuracy() -> dict[str, Sequence[Figure]]:
        wanted = lazy_medoids(points.numpy(), count)
        most, found = objective(points.numpy(), wanted), {name: run() for name, run in forms.items()}
        return {
            name: [
                Figure(name="objective over plain's", value=objective(points.numpy(), each) / most, at_least=0.99999),
                Figure(name="share of equal picks", value=len(set(each) & set(wanted)) / count),
                Figure(name="picks as without numba", value=float(each == found["torch"]), at_least=1.0),
            ]
            for name, each in found.items()
        }

    return Forms(
        plain=Form(run=lambda: lazy_medoids(points.numpy(), count)),
        fast={name: Form(run=run) for name, run in forms.items()},
        accuracy=accuracy,
        absent={} if "numba" in forms else {"numba": _NUMBA},
    )


def engines(points: Tensor, count: int) -> dict[str, Callable[[], list[int]] | None]:
    """Each engine's picks, from the points on; None where it is not there."""
    from mithridate.ops import facility, medoids

    compiled = medoids._compiled_greedy()

    def by_torch() -> list[int]:
        columns, law = medoids._prepared(points, count, "exp", None)
        picks: list[int] = facility.kept_greedy([columns], [count], [law])[0][0].tolist()
        return picks

    def by_numba() -> list[int]:
        assert compiled is not None
        columns, law = medoids._prepared(points, count, "exp", None)
        picks: list[int] = compiled(columns, count, law)[0].tolist()
        return picks

    return {"torch": by_torch, "numba": by_numba if compiled else None}


def _growing(rows: int, count: int) -> Callable[[], object]:
    """Without numba, so that nothing compiles."""
    run = engines(softmax_outputs(rows, 10), count)["torch"]
    assert run is not None
    return run


CASES = (
    Case(
        name="selection/one-class/n5000",
        about="500 medoids of 5 000 softmax outputs of width 10; plain: NumPy's whole matrix and a lazy heap",
        size={"rows": 5000, "width": 10, "medoids": 500},
        tiny={"rows": 300, "width": 10, "medoids": 30},
        items="rows",
        prepare=_prepared,
        # submodlib takes 2.4 times as long as plain does: 5 and 20 times against it
        must={"torch": 2.1, "numba": 2.1},
        stretch={"numba": 8.4},
    ),
    Case(
        name="selection/one-class/n2000",
        about="200 medoids of 2 000 softmax outputs of width 10; plain: NumPy's whole matrix and a lazy heap",
        size={"rows": 2000, "width": 10, "medoids": 200},
        tiny={"rows": 200, "width": 10, "medoids": 50},
        items="rows",
        prepare=_prepared,
        quick=True,
    ),
    Growth(
        name="selection/growth/rows",
        about="medoids of a tenth of the rows of a class, without numba",
        parameter="rows",
        sizes=(2000, 3000, 4500, 6500),
        prepare=lambda rows: _growing(rows, rows // 10),
        exponent=2.0,
        tolerance=0.3,
        tiny=(200, 300),
    ),
    Growth(
        name="selection/growth/medoids",
        about="more medoids of 4 000 rows of a class, without numba",
        parameter="medoids",
        sizes=(200, 400, 800, 1600),
        prepare=lambda count: _growing(4000, count),
        exponent=0.0,
        tolerance=0.35,
    ),
)
