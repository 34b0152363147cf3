"""Names and the classes behind them: ours by module, other people's by entry point, imported only when asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, get_type_hints

from mithridate.attack import Attack
from mithridate.defense import Defense
from mithridate.errors import ConfigError, nearest
from mithridate.goal import GoalSpec
from mithridate.learner import Learner
from mithridate.learners.recipes import CLASSICAL, RECIPES
from mithridate.learners.start import Start
from mithridate.learners.weights import Weights
from mithridate.model import Architecture
from mithridate.poison import Trigger
from mithridate.settings import plain
from mithridate.source import Source
from mithridate.threat import Perturbation

KINDS: Mapping[type, Mapping[str, str]] = MappingProxyType(
    {
        Attack: {
            "gradient-matching": "mithridate.attacks.gradient_matching:GradientMatching",
            "convex-polytope": "mithridate.attacks.convex_polytope:ConvexPolytope",
            "bullseye-polytope": "mithridate.attacks.bullseye_polytope:BullseyePolytope",
            "feature-collision": "mithridate.attacks.feature_collision:FeatureCollision",
            "back-gradient": "mithridate.attacks.back_gradient:BackGradient",
            "random-flips": "mithridate.attacks.random_flips:RandomFlips",
            "loss-flips": "mithridate.attacks.loss_flips:LossFlips",
            "given": "mithridate.attacks.given:Given",
        },
        Defense: {
            "epic": "mithridate.defenses.epic:EPIC",
            "spectral-signatures": "mithridate.defenses.spectral_signatures:SpectralSignatures",
            "activation-clustering": "mithridate.defenses.activation_clustering:ActivationClustering",
            "deep-knn": "mithridate.defenses.deep_knn:DeepKNN",
            "roni": "mithridate.defenses.roni:RONI",
            "sphere": "mithridate.defenses.sphere:Sphere",
            "slab": "mithridate.defenses.slab:Slab",
            "loss-sanitisation": "mithridate.defenses.loss_sanitisation:LossSanitisation",
            "label-sanitisation": "mithridate.defenses.label_sanitisation:LabelSanitisation",
            "mixup": "mithridate.defenses.mixup:Mixup",
            "cutmix": "mithridate.defenses.cutmix:CutMix",
            "cutout": "mithridate.defenses.cutout:Cutout",
            "maxup": "mithridate.defenses.maxup:MaxUp",
            "jpeg": "mithridate.defenses.jpeg:JPEG",
            "dp-sgd": "mithridate.defenses.dp_sgd:DPSGD",
            "partition-aggregation": "mithridate.defenses.partition_aggregation:PartitionAggregation",
            "random-drop": "mithridate.defenses.random_drop:RandomDrop",
            "top-loss-drop": "mithridate.defenses.top_loss_drop:TopLossDrop",
            "oracle-filter": "mithridate.defenses.oracle_filter:OracleFilter",
        },
        Learner: {
            "sgd": "mithridate.learners.sgd:SGD",
            "fast": "mithridate.learners.fast:Fast",
            "gradient-descent": "mithridate.learners.gradient_descent:GradientDescent",
            "sklearn": "mithridate.learners.estimator:Estimator",
        },
        Architecture: {
            "convnet": "mithridate.models.convnet:ConvNet",
            "smallconvnet": "mithridate.models.smallconvnet:SmallConvNet",
            "fastnet": "mithridate.models.fastnet:FastNet",
            "resnet18": "mithridate.models.resnet:ResNet18",
            "vgg11": "mithridate.models.vgg:VGG11",
            "mobilenetv2": "mithridate.models.mobilenet:MobileNetV2",
            "senet18": "mithridate.models.senet:SENet18",
            "resnet50": "mithridate.models.resnet50:ResNet50",
            "resnext29": "mithridate.models.resnext:ResNeXt29",
            "dpn92": "mithridate.models.dpn:DPN92",
            "googlenet": "mithridate.models.googlenet:GoogLeNet",
            "densenet121": "mithridate.models.densenet:DenseNet121",
            "mlp": "mithridate.models.mlp:MLP",
            "linear": "mithridate.models.linear:Linear",
            "wrapped": "mithridate.models.wrapped:Wrapped",
            "timm": "mithridate.models.timm:Timm",
            "torchvision": "mithridate.models.torchvision:Torchvision",
        },
        Start: {
            "scratch": "mithridate.learners.start:Scratch",
            "fine-tune": "mithridate.learners.start:FineTune",
            "transfer": "mithridate.learners.start:Transfer",
        },
        Weights: {
            "trained": "mithridate.learners.weights:Trained",
            "file": "mithridate.learners.weights:File",
            "own": "mithridate.learners.weights:Own",
        },
        Source: {
            "bundled": "mithridate.datasets.bundled:Bundled",
            "cifar10": "mithridate.datasets.named:CIFAR10",
            "cifar100": "mithridate.datasets.named:CIFAR100",
            "mnist": "mithridate.datasets.named:MNIST",
            "fashion-mnist": "mithridate.datasets.named:FashionMNIST",
            "convex-polytope-data": "mithridate.datasets.convex_polytope:ConvexPolytopeData",
            "table": "mithridate.datasets.table:Table",
            "spambase": "mithridate.datasets.spambase:Spambase",
            "adult": "mithridate.datasets.adult:Adult",
            "sms-spam": "mithridate.datasets.sms_spam:SMSSpam",
            "breast-cancer": "mithridate.datasets.breast_cancer:BreastCancer",
            "first-of": "mithridate.datasets.first_of:FirstOf",
            "digits": "mithridate.datasets.digits:Digits",
            "parquet": "mithridate.datasets.parquet:Parquet",
            "folder": "mithridate.datasets.folder:Folder",
            "arrays": "mithridate.datasets.arrays:Arrays",
            "hub": "mithridate.datasets.hub:Hub",
        },
        GoalSpec: {
            "misclassify": "mithridate.goal:Misclassify",
            "backdoor": "mithridate.goal:Backdoor",
            "degrade": "mithridate.goal:Degrade",
        },
        Perturbation: {
            "linf": "mithridate.threat:Linf",
            "l2": "mithridate.threat:L2",
            "unbounded": "mithridate.threat:Unbounded",
        },
        Trigger: {"patch": "mithridate.triggers.patch:Patch", "blend": "mithridate.triggers.blend:Blend"},
    }
)
"""For each noun, its kinds and where they are. Others join through the entry-point group ``mithridate.<plural>``."""

PLURALS: Mapping[str, type] = MappingProxyType(
    {
        "attacks": Attack,
        "defenses": Defense,
        "models": Architecture,
        "datasets": Source,
        "goals": GoalSpec,
        "perturbations": Perturbation,
        "triggers": Trigger,
        "learners": Learner,
        "starts": Start,
        "weights": Weights,
    }
)


@cache
def places(noun: type) -> Mapping[str, str]:
    """The names of a noun's kinds and ``module:Class`` of each, ours first, then those of installed plug-ins."""
    plural = next(name for name, each in PLURALS.items() if each is noun)
    found = {point.name: point.value for point in entry_points(group=f"mithridate.{plural}")}
    return {**found, **KINDS[noun]}


def kind(noun: type, name: str) -> type:
    """The class called ``name``.

    Raises :class:`ConfigError` with the nearest right name, or where what is registered cannot be imported.
    """
    known = places(noun)
    if name not in known:
        word = noun.__name__.lower()
        raise ConfigError(f"there is no {word} called '{name}': {nearest(name, known)}")
    module, _, attribute = known[name].partition(":")
    try:
        found: type = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"'{name}' should be at {known[name]}, but cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, noun) and is_dataclass(found)):
        raise ConfigError(f"'{name}' at {known[name]} is no dataclass of the kind {noun.__name__}")
    return found


class _Kinds(Mapping[str, type]):
    """The kinds of a noun by name, each imported when it is looked up."""

    def __init__(self, noun: type) -> None:
        self._noun = noun

    def __getitem__(self, name: str) -> type:
        if name not in places(self._noun):
            raise KeyError(name)
        return kind(self._noun, name)

    def __iter__(self) -> Iterator[str]:
        return iter(places(self._noun))

    def __len__(self) -> int:
        return len(places(self._noun))


def triggers() -> Mapping[str, type]:
    """All kinds of trigger by name, for reading poison sets back."""
    return _Kinds(Trigger)


def find(name: str) -> tuple[str, type]:
    """The plural and class of whatever is called ``name``. Raises :class:`ConfigError` with the nearest right name."""
    for plural, noun in PLURALS.items():
        if name in places(noun):
            return plural, kind(noun, name)
    everything = [each for noun in PLURALS.values() for each in places(noun)]
    raise ConfigError(f"nothing is called '{name}': {nearest(name, [*everything, *RECIPES, *CLASSICAL])}")


def summary(cls: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def source(cls: type) -> str:
    """The docstring of the module a class lives in: the paper, its differences, its source."""
    return (inspect.getdoc(inspect.getmodule(cls)) or "").strip()


def settings(cls: type) -> list[dict[str, Any]]:
    """Each setting of a kind: ``name``, ``type``, ``default`` (plain) and ``about`` (its docstring)."""
    abouts, hints = _field_docs(cls), get_type_hints(cls)
    return [
        {
            "name": field.name,
            "type": _type_name(hints[field.name]),
            "default": _default(field),
            "about": abouts.get(field.name, ""),
        }
        for field in fields(cls)
        if field.init
    ]


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return plain(field.default)
    if field.default_factory is not MISSING:
        return plain(field.default_factory())
    return "required"


def _type_name(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    return text.replace("typing.", "").replace("mithridate.", "").replace("collections.abc.", "")


def _field_docs(cls: type) -> dict[str, str]:
    """The strings written under the fields of a class."""
    import ast
    import textwrap

    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {
        name: text
        for base in reversed(cls.__mro__[1:])
        if is_dataclass(base)
        for name, text in _field_docs(base).items()
    }
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if is_field and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field, ast.AnnAssign)
            assert isinstance(field.target, ast.Name)
            docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs
