"""What chosen layers of any network put out, recorded by hooks, with dropout left on where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
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
            outputs = [found[place] for place in places]
            found.clear()  # else the graph would be kept until the next call
            return outputs

        yield recorded


def resolved(model: Classifier, layer: str) -> str:
    """The dotted name of a layer in ``model``, or ``penultimate``. Raises :class:`ConfigError` where it has none."""
    if layer == PENULTIMATE:
        return layer
    names = {name for name, _ in model.named_modules(remove_duplicate=False) if name}
    if layer == LAST_BUT_ONE:
        return _last_but_one(model)
    for name in (layer, f"module.{layer}", f"body.{layer}"):
        if name in names:
            return name
    bare = sorted({name.removeprefix("module.").removeprefix("body.") for name in names})
    close = [PENULTIMATE, LAST_BUT_ONE, *get_close_matches(layer, bare, n=5)]
    raise ConfigError(
        f"this network has no layer '{layer}': {nearest(layer, close)}; see named_modules() of the network for others"
    )


@contextmanager
def crafting(model: nn.Module, *, dropout: bool) -> Iterator[None]:
    """Inside the block ``model`` is in evaluation mode, but for its dropout layers where ``dropout`` says so.

    Nor do its parameters ask for gradients. After the block both are as they were.
    """
    modes = [(each, each.training) for each in model.modules()]
    asking = [each for each in model.parameters() if each.requires_grad]
    model.eval().requires_grad_(False)
    for each in dropouts(model) if dropout else ():
        each.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in asking:
            parameter.requires_grad_(True)


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
    blocks = [name for name, each in children if _is_block(each)]
    blocks = blocks or [name for name, each in children if _is_activation(each)]
    if len(blocks) < 2:
        raise ConfigError(f"this network has fewer than two blocks, so none is the last but one; use '{PENULTIMATE}'")
    return f"body.{blocks[-2]}"


def _is_block(module: nn.Module) -> bool:
    """Whether a module has parts, and parameters in them (an activation with dropout after it has none)."""
    return next(module.children(), None) is not None and next(module.parameters(), None) is not None


def _is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation, or holds one."""
    return any(isinstance(part, (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU)) for part in module.modules())


def _keeper(found: dict[str, Tensor], place: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ModelError(f"the layer '{place}' puts out a {type(output).__name__}, but a tensor is needed")
        found[place] = output.clone()  # what comes next may write into it

    return keep


def rows_by_trial(outputs: Tensor, trials: int) -> Tensor:
    """Outputs ``(trials * k, *map)`` as ``(trials, k, *map)``."""
    return outputs.reshape(trials, -1, *outputs.shape[1:])


def mean_of(draws: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean over draws of each layer's output."""
    return [torch.stack(list(layer)).mean(0) if len(layer) > 1 else layer[0] for layer in zip(*draws, strict=True)]
