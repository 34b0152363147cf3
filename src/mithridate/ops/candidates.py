"""Hypergradients of many candidate poison sets over the same clean rows, all in one sweep.

For linear learners (:class:`~mithridate.ops.upper.Direct`) by plain gradient descent. In the Gram form the clean rows'
inner products are shared, so that a step of all candidates is one matrix product with a row a candidate; each one's
own rows are a border of it. The numbers are those of :func:`~mithridate.ops.unroll.hypergradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Beginning, Rows
from mithridate.ops.scores import Array, ScoreLoss

MEMORY = 1 << 25
"""Bytes that the steps of a sweep may take; where more candidates are given than fit, they are swept in shares."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What :func:`~mithridate.ops.unroll.hypergradient` gives, of many candidate sets."""

    values: Array
    """``(B,)``: mean losses of the validation rows after training on the clean rows and each set."""
    inputs: Array
    """``(B, q, d)`` by the inputs of the sets' rows."""


def candidates(
    clean: Rows,
    inputs: Array,
    targets: Array,
    validation: Rows,
    *,
    loss: ScoreLoss,
    descent: Descent,
    start: Beginning,
    memory: int = MEMORY,
) -> Candidates:
    """Train on the clean rows with each of the sets ``inputs`` ``(B, q, d)``, ``targets`` ``(B, q, c)``; then go back.

    The clean rows count by their weights, the sets' rows once; the loss is the weighted sum over ``n + q``. Raises
    :class:`ConfigError` for momentum, for a penalty, and for no sets at all.
    """
    if descent.momentum or descent.l2:
        raise ConfigError(
            "many candidates at once are for gradient descent without momentum and penalty, but momentum is "
            f"{descent.momentum:g} and l2 {descent.l2:g}; take the candidates one by one"
        )
    if not len(inputs):
        raise ConfigError("there must be at least one candidate set, but there are none")
    shared = _Shared(clean, validation, loss, descent, start)
    row = 8 * 2 * descent.steps * targets.shape[2]  # bytes of what is kept of one row
    share = max(1, memory // (row * (len(clean) + inputs.shape[1])))
    parts = [_Sets(shared, inputs[at : at + share], targets[at : at + share]) for at in range(0, len(inputs), share)]
    found = [each.swept() for each in parts]
    return Candidates(values=np.concatenate([v for v, _ in found]), inputs=np.concatenate([g for _, g in found]))


class _Shared:
    """What all candidates have in common."""

    def __init__(self, clean: Rows, validation: Rows, loss: ScoreLoss, descent: Descent, start: Beginning) -> None:
        self.clean, self.validation, self.loss, self.start = clean, validation, loss, start
        self.steps, self.rate = descent.steps, descent.lr * (1 - descent.dampening)
        known = clean.inputs @ clean.inputs.T if clean.products is None else clean.products
        self.products = known + 1.0  # a bias is the weight of one more input, always 1


class _Sets:
    """Some candidate sets: rows ``(B, N, ...)``, ``N = n + q``, the clean ones first."""

    def __init__(self, shared: _Shared, inputs: Array, targets: Array) -> None:
        self.shared, self.inputs, self.count = shared, inputs, len(shared.clean)
        sets, own, _ = inputs.shape
        clean = np.broadcast_to(shared.clean.targets, (sets, *shared.clean.targets.shape))
        self.targets = np.concatenate([clean, targets], 1)
        weights = np.ones(self.count) if shared.clean.weights is None else shared.clean.weights
        self.shares = (np.concatenate([weights, np.ones(own)]) / (self.count + own))[:, None]  # (N, 1)
        across = (inputs.reshape(-1, inputs.shape[2]) @ shared.clean.inputs.T).reshape(sets, own, -1)
        self.border = np.concatenate([across, inputs @ inputs.transpose(0, 2, 1)], 2) + 1.0  # (B, q, N)

    def swept(self) -> tuple[Array, Array]:
        """Values ``(B,)`` and derivatives ``(B, q, d)``."""
        shared, rate = self.shared, self.shared.rate
        scores, slopes, end = self._forward()
        moved = -rate * end
        weights = shared.start.first.T + self._weights(moved)  # (B, c, d)
        values, anchor, above = self._outer(weights, shared.start.upper[0] + moved.sum(1))
        along = self._outputs(anchor) + above[:, None]
        for step in range(shared.steps - 1, -1, -1):
            bend = self._by_row(shared.loss.second, scores[step], -rate * along)
            along += self._pushed(bend)
            scores[step] = bend  # its scores are not needed again
        return values, self._inputs(anchor, slopes, scores)

    def _forward(self) -> tuple[Array, Array, Array]:
        """Scores and the loss's slopes ``(T, B, N, c)`` at each step, and the sum of the slopes."""
        shared, (sets, rows, columns) = self.shared, self.targets.shape
        scores = np.empty((shared.steps, sets, rows, columns))
        slopes = np.empty_like(scores)
        start = np.broadcast_to(shared.start.first.T, (sets, columns, self.inputs.shape[2]))
        now = self._outputs(start) + shared.start.upper[0]
        total = np.zeros_like(now)
        for step in range(shared.steps):
            scores[step] = now
            slopes[step] = self._by_row(shared.loss.first, now)
            total += slopes[step]
            now -= shared.rate * self._pushed(slopes[step])
        return scores, slopes, total

    def _outer(self, weights: Array, bias: Array) -> tuple[Array, Array, Array]:
        """Validation losses ``(B,)``, and their derivatives by weights ``(B, c, d)`` and bias ``(B, c)``."""
        seen, loss = self.shared.validation, self.shared.loss
        scores = (_product(weights, seen.inputs.T) + bias[:, :, None]).transpose(0, 2, 1)  # (B, m, c)
        flat = scores.reshape(-1, scores.shape[2])
        targets, share = np.tile(seen.targets, (len(weights), 1)), seen.shares()
        losses = loss.value(torch.from_numpy(flat), torch.from_numpy(targets)).numpy().reshape(scores.shape[:2])
        slopes = (loss.first(flat, targets).reshape(scores.shape) * share).transpose(0, 2, 1)  # (B, c, m)
        return losses @ share[:, 0], _product(slopes, seen.inputs), slopes.sum(2)

    def _by_row(self, derivative: Callable[..., Array], *at: Array) -> Array:
        """A derivative of the losses ``(B, N, c)``, each row's times its share."""
        scores, *along = (each.reshape(-1, each.shape[2]) for each in at)
        found = derivative(scores, self.targets.reshape(scores.shape), *along)
        scaled: Array = found.reshape(self.targets.shape) * self.shares
        return scaled

    def _pushed(self, change: Array) -> Array:
        """What ``change`` ``(B, N, c)`` of the coefficients changes the scores by, the bias's part with it."""
        count, found = self.count, np.empty_like(change)
        clean, own = change[:, :count], change[:, count:]
        if change.shape[2] == 1:
            np.matmul(clean[..., 0], self.shared.products, out=found[:, :count, 0])
        else:
            np.matmul(self.shared.products, clean, out=found[:, :count])
        found[:, :count] += (own.transpose(0, 2, 1) @ self.border[:, :, :count]).transpose(0, 2, 1)
        np.matmul(self.border, change, out=found[:, count:])
        return found

    def _outputs(self, weights: Array) -> Array:
        """``(B, N, c)`` outputs of weights ``(B, c, d)`` on all rows."""
        clean = _product(weights, self.shared.clean.inputs.T).transpose(0, 2, 1)
        return np.concatenate([clean, self.inputs @ weights.transpose(0, 2, 1)], 1)

    def _weights(self, coefficients: Array) -> Array:
        """``(B, c, d)``: the rows summed with coefficients ``(B, N, c)``."""
        turned = coefficients.transpose(0, 2, 1)
        return _product(turned[:, :, : self.count], self.shared.clean.inputs) + turned[:, :, self.count :] @ self.inputs

    def _inputs(self, anchor: Array, slopes: Array, bends: Array) -> Array:
        """``sum_t W_t bend_t - a dW_(t+1) slope_t`` of the own rows, ``(B, q, d)``.

        The weights are ``W_t = W_0 - a X^T sum_(s<t) slope_s``, their adjoints
        ``dW_(t+1) = dL/dW + X^T sum_(s>t) bend_s``; so the sums over both steps need one pass.
        """
        count, rate, shared = self.count, self.shared.rate, self.shared
        own_slopes, own_bends = (np.ascontiguousarray(each[:, :, count:]) for each in (slopes, bends))  # (T, B, q, c)
        before = np.cumsum(own_slopes, 0) - own_slopes
        after = own_bends.sum(0) - np.cumsum(own_bends, 0)
        mixed = -rate * (_summed(after, slopes) + _summed(before, bends))  # (B, q, N)
        above, below = own_bends.sum(0), -rate * own_slopes.sum(0)  # (B, q, c)
        basis = np.concatenate([shared.clean.inputs, shared.start.first.T])
        found = _product(np.concatenate([mixed[:, :, :count], above], 2), basis)
        for each, few, rows, gradient, weights in zip(found, mixed, self.inputs, below, anchor, strict=True):
            each += few[:, count:] @ rows  # one at a time, to stay within the cache
            each += gradient @ weights
        return found


def _product(many: Array, one: Array) -> Array:
    """``(B, r, n)`` times one ``(n, k)``, as one product."""
    found: Array = many.reshape(-1, many.shape[2]) @ one
    return found.reshape(*many.shape[:2], -1)


def _summed(few: Array, many: Array) -> Array:
    """Products over steps and columns of ``(T, B, q, c)`` and ``(T, B, N, c)``: ``(B, q, N)``."""
    columns = range(few.shape[3])
    pairs = ((few[..., k].transpose(1, 2, 0), np.ascontiguousarray(many[..., k]).transpose(1, 0, 2)) for k in columns)
    return sum((one @ other for one, other in pairs), start=np.zeros(()))
