"""Several dense networks of one shape, stepped together: each matrix product alone, everything else at once.

Linear layers with ReLU between them and cross-entropy above. What a network becomes does not depend on those beside
it, bit for bit: products are made network by network, by the calls that autograd would make, on memory that is aligned
as a tensor of its own is (matrix libraries round differently on other alignments); sums stay within a network; all
else is element by element. A batched product (``bmm``) keeps no such promise, and gains little on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_ALIGNED = 16
"""Floats in 64 bytes, on which tensors begin."""


@dataclass(frozen=True, kw_only=True)
class Called:
    """What the networks made of their batches."""

    likelihoods: Tensor
    """``(B, n)`` logarithms of what the labels' classes were given."""
    hits: Tensor
    """``(B, n)`` bool: whether a label was called."""


class DenseStack:
    """``B`` networks of linear layers of ``sizes`` (outputs, inputs), from the first to the last."""

    def __init__(self, sizes: Sequence[tuple[int, int]], count: int) -> None:
        """Make room; weights are 0 until they are written."""
        self.sizes, self.count = tuple(sizes), count
        self._places: list[tuple[int, int]] = []
        at = 0
        for outputs, inputs in self.sizes:
            self._places.append((at, at + _room(outputs * inputs)))
            at += _room(outputs * inputs) + _room(outputs)
        self.parameters = nn.Parameter(torch.zeros(count, at))
        self.parameters.grad = torch.zeros(count, at)
        self._weights, self._biases = self._views(self.parameters.data)
        self._turned = [[each.t() for each in layer] for layer in self._weights]
        self._slopes, _ = self._views(self.parameters.grad)
        self._bias_slopes = [
            self.parameters.grad[:, bias : bias + outputs]
            for (_, bias), (outputs, _) in zip(self._places, self.sizes, strict=True)
        ]
        self._rooms: dict[int, _Rooms] = {}

    def layers(self, flat: Tensor, network: int) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer of a network, as views of a tensor laid out as ``parameters``."""
        return [
            (flat[network, at : at + o * i].view(o, i), flat[network, bias : bias + o])
            for (at, bias), (o, i) in zip(self._places, self.sizes, strict=True)
        ]

    def slope(self, inputs: Sequence[Tensor], labels: Tensor) -> Called:
        """Write the gradient of each network's mean cross-entropy over ``inputs[b]`` ``(n, d)``, ``labels`` ``(B, n)``.

        Inputs must be aligned as tensors of their own are.
        """
        rows = labels.shape[1]
        rooms = self._rooms.get(rows) or self._rooms.setdefault(rows, _Rooms(self.sizes, self.count, rows))
        scores = self._forward(inputs, rooms)
        likely = torch.log_softmax(scores, 1)
        named = labels.reshape(-1, 1)
        slope = torch.zeros_like(likely).scatter_(1, named, -1.0 / rows)
        slope = torch.ops.aten._log_softmax_backward_data(slope, likely, 1, torch.float32)
        rooms.slopes[-1].all.copy_(slope.view(self.count, -1))
        self._backward(inputs, rooms)
        return Called(
            likelihoods=likely.gather(1, named).view(self.count, rows),
            hits=(scores.argmax(1) == labels.reshape(-1)).view(self.count, rows),
        )

    def _forward(self, inputs: Sequence[Tensor], rooms: _Rooms) -> Tensor:
        """Scores ``(B n, c)``; the outputs of hidden layers stay in their rooms."""
        seen = inputs
        for k, out in enumerate(rooms.outputs):
            for x, weight, bias, room in zip(seen, self._turned[k], self._biases[k], out.each, strict=True):
                torch.addmm(bias, x, weight, out=room)
            if k < len(self.sizes) - 1:
                out.all.relu_()
            seen = out.each
        return rooms.outputs[-1].all.reshape(-1, self.sizes[-1][0])

    def _backward(self, inputs: Sequence[Tensor], rooms: _Rooms) -> None:
        for k in range(len(self.sizes) - 1, -1, -1):
            seen = rooms.outputs[k - 1].each if k else inputs
            slopes = rooms.slopes[k]
            for x, turned, weight in zip(seen, slopes.turned, self._slopes[k], strict=True):
                torch.mm(turned, x, out=weight)
            if self.sizes[k][0] > 1:
                torch.sum(slopes.cube, 1, out=self._bias_slopes[k])
            else:  # one long sum is split among threads: in other places where others stand beside it
                for above, bias in zip(slopes.each, self._bias_slopes[k], strict=True):
                    torch.sum(above, 0, out=bias)
            if k:
                below = rooms.slopes[k - 1]
                for above, weight, room in zip(slopes.each, self._weights[k], below.each, strict=True):
                    torch.mm(above, weight, out=room)
                out = rooms.outputs[k - 1].all
                torch.ops.aten.threshold_backward.grad_input(below.all, out, 0, grad_input=below.all)

    def _views(self, flat: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Weights and biases of each layer, of each network."""
        each = [self.layers(flat, network) for network in range(self.count)]
        pairs = [[layers[k] for layers in each] for k in range(len(self.sizes))]
        return [[weight for weight, _ in layer] for layer in pairs], [[bias for _, bias in layer] for layer in pairs]


class Room:
    """``B`` aligned matrices ``(n, width)``."""

    def __init__(self, count: int, rows: int, width: int) -> None:
        size = rows * width
        whole = torch.zeros(count, _room(size))
        self.all = whole[:, :size]
        """``(B, n * width)``."""
        self.cube = self.all.view(count, rows, width)
        """``(B, n, width)``."""
        self.each = list(self.cube)
        self.turned = [each.t() for each in self.each]
        self._whole = whole.view(-1, width) if whole.shape[1] == size else None

    def take(self, table: Tensor, index: Tensor) -> None:
        """Write rows ``index`` ``(B, n)`` of a table ``(N, width)``."""
        if self._whole is not None:
            torch.index_select(table, 0, index.reshape(-1), out=self._whole)
            return
        for part, place in zip(index, self.each, strict=True):
            torch.index_select(table, 0, part, out=place)


class _Rooms:
    """What a pass over batches of ``n`` rows writes: the outputs of each layer, and the loss's slopes by them."""

    def __init__(self, sizes: Sequence[tuple[int, int]], count: int, rows: int) -> None:
        self.outputs = [Room(count, rows, outputs) for outputs, _ in sizes]
        self.slopes = [Room(count, rows, outputs) for outputs, _ in sizes]


def _room(size: int) -> int:
    """``size`` floats, and as many more as make the next ones aligned."""
    return math.ceil(size / _ALIGNED) * _ALIGNED
