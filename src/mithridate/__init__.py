"""Mithridate: what a data poisoner can do to a training pipeline, and what each defense costs.

Public names are imported when first used, so that the command line starts without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; a test holds it to the table below
    from mithridate.attack import Attack as Attack
    from mithridate.attack import craft as craft
    from mithridate.attacks.bullseye_polytope import BullseyePolytope as BullseyePolytope
    from mithridate.attacks.convex_polytope import ConvexPolytope as ConvexPolytope
    from mithridate.attacks.feature_collision import FeatureCollision as FeatureCollision
    from mithridate.attacks.gradient_matching import GradientMatching as GradientMatching
    from mithridate.dataset import Dataset as Dataset
    from mithridate.dataset import Space as Space
    from mithridate.datasets.arrays import Arrays as Arrays
    from mithridate.datasets.bundled import Bundled as Bundled
    from mithridate.datasets.digits import Digits as Digits
    from mithridate.datasets.folder import Folder as Folder
    from mithridate.datasets.named import CIFAR10 as CIFAR10
    from mithridate.datasets.named import CIFAR100 as CIFAR100
    from mithridate.datasets.named import MNIST as MNIST
    from mithridate.datasets.parquet import Parquet as Parquet
    from mithridate.datasets.torchset import TorchDataset as TorchDataset
    from mithridate.defense import Defense as Defense
    from mithridate.defense import protect as protect
    from mithridate.defenses.activation_clustering import ActivationClustering as ActivationClustering
    from mithridate.defenses.cutmix import CutMix as CutMix
    from mithridate.defenses.cutout import Cutout as Cutout
    from mithridate.defenses.deep_knn import DeepKNN as DeepKNN
    from mithridate.defenses.dp_sgd import DPSGD as DPSGD
    from mithridate.defenses.epic import EPIC as EPIC
    from mithridate.defenses.jpeg import JPEG as JPEG
    from mithridate.defenses.maxup import MaxUp as MaxUp
    from mithridate.defenses.mixup import Mixup as Mixup
    from mithridate.defenses.oracle_filter import OracleFilter as OracleFilter
    from mithridate.defenses.partition_aggregation import PartitionAggregation as PartitionAggregation
    from mithridate.defenses.random_drop import RandomDrop as RandomDrop
    from mithridate.defenses.spectral_signatures import SpectralSignatures as SpectralSignatures
    from mithridate.defenses.top_loss_drop import TopLossDrop as TopLossDrop
    from mithridate.errors import MithridateError as MithridateError
    from mithridate.experiment import Experiment as Experiment
    from mithridate.goal import Backdoor as Backdoor
    from mithridate.goal import Degrade as Degrade
    from mithridate.goal import Misclassify as Misclassify
    from mithridate.learner import Hook as Hook
    from mithridate.learner import Learner as Learner
    from mithridate.learners.augment import Augmentation as Augmentation
    from mithridate.learners.recipes import recipe as recipe
    from mithridate.learners.sgd import SGD as SGD
    from mithridate.learners.start import FineTune as FineTune
    from mithridate.learners.start import Scratch as Scratch
    from mithridate.learners.start import Transfer as Transfer
    from mithridate.learners.weights import File as File
    from mithridate.learners.weights import Own as Own
    from mithridate.learners.weights import Trained as Trained
    from mithridate.model import Classifier as Classifier
    from mithridate.models.convnet import ConvNet as ConvNet
    from mithridate.models.densenet import DenseNet121 as DenseNet121
    from mithridate.models.dpn import DPN92 as DPN92
    from mithridate.models.googlenet import GoogLeNet as GoogLeNet
    from mithridate.models.linear import Linear as Linear
    from mithridate.models.mlp import MLP as MLP
    from mithridate.models.mobilenet import MobileNetV2 as MobileNetV2
    from mithridate.models.resnet import ResNet18 as ResNet18
    from mithridate.models.resnet50 import ResNet50 as ResNet50
    from mithridate.models.resnext import ResNeXt29 as ResNeXt29
    from mithridate.models.senet import SENet18 as SENet18
    from mithridate.models.smallconvnet import SmallConvNet as SmallConvNet
    from mithridate.models.vgg import VGG11 as VGG11
    from mithridate.models.wrapped import Wrapped as Wrapped
    from mithridate.models.wrapped import wrap as wrap
    from mithridate.poison import Poison as Poison
    from mithridate.seeding import Seed as Seed
    from mithridate.source import Split as Split
    from mithridate.threat import L2 as L2
    from mithridate.threat import Linf as Linf
    from mithridate.threat import ThreatModel as ThreatModel
    from mithridate.trial import Trial as Trial
    from mithridate.trial import judge as judge

__version__ = "0.1.0"

_PLACES = {
    "attack": "Attack craft",
    "attacks.bullseye_polytope": "BullseyePolytope",
    "attacks.convex_polytope": "ConvexPolytope",
    "attacks.feature_collision": "FeatureCollision",
    "attacks.gradient_matching": "GradientMatching",
    "dataset": "Dataset Space",
    "datasets.arrays": "Arrays",
    "datasets.bundled": "Bundled",
    "datasets.digits": "Digits",
    "datasets.folder": "Folder",
    "datasets.named": "CIFAR10 CIFAR100 MNIST",
    "datasets.parquet": "Parquet",
    "datasets.torchset": "TorchDataset",
    "defense": "Defense protect",
    "defenses.activation_clustering": "ActivationClustering",
    "defenses.cutmix": "CutMix",
    "defenses.cutout": "Cutout",
    "defenses.deep_knn": "DeepKNN",
    "defenses.dp_sgd": "DPSGD",
    "defenses.epic": "EPIC",
    "defenses.jpeg": "JPEG",
    "defenses.maxup": "MaxUp",
    "defenses.mixup": "Mixup",
    "defenses.oracle_filter": "OracleFilter",
    "defenses.partition_aggregation": "PartitionAggregation",
    "defenses.random_drop": "RandomDrop",
    "defenses.spectral_signatures": "SpectralSignatures",
    "defenses.top_loss_drop": "TopLossDrop",
    "errors": "MithridateError",
    "experiment": "Experiment",
    "goal": "Backdoor Degrade Misclassify",
    "learner": "Hook Learner",
    "learners.augment": "Augmentation",
    "learners.recipes": "recipe",
    "learners.sgd": "SGD",
    "learners.start": "FineTune Scratch Transfer",
    "learners.weights": "File Own Trained",
    "model": "Classifier",
    "models.convnet": "ConvNet",
    "models.densenet": "DenseNet121",
    "models.dpn": "DPN92",
    "models.googlenet": "GoogLeNet",
    "models.linear": "Linear",
    "models.mlp": "MLP",
    "models.mobilenet": "MobileNetV2",
    "models.resnet": "ResNet18",
    "models.resnet50": "ResNet50",
    "models.resnext": "ResNeXt29",
    "models.senet": "SENet18",
    "models.smallconvnet": "SmallConvNet",
    "models.vgg": "VGG11",
    "models.wrapped": "Wrapped wrap",
    "poison": "Poison",
    "seeding": "Seed",
    "source": "Split",
    "threat": "L2 Linf ThreatModel",
    "trial": "Trial judge",
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mithridate' has no attribute '{name}'")
    return getattr(import_module(f"mithridate.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*_MODULES, "__version__"])
