"""Epochs of small dense networks without autograd, one training or many of one shape at a time.

For linear classifiers, perceptrons with ReLU, and linear heads on features that stay as they are; in float32 on a CPU.
Weights are those of the ordinary loop, bit for bit on one thread and but for rounding on several; where the trainings
stand beside others, each becomes what it would alone, bit for bit (:mod:`mithridate.ops.dense_stack`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mithridate.learner import Hook
from mithridate.learners.running import Run, optimiser
from mithridate.learners.schedule import factor
from mithridate.model import Stack
from mithridate.ops.dense_stack import DenseStack, Room

if TYPE_CHECKING:
    from mithridate.learners.sgd import SGD

KEPT = 64 << 20
"""Bytes that the prepared inputs of one training may take; those of larger ones are prepared batch by batch."""
SMALL = 1 << 18
"""Multiply-adds of a matrix product below which a second thread costs more than it brings."""


def layers(learner: SGD, run: Run) -> list[nn.Linear]:
    """The layers of a training that can be stepped so, from the first to the last; empty where it cannot."""
    if learner.compile or run.data.device.type != "cpu" or run.precision != "float32":
        return []
    if learner.augmentation is not None and len(run.data.space.shape) == 3 and run.features is None:
        return []
    if any(
        type(each).transform is not Hook.transform or type(each).backward is not Hook.backward for each in run.hooks
    ):
        return []
    found = _linear(run.model, fixed=run.features is not None)
    own = {id(each) for layer in found for each in layer.parameters()}
    same = all(group["factor"] == 1 for group in run.optimiser.param_groups)
    plain = all(each.dtype == torch.float32 and each.requires_grad for each in run.trained)
    return found if same and plain and own == {id(each) for each in run.trained} else []


def _linear(model: nn.Module, *, fixed: bool) -> list[nn.Linear]:
    """The linear layers that are all a network does, with ReLU between them; with ``fixed`` features its head alone."""
    if type(model) is not Stack or type(model.last) is not nn.Linear:
        return []
    body = [] if fixed else list(model.body) if isinstance(model.body, nn.Sequential) else [model.body]
    if not fixed:
        first, *more = body
        kinds = [type(each) for each in more]
        if type(first) is not nn.Flatten or kinds != [nn.Linear, nn.ReLU] * (len(kinds) // 2):
            return []
        body = more[::2]
    found = [*body, model.last]
    return [each for each in found if isinstance(each, nn.Linear) and each.bias is not None] if found else []


def epoch(learner: SGD, run: Run, plan: Sequence[Tensor]) -> tuple[float, float]:
    """One pass of a training that has :func:`layers` over its batches of rows; mean loss and accuracy."""
    side = Side(learner, [run])
    (found,) = side.epoch([plan])
    side.write()
    return found


class Side:
    """Trainings side by side; all have :func:`layers` of the same sizes and stand at the same epoch."""

    def __init__(self, learner: SGD, runs: Sequence[Run]) -> None:
        """Take over weights and the optimiser's state."""
        self.learner, self.runs, self.at = learner, runs, runs[0].epoch
        self.nets = [layers(learner, run) for run in runs]
        self.rows = _rows(runs)
        self.stack = DenseStack([(each.out_features, each.in_features) for each in self.nets[0]], len(runs))
        self.steps = optimiser(learner, [{"params": [self.stack.parameters], "factor": 1.0}], overwrite=True)
        with torch.no_grad():
            _read(self.stack, runs, self.nets)
            _read_state(self.stack, self.steps, runs, self.nets)

    @torch.no_grad()
    def epoch(self, plans: Sequence[Sequence[Tensor]]) -> list[tuple[float, float]]:
        """One pass over the batches of each training, as many and as large for all; mean losses and accuracies."""
        how, likelihoods, hits = self.learner, list[Tensor](), list[Tensor]()
        with self._threads(len(plans[0][0])):
            for step, (inputs, labels) in enumerate(self._batches(plans)):
                place = self.at + step / len(plans[0])
                rate = factor(how.schedule, epoch=place, epochs=how.epochs, drops=how.drops)
                self.steps.param_groups[0]["lr"] = how.lr * rate
                found = self.stack.slope(inputs, labels)
                self.steps.step()
                likelihoods.append(found.likelihoods)
                hits.append(found.hits)
        self.at += 1
        seen = torch.cat(likelihoods, 1).double()
        right = torch.cat(hits, 1).sum(1)
        points = [(-each.clone().mean(), count / seen.shape[1]) for each, count in zip(seen, right, strict=True)]
        return [(float(loss.float()), float(accuracy)) for loss, accuracy in points]

    @contextmanager
    def _threads(self, rows: int) -> Iterator[None]:
        """One thread where all products are small, and then as many as before."""
        before = torch.get_num_threads()
        if before == 1 or rows * max(outputs * inputs for outputs, inputs in self.stack.sizes) > SMALL:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _batches(self, plans: Sequence[Sequence[Tensor]]) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Inputs ``(n, d)`` of each training, aligned, and labels ``(B, n)``; the inputs' memory is used again."""
        rooms, sizes = dict[int, Room](), [len(part) for part in plans[0]]
        order = torch.stack([torch.cat(list(plan)) for plan in plans])
        called = torch.stack([run.data.labels[each] for run, each in zip(self.runs, order, strict=True)])
        if self.rows is not None:
            order += torch.arange(len(order))[:, None] * self.rows.shape[1]
        for index, labels in zip(torch.split(order, sizes, 1), torch.split(called, sizes, 1), strict=True):
            yield self._seen(index, rooms), labels

    def _seen(self, index: Tensor, rooms: dict[int, Room]) -> Sequence[Tensor]:
        """Inputs of a batch: of rows ``(B, n)`` of each training, or of all trainings where their rows are kept."""
        if self.rows is None:
            return [_prepared(run, part) for run, part in zip(self.runs, index, strict=True)]
        count, width = index.shape[1], self.rows.shape[2]
        room = rooms.get(count) or rooms.setdefault(count, Room(len(self.runs), count, width))
        room.take(self.rows.view(-1, width), index)
        return room.each

    @torch.no_grad()
    def write(self) -> None:
        """Hand weights and the optimiser's state back to the trainings."""
        _write(self.stack, self.steps, self.runs, self.nets)


def _rows(runs: Sequence[Run]) -> Tensor | None:
    """What the first trained layer sees of all rows of each training ``(B, N, d)``; None where that is too much."""
    first, data = runs[0], runs[0].data
    if len(runs) == 1 and first.features is not None:
        return first.features[None]
    width = first.features.shape[1] if first.features is not None else data.inputs[0].numel()
    if len(data) * width * 4 > KEPT:
        return None
    every = torch.arange(len(data))
    if len(runs) == 1:
        return _prepared(first, every)[None]
    rows = torch.empty(len(runs), len(data), width)
    for run, place in zip(runs, rows, strict=True):
        place.copy_(run.features if run.features is not None else _prepared(run, every))
    return rows


def _prepared(run: Run, index: Tensor) -> Tensor:
    """What the first trained layer sees of some rows ``(n, d)``."""
    if run.features is not None:
        return run.features[index]
    model = run.model
    assert isinstance(model, Stack), "only a stack has layers of its own"
    found: Tensor = model.normalise(run.data.take(index)[0]).flatten(1).contiguous()
    return found


def _read(stack: DenseStack, runs: Sequence[Run], nets: Sequence[Sequence[nn.Linear]]) -> None:
    for number, net in enumerate(nets):
        for layer, (weight, bias) in zip(net, stack.layers(stack.parameters.data, number), strict=True):
            weight.copy_(layer.weight)
            bias.copy_(layer.bias)


def _read_state(
    stack: DenseStack, steps: torch.optim.Optimizer, runs: Sequence[Run], nets: Sequence[Sequence[nn.Linear]]
) -> None:
    """Have the optimiser of the stack go on from where those of the runs stand."""
    first = nets[0][0].weight
    state = steps.state[stack.parameters]
    for name, value in runs[0].optimiser.state[first].items():
        if not isinstance(value, Tensor):
            continue
        if value.shape != first.shape:  # a count of steps
            state[name] = value.clone()
            continue
        state[name] = torch.zeros_like(stack.parameters)
        for number, (run, net) in enumerate(zip(runs, nets, strict=True)):
            for layer, (weight, bias) in zip(net, stack.layers(state[name], number), strict=True):
                weight.copy_(run.optimiser.state[layer.weight][name])
                bias.copy_(run.optimiser.state[layer.bias][name])


def _write(
    stack: DenseStack, steps: torch.optim.Optimizer, runs: Sequence[Run], nets: Sequence[Sequence[nn.Linear]]
) -> None:
    """Hand weights and the optimiser's state back to the runs."""
    state = {name: value for name, value in steps.state[stack.parameters].items() if isinstance(value, Tensor)}
    for number, (run, net) in enumerate(zip(runs, nets, strict=True)):
        for k, layer in enumerate(net):
            for which, parameter in enumerate((layer.weight, layer.bias)):
                parameter.copy_(stack.layers(stack.parameters.data, number)[k][which])
                for name, value in state.items():
                    flat = value.shape == stack.parameters.shape
                    own = stack.layers(value, number)[k][which] if flat else value
                    run.optimiser.state[parameter][name] = own.clone()
