"""Cases whose times are what a fake clock says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mithridate.bench.case import Case, Figure, Form, Forms, Growth
from mithridate.bench.measure import Effort
from mithridate.bench.result import CaseFound, Measured
from mithridate.bench.runner import Plan

PLAN = Plan(effort=Effort(rounds=5, whole=False), threads=1, check=True)


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def waiting(self, seconds: float | Iterable[float]) -> Callable[[], None]:
        """Something to run that takes so long, or so long each time, the last for ever."""
        each = [seconds] if isinstance(seconds, (int, float)) else list(seconds)

        def run() -> None:
            self.now += each.pop(0) if len(each) > 1 else each[0]

        return run


def case(
    clock: Clock,
    *,
    name: str = "path/net/N5",
    plain: float | Iterable[float] = 8.0,
    fast: float | Iterable[float] = 2.0,
    cosine: float = 1.0,
    more: Mapping[str, float] = {},
    **settings: object,
) -> Case:
    """A case with a fast form, ``ours``, that takes so many seconds, and ``more`` ones, each with its cosine."""

    def prepare(size: Mapping[str, int]) -> Forms:
        return Forms(
            plain=Form(run=clock.waiting(plain), work=80.0),
            fast={"ours": Form(run=clock.waiting(fast), work=40.0)}
            | {name: Form(run=clock.waiting(1.0)) for name in more},
            accuracy=lambda: {
                name: [Figure(name="cosine", value=each, at_least=0.999)]
                for name, each in {"ours": cosine, **more}.items()
            },
        )

    return Case(name=name, about="waiting", size={"images": 5}, prepare=prepare, **settings)  # type: ignore[arg-type]


def growth(clock: Clock, exponent: float, **settings: object) -> Growth:
    """A growth whose seconds are 0.001 * size ** exponent, said to be linear."""
    return Growth(
        name="path/growth/rows",
        about="waiting longer",
        parameter="rows",
        sizes=(100, 200, 400, 800),
        prepare=lambda size: clock.waiting(0.001 * size**exponent),
        exponent=1.0,
        **settings,  # type: ignore[arg-type]
    )


def found(ratio: float, *, cosine: float = 1.0, **settings: object) -> CaseFound:
    """A case as measured, ``ratio`` times faster than plain in every round."""
    times = {"plain": 6.0, "ours": 6.0 / ratio}
    forms = {
        name: Measured(first_seconds=second, calls=1, round_seconds=(second,) * 5) for name, second in times.items()
    }
    figure = Figure(name="cosine", value=cosine, at_least=0.999)
    forms["ours"] = Measured(
        first_seconds=9.0, calls=1, round_seconds=(6.0 / ratio,) * 5, accuracy=(figure,), work=12.0
    )
    return CaseFound(name="path/net/N5", about="", size={"images": 6}, forms=forms, **settings)  # type: ignore[arg-type]
