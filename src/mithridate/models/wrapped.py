"""Any torch module as a classifier: its features are whatever reaches the submodule named as its head.

Nothing is asked of the module but that it ends in its head: ``module(x)`` must equal ``head(what reached the head)``,
without a softmax or a scale after it.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from threading import get_ident
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError, nearest
from mithridate.model import Architecture, Classifier, Normalise


def wrap(module: nn.Module, head: str = "fc", *, space: Space | None = None, normalise: bool = False) -> WrappedModule:
    """``module`` as a :class:`Classifier`, cut before its submodule ``head`` (a dotted name, ``classifier.2``).

    The head is the last linear layer, or any part from there to the end that is fed features ``(N, D)``. The module is
    not copied: training the classifier trains it. It receives inputs in natural units, or with ``normalise`` the
    space's mean and standard deviation taken out. With a ``space`` the cut is tried once on two random inputs, in
    evaluation mode; without one, nothing is checked before use.

    Raises :class:`ModelError` where there is no such head, where the module does not take the space's inputs or does
    not return a logit a class, and where its output is not that of the head.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"only a torch.nn.Module can be wrapped, but this is a {type(module).__name__}")
    names = [name for name, _ in module.named_modules(remove_duplicate=False)]  # with aliases of one submodule
    if head not in names:
        raise ModelError(f"{_kind(module)} has no part '{head}' to be its head: {_suggestion(head, module)}")
    if normalise and space is None:
        raise ModelError("normalise=True needs the space, whose mean and standard deviation it takes: pass space=")
    wrapped = WrappedModule(module, head, before=Normalise(space) if normalise and space else nn.Identity())
    if space is not None:
        _check(wrapped, space)
    return wrapped


@dataclass(frozen=True, kw_only=True)
class Wrapped(Architecture):
    """A network of the user's own, made anew by a function for each training."""

    name: ClassVar[str] = "wrapped"

    factory: str | Callable[..., nn.Module]
    """Makes a fresh ``nn.Module``: ``package.module:function``, imported when built, or a function or class at the top
    of a module. Called with ``num_classes`` where it takes that (or ``**kwargs``), else without arguments."""
    head: str = "fc"
    """Dotted name of the submodule that turns features into logits, usually the last linear layer."""
    normalise: bool = False
    """Whether inputs are normalised with the statistics of the data before the network sees them; else it receives
    natural units, [0, 1] for images."""

    def __post_init__(self) -> None:
        """Refuse a factory that has no name, since stored results tell networks apart by it."""
        if isinstance(self.factory, str):
            if not all(part.strip() for part in self.factory.partition(":")):
                raise ConfigError(f"factory must be written package.module:function, but it is '{self.factory}'")
        elif "<" in getattr(self.factory, "__qualname__", "<"):
            raise ConfigError(
                f"factory must be a function or class at the top of a module, since results are stored under its "
                f"name, but it is {self.factory!r}"
            )

    def build(self, space: Space) -> Classifier:
        """A fresh network from the factory, wrapped and tried once on two random inputs.

        Raises :class:`ModelError` where the factory cannot be imported, fails or returns no module, and as
        :func:`wrap` does.
        """
        factory = _imported(self.factory) if isinstance(self.factory, str) else self.factory
        arguments = {"num_classes": space.num_classes} if _takes_classes(factory) else {}
        try:
            module = factory(**arguments)
        except Exception as error:
            raise ModelError(f"the factory {self._label()} failed: {_words(error)}") from error
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"the factory {self._label()} must return a torch.nn.Module, but returned a {type(module).__name__}"
            )
        return wrap(module, self.head, space=space, normalise=self.normalise)

    def _label(self) -> str:
        return f"'{self.factory if isinstance(self.factory, str) else self.factory.__qualname__}'"


class WrappedModule(Classifier):
    """A module cut in two before one of its submodules. Made by :func:`wrap`."""

    def __init__(self, module: nn.Module, path: str, *, before: nn.Module) -> None:
        """Cut ``module`` before its submodule ``path``; ``before`` is applied to the inputs first."""
        super().__init__()
        self.before = before
        self.module = module
        self.path = path

    def features(self, inputs: Tensor) -> Tensor:
        """What reaches the head, ``(N, D)``, when the module is given ``inputs`` ``(N, *shape)`` in natural units.

        The module runs up to the head and no further. Where ``inputs`` ask for a gradient, as in crafting, attention
        and recurrent layers use kernels that can be differentiated twice, instead of the fastest.

        Raises :class:`ModelError` where the head is never reached, or is given something else than ``(N, D)``.
        """
        with _differentiable(self.module) if inputs.requires_grad else nullcontext():
            found = self._reached(self.before(inputs))
        if not isinstance(found, Tensor) or found.ndim != 2:
            what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {_kind(found)}"
            raise ModelError(
                f"the head '{self.path}' is given {what}, but features must be one row an input, (N, D); "
                "name a submodule behind the pooling or flattening as the head"
            )
        return found

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of features ``(N, D)``."""
        logits: Tensor = self._last()(features)
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters of the head."""
        return list(self._last().parameters())

    def _last(self) -> nn.Module:
        # Looked up, not kept: as an attribute it would stand in the state dict twice.
        return self.module.get_submodule(self.path)

    # The compiler cannot trace the setting of a hook: compiled or not, a wrapped module runs eagerly.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _reached(self, inputs: Tensor) -> Any:
        """The first argument the head is called with; the forward is left there, so the head runs once, not twice."""
        caller = get_ident()

        def stop(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            if get_ident() == caller:  # another thread may be inside the same module
                raise _HeadReached(arguments[0] if arguments else next(iter(named.values())))

        handle = self._last().register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.module(inputs)
        except _HeadReached as reached:
            return reached.features
        finally:
            handle.remove()
        raise ModelError(
            f"the forward of {_kind(self.module)} never calls its part '{self.path}'; name another head (and wrap a "
            "module before torch.compile, not after)"
        )


class _HeadReached(BaseException):  # not an Exception: a module that catches those must not catch this
    """Carries features out of a forward."""

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features


@contextmanager
def _differentiable(module: nn.Module) -> Iterator[None]:
    """Plain kernels inside the block: fused attention and cuDNN's recurrent layers have no second derivative."""
    recurrent = any(isinstance(each, nn.RNNBase) for each in module.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with sdpa_kernel(SDPBackend.MATH), cudnn:
        yield


def _check(wrapped: WrappedModule, space: Space) -> None:
    """Refuse a cut whose head is not the end of its module, or whose logits are not one a class."""
    inputs = _probe(space).to(_device(wrapped))
    with _evaluating(wrapped), torch.no_grad():
        whole = _tried(lambda: wrapped.module(wrapped.before(inputs)), wrapped, inputs)
        parts = _tried(lambda: wrapped(inputs), wrapped, inputs)
    if not isinstance(whole, Tensor):
        raise ModelError(f"{_kind(wrapped.module)} must return a tensor of logits, but returns a {_kind(whole)}")
    if whole.shape != (2, space.num_classes):
        raise ModelError(
            f"{_kind(wrapped.module)} must return a logit for each of {space.num_classes} classes, (N, "
            f"{space.num_classes}), but 2 inputs of shape {space.shape} give {tuple(whole.shape)}"
        )
    if whole.shape != parts.shape or not torch.allclose(whole, parts, rtol=1e-3, atol=1e-5):
        raise ModelError(
            f"the output of {_kind(wrapped.module)} is not that of its part '{wrapped.path}': something comes after it "
            "(a softmax, a scale, a second head); name as head a submodule that ends the network, and return logits"
        )


def _tried(forward: Callable[[], Any], wrapped: WrappedModule, inputs: Tensor) -> Any:
    """What ``forward`` returns, started from the same random state each time, or a sentence where it fails."""
    cuda = [inputs.device] if inputs.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            return forward()
    except ModelError:
        raise
    except Exception as error:
        shape = tuple(inputs.shape[1:])
        raise ModelError(
            f"{_kind(wrapped.module)} does not work on inputs of shape {shape}: {_words(error)}"
        ) from error


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; after it, every submodule is in the mode it was in."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


def _probe(space: Space) -> Tensor:
    """Two random inputs ``(2, *shape)`` within the bounds of the space; open bounds are taken at -1 and 1."""
    low, high = (bound if math.isfinite(bound) else end for bound, end in zip(space.bounds, (-1.0, 1.0), strict=True))
    return low + (high - low) * torch.rand(2, *space.shape, generator=torch.Generator().manual_seed(0))


def _device(module: nn.Module) -> torch.device:
    return next((each.device for each in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _suggestion(head: str, module: nn.Module) -> str:
    """The nearest submodule names, and those that are likely heads: the last layers with parameters."""
    layers = [name for name, each in module.named_modules() if name and next(each.parameters(False), None) is not None]
    close = get_close_matches(head, [name for name, _ in module.named_modules() if name], n=3)
    likely = {*close, *layers[-8:]}
    return nearest(head, likely) if likely else "it has no parts with parameters"


def _imported(place: str) -> Callable[..., Any]:
    """The callable at ``package.module:function``. Raises :class:`ModelError` where there is none."""
    module_name, _, attribute = place.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(
            f"the factory '{place}' cannot be imported: {_words(error)} (is the folder of '{module_name}' on "
            "PYTHONPATH?)"
        ) from error
    factory = getattr(found, attribute, None)
    if factory is None:
        raise ModelError(f"the module '{module_name}' has no '{attribute}': {nearest(attribute, _factories(found))}")
    if not callable(factory):
        raise ModelError(f"the factory '{place}' must be a function or class, but is a {_kind(factory)}")
    made: Callable[..., Any] = factory
    return made


def _factories(module: Any) -> list[str]:
    """Public functions and classes that a module itself defines."""
    return [
        name
        for name, each in vars(module).items()
        if callable(each) and not name.startswith("_") and getattr(each, "__module__", None) == module.__name__
    ]


def _takes_classes(factory: Callable[..., Any]) -> bool:
    """Whether a factory can be called with ``num_classes=``."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some built-in callables tell no signature
        return False
    named = parameters.get("num_classes")
    if named is not None:
        return named.kind is not inspect.Parameter.POSITIONAL_ONLY
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())


def _kind(thing: object) -> str:
    return type(thing).__name__


def _words(error: Exception) -> str:
    """The first line of an exception, after its kind."""
    return f"{_kind(error)}: {str(error).strip().partition(chr(10))[0]}"
