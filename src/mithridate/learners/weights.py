"""Where the weights of a network come from before it is trained: a file, a model zoo, or a training done here once."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors
import torch
from safetensors.torch import load
from torch import Tensor

from mithridate.dataset import Space
from mithridate.errors import ConfigError, FormatError, MithridateError
from mithridate.learner import Learner, Progress, trained
from mithridate.learners.cached import Cached, training_key
from mithridate.loading import data_digest
from mithridate.loading import load as load_data
from mithridate.seeding import Seed
from mithridate.settings import fingerprint
from mithridate.source import Source
from mithridate.watch import Watch, silent

SAVED_EVERY = 60.0
"""Seconds between two notes of where a pretraining stands, so that it goes on after a crash."""


class Weights(ABC):
    """Weights that a network starts from. Kinds are frozen dataclasses in this module."""

    name: ClassVar[str]

    @abstractmethod
    def load(self, device: torch.device) -> Mapping[str, Tensor] | None:
        """The state of a whole network, head and normalisation included; None: what the architecture is built with."""

    @abstractmethod
    def sample(self) -> Mapping[str, Tensor] | None:
        """A state with the names and shapes of :meth:`load`'s, on the CPU, made without training anything."""

    def problems(self) -> list[str]:
        """Why they cannot be had, found without training anything; empty where they can."""
        return []

    @abstractmethod
    def identity(self) -> str:
        """What decides them: equal where they are, whatever they are called; empty where only the network does."""


@dataclass(frozen=True, kw_only=True)
class Own(Weights):
    """The weights that the architecture itself is built with: those of a zoo, or of a factory of the user's."""

    name: ClassVar[str] = "own"

    def load(self, device: torch.device) -> Mapping[str, Tensor] | None:
        """Nothing: the network has them."""
        return None

    def sample(self) -> None:
        """Nothing."""

    def identity(self) -> str:
        """Nothing but the network."""
        return ""


@dataclass(frozen=True, kw_only=True)
class File(Weights):
    """Weights in a safetensors file, under the parameters' names in the network (of a wrapped module: its own names).

    Networks that we kept (``networks/`` of a run folder or of the cache) are read too.
    """

    name: ClassVar[str] = "file"

    path: Path
    """The file."""
    sha256: str = ""
    """What the file must hash to; found out where it is not given, since results are kept under it."""

    def __post_init__(self) -> None:
        """Refuse a file that is not the one meant. One that is absent is a problem to be named later."""
        found = _sha256(self.path)
        if found and self.sha256 and found != self.sha256.lower():
            raise ConfigError(
                f"'{self.path}' has SHA-256 {found[:16]}..., but the settings say {self.sha256[:16]}...; "
                "these are other weights than those meant"
            )
        object.__setattr__(self, "sha256", self.sha256.lower() or found)

    def load(self, device: torch.device) -> Mapping[str, Tensor]:
        """The tensors of the file. Raises :class:`FormatError` where it is absent, no safetensors or another by now."""
        try:
            stored = self.path.read_bytes()
            found = {name: each.to(device) for name, each in load(stored).items()}
            kept = {name.removeprefix("model/"): each for name, each in found.items() if name.startswith("model/")}
            ours = all(name.startswith(("model/", "removals/")) for name in found)
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            raise FormatError(
                f"no weights can be read from '{self.path}' ({type(error).__name__}); name a .safetensors file with "
                "the state of the network"
            ) from error
        if self.sha256 and hashlib.sha256(stored).hexdigest() != self.sha256:  # results are kept under it
            raise FormatError(f"'{self.path}' has changed since the settings were read; put it back, or begin anew")
        return kept if ours else found

    def sample(self) -> Mapping[str, Tensor]:
        """The tensors of the file."""
        return self.load(torch.device("cpu"))

    def identity(self) -> str:
        """The file's hash."""
        return self.sha256

    def problems(self) -> list[str]:
        """That the file is absent, damaged or another by now."""
        try:
            self.load(torch.device("cpu"))
        except FormatError as error:
            return [str(error)]
        return []


@dataclass(frozen=True, kw_only=True)
class Trained(Weights):
    """Weights trained here, once, and kept under the hash of all that decides them.

    They lie in the cache (``MITHRIDATE_CACHE``, else ``~/.cache/mithridate``), which all runs share. A training that
    is interrupted goes on from where it stood at most a minute before.
    """

    name: ClassVar[str] = "trained"

    data: Source
    """What the network is pretrained on."""
    learner: Learner
    """How: the same network as the one that starts from the weights, and a recipe."""
    seed: int = 0
    """Decides initialisation and order; networks with different seeds are independent."""

    def load(self, device: torch.device) -> Mapping[str, Tensor]:
        """The trained network's state: found, or trained now."""
        return self.network(device).model.state_dict()

    def sample(self) -> Mapping[str, Tensor]:
        """The state of the network before its training."""
        return self.learner.build(self.space(), Seed(0)).state_dict()

    def problems(self) -> list[str]:
        """That its data cannot be had, or that the network cannot be trained on them, or not be kept."""
        if not self.learner.remembered:
            return [f"pretraining: what '{self.learner.name}' trains is no network whose weights could be kept"]
        try:
            return [f"pretraining: {each}" for each in self.learner.problems(self.space())]
        except MithridateError as error:
            return [f"pretraining: {error}"]

    def identity(self) -> str:
        """The hash of recipe, seed, data, and what the pretraining itself starts from."""
        return fingerprint(self.learner, self._seed(), data_digest(self.data), list(self.learner.beginnings()))

    def network(self, device: torch.device, *, watch: Watch = silent) -> Progress:
        """The finished pretraining, found or done now."""
        cached = Cached(learner=self.learner, folder=networks_folder(), save_every=SAVED_EVERY)
        train = load_data(self.data).train.to(device)
        return trained(cached, train, seed=self._seed(), stage="pretraining", watch=watch)

    def path(self) -> Path:
        """Where the network is kept, or will be."""
        key = training_key(self.learner, load_data(self.data).train, self._seed())
        return networks_folder() / f"{key}.safetensors"

    def space(self) -> Space:
        """The space of the data it is pretrained on."""
        return load_data(self.data).train.space

    def _seed(self) -> Seed:
        return Seed(self.seed).child("pretraining")


def networks_folder() -> Path:
    """Where pretrained networks are kept."""
    return Path(os.environ.get("MITHRIDATE_CACHE") or "~/.cache/mithridate").expanduser() / "networks"


def _sha256(path: Path) -> str:
    """SHA-256 (hex) of a file; empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
