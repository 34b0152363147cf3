"""What a training starts from: nothing, or weights of which everything (fine-tune) or the head (transfer) is trained.

``transfer`` keeps the features as they are, batch-norm statistics included, as the victims of Convex Polytope (Zhu et
al. 2019, https://arxiv.org/abs/1905.05897) and of the poisoning benchmark (Schwarzschild et al. 2021,
https://arxiv.org/abs/2006.12557) do; EPIC's release freezes the parameters but lets the statistics drift.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, MithridateError, ModelError
from mithridate.learners.weights import Weights
from mithridate.model import Architecture, Classifier
from mithridate.seeding import Seed

_NORMALISATION = ("normalise.", "before.")
"""How the names of a network's normalisation begin: one of ours, one that is wrapped."""


class Start(ABC):
    """What a training starts from. Kinds are frozen dataclasses in this module."""

    name: ClassVar[str]
    frozen: ClassVar[bool] = False
    """Whether the features stay as they are, so that only the head is trained."""

    @abstractmethod
    def begin(self, model: Classifier) -> None:
        """Write the starting weights into a freshly initialised network, on its device.

        Raises :class:`ModelError` where they are those of another network.
        """

    @abstractmethod
    def groups(self, model: Classifier) -> list[dict[str, Any]]:
        """What is trained, as parameter groups of an optimiser; ``factor`` is each one's share of the rate."""

    @abstractmethod
    def ready(self, model: Classifier) -> None:
        """Put the network's layers in the mode in which they are trained."""

    @abstractmethod
    def source(self) -> Weights | None:
        """Where the weights come from; None for from scratch."""

    def problems(self, model: Architecture, space: Space) -> list[str]:
        """Why ``model`` cannot start so on data of ``space``, found without training anything; empty where it can."""
        return []


@dataclass(frozen=True, kw_only=True)
class Scratch(Start):
    """From random weights."""

    name: ClassVar[str] = "scratch"

    def begin(self, model: Classifier) -> None:
        """Leave the network as it was initialised."""

    def groups(self, model: Classifier) -> list[dict[str, Any]]:
        """All parameters, in one group."""
        return [{"params": list(model.parameters()), "factor": 1.0}]

    def ready(self, model: Classifier) -> None:
        """Training mode."""
        model.train()

    def source(self) -> Weights | None:
        """Nowhere."""
        return None


@dataclass(frozen=True, kw_only=True)
class Pretrained(Start):
    """From weights trained elsewhere."""

    weights: Weights
    """Where they come from."""
    head: Literal["new", "kept"] = "new"
    """Whether the last layer begins anew, or with the weights it was pretrained with (same classes only)."""

    @final
    def begin(self, model: Classifier) -> None:
        """Copy the features, and the head where it is kept. Normalisation is that of the pretraining data."""
        device = next(model.parameters()).device
        found = self.weights.load(device)
        if found is not None:
            _copy(found, model, head=self.head == "kept")

    @final
    def source(self) -> Weights | None:
        """The weights' own settings."""
        return self.weights

    @final
    def problems(self, model: Architecture, space: Space) -> list[str]:
        """Weights that cannot be had, or that are those of another network."""
        try:
            return self.weights.problems() or self._misfits(model, space)
        except MithridateError as error:
            return [f"start: {error}"]

    def _misfits(self, model: Architecture, space: Space) -> list[str]:
        """That the weights do not fit the network; what is to be pretrained is built, not trained."""
        with Seed(0).scope():
            network = model.build(space)
        state = self.weights.sample()
        if state is not None:
            _copy(state, network, head=self.head == "kept")
        elif _random(network, model, space):
            return [
                f"start: weights are the network's own, but each {model.name} is built with others in all layers, so "
                "they are random; name a file or a pretraining, or set pretrained: true where the network has that"
            ]
        return []


@dataclass(frozen=True, kw_only=True)
class FineTune(Pretrained):
    """Train everything, from weights trained elsewhere."""

    name: ClassVar[str] = "fine-tune"

    rate: float = 1.0
    """The features' learning rate as a share of the head's."""
    statistics: Literal["frozen", "updated"] = "frozen"
    """Whether batch-norm statistics stay as they were pretrained (Convex Polytope's victims: the network is kept in
    evaluation mode, dropout off) or follow the new data."""

    def __post_init__(self) -> None:
        """Refuse a rate that trains nothing, or away from the minimum."""
        if not self.rate > 0:
            raise ConfigError(f"rate must be positive, but it is {self.rate:g}; to train the head alone use transfer")

    def groups(self, model: Classifier) -> list[dict[str, Any]]:
        """The features, and the head."""
        head = {id(each) for each in model.head_parameters()}
        features = [each for each in model.parameters() if id(each) not in head]
        return [{"params": features, "factor": self.rate}, {"params": model.head_parameters(), "factor": 1.0}]

    def ready(self, model: Classifier) -> None:
        """Evaluation mode with frozen statistics, else training mode."""
        model.train(self.statistics == "updated")


@dataclass(frozen=True, kw_only=True)
class Transfer(Pretrained):
    """Train the head alone, on features trained elsewhere."""

    name: ClassVar[str] = "transfer"
    frozen: ClassVar[bool] = True

    def groups(self, model: Classifier) -> list[dict[str, Any]]:
        """The head."""
        return [{"params": model.head_parameters(), "factor": 1.0}]

    def ready(self, model: Classifier) -> None:
        """Evaluation mode: statistics are frozen too."""
        model.eval()


def _random(network: Classifier, model: Architecture, space: Space) -> bool:
    """Whether a second network shares no weight matrix with the first, head aside (vectors begin as zeros or ones)."""
    with Seed(1).scope():
        second = dict(model.build(space).named_parameters())
    last = {id(each) for each in network.head_parameters()}
    own = {name: each for name, each in network.named_parameters() if id(each) not in last and each.dim() > 1}
    return bool(own) and not any(name in second and torch.equal(each, second[name]) for name, each in own.items())


def _copy(state: Mapping[str, Tensor], model: Classifier, *, head: bool) -> None:
    """Write ``state`` into ``model``, but for the head where it begins anew.

    A wrapped module also takes its own names, and who knows nothing of our normalisation leaves it as it is.
    """
    last = {id(each) for each in model.head_parameters()}
    own = model.state_dict(keep_vars=True)
    if not any(name.startswith("module.") for name in state):
        state = {(f"module.{name}" if f"module.{name}" in own else name): each for name, each in state.items()}
    wanted = {name: each for name, each in own.items() if head or id(each) not in last}
    if not any(name.startswith(_NORMALISATION) for name in state):
        wanted = {name: each for name, each in wanted.items() if not name.startswith(_NORMALISATION)}
    strange = sorted(state.keys() - own.keys())
    for name, each in wanted.items():
        if name not in state:
            raise ModelError(
                f"the weights hold no '{name}', which this network has; they are those of another network "
                f"(they hold {', '.join(sorted(state)[:3])}, ...)"
            )
        if state[name].shape != each.shape:
            what = " (keep head: new where the classes differ)" if id(each) in last else ""
            raise ModelError(
                f"'{name}' has shape {tuple(each.shape)} in this network, but {tuple(state[name].shape)} in the "
                f"weights{what}"
            )
        if isinstance(each, nn.Parameter) and not bool(torch.isfinite(state[name].float()).all()):
            raise ModelError(f"the weights hold NaN or infinite values in '{name}'; a failed training left them")
    if strange:  # a deeper network of the same family
        raise ModelError(
            f"the weights hold '{strange[0]}', which this network lacks; they are those of another network"
        )
    with torch.no_grad():
        for name, each in wanted.items():
            each.data.copy_(state[name])
