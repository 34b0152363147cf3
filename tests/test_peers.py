from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mithridate.dataset import Dataset, Space
from mithridate.errors import FormatError
from mithridate.goal import Aims
from mithridate.inspection import summary
from mithridate.peers import Setup, benchmark_setups, is_for, read_benchmark, read_setups
from mithridate.poisonset import read, write
from tests.conftest import stripes

BASES = [20, 2, 11]  # of class 2


@pytest.fixture(scope="module")
def train() -> Dataset:
    return stripes(30, seed=1, size=6)


@pytest.fixture(scope="module")
def poisoned(train: Dataset) -> torch.Tensor:
    """``(3, 3, 6, 6)`` uint8."""
    return (train.rows(torch.tensor(BASES)).inputs.to(torch.int16) + 8).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def target() -> torch.Tensor:
    """``(3, 6, 6)`` uint8, of class 0."""
    return stripes(1, seed=2, size=6).inputs[0]


def picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "PIL image": picture,
    "array with channels last": lambda image: image.permute(1, 2, 0).numpy(),
    "array with channels first": lambda image: image.numpy(),
    "uint8 tensor": lambda image: image,
    "float tensor": lambda image: image / 255,
    "double array": lambda image: image.double().numpy() / 255,
}


@pytest.fixture
def export(tmp_path: Path, poisoned: torch.Tensor, target: torch.Tensor) -> Callable[..., Path]:
    """Write the three files as the benchmark does, with what is to be different."""

    def exported(**changes: Any) -> Path:
        files = {
            "poisons": [(picture(image), 2) for image in poisoned],
            "base_indices": np.array(BASES),
            "target": (picture(target), 0),
        } | changes
        for name, content in files.items():
            data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
            (tmp_path / f"{name}.pickle").write_bytes(data)
        return tmp_path

    return exported


@pytest.mark.parametrize("form", FORMS)
def test_reads_every_form_to_the_same_bytes(
    export: Callable[..., Path], train: Dataset, poisoned: torch.Tensor, target: torch.Tensor, form: str
) -> None:
    make = FORMS[form]
    folder = export(poisons=[(make(image), np.int64(2)) for image in poisoned], target=(make(target), torch.tensor(0)))
    found = read_benchmark(folder, train=train)
    order = found.poison.rows.ids.tolist()
    assert sorted(order) == sorted(BASES)
    for row, base in enumerate(order):
        assert torch.equal(found.poison.rows.inputs[row], poisoned[BASES.index(base)])
    assert found.poison.rows.inputs.dtype == torch.uint8
    assert found.base is not None
    assert found.base.digest() == train.rows(found.poison.rows.ids).digest()
    assert torch.equal(train.space.encode(found.aims.inputs)[0], target)
    assert found.aims.labels.tolist() == [0]
    assert found.aims.wanted is not None
    assert found.aims.wanted.tolist() == [2]


@pytest.mark.parametrize("bases", [BASES, tuple(BASES), np.array(BASES, dtype=np.int32), torch.tensor(BASES)])
def test_reads_base_indices_in_every_form(export: Callable[..., Path], train: Dataset, bases: Any) -> None:
    assert sorted(read_benchmark(export(base_indices=bases), train=train).poison.rows.ids.tolist()) == sorted(BASES)


def test_what_was_read_can_be_judged_written_and_read_again(
    export: Callable[..., Path], train: Dataset, tmp_path: Path
) -> None:
    found = read_benchmark(export(), train=train)
    assert train.updated(found.poison.rows).positions(torch.tensor(BASES)).tolist() == BASES
    assert summary(found)["goal"] == "1 input of class 'stripe 0' is to be called 'stripe 2'"
    assert summary(found)["largest_change_255ths"] == 8.0
    folder = write(
        tmp_path / "set",
        poison=found.poison,
        base=found.base,
        aims=found.aims,
        details=found.manifest["details"],
        data_digest=train.digest(),
    )
    again = read(folder)
    assert again.poison.rows.digest() == found.poison.rows.digest()
    assert torch.equal(again.aims.inputs, found.aims.inputs)


def test_keeps_the_last_poison_of_a_repeated_base_and_says_so(
    export: Callable[..., Path], train: Dataset, poisoned: torch.Tensor
) -> None:
    found = read_benchmark(export(base_indices=[20, 2, 20]), train=train)
    assert found.manifest["details"]["repeated_base_indices"] == [20]
    rows = found.poison.rows
    assert sorted(rows.ids.tolist()) == [2, 20]
    assert torch.equal(rows.inputs[rows.positions(torch.tensor([20]))][0], poisoned[2])


@pytest.mark.parametrize("kind", ["tensor", "array", "codes"])
def test_puts_the_patch_on_the_target(
    export: Callable[..., Path], train: Dataset, target: torch.Tensor, kind: str
) -> None:
    codes = torch.arange(3 * 2 * 2, dtype=torch.uint8).reshape(3, 2, 2) * 20
    patch = {"tensor": codes / 255, "array": (codes / 255).numpy(), "codes": codes}[kind]
    found = read_benchmark(export(target=(picture(target), 0, patch, [4, 1])), train=train)
    expected = target.clone()
    expected[:, 1:3, 4:6] = codes  # x is the column
    assert torch.equal(train.space.encode(found.aims.inputs)[0], expected)
    assert found.manifest["details"]["patch"] == {"size": [2, 2], "corner": [4, 1]}


def wish(image: torch.Tensor, wanted: int = 2, times: int = 1) -> Aims:
    return Aims(
        inputs=(image / 255).repeat(times, 1, 1, 1),
        labels=torch.tensor([0] * times),
        wanted=torch.tensor([wanted] * times),
    )


@pytest.mark.parametrize("off", [0, 1, -1, 2, -2])
def test_knows_its_target_again_to_within_a_level(
    export: Callable[..., Path], train: Dataset, target: torch.Tensor, off: int
) -> None:
    """The benchmark undoes a normalisation and cuts off, which loses a level here and there."""
    assert 2 < int(target[1, 2, 3]) < 253
    theirs = target.clone()
    theirs[1, 2, 3] += off
    folder = export(target=(picture(theirs), 0))
    assert is_for(folder, wish(target), train=train) == (abs(off) < 2)


def test_is_for_one_target_and_one_wish_alone(
    export: Callable[..., Path], train: Dataset, target: torch.Tensor
) -> None:
    folder = export()
    assert is_for(folder, wish(target), train=train)
    assert not is_for(folder, wish(target, wanted=1), train=train)
    assert not is_for(folder, wish(target, times=2), train=train)
    assert not is_for(folder, wish(target.flip(2)), train=train)
    (folder / "poisons.pickle").write_bytes(b"not read for another target")
    assert not is_for(folder, wish(target.flip(2)), train=train)
    with pytest.raises(FormatError, match=r"poisons\.pickle"):
        is_for(folder, wish(target), train=train)


def grey(size: int) -> Image.Image:
    return Image.new("L", (size, size))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"poisons": []}, "no list of 1 to 30 poisons"),
        ({"poisons": {"a": 1}}, "no list of 1 to 30 poisons"),
        ({"poisons": [1, 2, 3]}, "poison 0 in .* is no pair"),
        ({"poisons": [(b"x", 2)] * 3}, "the image of poison 0 in .* is no image"),
        ({"poisons": [(grey(6), 2)] * 3}, r"has shape \(6, 6\), but it must have \(3, 6, 6\)"),
        ({"poisons": [(torch.zeros(3, 6, 5), 2)] * 3}, r"has shape \(3, 6, 5\)"),
        ({"poisons": [(torch.full((3, 6, 6), -2.5), 2)] * 3}, "from -2.5 to -2.5, .* undo the normalisation"),
        ({"poisons": [(torch.full((3, 6, 6), torch.nan), 2)] * 3}, "undo the normalisation"),
        ({"poisons": [(torch.ones(3, 6, 6, dtype=torch.int64), 2)] * 3}, "must be uint8 or floats"),
        ({"poisons": [(torch.zeros(3, 6, 6), "2")] * 3}, "the label of poison 0 .* must hold whole numbers"),
        ({"poisons": [(torch.zeros(3, 6, 6), 1)] * 3}, "is labelled 1, but that training row is of class 2"),
        ({"poisons": [(torch.zeros(3, 6, 6), 9)] * 3}, r"labels must lie in 0\.\.2"),
        ({"base_indices": [20, 2]}, "names 2 bases, but there are 3 poisons"),
        ({"base_indices": [20, 2, 4711]}, "id 4711 is not in the data set of 30 rows"),
        ({"base_indices": [20, 2, -1]}, "whole numbers from 0"),
        ({"base_indices": [20, 2, 2**70]}, "whole numbers from 0"),
        ({"base_indices": np.array([20.0, 2.0, 11.0])}, "whole numbers from 0"),
        ({"target": [1, 2]}, r"no \(image, label\)"),
        ({"target": (torch.zeros(3, 6, 6), 2)}, "of class 2 and the first poison of class 2"),
        ({"target": (torch.zeros(3, 6, 6), 3)}, "of class 3 and the first poison"),
        ({"target": (torch.zeros(3, 6, 6), 0, torch.zeros(3, 2, 2), [5, 0])}, "lie inside the image"),
        ({"target": (torch.zeros(3, 6, 6), 0, torch.zeros(1, 2, 2), [0, 0])}, r"it must have \(3, 2, 2\)"),
        ({"target": (torch.zeros(3, 6, 6), 0, torch.zeros(3, 2, 2), [0])}, "must have 3 channels"),
        ({"target": (torch.zeros(3, 6, 6), 0, torch.zeros(3, 2, 2), 5)}, "the place of the patch"),
        ({"target": (torch.zeros(3, 6, 6), 0, np.zeros((3, 0, 0)), [0, 0])}, "must have 3 channels"),
        ({"target": (torch.zeros(3, 6, 6), 0, None, [0, 0])}, "must have 3 channels"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    export: Callable[..., Path], train: Dataset, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        read_benchmark(export(**changes), train=train)
    assert str(export()) in str(caught.value)


def test_a_repeated_base_cannot_smuggle_in_an_unknown_class(export: Callable[..., Path], train: Dataset) -> None:
    poisons = [(torch.zeros(3, 6, 6), label) for label in (9, 2, 2)]
    with pytest.raises(FormatError, match=r"two classes of 0\.\.2"):
        read_benchmark(export(poisons=poisons, base_indices=[20, 2, 20]), train=train)


@pytest.mark.parametrize("name", ["poisons", "base_indices", "target"])
def test_a_hostile_file_is_refused_and_not_run(export: Callable[..., Path], train: Dataset, name: str) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {folder / 'marker'}",)

    folder = export()
    export(**{name: Hostile()})
    with pytest.raises(FormatError, match=rf"{name}\.pickle' asks for '(posix|nt)\.system'.*nothing in it was run"):
        read_benchmark(folder, train=train)
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("name", ["poisons", "base_indices", "target"])
def test_a_missing_or_short_file_is_a_sentence(export: Callable[..., Path], train: Dataset, name: str) -> None:
    path = export() / f"{name}.pickle"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FormatError, match=f"{name}.pickle' is cut short"):
        read_benchmark(path.parent, train=train)
    path.unlink()
    with pytest.raises(FormatError, match=f"cannot read '.*{name}.pickle': No such file"):
        read_benchmark(path.parent, train=train)


def test_tables_have_no_poison_pictures(export: Callable[..., Path], train: Dataset) -> None:
    table = Dataset.of(torch.zeros(4, 5), torch.zeros(4), space=Space(shape=(5,), num_classes=2))
    for data in (table, replace(train, space=replace(train.space, bounds=(-1.0, 1.0)))):
        with pytest.raises(FormatError, match=r"images in \[0, 1\]"):
            read_benchmark(export(), train=data)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    name=st.sampled_from(["poisons", "base_indices", "target"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=2)), min_size=1, max_size=3),
)
def test_damage_gives_a_poison_or_a_sentence(
    export: Callable[..., Path], train: Dataset, name: str, edits: list[tuple[float, bytes]]
) -> None:
    path = export() / f"{name}.pickle"
    content = path.read_bytes()
    for place, new in edits:
        at = int(place * len(content))
        content = content[:at] + new + content[at + 1 :]
    path.write_bytes(content)
    try:
        found = read_benchmark(path.parent, train=train)
    except FormatError:
        return
    assert set(found.poison.rows.ids.tolist()) <= set(train.ids.tolist())
    assert found.poison.rows.inputs.shape[1:] == train.inputs.shape[1:]


# Set-ups

SETUP = {"target class": 4, "target index": np.int64(9139), "base class": 7, "base indices": np.array([30330, 7829])}


def test_reads_setups_from_pickle_and_json(tmp_path: Path) -> None:
    expected = (Setup(target_class=4, target_index=9139, base_class=7, base_indices=(30330, 7829)),) * 2
    for protocol in (2, 4, 5):
        (tmp_path / "a.pickle").write_bytes(pickle.dumps([SETUP, SETUP], protocol))
        assert read_setups(tmp_path / "a.pickle") == expected
    plain = {key: np.asarray(value).tolist() for key, value in SETUP.items()}
    (tmp_path / "a.json").write_text(json.dumps([plain, plain]))
    assert read_setups(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "no list of set-ups"),
        ("[]", "no list of set-ups"),
        ("[1]", "set-up 0 in 'a.json' lacks 'target class'"),
        (
            '[{"target class": 1.5, "target index": 1, "base class": 2, "base indices": [1]}]',
            "'target class' of set-up 0",
        ),
        ('[{"target class": 2, "target index": 1, "base class": 2, "base indices": [1]}]', "other than the target's"),
        ('[{"target class": 1, "target index": 1, "base class": 2, "base indices": []}]', "at least one base index"),
        ("[", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("\xff", "is no JSON"),
    ],
)
def test_wrong_setups_are_a_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("latin1"))
    with pytest.raises(FormatError, match=words):
        read_setups(tmp_path / "a.json")


def test_ships_the_published_setups() -> None:
    """Against section C.3 of how the originals were described when they were read."""
    transfer, scratch = benchmark_setups("transfer"), benchmark_setups("scratch")
    assert (len(transfer), len(scratch)) == (100, 100)
    assert {len(each.base_indices) for each in transfer} == {25}
    assert {len(each.base_indices) for each in scratch} == {500}
    first = transfer[0]
    assert (first.target_class, first.target_index, first.base_class) == (4, 9139, 7)
    assert first.base_indices[:3] == (30330, 7829, 47673)
    assert (scratch[0].target_class, scratch[0].target_index, scratch[0].base_class) == (7, 7762, 3)
    twice = [place for place, each in enumerate(transfer) if len(set(each.base_indices)) < 25]
    assert twice == [78, 84]
    assert scratch[69].target_index == scratch[89].target_index == 4804
    assert len({index for each in transfer for index in each.base_indices}) == 2410
    assert len({index for each in scratch for index in each.base_indices}) == 31598
