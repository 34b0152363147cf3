"""The exact mixed partial compiled: gradients of gradients as ``torch.compile`` takes them, meant for CUDA.

Nested ``torch.func.grad`` is the form of double backward that compiles; ``autograd.grad(create_graph=True)`` does not.
On CUDA the two passes run as graphs. Compiling takes tens of seconds a network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from mithridate.ops.passes import Passes

ENGINE: Any = "inductor"
"""The backend of ``torch.compile``."""
Function = Callable[..., Any]


class Compiled:
    """Some rows by compiled double backward: exact, in as few passes as the compiler finds."""

    def __init__(self, passes: Passes, x: Tensor, y: Tensor, **_: Any) -> None:
        self._passes, self._x, self._y = passes, passes.laid(x.detach()), y
        self.gradient: Sequence[Tensor] = _called(passes, "gradient", self._x, y)

    def mixed(self, direction: Sequence[Tensor]) -> Tensor:
        """The mixed partial in ``direction``."""
        return _called(self._passes, "mixed", self._x, self._y, list(direction))[0]


def _called(passes: Passes, which: str, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """The outputs of a compiled function, copied out of the memory that a graph writes into again."""
    parameters = {name: p.detach() for name, p in passes.parameters.items()}
    with warnings.catch_warnings(), passes.numbers(x.device), torch.no_grad():
        warnings.simplefilter("ignore")  # the compiler's own, about its own choices
        function = passes.compiled.get(which) or _compiled(passes, which, x.device)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tuple(each.clone() for each in function(parameters, x, *rest))


def _compiled(passes: Passes, which: str, device: torch.device) -> Function:
    """A compiled function, remembered; on CUDA it runs as a graph."""
    mode = "reduce-overhead" if device.type == "cuda" and ENGINE == "inductor" else None
    function: Function = torch.compile(_FUNCTIONS[which](passes), backend=ENGINE, mode=mode, dynamic=False)
    passes.compiled[which] = function
    return function


def _gradient(passes: Passes) -> Function:
    def gradient(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad(lambda p: passes.unrounded_loss(x, y, p))(parameters).values())

    return gradient


def _mixed(passes: Passes) -> Function:
    def mixed(parameters: dict[str, Tensor], x: Tensor, y: Tensor, direction: list[Tensor]) -> tuple[Tensor, ...]:
        def along(inputs: Tensor) -> Tensor:
            slopes = grad(lambda p: passes.unrounded_loss(inputs, y, p))(parameters)
            products = [torch.sum(g * d) for g, d in zip(slopes.values(), direction, strict=True)]
            return torch.stack(products).sum()

        return (grad(along)(x),)

    return mixed


_FUNCTIONS: dict[str, Callable[[Passes], Function]] = {"gradient": _gradient, "mixed": _mixed}
