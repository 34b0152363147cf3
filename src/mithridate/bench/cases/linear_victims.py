"""Linear classifiers, linear heads and perceptrons of many trials: together, against one after another by autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mithridate.bench.case import Case, Figure, Form, Forms

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mithridate.dataset import Dataset
    from mithridate.learner import Progress
    from mithridate.seeding import Seed

_SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
_FULL = {"steps": 300, "lr": 0.5}


def _drawn(rows: int, columns: int, classes: int, seed: int) -> Dataset:
    """Rows of a noisy linear rule, the same for all seeds."""
    import torch

    from mithridate.dataset import Dataset, Space

    draws, rule = (torch.Generator().manual_seed(each) for each in (seed, 10**6))
    inputs = torch.randn(rows, columns, generator=draws).clamp(-8, 8)
    scores = inputs @ torch.randn(columns, classes, generator=rule) / columns**0.5
    labels = (scores + 0.5 * torch.randn(scores.shape, generator=draws)).argmax(1)
    return Dataset.of(inputs, labels, space=Space(shape=(columns,), num_classes=classes, bounds=(-8.0, 8.0)))


def _by_batches(size: Mapping[str, int]) -> Forms:
    from mithridate.bench.plain.linear_victims import trained
    from mithridate.learners.sgd import SGD
    from mithridate.models.linear import Linear
    from mithridate.models.mlp import MLP
    from mithridate.seeding import Seed

    model = MLP(hidden=(size["hidden"],)) if size["hidden"] else Linear()
    settings = {"epochs": size["epochs"], "batch_size": size["batch"], "schedule": "constant", "augmentation": None}
    learner = SGD(model=model, **_SGD, **settings)  # type: ignore[arg-type]
    data = [_drawn(size["rows"], size["columns"], size["classes"], k) for k in range(size["victims"])]
    seeds = [Seed(100 + k) for k in range(size["victims"])]
    orders = [_order(size, seed) for seed in seeds]

    def plain() -> Sequence[nn.Module]:
        networks = [learner.build(rows.space, seed.child("weights")) for rows, seed in zip(data, seeds, strict=True)]
        trained(networks, [each.inputs for each in data], [each.labels for each in data], orders, **_SGD)
        return networks

    def together() -> list[Progress]:
        return learner.fit_many(data, seeds)

    def alone() -> list[Progress]:
        return [learner.fit(rows, seed=seed) for rows, seed in zip(data, seeds, strict=True)]

    def accuracy() -> dict[str, list[Figure]]:
        test, slow = _drawn(2000, size["columns"], size["classes"], 10**5), plain()
        ways = {"together": together(), "one by one": alone()}
        found = {name: _compared([each.model for each in ends], slow, test) for name, ends in ways.items()}
        mean = Figure(name="test accuracy", value=sum(_right(each, test) for each in slow) / len(slow))
        return {"plain": [mean], **found}

    width = size["hidden"]
    products = (
        size["columns"] * (width or size["classes"]) * 2 + 3 * width * size["classes"]
    )  # one saved: no slope of x
    work = 2 * products * size["rows"] * size["epochs"] * size["victims"] / 1e9
    fast = {"together": together, "one by one": alone}
    return Forms(
        plain=Form(run=plain, work=work, limit="matmul fp32"),
        fast={name: Form(run=run, work=work, limit="matmul fp32") for name, run in fast.items()},
        accuracy=accuracy,
    )


def _order(size: Mapping[str, int], seed: Seed) -> list[Tensor]:
    """The batches that our loop takes with this seed."""
    import torch

    draws, count = seed.child("order").generator(), size["rows"]
    whole = [torch.randperm(count, generator=draws) for _ in range(size["epochs"])]
    return [part for order in whole for part in torch.split(order, size["batch"])]


def _full(size: Mapping[str, int]) -> Forms:
    import torch

    from mithridate.bench.plain.linear_victims import descended
    from mithridate.learners.gradient_descent import GradientDescent
    from mithridate.seeding import Seed

    learner = GradientDescent(loss="logistic", standardise=False, **_FULL)  # type: ignore[arg-type]
    data = [_drawn(size["rows"], size["columns"], 2, k) for k in range(size["victims"])]
    seeds = [Seed(k) for k in range(size["victims"])]

    def plain() -> list[Tensor]:
        return [descended(each.inputs.double(), each.labels.double(), **_FULL) for each in data]  # type: ignore[arg-type]

    def together() -> list[Progress]:
        return learner.fit_many(data, seeds)

    def accuracy() -> dict[str, list[Figure]]:
        pairs = list(zip(together(), plain(), strict=True))
        ours = [torch.cat([each.flatten() for each in end.model.parameters()]).detach() for end, _ in pairs]
        apart = max(float((mine - slow).abs().max()) for mine, (_, slow) in zip(ours, pairs, strict=True))
        return {"together": [Figure(name="largest difference of weights", value=apart, at_most=1e-9)]}

    return Forms(plain=Form(run=plain), fast={"together": Form(run=together)}, accuracy=accuracy)


def _compared(ours: Sequence[nn.Module], slow: Sequence[nn.Module], test: Dataset) -> list[Figure]:
    pairs = [
        (one, other)
        for mine, theirs in zip(ours, slow, strict=True)
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True)
    ]
    return [
        Figure(
            name="largest difference of weights",
            value=max(float((one - other).detach().abs().max()) for one, other in pairs),
            at_most=1e-4,
        ),
        Figure(name="test accuracy", value=sum(_right(each, test) for each in ours) / len(ours)),
    ]


def _right(network: nn.Module, test: Dataset) -> float:
    """Share of the rows called by their label."""
    import torch

    with torch.no_grad():
        return float((network(test.inputs).argmax(1) == test.labels).float().mean())


def _case(
    kind: str, victims: int, *, columns: int, classes: int, hidden: int = 0, batch: int = 32, rows: int = 512
) -> Case:
    size = {"victims": victims, "rows": rows, "columns": columns, "classes": classes, "hidden": hidden}
    size |= {"batch": batch, "epochs": 6}
    network = f"{columns}-{hidden}-{classes} perceptrons" if hidden else f"{columns}-{classes} linear classifiers"
    return Case(
        name=f"linear-victims/{kind}/B{victims}",
        about=f"train {victims} {network} in batches of {batch}; plain: one after another by autograd and torch.optim",
        size=size,
        tiny={**size, "victims": 3, "rows": 64, "epochs": 1},
        items="victims",
        prepare=_by_batches,
        must={"together": 5.0},
        stretch={"together": 10.0},
        quick=kind == "digits" and victims == 16,
    )


CASES = (
    *(_case("digits", victims, columns=64, classes=10) for victims in (8, 16, 32)),
    *(_case("spam", victims, columns=57, classes=2, batch=64) for victims in (8, 16, 32)),
    *(_case("mlp", victims, columns=64, classes=10, hidden=64) for victims in (8, 16, 32)),
    *(_case("heads", victims, columns=512, classes=10, batch=64) for victims in (8, 16, 32)),
    Case(
        name="linear-victims/full-batch/B8",
        about="train 8 logistic regressions on all rows at once, float64; plain: one after another by autograd",
        size={"victims": 8, "rows": 1000, "columns": 57},
        tiny={"victims": 2, "rows": 60, "columns": 5},
        items="victims",
        prepare=_full,
    ),
)
