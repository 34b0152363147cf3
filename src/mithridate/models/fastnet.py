"""The network of the ``fast`` victims: convolutions without residual connections behind a frozen whitening layer.

After Keller Jordan, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU*, 2024, https://arxiv.org/abs/2404.00498: its
shape, its whitening, its initialisation and its batch norm.

Differences from the paper:
1. The whitening layer's bias is trained to the end (the paper's: for three epochs).
2. Test-time averaging is over the two mirror images (the paper's has shifts of a pixel, too).
3. The last pool covers what is left of the image, so any size from 8 x 8 works (the paper's is 3 x 3, from 32 x 32).
4. Batch norm adds 1e-5 to variances (the paper's: 1e-12), since on small data a channel may be constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.model import Architecture, Classifier, Normalise, image_shape

PATCH = 2
"""Side of the patches that are whitened, pixels. Paper: 2."""
SMALLEST = 8
"""Side of the smallest image, pixels."""
_FADED = 5e-4
"""What is added to the mean square of each direction of patches, so that empty ones stay small. Paper: 5e-4."""
_SCALE = 1 / 9
"""What logits are multiplied by. Paper: 1/9."""
_NORM_MOMENTUM = 0.4
"""The share of the newest batch in batch-norm statistics. Paper: 0.4 (written there as a momentum of 0.6)."""
_CHUNK = 256
"""Images whose patches are looked at together."""


@dataclass(frozen=True, kw_only=True)
class FastNet(Architecture):
    """A whitening layer, two 3 x 3 convolutions for each width, and a linear layer; GELU, and norms without a scale.

    With the defaults 1.97 million parameters and 118 million multiply-adds a CIFAR-10 image, a fifth of ResNet-18's.
    """

    name: ClassVar[str] = "fastnet"
    slow_start: ClassVar[bool] = True

    widths: tuple[int, ...] = (64, 256, 256)
    """Channels of each block. Paper: 64, 256, 256."""
    flip_average: bool = True
    """Whether a trained network means over an image and its mirror image (in evaluation mode). Paper: yes."""

    def __post_init__(self) -> None:
        """Refuse a network without channels."""
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths must name one or more blocks of at least 1 channel, but it is {self.widths}")

    def build(self, space: Space) -> FastClassifier:
        """A freshly initialised network, whitening not yet computed. Raises :class:`ModelError` for other inputs."""
        _, height, width = image_shape(space, "FastNet")
        if min(height, width) < SMALLEST:
            raise ModelError(
                f"FastNet needs images of at least {SMALLEST} x {SMALLEST}, but these are {height} x {width}; "
                "enlarge the images, or use smallconvnet"
            )
        return FastClassifier(space, widths=self.widths, flip_average=self.flip_average)


class FastClassifier(Classifier):
    """The network that a :class:`FastNet` builds."""

    def __init__(self, space: Space, *, widths: Sequence[int], flip_average: bool) -> None:
        """Initialise all but the whitening at random, for images of ``space``."""
        super().__init__()
        channels, height, width = image_shape(space, "FastNet")
        self.normalise = Normalise(space)
        self.whiten = Whitening(channels)
        height, width = height - PATCH + 1, width - PATCH + 1
        layers: list[nn.Module] = [nn.GELU()]
        before = self.whiten.weight.shape[0]
        for after in widths:
            halved = min(height, width) > 1
            layers += _block(before, after, pooled=halved)
            before = after
            if halved:
                height, width = height // 2, width // 2
        layers += [nn.MaxPool2d((height, width)), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(before, space.num_classes, bias=False)
        self.flip_average = flip_average

    def prepare(self, inputs: Tensor) -> None:
        """Compute the whitening from training images ``(N, C, H, W)`` in natural units."""
        moments = [patch_moments(self.normalise(part)) for part in torch.split(inputs, _CHUNK)]
        self.whiten.weight.copy_(whitening(torch.stack(moments).sum(0), channels=inputs.shape[1]))

    def features(self, inputs: Tensor) -> Tensor:
        """Penultimate features ``(N, D)`` of inputs ``(N, C, H, W)`` in natural units; trained ones a mean of two."""
        found = self._seen(inputs)
        if self.flip_average and not self.training:
            found = (found + self._seen(inputs.flip(3))) / 2
        return found

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of features ``(N, D)``; linear, so that a mean of features is one of logits."""
        logits: Tensor = self.last(features) * _SCALE
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """The weight of the last layer."""
        return list(self.last.parameters())

    def _seen(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.body(self.whiten(self.normalise(inputs)))
        return found


class Whitening(nn.Module):
    """A convolution that no step changes, but for its bias: at each place the patch's whitened values, and minus these.

    ``(N, C, H, W)`` to ``(N, 2 d, H - 1, W - 1)`` with d = 4 C values in a patch. Until it is computed, the patches as
    they are.
    """

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = channels * PATCH * PATCH
        self.register_buffer("weight", _both(torch.eye(size), channels=channels))
        self.bias = nn.Parameter(torch.zeros(2 * size))

    def forward(self, inputs: Tensor) -> Tensor:
        """Whitened patches and their opposites."""
        return functional.conv2d(inputs, self.weight, self.bias)


class ShiftNorm(nn.BatchNorm2d):
    """Batch normalisation with a trained shift and no scale, ``(N, C, H, W)`` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=_NORM_MOMENTUM, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))
        del self.weight  # ones, not none: torch 2 cannot differentiate a shift without a scale twice
        self.register_buffer("weight", torch.ones(channels), persistent=False)


def patch_moments(images: Tensor) -> Tensor:
    """The sum over all patches of ``(N, C, H, W)`` of their outer products, with their count last: ``(d + 1, d)``."""
    patches = functional.unfold(images.float(), PATCH).transpose(1, 2).reshape(-1, images.shape[1] * PATCH**2).double()
    return torch.cat([patches.T @ patches, torch.full_like(patches[:1], len(patches))])


def whitening(moments: Tensor, *, channels: int) -> Tensor:
    """Filters ``(2 d, C, 2, 2)`` from sums of :func:`patch_moments`, and their opposites.

    They are the patches' principal directions, the strongest first, at a length that gives each a mean square of 1.
    """
    squares = moments[:-1] / moments[-1, 0]
    values, directions = torch.linalg.eigh(squares.cpu())
    directions = directions.flip(1).T
    largest = directions.abs().argmax(1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()  # a direction's sign is anybody's choice
    return _both(directions / (values.flip(0).clamp(min=0) + _FADED).sqrt()[:, None], channels=channels)


def _both(filters: Tensor, *, channels: int) -> Tensor:
    """Filters ``(d, d)`` and their opposites as ``(2 d, C, 2, 2)`` float32."""
    return torch.cat([filters, -filters]).reshape(-1, channels, PATCH, PATCH).float()


def _block(before: int, after: int, *, pooled: bool) -> list[nn.Module]:
    """Two convolutions, each normalised and rectified, the first followed by a 2 x 2 max pool where there is room."""
    pool = [nn.MaxPool2d(2)] if pooled else []
    first, second = _passing(before, after), _passing(after, after)
    return [first, *pool, ShiftNorm(after), nn.GELU(), second, ShiftNorm(after), nn.GELU()]


def _passing(before: int, after: int) -> nn.Conv2d:
    """A 3 x 3 convolution whose first ``before`` filters hand on what they get, and whose others are random."""
    layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:before])
    return layer
