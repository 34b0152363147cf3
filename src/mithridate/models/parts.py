"""What several networks are put together from: convolutions, bottlenecks and dropout."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mithridate.errors import ConfigError


def check_dropout(p: float) -> None:
    """Raise :class:`ConfigError` unless ``p`` is a chance below 1."""
    if not 0 <= p < 1:
        raise ConfigError(f"dropout must be at least 0 and below 1, but it is {p:g}")


def dropout(p: float) -> nn.Module:
    """Dropout with chance ``p``, and with none a placeholder: networks with and without share their parameter names."""
    return nn.Dropout(p) if p else nn.Identity()


def rectified(pools: Sequence[nn.Module], *, p: float) -> list[nn.Module]:
    """ReLU with dropout ``p``, and then max pools, as the papers have them.

    Pools first would give the same values and leave less to rectify, but other activations to attacks on inner layers.
    """
    return [nn.Sequential(nn.ReLU(), dropout(p)), *pools]


def convolution(
    before: int, after: int, *, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> list[nn.Module]:
    """Convolution that keeps the size at stride 1, batch normalisation and ReLU."""
    layer = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias)
    return [layer, nn.BatchNorm2d(after), nn.ReLU()]


def projection(before: int, after: int, *, stride: int) -> nn.Sequential:
    """A 1 x 1 convolution and batch normalisation, ``(N, before, H, W)`` to ``(N, after, H / stride, W / stride)``."""
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))


def bottleneck(before: int, inner: int, after: int, *, stride: int, groups: int, p: float) -> nn.Sequential:
    """1 x 1 to ``inner`` channels, 3 x 3 in ``groups`` (with the stride), dropout ``p``, 1 x 1 to ``after`` channels.

    Batch normalisation follows each convolution, ReLU all but the last. Dropout stands where Convex Polytope's networks
    have it.
    """
    return nn.Sequential(
        *convolution(before, inner, kernel=1),
        *convolution(inner, inner, kernel=3, stride=stride, groups=groups),
        dropout(p),
        *projection(inner, after, stride=1),
    )


class Bottleneck(nn.Module):
    """``relu(x + F(x))`` with a :func:`bottleneck` as F, ``(N, before, H, W)`` to ``(N, after, H', W')``."""

    def __init__(self, before: int, inner: int, after: int, *, stride: int, groups: int = 1, p: float = 0.0) -> None:
        super().__init__()
        self.residual = bottleneck(before, inner, after, stride=stride, groups=groups, p=p)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else projection(before, after, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """The block's output, ``(N, after, H / stride, W / stride)``."""
        outputs: Tensor = self.relu(self.residual(inputs) + self.shortcut(inputs))
        return outputs
