"""Networks compiled with ``torch.compile``: once in a process, for all trainings of one architecture on one space."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mithridate.model import Classifier


def compiled(model: Classifier, *, rows: int) -> Callable[[Tensor], Tensor]:
    """The logits of ``model`` by compiled code for batches of ``rows``, by plain code for others (an epoch's last).

    Torch finds the code of an equal network with other weights again, so that victims after the first compile nothing;
    batches of another size would have it compile anew, for sizes unknown, which is slower code.
    """
    quick = torch.compile(model, dynamic=False)
    return lambda inputs: quick(inputs) if len(inputs) == rows else model(inputs)
