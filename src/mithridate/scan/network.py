"""Which network a scan learns the data with: a small one by default, one of ours by name, or the user's weights.

Weights are read from ``.safetensors`` only; a file of ``torch.save`` is a pickle, which can run anything, and is
refused. Two layouts are known: the state dict of one of our networks (``mithridate list models``) with its default
settings, as ``safetensors.torch.save_file(model.state_dict(), path)`` writes it, and a checkpoint of this package,
where that stands under ``model/``. Which network it is, its names and shapes tell. A network with other settings has
them in the file's metadata, as JSON under ``architecture`` (``{"name": "smallconvnet", "widths": [8, 16]}``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
from torch import Tensor

from mithridate import config, registry
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, MithridateError, ModelError, nearest
from mithridate.learners.augment import Augmentation
from mithridate.learners.recipes import recipe
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Classifier
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.scan.probing import Frozen, Probe, Trained

EPOCHS, STEPS = 8, 240
"""Passes over the rows, and the least number of steps, of a training: small data are passed over more often."""


def probe(data: Dataset, model: str | None) -> Probe:
    """The probe for ``data``: with ``model`` a name, of that network; with a file, of the weights in it.

    Raises :class:`ConfigError` for an unknown name, and :class:`ModelError` for a network that does not fit the data.
    """
    if model is None:
        fits = min(data.space.shape[1:]) >= 8
        return Trained(learner=learner(data, SmallConvNet() if fits else MLP()))
    if Path(model).suffix or len(Path(model).parts) > 1:
        return Frozen(model=weights(Path(model), data.space))
    known = registry.places(Architecture)
    if model not in known:
        raise ConfigError(f"--model: there is no network called '{model}', and no file; {nearest(model, known)}")
    architecture = config.parse(Architecture, model, where="--model")  # type: ignore[type-abstract]
    architecture.build(data.space)  # refuses data that it does not fit before anything is trained
    return Trained(learner=learner(data, architecture))


def learner(data: Dataset, model: Architecture) -> SGD:
    """How a probe is trained: by the recipe ``cpu-fast``, for as many epochs as this much data needs.

    Colour images are mirrored, grey ones are not: a mirrored digit is no digit.
    """
    size = max(8, min(64, len(data) // 24))
    return recipe(
        "cpu-fast",
        model=model,
        batch_size=size,
        epochs=max(EPOCHS, math.ceil(STEPS * size / len(data))),
        augmentation=Augmentation(shift=2.0 * min(data.space.shape[1:]) / 32, flip=data.space.shape[0] == 3),
    )


def weights(path: Path, space: Space) -> Classifier:
    """The network in a file, whatever classes it was trained on: its head is not used."""
    tensors, about = _read(path)
    if any(name.startswith("model/") for name in tensors):
        tensors = {name.removeprefix("model/"): each for name, each in tensors.items() if name.startswith("model/")}
    rows = tensors["last.weight"].shape[0] if "last.weight" in tensors else space.num_classes
    if rows != space.num_classes:
        raise ModelError(
            f"'{path}' is a network for {rows} classes, but these data have {space.num_classes}: "
            f"{', '.join(space.classes)[:200]}; scan the data that it was trained for"
        )
    for architecture in _candidates(about, path):
        model = _loaded(architecture, space, tensors)
        if model is not None:
            return model
    raise ModelError(
        f"'{path}' holds none of our networks for inputs of shape {space.shape} (its tensors: "
        f"{', '.join(list(tensors)[:4])}, ...); accepted is the state dict of a network of  mithridate list models, "
        "with default settings or with its settings as JSON under 'architecture' in the file's metadata"
    )


def _candidates(about: Mapping[str, str], path: Path) -> list[Architecture]:
    if "architecture" not in about:
        return list(_with_default_settings())
    try:
        settings = json.loads(about["architecture"])
    except ValueError:
        raise ModelError(f"'{path}': its metadata 'architecture' is no JSON") from None
    return [config.parse(Architecture, settings, where=f"{path}: architecture")]  # type: ignore[type-abstract]


def _with_default_settings() -> Iterator[Architecture]:
    """Every network of ours that needs no setting, unlike those of the zoos and the user's own."""
    for name in registry.KINDS[Architecture]:
        try:
            yield config.parse(Architecture, name, where="--model")  # type: ignore[type-abstract]
        except MithridateError:
            continue


def _loaded(architecture: Architecture, space: Space, tensors: Mapping[str, Tensor]) -> Classifier | None:
    """The network with these weights; None where names or shapes differ."""
    try:
        model = architecture.build(space)
    except MithridateError:
        return None
    own = model.state_dict()
    if own.keys() != tensors.keys() or any(own[name].shape != each.shape for name, each in tensors.items()):
        return None
    model.load_state_dict(dict(tensors))
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    if not path.is_file():
        raise ConfigError(f"--model: there is no file '{path}'")
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"--model: '{path}' is no .safetensors file. A file of torch.save is a pickle, which can run any program "
            "when it is opened, so it is not read; write  safetensors.torch.save_file(model.state_dict(), path)"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"'{path}' is damaged or no safetensors file ({str(error)[:100]})") from error
