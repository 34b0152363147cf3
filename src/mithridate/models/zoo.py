"""What the model zoos of other libraries have in common: they may be absent, lack a name, or fail to download."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from torch import nn

from mithridate.errors import ConfigError, MissingExtraError, ModelError


def check_name(model: str) -> None:
    """Raise :class:`ConfigError` where no network is named."""
    if not model.strip():
        raise ConfigError("model must be the name of a network, but it is empty")


def library(module: str, model: str) -> Any:
    """The imported ``module`` of a zoo, for its network ``model``.

    Raises :class:`MissingExtraError`, naming the extra called like the package, where it is absent or does not import.
    """
    package = module.partition(".")[0]
    what = f"the network '{model}' of {package}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise MissingExtraError(what, package) from None
        raise MissingExtraError(f"{what}, which does not import ({_words(error)}),", package) from error
    except Exception as error:  # a library that was built for another torch fails in its own ways
        raise MissingExtraError(f"{what}, which does not import ({_words(error)}),", package) from error


def unknown(model: str, package: str, names: Iterable[str]) -> ModelError:
    """That a zoo has no such network, with the nearest of its ``names``; all of them would be a thousand."""
    close = get_close_matches(model, list(names), n=3)
    guess = f"did you mean {' or '.join(repr(each) for each in close)}? " if close else ""
    return ModelError(f"{package} has no network '{model}': {guess}its list_models() names all")


def made(make: Callable[[], Any], model: str, package: str, *, pretrained: bool) -> nn.Module:
    """The module that ``make`` returns. Raises :class:`ModelError` where it fails, as pretrained weights offline do."""
    try:
        module = make()
    except Exception as error:  # several network and storage libraries below it, each with errors of its own
        if pretrained:
            raise ModelError(
                f"{package} could not get the pretrained weights of '{model}': {_words(error)}; fetch them once where "
                "there is a connection (the library keeps them), or set pretrained to false"
            ) from error
        raise ModelError(f"{package} could not make '{model}': {_words(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{package} must make '{model}' a torch.nn.Module, but made a {type(module).__name__}")
    return module


def _words(error: Exception) -> str:
    """The first line of an exception, after its kind."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"
