"""Published ways of training, as settings of ``SGD`` or ``GradientDescent`` under a name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, overload

from mithridate.errors import ConfigError, nearest
from mithridate.learners.augment import Augmentation
from mithridate.learners.fast import Fast
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.schedule import paper_drops
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Witches' Brew, "conservative": spec section 2.1
        "paper-40": {
            "epochs": 40,
            "batch_size": 128,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
            "schedule": "steps",
            "drops": paper_drops(40),
            "augmentation": Augmentation(shift=4.0, flip=True, mode="bilinear"),
        },
        # Just How Toxic is Data Poisoning: spec section 2.3
        "benchmark-200": {
            "epochs": 200,
            "batch_size": 128,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 2e-4,
            "schedule": "steps",
            "drops": (100, 150),
            "augmentation": Augmentation(shift=4.0, flip=True, mode="integer"),
        },
        # Convex Polytope's victims: spec section B.2. Transfer tunes the last layer on fixed features ...
        "convex-polytope-transfer": {
            "epochs": 60,
            "batch_size": 64,
            "optimiser": "adam",
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0.0,
            "schedule": "steps",
            "drops": (30, 45),
            "augmentation": None,
        },
        # ... and end-to-end training all weights; write them with  start: {name: transfer | fine-tune, weights: ...}
        "convex-polytope-fine-tune": {
            "epochs": 60,
            "batch_size": 64,
            "optimiser": "adam",
            "lr": 1e-4,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 5e-4,
            "schedule": "steps",
            "drops": (30, 45),
            "augmentation": None,
        },
        # ... whose networks are pretrained so
        "convex-polytope-pretraining": {
            "epochs": 300,
            "batch_size": 128,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 5e-4,
            "schedule": "steps",
            "drops": (150, 225),
            "augmentation": Augmentation(shift=4.0, flip=True, mode="integer"),
        },
        # Just How Toxic is Data Poisoning, transfer: spec section C.1
        "benchmark-transfer": {
            "epochs": 40,
            "batch_size": 128,
            "lr": 0.01,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 2e-4,
            "schedule": "steps",
            "drops": (30,),
            "augmentation": Augmentation(shift=4.0, flip=True, mode="integer"),
        },
        # For two cores and a few thousand rows; measured in benchmarks/
        "cpu-fast": {
            "epochs": 12,
            "batch_size": 64,
            "lr": 0.05,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
            "schedule": "one-cycle",
            "drops": (),
            "augmentation": Augmentation(shift=2.0, flip=True, mode="bilinear"),
            "precision": "auto",
            "channels_last": True,
        },
    }
)


CLASSICAL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Back-gradient optimization, victims of the released code: spec section 1.7
        "adaline": {"loss": "squared", "steps": 2000, "lr": 0.01, "standardise": False},
        "logistic-regression": {"loss": "logistic", "steps": 1500, "lr": 0.5, "standardise": False},
        "mlp-10": {"loss": "logistic", "hidden": 10, "steps": 400, "lr": 0.1, "standardise": False},
        # ... and the trainings that its attacks differentiate
        "adaline-attacker": {"loss": "squared", "steps": 60, "lr": 0.02, "standardise": False},
        "logistic-attacker": {"loss": "logistic", "steps": 100, "lr": 0.1, "standardise": False},
        "mlp-10-attacker": {"loss": "logistic", "hidden": 10, "steps": 200, "lr": 0.1, "standardise": False},
        # Ours: for several classes, and for tables of unlike columns
        "softmax-regression": {"loss": "softmax", "steps": 500, "lr": 0.2},
        "linear-svm": {"loss": "smoothed-hinge", "steps": 1000, "lr": 0.02, "l2": 0.01},
        "ridge": {"loss": "squared", "steps": 1000, "lr": 0.02, "l2": 0.01},
    }
)
"""Recipes for ``GradientDescent``, which need no network."""


@overload
def recipe(name: Literal["fast"], *, model: Architecture, **changes: Any) -> Fast: ...


@overload
def recipe(name: str, *, model: Architecture, **changes: Any) -> SGD: ...


@overload
def recipe(name: str, *, model: None = None, **changes: Any) -> GradientDescent: ...


def recipe(name: str, *, model: Architecture | None = None, **changes: Any) -> SGD | GradientDescent | Fast:
    """The learner of a published recipe for ``model``, with settings changed by name; classical ones need no model.

    Where ``lr`` is not given, networks without residual connections (ConvNet, VGG, MobileNet) get a tenth of the rate
    of ``paper-40``, as the paper does. Raises :class:`ConfigError` for an unknown recipe, or one that lacks a model.
    """
    if name in CLASSICAL:
        return GradientDescent(**{**CLASSICAL[name], **changes})
    if name not in (*RECIPES, Fast.name):
        raise ConfigError(f"there is no recipe '{name}': {nearest(name, [*RECIPES, *CLASSICAL, Fast.name])}")
    if model is None:
        raise ConfigError(f"the recipe '{name}' trains a network; name one (model)")
    if name == Fast.name:
        return Fast(model=model, **changes)
    settings = dict(RECIPES[name])
    if name == "paper-40" and model.slow_start:
        settings["lr"] = settings["lr"] / 10
    return SGD(model=model, **{**settings, **changes})
