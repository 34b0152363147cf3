"""Versions of methods: code counts, words and layout do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from mithridate import methods
from mithridate.attacks.bullseye_polytope import BullseyePolytope
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.learners.sgd import SGD
from tests.runs import tiny

CODE = '''"""A method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """Its class."""

    name = "method"
    steps: int = 3
    """How many."""

    def craft(self, rows):
        """Do it."""
        # twice as much
        return [2 * row for row in rows if row not in (1, 2)]
'''
WORDS = '''from dataclasses import dataclass
@dataclass(
    frozen=True,
)
class Method:
    name = 'method'
    steps : int = 3
    def craft(self, rows):
        """Do it otherwise: a longer text."""
        return [
            (2 * row) for row in rows  # so many
            if row not in (1, 2,)
        ]
'''


def loaded(folder: Path, code: str, name: str = "their_method") -> Any:
    path = folder / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    methods.version.cache_clear()
    methods.code.cache_clear()
    return module.Method


def test_words_and_layout_do_not_count(tmp_path: Path) -> None:
    assert methods.version(loaded(tmp_path, CODE)) == methods.version(loaded(tmp_path, WORDS))


@pytest.mark.parametrize(("old", "new"), [("2 * row", "3 * row"), ("(1, 2)", "(1, 3)"), ("steps: int", "step: int")])
def test_code_counts(old: str, new: str, tmp_path: Path) -> None:
    assert methods.version(loaded(tmp_path, CODE)) != methods.version(loaded(tmp_path, CODE.replace(old, new)))


def test_what_a_method_builds_on_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The polytope attacks share a loop in a module of its own, which is no abstract attack of everybody's."""
    before = {cls: methods.version(cls) for cls in (BullseyePolytope, GradientMatching)}
    real = methods.code

    def other(path: Path) -> str:
        return "changed" if path.name in ("polytope_attack.py", "attack.py") else real(path)

    methods.version.cache_clear()
    monkeypatch.setattr(methods, "code", other)
    assert methods.version(BullseyePolytope) != before[BullseyePolytope]
    assert methods.version(GradientMatching) == before[GradientMatching]
    methods.version.cache_clear()


def test_a_class_without_source_has_no_version() -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("class Typed:\n    name = 'typed'\n", space)
    assert methods.version(space["Typed"]) == methods.UNKNOWN


def test_all_methods_of_an_experiment_are_found_and_its_data_are_not() -> None:
    experiment = tiny(defenses=["none", "epic"])
    found = methods.used(experiment, [stack.defenses for stack in experiment.stacks()])
    assert set(found) == {
        "gradient-matching", "sgd", "mlp", "scratch", "linf", "misclassify", "epic", "random-drop",
        "top-loss-drop", "oracle-filter",
    }  # fmt: skip
    assert found["sgd"] is SGD
    assert set(methods.versions(experiment).values()).isdisjoint({methods.UNKNOWN})


def test_methods_of_others_are_told_apart(tmp_path: Path) -> None:
    theirs = loaded(tmp_path, CODE)
    assert methods.outside(tiny(), [theirs()]) == {"method": methods.version(theirs)}
    assert methods.outside(tiny()) == {}
