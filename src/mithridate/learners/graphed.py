"""The whole training step as a CUDA graph: recorded once a training, then replayed for every batch of full size.

A small network's step is hundreds of short kernels, and launching them can take longer than computing. :func:`step` is
the step of the loop in ``sgd.py``; what differs between steps it reads from :class:`Buffers`, which stay where they
are, and the rates. Draws are made outside, as in the loop; smaller batches run :func:`step` as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.errors import ConfigError
from mithridate.learner import Hook
from mithridate.learners.augment import Draw
from mithridate.learners.precision import autocast
from mithridate.learners.running import Run
from mithridate.learners.schedule import factor
from mithridate.learners.windows import drawn, shown_as
from mithridate.memory import out_of_memory

if TYPE_CHECKING:
    from mithridate.learners.sgd import SGD

Forward = Callable[[Tensor], Tensor]
DEVICES: tuple[str, ...] = ("cuda",)
"""Where steps are recorded. Tests add ``cpu``, where the recorded step is the step itself."""
WARM_UP = 3
"""Steps made before one is recorded, so that all that torch prepares at first is there; they are undone."""


def fits(run: Run) -> bool:
    """Whether the steps of a training can be recorded: on a GPU, and no hook takes part in them."""
    takes_part = ("batches", "transform", "backward")
    return run.data.device.type in DEVICES and all(
        getattr(type(hook), name) is getattr(Hook, name) for hook in run.hooks for name in takes_part
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Buffers:
    """What a step reads and adds to."""

    index: Tensor
    """``(n,)`` int64: positions of its rows."""
    draw: Draw | None
    """The draw of the augmentation, if there is one."""
    totals: Tensor
    """``(2,)``: sums over the epoch's rows of loss and of right answers."""

    def fill(self, index: Tensor, draw: Draw | None) -> None:
        """Take in another batch of this size."""
        self.index.copy_(index)
        if self.draw is not None and draw is not None:
            for each in fields(Draw):
                getattr(self.draw, each.name).copy_(getattr(draw, each.name))


def step(learner: SGD, run: Run, forward: Forward, buffers: Buffers) -> None:
    """One step on the rows of ``buffers``, at the rates in the optimiser's groups. Waits for no device."""
    index = buffers.index
    if run.features is not None:
        inputs, labels = run.features.index_select(0, index), run.data.labels.index_select(0, index)
    else:
        inputs, labels = shown_as(run.data, index, learner.augmentation, buffers.draw)
    run.optimiser.zero_grad(set_to_none=True)
    with autocast(run.precision, index.device):
        logits = forward(inputs)
    loss = functional.cross_entropy(logits.float(), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    hits = logits.argmax(1) == labels
    buffers.totals.add_(torch.stack([loss.detach() * len(index), hits.sum()]))
    run.optimiser.step()


class Graphed:
    """The epochs of one training."""

    def __init__(self, learner: SGD, run: Run, forward: Forward) -> None:
        """Steps of a training that :func:`fits`; the first batch of ``batch_size`` rows is recorded."""
        self._learner, self._run, self._forward = learner, run, forward
        self._rates = [torch.zeros((), device=run.data.device) for _ in run.optimiser.param_groups]
        for group, rate in zip(run.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate
        self._totals = torch.zeros(2, device=run.data.device)
        self._buffers: Buffers | None = None
        self._replay: Callable[[], None] | None = None

    def epoch(self, batches: Sequence[Tensor]) -> Tensor:
        """One pass over batches of positions; mean loss and accuracy ``(2,)``."""
        learner = self._learner
        self._totals.zero_()
        for number, index in enumerate(batches):
            done = self._run.epoch + number / len(batches)
            share = factor(learner.schedule, epoch=done, epochs=learner.epochs, drops=learner.drops)
            for group, rate in zip(self._run.optimiser.param_groups, self._rates, strict=True):
                rate.fill_(learner.lr * group["factor"] * share)
            self._step(index)
        return self._totals / max(sum(map(len, batches)), 1)

    def _step(self, index: Tensor) -> None:
        """A step on the rows at these positions, replayed where they are as many as a batch has."""
        draw = None
        if self._run.features is None:
            draw = drawn(self._run.data, len(index), self._learner.augmentation, self._run.draws)
        if len(index) != self._learner.batch_size:
            self._made(Buffers(index=index, draw=draw, totals=self._totals))
            return
        if self._buffers is None:
            own = None if draw is None else replace(draw)
            self._buffers = Buffers(index=index.clone(), draw=own, totals=self._totals)
        self._buffers.fill(index, draw)
        if self._replay is None:
            with _undone(self._run, self._totals):
                self._replay = recorded(partial(self._made, self._buffers), index.device)
        self._replay()

    def _made(self, buffers: Buffers) -> None:
        step(self._learner, self._run, self._forward, buffers)


def recorded(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """``work`` as a CUDA graph, which is done anew at each call; on a CPU ``work`` itself.

    It is done :data:`WARM_UP` times before. Raises :class:`ConfigError` where ``work`` waits for the device.
    """
    if device.type != "cuda":
        return work
    with torch.cuda.device(device):
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                work()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"a step of this network cannot be recorded ({said}); leave graph: true out") from error
    return graph.replay


@contextmanager
def _undone(run: Run, totals: Tensor) -> Iterator[None]:
    """Whatever steps inside the block change is afterwards as it was, at its old place in memory."""
    kept = [*run.model.parameters(), *run.model.buffers(), totals]
    kept += [value for state in run.optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    before = [each.detach().clone() for each in kept]
    there = {id(each) for each in kept}
    devices = [totals.device] if totals.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for each, value in zip(kept, before, strict=True):
            each.copy_(value)
        for state in run.optimiser.state.values():
            for value in state.values():
                if isinstance(value, Tensor) and id(value) not in there:
                    value.zero_()  # momentum that began inside the block
