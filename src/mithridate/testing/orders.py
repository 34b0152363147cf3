"""The promise that a defense's judgement does not depend on the order of the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Defense, Filter, HookDefense, Sanitiser, features_of
from mithridate.testing.bench import Bench
from mithridate.testing.runs import SEED, truth
from mithridate.testing.witnesses import Ledger, Mirror


def check_order_of_rows(defense: Defense, bench: Bench) -> None:
    """Filters and sanitisers flag the same rows, and hooks drop the same, when rows come in another order.

    (The weights of a network do depend on the order: on which rows make a batch.)
    """
    data = bench.data.train
    order = torch.randperm(len(data), generator=SEED.child("order").generator())
    ready = defense.told(truth(data))
    if isinstance(ready, Filter):
        _check_filter(ready, bench, data, order)
    if isinstance(ready, Sanitiser):
        _check_sanitiser(ready, bench, data, order)
    if isinstance(ready, HookDefense):
        hooks = [ready.hook(bench.learner, SEED.child(ready.name)) for _ in range(2)]
        mirror = Mirror(hooks[0], hooks[1], order)
        bench.learner.fit(data, seed=SEED, hooks=(mirror,))
        for epoch, (one, two) in enumerate(mirror.dropped):
            said = f"{ready.name} drops other rows after epoch {epoch} when they come in another order"
            assert one == two, f"{said}: {len(set(one) ^ set(two))} of {max(len(one), len(two))} differ"


def _check_filter(defense: Filter, bench: Bench, data: Dataset, order: Tensor) -> None:
    """The same verdict on every row, of the features of a network and of the same rows moved about."""
    features = features_of(bench.learner.fit(data, seed=SEED).model, data)
    one = defense.judge(features, data, seed=SEED)
    two = defense.judge(features[order], data.at(order), seed=SEED)
    for verdict in (one, two):
        for what, each in (("scores", verdict.scores), ("flagged", verdict.flagged)):
            assert each.shape == (len(data),), f"{defense.name}: {what} {tuple(each.shape)} of {len(data)} rows"
        assert verdict.flagged.dtype == torch.bool, f"{defense.name}: flagged is {verdict.flagged.dtype}, not bool"
    apart = int((one.flagged[order] != two.flagged).sum())
    assert not apart, f"{defense.name} judges {apart} rows otherwise when they come in another order"
    expected, scale = one.scores[order].double(), float(one.scores.nan_to_num().abs().max())
    close = torch.allclose(expected, two.scores.double(), rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
    assert close, f"{defense.name} gives rows other scores when they come in another order"


def _check_sanitiser(defense: Sanitiser, bench: Bench, data: Dataset, order: Tensor) -> None:
    """The same rows are gone, in the same order, and the same ones have other labels."""
    one, two = (_left(defense, bench, each) for each in (data, data.at(order)))
    assert one == two, f"{defense.name} sifts otherwise when rows come in another order"


def _left(defense: Sanitiser, bench: Bench, data: Dataset) -> tuple[list[list[int]], dict[int, int]]:
    """Ids that are gone, and the label of each row that is trained on."""
    ledger = Ledger()
    found = defense.protect(bench.learner).fit(data, seed=SEED, hooks=(ledger,))
    return [removal.ids.tolist() for removal in found.removals], ledger.labels
