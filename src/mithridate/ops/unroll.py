"""Hypergradients: how a validation loss after training changes with the rows that were trained on.

The network is a dense first layer and an :class:`~mithridate.ops.upper.Upper`; training is gradient descent on all
rows. A sweep goes back through the steps of the training (Maclaurin et al. 2015, https://arxiv.org/abs/1502.03492;
Muñoz-González et al. 2017, https://arxiv.org/abs/1708.08689, algorithm 3), exactly: on the states as they were
(``stored``), or replayed from every ``sqrt(T)``-th one (``checkpointed``, equal but for rounding). One sweep gives the
derivatives by all rows' inputs, targets and weights.

``approximate-reversal`` is what the paper does instead: it climbs back up the gradient, which is not the inverse of
a step down, and so evaluates the products elsewhere. It is here to reproduce the paper. ``implicit`` differentiates
the condition that the gradient is zero, by conjugate gradients; it holds for a converged training with a penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mithridate.errors import ConfigError
from mithridate.ops.descent import Descent, Number, State, begun, plus, pulled
from mithridate.ops.fullbatch import Beginning, Form, Gram, Held, Problem, Rows, Summed, cheaper
from mithridate.ops.scores import Array
from mithridate.ops.upper import Parameters, Slope, Upper

Method = Literal["stored", "checkpointed", "approximate-reversal", "implicit"]
_Stretch = list[tuple[State, Slope]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hypergradient:
    """A validation loss after training, and its derivatives."""

    value: float
    """Mean loss of the validation rows after training."""
    inputs: Array
    """``(q, d)`` by the inputs of the chosen training rows."""
    targets: Array
    """``(N, c)`` by the targets of all training rows; 0 unless asked for."""
    weights: Array
    """``(N,)`` by the weights of all training rows; 0 unless asked for."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """``drift`` (approximate reversal: distance of the recovered start from the true one, by the end's length) and
    ``products`` (implicit: Hessian products)."""


def hypergradient(
    rows: Rows,
    validation: Rows,
    *,
    upper: Upper,
    descent: Descent,
    start: Beginning,
    chosen: Array | slice,
    method: Method = "stored",
    form: Form = "auto",
    last: int | None = None,
    labels: bool = False,
    tolerance: float = 1e-10,
) -> Hypergradient:
    """Train on ``rows``, then go back. ``chosen`` are the positions ``(q,)`` of the rows whose inputs may move.

    ``last`` cuts the sweep to that many steps (a biased, cheaper gradient); ``labels`` asks for the derivatives by
    targets and weights too, which are 0 otherwise. ``tolerance`` is for ``implicit``: the
    relative residual of conjugate gradients. Raises :class:`ConfigError` for methods that cannot do what is asked.
    """
    wrong = sweep_problems(descent, method=method, last=last)
    if wrong:
        raise ConfigError("; ".join(wrong))
    problem = Problem(rows, upper, descent, start, _held(rows, start, descent, method, form, last))
    sweep = _Sweep(problem, chosen, labels)
    if method == "implicit":
        return sweep.implicit(validation, tolerance)
    if method == "approximate-reversal":
        return sweep.reversed_approximately(validation, last)
    return sweep.exact(validation, last, _every(method, descent))


def sweep_problems(descent: Descent, *, method: Method, last: int | None) -> list[str]:
    """Why this way back through this training cannot be gone; empty where it can."""
    found = []
    if last is not None and not 1 <= last <= descent.steps:
        found.append(f"a sweep is cut to 1..{descent.steps} steps (as many as the training has), but last is {last}")
    if method == "implicit" and not descent.l2:
        found.append(
            "the implicit method needs an L2 penalty (l2 above 0): without one the Hessian of separable data is "
            "singular; use method: stored"
        )
    if method == "approximate-reversal" and descent.nesterov:
        found.append("approximate reversal has no form for Nesterov's momentum; use method: stored")
    return found


def _held(rows: Rows, start: Beginning, descent: Descent, method: Method, form: Form, last: int | None) -> Held:
    """The form that is fastest for what is asked; sums of few outputs are added up faster afterwards, of many not."""
    if method in ("implicit", "approximate-reversal") or cheaper(form, rows) == "plain":
        return "plain"
    simple = method == "stored" and last is None and not descent.momentum and not descent.l2
    simple = simple and start.first.shape[1] < 4
    return "summed" if simple else "gram"


def _every(method: Method, descent: Descent) -> int:
    return math.isqrt(descent.steps - 1) + 1 if method == "checkpointed" else descent.steps


class _Sweep:
    """A way back through one training, and what it gathers."""

    def __init__(self, problem: Problem, chosen: Array | slice, labels: bool) -> None:
        self.problem, self.chosen, self.labels = problem, chosen, labels
        self.targets = np.zeros_like(problem.rows.targets)
        self.weights = np.zeros(len(problem.rows))
        self.moments: list[tuple[tuple[Number, ...], tuple[Number, ...], Array, Array]] = []
        self.changes: list[tuple[Array, Array]] = []
        self.outputs: list[tuple[Array, Array]] = []
        self.inputs = np.zeros_like(problem.rows.inputs[chosen])

    def exact(self, validation: Rows, last: int | None, every: int) -> Hypergradient:
        """Back along the states as they were."""
        problem = self.problem
        end, kept, stretch = _forward(problem, every)
        trained = problem.trained(end, [slope for _, slope in stretch])
        value, anchor, upper = problem.outer(trained, validation)
        adjoint, left = self._adjoint(anchor, upper), last or problem.descent.steps
        for each in _backward(problem, kept, stretch, every):
            for state, slope in each[:left]:
                adjoint = self._back(adjoint, state, slope)
            left -= min(left, len(each))
            self._settle(anchor)
            if not left:
                break
        return self._found(value)

    def implicit(self, validation: Rows, tolerance: float) -> Hypergradient:
        """Solve ``H v = dL/dw`` at the end; the rows' part is that of one step with the adjoint ``-v``."""
        problem, state = self.problem, self.problem.begun()
        for _ in range(problem.descent.steps):
            state = problem.step(state)
        value, anchor, upper = problem.outer(problem.trained(state), validation)
        slope = problem.slope(state.parts)
        wanted = (*problem.first.start(anchor), *upper)
        solved, products = _conjugate_gradients(lambda v: self._hessian(v, slope, state.parts), wanted, tolerance)
        self._gather(tuple(-1.0 * each for each in solved), state.parts, slope)
        self._settle(anchor)
        return self._found(value, {"products": float(products)})

    def reversed_approximately(self, validation: Rows, last: int | None) -> Hypergradient:
        """Back by climbing the gradient, as the paper's code does: products at the recovered state, T - 1 terms."""
        problem, steps = self.problem, self.problem.descent.steps
        state = begin = problem.begun()
        for _ in range(steps):
            state = problem.step(state)
        value, anchor, upper = problem.outer(problem.trained(state), validation)
        adjoint, end = self._adjoint(anchor, upper), state
        for number in range(steps):
            state = _climbed(problem, state)
            if number < min(steps - 1, last or steps):
                adjoint = self._back(adjoint, state, problem.slope(state.parts))
        self._settle(anchor)
        drift = _length(_moved(state.parts, begin.parts, -1.0)) / _length(end.parts)
        return self._found(value, {"drift": drift})

    def _adjoint(self, anchor: Array, upper: Parameters) -> State:
        """The adjoint of the last state."""
        return begun((*self.problem.first.start(anchor), *upper), self.problem.descent)

    def _back(self, adjoint: State, state: State, slope: Slope) -> State:
        """The adjoint before a step, from that after it."""
        pull, velocity = pulled(adjoint, self.problem.descent)
        change = self._gather(pull, state.parts, slope)
        return State(tuple([w + dw for w, dw in zip(adjoint.parts, change, strict=True)]), velocity)

    def _gather(self, pull: tuple[Number, ...], parts: tuple[Number, ...], slope: Slope) -> tuple[Number, ...]:
        """Note what the rows owe to a step whose gradient has the adjoint ``pull``; its Hessian product."""
        problem = self.problem
        count, rows, upper = problem.first.count, problem.rows, problem.upper
        along = (problem.first.outputs(pull[:count]), *problem.upper_of(pull))
        bend = upper.bend(slope, problem.upper_of(parts), rows.targets, problem.shares, along)
        if self.labels:
            self.outputs.append((slope.kept[0], bend.scores))
        self._note(pull, parts, slope.first, bend.first)
        return problem.decayed((*problem.first.pushed(bend.first), *bend.upper), pull)

    def _note(self, pull: tuple[Number, ...], parts: tuple[Number, ...], first: Array, bent: Array) -> None:
        if isinstance(self.problem.first, Summed):
            self.changes.append((first, bent))
            return
        first, bent = first[self.chosen], bent[self.chosen]
        if isinstance(self.problem.first, Gram):
            self.moments.append((parts, pull, first, bent))
            return
        weights, change = parts[0], pull[0]
        assert isinstance(weights, np.ndarray)
        assert isinstance(change, np.ndarray)
        self.inputs += bent @ weights.T + first @ change.T

    def _hessian(self, vector: tuple[Number, ...], slope: Slope, parts: tuple[Number, ...]) -> tuple[Number, ...]:
        problem, count = self.problem, self.problem.first.count
        along = (problem.first.outputs(vector[:count]), *problem.upper_of(vector))
        bend = problem.upper.bend(slope, problem.upper_of(parts), problem.rows.targets, problem.shares, along)
        return problem.decayed((*problem.first.pushed(bend.first), *bend.upper), vector)

    def _settle(self, anchor: Array) -> None:
        """Add up what was noted, so that it need not be held."""
        if self.outputs:
            self._gather_labels()
            self.outputs = []
        if self.moments:
            self.inputs += self._gram_inputs(anchor)
            self.moments = []
        if self.changes:
            self.inputs += self._summed_inputs(anchor)
            self.changes = []

    def _gather_labels(self) -> None:
        """``(dg/dy)^T dw`` and ``<grad l_i, dw>`` of every row, summed over the steps noted."""
        loss, targets = self.problem.upper.loss, self.problem.rows.targets
        scores, changes = (np.concatenate(each) for each in zip(*self.outputs, strict=True))  # (T N, c)
        many = np.tile(targets, (len(self.outputs), 1))
        self.targets += loss.cross(scores, many, changes).reshape(-1, *targets.shape).sum(0)
        self.weights += (loss.first(scores, many) * changes).sum(1).reshape(-1, len(targets)).sum(0)

    def _gram_inputs(self, anchor: Array) -> Array:
        """``sum_t W_t bent_t + dW_t first_t`` with ``W_t = r W0 + X^T C`` and ``dW_t = e dL/dW + X^T U``."""
        forward = _coefficients([(parts, bent) for parts, _, _, bent in self.moments])
        backward = _coefficients([(pull, first) for _, pull, first, _ in self.moments])
        found = (forward[0] + backward[0]) @ self.problem.rows.inputs
        return found + forward[1] @ self.problem.start.first.T + backward[1] @ anchor.T

    def _summed_inputs(self, anchor: Array) -> Array:
        """The same, with ``C`` and ``U`` added up now: of the steps before, and of those after."""
        share = self.problem.descent.lr * (1 - self.problem.descent.dampening)
        first, bent = (np.stack(each[::-1]) for each in zip(*self.changes, strict=True))  # (T, N, H) as stepped
        before, after = np.cumsum(first, 0) - first, np.cumsum(bent[::-1], 0)[::-1] - bent
        mine, bends = first[:, self.chosen], bent[:, self.chosen]
        found = (_products(bends, before) + _products(mine, after)) @ self.problem.rows.inputs
        begun: Array = np.add.reduce(bends) @ self.problem.start.first.T
        ended: Array = np.add.reduce(mine) @ anchor.T
        return begun - share * (found + ended)

    def _found(self, value: float, facts: Mapping[str, float] | None = None) -> Hypergradient:
        return Hypergradient(
            value=value,
            inputs=self.inputs,
            targets=self.targets * self.problem.shares,
            weights=self.weights / len(self.problem.rows),
            facts=facts or {},
        )


def _coefficients(pairs: list[tuple[tuple[Number, ...], Array]]) -> tuple[Array, Array]:
    """``sum_t D_t C_t^T`` ``(q, N)`` and ``sum_t r_t D_t`` ``(q, H)``, for ``D_t`` ``(q, H)``."""
    small = np.stack([each for _, each in pairs])  # (T, q, H)
    large = np.stack([parts[1] for parts, _ in pairs if isinstance(parts[1], np.ndarray)])  # (T, N, H)
    factors = np.array([float(parts[2]) for parts, _ in pairs])
    return _products(small, large), np.tensordot(factors, small, 1)


def _products(small: Array, large: Array) -> Array:
    """``sum_t small_t large_t^T`` ``(q, N)`` of ``(T, q, H)`` and ``(T, N, H)``."""
    steps, count, width = small.shape  # count may be 0
    flat = small.transpose(1, 0, 2).reshape(count, steps * width)
    found: Array = flat @ large.transpose(0, 2, 1).reshape(steps * width, -1)
    return found


def _forward(problem: Problem, every: int) -> tuple[State, list[State], _Stretch]:
    """The end, the states at every ``every``-th step, and the states with their slopes from the last of these on."""
    state, kept = problem.begun(), list[State]()
    stretch: _Stretch = []
    for number in range(problem.descent.steps):
        if number % every == 0:
            kept.append(state)
            stretch = []
        slope = problem.slope(state.parts)
        stretch.append((state, slope))
        state = problem.step(state, slope)
    return state, kept, stretch


def _backward(problem: Problem, kept: list[State], stretch: _Stretch, every: int) -> Iterator[_Stretch]:
    """The stretches from the last to the first, each backwards; all but the last are stepped through again."""
    yield stretch[::-1]
    for state in kept[-2::-1]:
        again: _Stretch = []
        for _ in range(every):
            slope = problem.slope(state.parts)
            again.append((state, slope))
            state = problem.step(state, slope)
        yield again[::-1]


def _climbed(problem: Problem, state: State) -> State:
    """A step undone as the paper does: up the gradient; with momentum, the velocity undone with it."""
    descent, gradient = problem.descent, problem.gradient(state.parts, problem.slope(state.parts))
    share = descent.lr * (1 - descent.dampening)
    if not descent.momentum:
        return State(tuple(plus(w, g, share) for w, g in zip(state.parts, gradient, strict=True)))
    parts = tuple(plus(w, v, descent.lr) for w, v in zip(state.parts, state.velocity, strict=True))
    gradient = problem.gradient(parts, problem.slope(parts))
    velocity = tuple(
        plus(v, g, descent.dampening - 1) * (1 / descent.momentum)
        for v, g in zip(state.velocity, gradient, strict=True)
    )
    return State(parts, velocity)


def _conjugate_gradients(
    product: Callable[[tuple[Number, ...]], tuple[Number, ...]], wanted: tuple[Number, ...], tolerance: float
) -> tuple[tuple[Number, ...], int]:
    """``v`` with ``product(v) = wanted`` up to a relative residual, and how many products that took."""
    solved: tuple[Number, ...] = tuple(0.0 * each for each in wanted)
    rest = direction = wanted
    square = start = _dot(rest, rest)
    limit = 10 * sum(each.size for each in wanted if isinstance(each, np.ndarray))
    for number in range(limit):
        if square <= tolerance**2 * start or square == 0:
            return solved, number
        pushed = product(direction)
        bend = _dot(direction, pushed)
        if bend <= 0:
            raise ConfigError(
                "the training's Hessian is not positive at its end, so the implicit method has no meaning; "
                "raise l2, train longer, or use method: stored"
            )
        solved = _moved(solved, direction, square / bend)
        rest = _moved(rest, pushed, -square / bend)
        fresh = _dot(rest, rest)
        direction, square = _moved(rest, direction, fresh / square), fresh
    return solved, limit


def _moved(one: tuple[Number, ...], other: tuple[Number, ...], factor: float) -> tuple[Number, ...]:
    return tuple([a + factor * b for a, b in zip(one, other, strict=True)])


def _dot(one: tuple[Number, ...], other: tuple[Number, ...]) -> float:
    return sum(float((a * b).sum()) if isinstance(a, np.ndarray) else 0.0 for a, b in zip(one, other, strict=True))


def _length(parts: tuple[Number, ...]) -> float:
    return math.sqrt(_dot(parts, parts))
