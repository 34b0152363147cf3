"""Poison in the benchmark's three pickles: every bit comes back, and what the format cannot hold is refused."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mithridate.dataset import Dataset, Space
from mithridate.errors import FormatError, StoreError
from mithridate.goal import Aims
from mithridate.peerfiles import write_benchmark
from mithridate.peers import read_benchmark
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.poisonset import PoisonSet
from mithridate.testing import CornerMark
from tests.conftest import stripes

TRAIN, TARGET = stripes(30, seed=1, size=6), stripes(1, seed=2, size=6)  # class of row k: k % 3
BASE = TRAIN.rows(torch.tensor([20, 2, 11]))  # of class 2
AIMS = Aims(inputs=TARGET.all_inputs(), labels=torch.tensor([0]), wanted=torch.tensor([2]), ids=torch.tensor([4]))


def poison_set(**changes: Any) -> PoisonSet:
    """Three poisons of class 2 that want a target of class 0 called 2, with what is to be different."""
    moved = (BASE.inputs.int() + torch.tensor([8, -5, 1])[:, None, None, None]).clamp(0, 255).to(torch.uint8)
    rows = replace(BASE, inputs=moved)
    return replace(PoisonSet(poison=Poison(rows=rows), base=BASE, aims=AIMS, manifest={}), **changes)


def with_rows(**changes: Any) -> Poison:
    return Poison(rows=replace(poison_set().poison.rows, **changes))


def test_every_bit_comes_back_in_order(tmp_path: Path) -> None:
    written = poison_set()
    found = read_benchmark(write_benchmark(tmp_path / "set", written), train=TRAIN)
    assert found.poison.rows.digest() == written.poison.rows.digest()
    assert found.base is not None
    assert found.base.digest() == BASE.digest()
    assert torch.equal(found.aims.inputs, AIMS.inputs)
    assert found.aims.labels.tolist() == [0]
    assert found.aims.wanted is not None
    assert found.aims.wanted.tolist() == [2]
    again = write_benchmark(tmp_path / "again", found)
    for name in ("poisons", "base_indices", "target"):
        assert (again / f"{name}.pickle").read_bytes() == (tmp_path / "set" / f"{name}.pickle").read_bytes()


def test_others_read_it_with_nothing_of_ours(tmp_path: Path) -> None:
    folder, rows = write_benchmark(tmp_path / "set", poison_set()), poison_set().poison.rows
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "base_indices.pickle",
        "poisons.pickle",
        "set",
        "target.pickle",
    ]
    poisons, bases, target = (
        pickle.loads((folder / f"{name}.pickle").read_bytes()) for name in ("poisons", "base_indices", "target")
    )
    assert bases == [20, 2, 11]
    assert {type(each) for each in bases} == {int}
    assert type(poisons) is list
    for (image, label), codes in zip(poisons, rows.inputs, strict=True):
        assert type(image) is Image.Image
        assert (image.mode, label, type(label)) == ("RGB", 2, int)
        assert np.array_equal(np.asarray(image), codes.permute(1, 2, 0).numpy())
    image, label = target
    assert (label, type(label)) == (0, int), "the target's own class, not the one wanted"
    assert np.array_equal(np.asarray(image), TARGET.inputs[0].permute(1, 2, 0).numpy())
    assert (folder / "poisons.pickle").read_bytes()[:2] == b"\x80\x04"


def test_grey_images_come_back_too(tmp_path: Path) -> None:
    space = Space(shape=(1, 5, 4), num_classes=2, levels=256)
    train = Dataset.of(torch.arange(200).reshape(10, 1, 5, 4).to(torch.uint8), torch.arange(10) % 2, space=space)
    base = train.rows(torch.tensor([3, 1]))
    rows = replace(base, inputs=base.inputs + 1)
    aims = Aims(inputs=train.all_inputs()[:1], labels=torch.tensor([0]), wanted=torch.tensor([1]))
    written = PoisonSet(poison=Poison(rows=rows), base=base, aims=aims, manifest={})
    found = read_benchmark(write_benchmark(tmp_path / "set", written), train=train)
    assert found.poison.rows.digest() == rows.digest()
    assert torch.equal(found.aims.inputs, aims.inputs)


def test_floats_that_are_levels_lose_nothing(tmp_path: Path) -> None:
    found = read_benchmark(write_benchmark(tmp_path / "set", poison_set(poison=in_space())), train=TRAIN)
    assert found.poison.rows.digest() == poison_set().poison.rows.digest()


def in_space(**changes: Any) -> Poison:
    rows = poison_set().poison.rows
    return Poison(rows=replace(rows, inputs=rows.all_inputs(), space=replace(rows.space, **changes)))


def table() -> Poison:
    space = Space(shape=(2,), num_classes=3)
    return Poison(rows=Dataset(inputs=torch.zeros(3, 2), labels=BASE.labels, ids=BASE.ids, space=space))


def appended() -> Poison:
    rows = poison_set().poison.rows
    return Poison(rows=replace(rows, ids=rows.ids + FIRST_APPENDED), origins=rows.ids)


def aimed(**changes: Any) -> Aims:
    return replace(AIMS, **changes)


TWO = aimed(inputs=AIMS.inputs.repeat(2, 1, 1, 1), labels=torch.tensor([0, 0]), wanted=torch.tensor([2, 2]), ids=None)
NONE = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"poison": table()}, r"images of 1 or 3 channels.*shape \(2,\), bounds \(0.0, 1.0\) and no levels"),
        ({"poison": in_space(levels=None)}, "no levels; export a poison set instead"),
        ({"poison": in_space(levels=17)}, "17 levels"),
        ({"poison": in_space(bounds=(-1.0, 1.0))}, r"bounds \(-1.0, 1.0\)"),
        ({"base": None}, "appends rows"),
        ({"poison": appended()}, "appends rows"),
        ({"poison": Poison(rows=BASE.at(NONE)), "base": BASE.at(NONE)}, "has no rows"),
        ({"poison": with_rows(labels=torch.tensor([2, 1, 2]))}, "the poison of row 2 has another label than its base"),
        ({"poison": with_rows(inputs=BASE.all_inputs() + 0.3 / 255)}, "the poison lies between the 256 levels"),
        ({"aims": aimed(inputs=AIMS.inputs + 0.3 / 255)}, "the target lies between the 256 levels"),
        ({"aims": aimed(trigger=CornerMark())}, "judged with a trigger"),
        ({"aims": TWO}, "holds one target, but this poison is judged on 2"),
        ({"aims": aimed(wanted=None)}, "any wrong class is wanted"),
        ({"aims": aimed(wanted=torch.tensor([1]))}, "class 1 is wanted of the target, .* from the poison: 2"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        write_benchmark(tmp_path / "set", poison_set(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(StoreError, match="exists already"):
        write_benchmark(tmp_path, poison_set())
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write the poison set '.*set': No space left on device"):
        write_benchmark(tmp_path / "set", poison_set())
    assert list(tmp_path.iterdir()) == []
