"""The registry: names to classes, with what a person needs to know about each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import ClassVar

import pytest

from mithridate import registry
from mithridate.attack import Attack
from mithridate.errors import ConfigError
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture
from mithridate.models.mlp import MLP
from mithridate.poison import Trigger
from mithridate.source import Source


class NoDataclass(Architecture):
    """Written wrongly."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """Registered under the wrong noun."""

    name: ClassVar[str] = "plugin"


class TestKind:
    def test_finds_the_class(self) -> None:
        assert registry.kind(Architecture, "mlp") is MLP
        assert registry.find("mlp") == ("models", MLP)

    @pytest.mark.parametrize(
        ("noun", "wrong", "right"),
        [
            (Attack, "gradient_matching", "gradient-matching"),
            (Source, "CIFAR10", "cifar10"),
            (Architecture, "mpl", "mlp"),
        ],
    )
    def test_names_the_nearest_right_name(self, noun: type, wrong: str, right: str) -> None:
        with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
            registry.kind(noun, wrong)
        with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
            registry.find(wrong)

    @pytest.mark.parametrize(
        ("place", "sentence"),
        [
            ("mithridate.models.absent:Absent", "should be at mithridate.models.absent:Absent, but cannot be imported"),
            ("mithridate.models.mlp:Absent", "cannot be imported: module 'mithridate.models.mlp' has no attribute"),
            ("tests.test_registry:NoDataclass", "is no dataclass of the kind Architecture"),
            ("tests.test_registry:Plugin", "is no dataclass of the kind Architecture"),
            ("mithridate.models.mlp", "cannot be imported"),
        ],
    )
    def test_of_a_broken_plugin_is_refused_in_a_sentence(
        self, place: str, sentence: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "places", lambda noun: MappingProxyType({"broken": place}))
        with pytest.raises(ConfigError) as caught:
            registry.kind(Architecture, "broken")
        assert sentence in str(caught.value)

    @pytest.mark.parametrize("noun", registry.KINDS, ids=lambda noun: noun.__name__)
    def test_of_every_name_carries_that_name(self, noun: type) -> None:
        for name, place in registry.KINDS[noun].items():
            if importable(place):
                cls = registry.kind(noun, name)
                assert cls.name == name  # type: ignore[attr-defined]


class TestTriggers:
    def test_are_imported_one_by_one_so_that_a_broken_one_hurts_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        places = {"broken": "mithridate.absent:X"}
        monkeypatch.setattr(registry, "places", lambda noun: MappingProxyType(places))
        found = registry.triggers()
        assert list(found) == ["broken"]
        assert "patch" not in found
        with pytest.raises(KeyError):
            found["patch"]
        with pytest.raises(ConfigError):
            found["broken"]

    def test_are_all_there(self) -> None:
        assert set(registry.triggers()) >= set(registry.KINDS[Trigger])


class TestSettings:
    def test_are_those_of_the_class_with_their_documentation(self) -> None:
        found = {each["name"]: each for each in registry.settings(SGD)}
        assert list(found) == [each.name for each in fields(SGD)]
        assert found["model"]["default"] == "required"
        assert (found["lr"]["default"], found["lr"]["type"]) == (0.1, "float")
        assert found["epochs"]["about"] == "Passes over the training rows. Paper: 40; benchmark: 200."

    @pytest.mark.parametrize("noun", registry.KINDS, ids=lambda noun: noun.__name__)
    def test_of_every_kind_are_documented_and_plain(self, noun: type) -> None:
        for name, place in registry.KINDS[noun].items():
            if not importable(place):
                continue
            cls = registry.kind(noun, name)
            assert registry.summary(cls).endswith("."), f"{name} needs a first line"
            for each in registry.settings(cls):
                assert each["about"], f"{name}.{each['name']} needs a line on its meaning"
            json.dumps(registry.settings(cls))

    def test_source_of_an_attack_cites_its_paper(self) -> None:
        for name in registry.KINDS[Attack]:
            assert "https://" in registry.source(registry.kind(Attack, name))


def test_asking_for_names_imports_no_kind() -> None:
    code = (
        "import sys; from mithridate import registry; registry.places(registry.PLURALS['models']);"
        "print([m for m in sys.modules if m.startswith('mithridate.models.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mithridate.models.resnet" not in done.stdout


def importable(place: str) -> bool:
    """Kinds that are announced before their module is written are no concern of these tests."""
    from importlib.util import find_spec

    return find_spec(place.partition(":")[0]) is not None
