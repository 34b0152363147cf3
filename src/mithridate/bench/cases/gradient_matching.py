"""A step of gradient matching: the derivative of the cosine objective in the poison's pixels, by every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from mithridate.bench.case import Case, Figure, Form, Forms, Growth

if TYPE_CHECKING:
    from torch import Tensor

    from mithridate.bench.matching_step import Step
    from mithridate.ops.gradients import Backend, Precision

_UNITS: Mapping[str, int] = {"plain": 9, "double": 7, "reverse-over-forward": 9, "gated-difference": 5, "smoothed": 5}
"""Work in forward passes: what each form needs of convolutions, the unused second-order gradients of peers included."""
_LEAST: Mapping[str, tuple[float, float]] = {
    "double": (0.99999, 0.99),
    "reverse-over-forward": (0.99999, 0.99),
    "gated-difference": (0.999, 0.97),
    "smoothed": (0.999, 0.97),  # to its own in float64: it is not the published gradient
    "bf16": (0.95, 0.85),
}
"""The cosine and the agreement in sign that are asked of each form."""
NETWORKS: Mapping[str, str] = {
    "convnet": "five convolutions of widths 32, 32, 64, 64, 64 with batch norm",
    "resnet18w16": "ResNet-18 of width 16",
}


def _prepared(size: Mapping[str, int], *, network: str) -> Forms:
    from mithridate.bench.matching_step import Step
    from mithridate.bench.plain.gradient_matching import slope

    step = Step.made(network, size["poisons"])
    names: dict[str, tuple[Backend, Precision]] = {
        "double": ("double", "float32"),
        "reverse-over-forward": ("reverse-over-forward", "float32"),
        "gated-difference": ("gated-difference", "float32"),
        "bf16": ("double", "bf16"),
        "smoothed": ("smoothed", "float32"),
    }

    def plain() -> Tensor:
        change, shown = step.shown()
        return slope(step.model, change, shown, step.labels, step.target)

    fast = {name: step.slope(*settings) for name, settings in names.items()}
    unit = step.forward_gflop()
    return Forms(
        plain=Form(run=plain, work=_UNITS["plain"] * unit),
        fast={name: Form(run=run, work=_UNITS.get(name, 7) * unit) for name, run in fast.items()},
        accuracy=partial(_figures, step, fast),
    )


def _figures(step: Step, fast: Mapping[str, Callable[[], Tensor]]) -> dict[str, list[Figure]]:
    """Cosine to double backward in float64, and how many signs are the same."""
    import torch

    found, published, smoothed = {}, step.exact(), step.exact("smoothed")
    for name, run in fast.items():
        ours, least = run().double(), _LEAST[name]
        exact = smoothed if name == "smoothed" else published
        cosine = float(torch.nn.functional.cosine_similarity(ours.flatten(), exact.flatten(), dim=0))
        signs = float((ours.sign() == exact.sign()).double().mean())
        found[name] = [
            Figure(name="cosine to float64", value=cosine, at_least=least[0]),
            Figure(name="signs as in float64", value=signs, at_least=least[1]),
        ]
    return found


def _growing(count: int, *, what: Literal["poisons", "surrogates"]) -> Callable[[], object]:
    from mithridate.bench.matching_step import Step

    poisons, networks = (count, 1) if what == "poisons" else (25, count)
    steps = [Step.made("convnet", poisons, seed=k).slope("gated-difference", "float32") for k in range(networks)]
    return lambda: [step() for step in steps]


CASES = (
    *(
        Case(
            name=f"gm-step/{network}/P{poisons}",
            about=f"derivative of the matching objective in {poisons} poisons, {about}; plain: double backward by "
            "backward(), float32, all rows at once",
            size={"poisons": poisons},
            tiny={"poisons": 4},
            items="poisons",
            prepare=partial(_prepared, network=network),
            must={"gated-difference": 2.0, "reverse-over-forward": 1.2},
            stretch={"gated-difference": 2.8},
            lighter={"gated-difference": 2.0},
            quick=poisons == 25,
        )
        for network, about in NETWORKS.items()
        for poisons in (25, 100, 400)
    ),
    Growth(
        name="gm-step/growth/poisons",
        about="a step of the gated difference, convnet, with the number of poisons",
        parameter="poisons",
        sizes=(64, 128, 256, 512),
        tiny=(2, 4),
        prepare=partial(_growing, what="poisons"),
        exponent=1.0,
    ),
    Growth(
        name="gm-step/growth/surrogates",
        about="a step of the gated difference, convnet, 25 poisons, with the number of surrogates",
        parameter="surrogates",
        sizes=(1, 2, 4, 8),
        tiny=(1, 2),
        prepare=partial(_growing, what="surrogates"),
        exponent=1.0,
    ),
)
