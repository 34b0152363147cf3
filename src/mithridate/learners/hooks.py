"""What the hooks of a training do together: rows that go, and a backward pass that one of them makes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError, DataError
from mithridate.learner import Batch, Hook, Progress, Removal
from mithridate.model import Classifier


def dropped(
    hooks: Sequence[Hook], data: Dataset, active: Tensor, progress: Progress | None
) -> tuple[Tensor, list[Removal]]:
    """The rows still active ``(N,)`` once every hook in turn has taken out what it will, and what each took out.

    Raises :class:`DataError` where fewer than two rows are left.
    """
    removals: list[Removal] = []
    for hook in hooks:
        removal = hook.drop(data, active, progress)
        if removal is not None and len(removal.ids):
            active = active & ~torch.isin(data.ids, removal.ids.to(data.device))
            removals.append(removal)
    left = int(active.sum())
    if left < 2:
        raise DataError(f"training needs at least 2 rows, but there are {left}" + (" left" if hooks else ""))
    return active, removals


def hooked_backward(hooks: Sequence[Hook], model: Classifier, batch: Batch, draws: torch.Generator) -> Tensor | None:
    """The loss of the hook that fills the gradients itself, or None. Raises :class:`ConfigError` for a second one."""
    for k, hook in enumerate(hooks):
        loss = hook.backward(model, batch, draws)
        if loss is None:
            continue
        others = [each for each in hooks[k + 1 :] if type(each).backward is not Hook.backward]
        if others:
            names = [getattr(each.settings, "name", type(each).__name__) for each in (hook, *others)]
            raise ConfigError(f"only one defense can fill the gradients, but {' and '.join(names)} would; wear one")
        return loss.detach()
    return None


def parts(
    hooks: Sequence[Hook], count: int, size: int, generator: torch.Generator, *, device: torch.device
) -> list[Tensor]:
    """Row numbers below ``count`` of each batch of an epoch: as a hook says, or a shuffle cut into parts of ``size``.

    A last row on its own joins the batch before, as batch norm needs two.
    """
    for hook in hooks:
        found = hook.batches(count, size, generator)
        if found is not None:
            return [each.to(device) for each in found]
    cuts = list(torch.split(torch.randperm(count, generator=generator).to(device), size))
    if size > 1 and len(cuts) > 1 and len(cuts[-1]) == 1:
        cuts[-2:] = [torch.cat(cuts[-2:])]
    return cuts
