"""What chosen layers of any network put out, recorded by hooks, with dropout left on where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mithridate.errors import ConfigError, ModelError, nearest
from mithridate.model import Classifier, Stack

PENULTIMATE = "penultimate"
"""The features that reach the head."""
LAST_BUT_ONE = "last-but-one"
"""Of a network of ours: what the last block but one puts out (a residual block, or a ReLU where there are none)."""

Recorder = Callable[[Tensor], list[Tensor]]
"""From inputs ``(N, *shape)`` to the output of each layer, ``(N, D)`` or ``(N, C, H, W)``, in the order asked for."""


@contextmanager
def recording(model: Classifier, layers: Sequence[str]) -> Iterator[Recorder]:
    """A function that runs ``model`` and returns what its ``layers`` put out; the model is not changed.

    A layer is ``penultimate``, ``last-but-one`` or the dotted name of a submodule (of a wrapped module: its own names
    will do). Raises :class:`ConfigError` for a name that the network has not.
    """
    places = [resolved(model, layer) for layer in layers]
    with ExitStack() as hooks:
        found: dict[str, Tensor] = {}
        for place in {place for place in places if place != PENULTIMATE}:
            handle = model.get_submodule(place).register_forward_hook(_keeper(found, place))
            hooks.callback(handle.remove)

        def recorded(inputs: Tensor) -> list[Tensor]:
            found.clear()
            found[PENULTIMATE] = model.features(inputs)
            for place in places:
                if place not in found:
                    raise ModelError(f"the layer '{place}' is never run on the way to the features; name another one")
            return [found[place] for place in places]

        yield recorded


def resolved(model: Classifier, layer: str) -> str:
    """The dotted name of a layer in ``model``, or ``penultimate``. Raises :class:`ConfigError` where it has none."""
    if layer == PENULTIMATE:
        return layer
    names = {name for name, _ in model.named_modules() if name}
    if layer == LAST_BUT_ONE:
        return _last_but_one(model)
    for name in (layer, f"module.{layer}", f"body.{layer}"):
        if name in names:
            return name
    raise ConfigError(
        f"this network has no layer '{layer}': {nearest(layer, [PENULTIMATE, LAST_BUT_ONE, *names])}; "
        "see named_modules() of the network"
    )


def stochastic(model: nn.Module, *, dropout: bool) -> None:
    """Put a network in evaluation mode, but for its dropout layers where ``dropout`` says so."""
    model.eval()
    if dropout:
        for each in dropouts(model):
            each.train()


def dropouts(model: nn.Module) -> list[nn.Module]:
    """The dropout layers of a network that drop anything."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    return [each for each in model.modules() if isinstance(each, kinds) and each.p > 0]


def _last_but_one(model: Classifier) -> str:
    """The second last child of a stack's body that is a block, or an activation where no child is."""
    if not isinstance(model, Stack):
        raise ConfigError(
            f"'{LAST_BUT_ONE}' is known of the networks of ours only; of a wrapped network, name the layer"
        )
    children = list(model.body.named_children())
    blocks = [name for name, each in children if next(each.children(), None) is not None]
    blocks = blocks or [name for name, each in children if isinstance(each, (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU))]
    if len(blocks) < 2:
        raise ConfigError(f"this network has fewer than two blocks, so none is the last but one; use '{PENULTIMATE}'")
    return f"body.{blocks[-2]}"


def _keeper(found: dict[str, Tensor], place: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ModelError(f"the layer '{place}' puts out a {type(output).__name__}, but a tensor is needed")
        found[place] = output

    return keep


def rows_by_trial(outputs: Tensor, trials: int) -> Tensor:
    """Outputs ``(trials * k, *map)`` as ``(trials, k, *map)``."""
    return outputs.reshape(trials, -1, *outputs.shape[1:])


def mean_of(draws: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean over draws of each layer's output."""
    return [torch.stack(list(layer)).mean(0) if len(layer) > 1 else layer[0] for layer in zip(*draws, strict=True)]
