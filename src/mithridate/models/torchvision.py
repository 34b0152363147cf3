"""The classifiers of torchvision, by their names there.

Marcel and Rodriguez, Torchvision: the Machine-Vision Package of Torch, 2010, https://doi.org/10.1145/1873951.1874254
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ModelError
from mithridate.model import Architecture, Classifier, image_shape
from mithridate.models.wrapped import wrap
from mithridate.models.zoo import check_name, library, made, unknown

_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Torchvision(Architecture):
    """One of torchvision's classifiers, with a new head. Takes colour images. Needs the ``torchvision`` extra."""

    name: ClassVar[str] = "torchvision"

    model: str
    """Name in torchvision: ``resnet18``, ``densenet121``. Many expect images far larger than 32 x 32; those that take
    one size only are refused for others."""
    pretrained: bool = False
    """Whether all but the head starts from torchvision's newest weights for it, downloaded the first time."""
    normalise: bool = True
    """Whether inputs are normalised with the statistics of the data before the network sees them; else it receives
    natural units, [0, 1] for images."""

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        check_name(self.model)

    def build(self, space: Space) -> Classifier:
        """A fresh network, wrapped and tried once on two random inputs.

        Raises :class:`MissingExtraError` where torchvision does not import; :class:`ModelError` without images of 3
        channels, for an unknown name, for weights that cannot be fetched, and as :func:`wrap` does.
        """
        channels, _, _ = image_shape(space, f"torchvision's '{self.model}'")
        if channels != _CHANNELS:
            raise ModelError(
                f"torchvision's '{self.model}' takes images of {_CHANNELS} channels, but these have {channels}; "
                "load them in colour, or use a network of 'timm'"
            )
        models = library("torchvision.models", self.model)
        names = models.list_models(module=models)
        if self.model not in names:
            raise unknown(self.model, "torchvision", names)
        module = made(
            lambda: models.get_model(self.model, weights="DEFAULT" if self.pretrained else None),
            self.model,
            "torchvision",
            pretrained=self.pretrained,
        )
        return wrap(module, self._renewed_head(module, space), space=space, normalise=self.normalise)

    def _renewed_head(self, module: nn.Module, space: Space) -> str:
        """The name of the last linear layer, after putting a new one with a logit a class in its place."""
        linear: list[str] = [name for name, each in module.named_modules() if isinstance(each, nn.Linear)]
        if not linear:
            raise ModelError(f"torchvision's '{self.model}' has no linear layer to be its head; take another network")
        last = module.get_submodule(linear[-1])
        assert isinstance(last, nn.Linear)
        module.set_submodule(linear[-1], nn.Linear(last.in_features, space.num_classes, bias=last.bias is not None))
        return linear[-1]
