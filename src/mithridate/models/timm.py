"""The networks of timm, by their names there.

Wightman, PyTorch Image Models, 2019, https://doi.org/10.5281/zenodo.4414861
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mithridate.dataset import Space
from mithridate.errors import ModelError
from mithridate.model import Architecture, Classifier, image_shape
from mithridate.models.wrapped import wrap
from mithridate.models.zoo import check_name, library, made, unknown


@dataclass(frozen=True, kw_only=True)
class Timm(Architecture):
    """One of timm's networks, with a stem for the channels of the images and a new head. Needs the ``timm`` extra."""

    name: ClassVar[str] = "timm"

    model: str
    """Name in timm, with or without the tag of its weights: ``resnet18``, ``resnet18.a1_in1k``. Many expect images far
    larger than 32 x 32; those that take one size only are refused for others."""
    pretrained: bool = False
    """Whether all but the head starts from timm's pretrained weights, downloaded the first time."""
    normalise: bool = True
    """Whether inputs are normalised with the statistics of the data before the network sees them; else it receives
    natural units, [0, 1] for images."""

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        check_name(self.model)

    def build(self, space: Space) -> Classifier:
        """A fresh network, wrapped and tried once on two random inputs.

        Raises :class:`MissingExtraError` where timm does not import; :class:`ModelError` without images, for an unknown
        name, for weights that cannot be fetched, and as :func:`wrap` does.
        """
        channels, _, _ = image_shape(space, f"timm's '{self.model}'")
        timm = library("timm", self.model)
        if ":" not in self.model and not timm.is_model(self.model):  # a colon leads to a network stored elsewhere
            raise unknown(self.model, "timm", timm.list_models())

        def make() -> Any:
            classes = space.num_classes
            network = timm.create_model(self.model, pretrained=self.pretrained, num_classes=classes, in_chans=channels)
            if self.pretrained:  # timm keeps the pretrained head where the number of classes agrees
                network.reset_classifier(classes)
            return network

        module = made(make, self.model, "timm", pretrained=self.pretrained)
        head = getattr(module, "default_cfg", {}).get("classifier")
        if not isinstance(head, str):
            raise ModelError(f"timm's '{self.model}' must have one head, but its settings name {head}; take another")
        return wrap(module, head, space=space, normalise=self.normalise)
