"""A classifier is features and a head, normalising inside itself; any torch module can be wrapped into one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from mithridate.dataset import Space
from mithridate.errors import ModelError


class Classifier(nn.Module, ABC):
    """A network from inputs in natural units to logits, in two parts.

    ``head(features(inputs))`` equals ``forward(inputs)``; feature-space attacks and defenses use the parts.
    """

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """Penultimate features ``(N, D)`` of inputs ``(N, *shape)`` in natural units."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of features ``(N, D)``."""

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters of the head: what is trained when features are frozen."""

    def certificate(self, inputs: Tensor) -> Tensor | None:
        """How many training rows may be inserted or removed, in all, without changing the class of an input: proven.

        ``(N,)`` int64 for inputs ``(N, *shape)``. None where nothing is proven, as for every ordinary network.
        """
        return None

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of inputs ``(N, *shape)`` in natural units. Final: override the two parts."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


class Architecture(ABC):
    """Settings that build a network for a space. Kinds are frozen dataclasses in ``models/``."""

    name: ClassVar[str]
    slow_start: ClassVar[bool] = False
    """Whether the paper's recipe divides its learning rate by ten for this family (no residual connections)."""

    @abstractmethod
    def build(self, space: Space) -> Classifier:
        """A freshly initialised network (torch's global generator decides; callers use ``Seed.scope``).

        Raises :class:`ModelError` where the network does not fit the space.
        """


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel, as the first layer of every network."""

    mean: Tensor
    std: Tensor

    def __init__(self, space: Space) -> None:
        """Take the statistics of the space; where it has none, leave inputs as they are."""
        super().__init__()
        channels = space.shape[0]
        ones = [1] * (len(space.shape) - 1)
        mean = torch.tensor(space.mean or (0.0,) * channels).reshape(channels, *ones)
        std = torch.tensor(space.std or (1.0,) * channels).reshape(channels, *ones)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised inputs, same shape."""
        return (inputs - self.mean) / self.std


class Stack(Classifier):
    """Normalisation, a body and a last linear layer, one after the other: what every network in ``models/`` is."""

    def __init__(self, space: Space, *, body: nn.Module, width: int) -> None:
        """Put ``body``, from normalised inputs ``(N, *shape)`` to features ``(N, width)``, below a linear head."""
        super().__init__()
        self.normalise = Normalise(space)
        self.body = body
        self.last = nn.Linear(width, space.num_classes)

    def features(self, inputs: Tensor) -> Tensor:
        """Penultimate features ``(N, width)`` of inputs ``(N, *shape)`` in natural units."""
        found: Tensor = self.body(self.normalise(inputs))
        return found

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of features ``(N, width)``."""
        logits: Tensor = self.last(features)
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """Weight and bias of the last layer."""
        return list(self.last.parameters())


def image_shape(space: Space, who: str) -> tuple[int, int, int]:
    """Channels, height and width of a space of images. Raises :class:`ModelError` for other spaces."""
    if len(space.shape) != 3:
        raise ModelError(f"{who} needs images of shape (channels, height, width), but inputs are {space.shape}")
    channels, height, width = space.shape
    return channels, height, width
