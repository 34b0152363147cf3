"""Networks of other libraries' zoos, through stand-ins for the libraries: what is asked of them, and what may fail."""

from __future__ import annotations

import importlib.abc
import sys
import types

import pytest
import torch
from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, MissingExtraError, ModelError
from mithridate.models.timm import Timm
from mithridate.models.torchvision import Torchvision
from mithridate.seeding import Seed

CIFAR = Space(shape=(3, 8, 8), num_classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
GREY = Space(shape=(1, 8, 8), num_classes=4)
TABLE = Space(shape=(5,), num_classes=3)


class Net(nn.Module):
    """A tiny classifier with a linear layer before its head."""

    def __init__(self, num_classes=1000, in_chans=3):
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 6, 3)
        self.mix = nn.Linear(6, 5)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, num_classes))
        self.default_cfg = {"classifier": "classifier.1"}

    def reset_classifier(self, num_classes):
        self.classifier[1] = nn.Linear(5, num_classes)

    def forward(self, x):
        return self.classifier(self.mix(self.stem(x).relu().mean((2, 3))).relu())


class Headless(nn.Module):
    """Ends in a convolution."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Conv2d(3, 1000, 1)

    def forward(self, x):
        return self.classifier(x).mean((2, 3))


class TwoHeaded(Net):
    def __init__(self, **options):
        super().__init__(**options)
        self.default_cfg = {"classifier": ("classifier.1", "mix")}


MAKERS = {"tiny18": Net, "twoheaded": TwoHeaded, "text": lambda **_: "no module"}


class Zoo(types.ModuleType):
    """Stands for timm, and notes what it is asked for."""

    def __init__(self):
        super().__init__("timm")
        self.asked = []

    def is_model(self, name):
        return name.partition(".")[0] in MAKERS

    def list_models(self):
        return sorted(MAKERS)

    def create_model(self, name, *, pretrained, num_classes, in_chans):
        self.asked.append((name, pretrained, num_classes, in_chans))
        if pretrained and not name.endswith(".kept"):
            raise OSError("no route to host\nand more")
        network = MAKERS[name.partition(".")[0]](num_classes=num_classes, in_chans=in_chans)
        if pretrained:
            nn.init.constant_(network.stem.bias, 7.0)
            nn.init.constant_(network.classifier[1].bias, 7.0)
        return network


class Vision(types.ModuleType):
    """Stands for torchvision.models."""

    def __init__(self):
        super().__init__("torchvision.models")
        self.asked = []

    def list_models(self, *, module):
        assert module is self  # without it, torchvision lists detectors and films too
        return ["headless", "tiny18"]

    def get_model(self, name, *, weights):
        self.asked.append((name, weights))
        if weights is not None:
            raise OSError("no route to host")
        return Net() if name == "tiny18" else Headless()


@pytest.fixture
def timm(monkeypatch):
    zoo = Zoo()
    monkeypatch.setitem(sys.modules, "timm", zoo)
    return zoo


@pytest.fixture
def torchvision(monkeypatch):
    models = Vision()
    package = types.ModuleType("torchvision")
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return models


def images(space=CIFAR, rows=3):
    return torch.rand(rows, *space.shape, generator=torch.Generator().manual_seed(0))


def built(architecture, space=CIFAR, seed=0):
    with Seed(seed).scope():
        return architecture.build(space).eval()


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_a_network_of_a_zoo_is_cut_before_its_head(kind, timm, torchvision):
    model = built(kind(model="tiny18", normalise=False))
    assert model.path == "classifier.1"
    assert model.features(images()).shape == (3, 5)
    assert model(images()).shape == (3, 4)
    assert torch.equal(model(images()), model.module(images()))
    assert [tuple(each.shape) for each in model.head_parameters()] == [(4, 5), (4,)]


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_inputs_are_normalised_unless_told_otherwise(kind, timm, torchvision):
    model = built(kind(model="tiny18"))
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (CIFAR.mean, CIFAR.std))
    assert torch.allclose(model(images()), model.module((images() - mean) / std), atol=1e-6)
    plain = built(kind(model="tiny18", normalise=False))
    assert torch.equal(plain(images()), plain.module(images()))


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_same_seed_same_weights_and_another_seed_others(kind, timm, torchvision):
    one, same, other = (built(kind(model="tiny18"), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name.startswith("module."))


def test_timm_is_asked_for_the_classes_and_channels_of_the_space(timm):
    model = built(Timm(model="tiny18.a_tag"), GREY)
    assert timm.asked == [("tiny18.a_tag", False, 4, 1)]
    assert model(images(GREY)).shape == (3, 4)


def test_torchvision_is_asked_for_weights_only_where_wanted(torchvision):
    built(Torchvision(model="tiny18"))
    with pytest.raises(ModelError):
        built(Torchvision(model="tiny18", pretrained=True))
    assert torchvision.asked == [("tiny18", None), ("tiny18", "DEFAULT")]


def test_a_pretrained_network_keeps_its_body_but_gets_a_new_head(timm):
    module = built(Timm(model="tiny18.kept", pretrained=True)).module
    assert bool((module.stem.bias == 7).all())
    assert not bool((module.classifier[1].bias == 7).any())


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_weights_that_cannot_be_fetched_are_one_sentence(kind, timm, torchvision):
    sentence = (
        rf"^{kind.name} could not get the pretrained weights of 'tiny18': OSError: no route to host; fetch them once "
        r"where there is a connection \(the library keeps them\), or set pretrained to false$"
    )
    with pytest.raises(ModelError, match=sentence):
        kind(model="tiny18", pretrained=True).build(CIFAR)


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_an_unknown_name_is_answered_with_the_nearest(kind, timm, torchvision):
    with pytest.raises(ModelError, match=f"{kind.name} has no network 'tyny18': did you mean 'tiny18'[?]"):
        kind(model="tyny18").build(CIFAR)
    with pytest.raises(ModelError, match=f"{kind.name} has no network 'xyz': its list_models"):
        kind(model="xyz").build(CIFAR)


@pytest.mark.parametrize(
    ("architecture", "space", "sentence"),
    [
        (Timm(model="twoheaded"), CIFAR, "must have one head, but its settings name .'classifier.1', 'mix'."),
        (Timm(model="text"), CIFAR, "must make 'text' a torch.nn.Module, but made a str"),
        (Timm(model="local-dir:/none"), CIFAR, "timm could not make 'local-dir:/none': KeyError: 'local-dir:/none'$"),
        (Torchvision(model="headless"), CIFAR, "'headless' has no linear layer to be its head"),
        (Torchvision(model="tiny18"), GREY, "takes images of 3 channels, but these have 1; load them in colour"),
        (Timm(model="tiny18"), TABLE, "timm's 'tiny18' needs images of shape"),
        (Torchvision(model="tiny18"), TABLE, "torchvision's 'tiny18' needs images of shape"),
    ],
    ids=lambda each: getattr(each, "model", ""),
)
def test_what_does_not_fit_is_refused_with_a_sentence(architecture, space, sentence, timm, torchvision):
    with pytest.raises(ModelError, match=sentence):
        architecture.build(space)


@pytest.mark.parametrize("kind", [Timm, Torchvision])
def test_an_empty_name_is_refused(kind):
    with pytest.raises(ConfigError, match="model must be the name of a network, but it is empty"):
        kind(model=" ")


class Failing(importlib.abc.MetaPathFinder):
    """Makes the import of one package fail."""

    def __init__(self, package, error):
        self.package, self.error = package, error

    def find_spec(self, name, path=None, target=None):
        if name == self.package:
            raise self.error


@pytest.mark.parametrize("kind", [Timm, Torchvision])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        (
            RuntimeError("operator nms does not exist\nat"),
            r", which does not import \(RuntimeError: operator nms .*\),",
        ),
        (ModuleNotFoundError("No module named 'hub'", name="hub"), r", which does not import \(Module.* 'hub'\),"),
    ],
    ids=["absent", "broken", "lacks a part"],
)
def test_a_library_that_does_not_import_names_its_extra(kind, error, reason, monkeypatch):
    package = kind.name
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    absent = ModuleNotFoundError(f"No module named '{package}'", name=package)
    monkeypatch.setattr(sys, "meta_path", [Failing(package, error or absent), *sys.meta_path])
    pattern = rf"^the network 'tiny18' of {package}{reason} needs the '{package}' extra: .*mithridate\[{package}\]'$"
    with pytest.raises(MissingExtraError, match=pattern):
        kind(model="tiny18").build(CIFAR)
