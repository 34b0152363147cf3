"""Plain forms and fingerprints: equal settings, equal fingerprints, in every process; different ones, different."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.settings import LATER, fingerprint, plain

SMALL = SGD(model=SmallConvNet(widths=(4, 6)))


def test_plain_is_json_led_by_the_name():
    form = plain(SMALL)
    assert json.loads(json.dumps(form)) == form
    assert form["name"] == "sgd"
    assert form["model"] == {"name": "smallconvnet", "widths": [4, 6], "pools": [1, 2], "dropout": 0.0}
    assert form["augmentation"] == {"shift": 4.0, "flip": True, "mode": "bilinear", "cutout": 0.0}


def test_every_setting_of_the_attack_counts():
    other = {
        "optimiser": "adam", "init": "zero", "loss": "scalar-product", "criterion": "cw", "select": "gradient-norm",
        "stagger": "full", "backend": "double", "precision": "bf16",
    }  # fmt: skip
    base, seen = GradientMatching(), {fingerprint(GradientMatching())}
    for each in fields(GradientMatching):
        value = getattr(base, each.name)
        changed = other.get(each.name, (not value) if isinstance(value, bool) else None)
        seen.add(fingerprint(replace(base, **{each.name: value + 1 if changed is None else changed})))
    assert len(seen) == len(fields(GradientMatching)) + 1


def test_a_later_setting_leaves_older_fingerprints_as_they_were():
    """At its default it is as if it were not there; any other value counts."""

    @dataclass(frozen=True)
    class Before:
        name: ClassVar[str] = "kind"
        steps: int = 3

    @dataclass(frozen=True)
    class After(Before):
        fast: bool = field(default=False, metadata=LATER)

    assert plain(After()) == plain(Before()) == {"name": "kind", "steps": 3}
    assert fingerprint([After()]) == fingerprint([Before()])
    assert plain(After(fast=True)) == {"name": "kind", "steps": 3, "fast": True}
    assert fingerprint(After(fast=True)) != fingerprint(After())


def test_a_nested_setting_counts():
    assert fingerprint(SMALL) != fingerprint(replace(SMALL, augmentation=Augmentation(shift=1.0)))
    assert fingerprint(SMALL) != fingerprint(replace(SMALL, augmentation=None))
    assert fingerprint(SMALL) != fingerprint(replace(SMALL, model=MLP()))


def test_equal_settings_have_one_fingerprint_in_every_process():
    code = (
        "from mithridate.attacks.gradient_matching import GradientMatching;"
        "from mithridate.settings import fingerprint;"
        "print(fingerprint(GradientMatching(steps=3), {'a', 'b'}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "9"},
    )
    assert found.stdout.strip() == fingerprint(GradientMatching(steps=3), {"b", "a"})


def test_classes_with_equal_fields_differ_by_name():
    @dataclass(frozen=True)
    class One:
        name: ClassVar[str] = "one"
        x: int = 1

    @dataclass(frozen=True)
    class Two:
        name: ClassVar[str] = "two"
        x: int = 1

    assert fingerprint(One()) != fingerprint(Two())


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_arrays_count_by_type_shape_and_value(make):
    base = make([0.0, 0.0])
    assert fingerprint(base) == fingerprint(make([0.0, 0.0]))
    assert fingerprint(base) != fingerprint(make([0.0, 1.0]))
    assert fingerprint(base) != fingerprint(make([[0.0], [0.0]]))


def test_tensors_of_one_size_but_different_types_differ():
    assert fingerprint(torch.zeros(2, dtype=torch.int32)) != fingerprint(torch.zeros(2, dtype=torch.float32))


def test_odd_tensors_have_fingerprints():
    half = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert fingerprint(half) != fingerprint(half + 1)
    grid = torch.arange(6.0).reshape(2, 3)
    assert fingerprint(grid.T) == fingerprint(grid.T.contiguous())
    assert fingerprint(torch.tensor(1.0, requires_grad=True)) == fingerprint(torch.tensor(1.0))


def test_order_of_keys_does_not_count_but_order_of_values_does():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint(1, 2) != fingerprint([1, 2])


def test_functions_and_classes_are_named_by_their_place():
    assert plain(json.dumps) == "json:dumps"
    assert plain(Path("/a/b")) == "/a/b"
    assert plain(MLP) == "mithridate.models.mlp:MLP"
