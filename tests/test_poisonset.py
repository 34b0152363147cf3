from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError, FormatError, StoreError
from mithridate.goal import Aims
from mithridate.inspection import summary
from mithridate.manifest import as_text
from mithridate.poison import FIRST_APPENDED, Poison, Trigger
from mithridate.poisonset import MANIFEST, TENSORS, PoisonSet, read, write
from tests.conftest import stripes
from tests.tables import ADA, TABLE, tables
from tests.tables import rows as table_rows

DETAILS = {
    "attack": {"name": "gradient-matching", "steps": 250, "radius": 8 / 255},
    "threat": {"budget": 0.1, "base_ids": (1, 2)},
    "seed": 7,
}
SPACE = {
    "shape": [3, 6, 6],
    "num_classes": 3,
    "bounds": [0.0, 1.0],
    "levels": 256,
    "classes": [],
    "mean": [],
    "std": [],
}
COLUMN = {"name": "a", "kind": "real", "low": 0.0, "high": 1.0, "group": "", "category": "", "mutable": True}


@dataclass(frozen=True, kw_only=True)
class Corner(Trigger):
    """A white corner, for these tests."""

    name: ClassVar[str] = "corner"
    size: int = 2
    place: tuple[int, int] = (0, 0)

    def apply(self, inputs: Tensor) -> Tensor:
        marked = inputs.clone()
        marked[:, :, : self.size, : self.size] = 1.0
        return marked


@pytest.fixture(scope="module")
def train() -> Dataset:
    return stripes(30, seed=1, size=6)


@pytest.fixture(scope="module")
def base(train: Dataset) -> Dataset:
    return train.rows(torch.tensor([20, 2, 11]))


@pytest.fixture(scope="module")
def poison(base: Dataset) -> Poison:
    changed = (base.inputs.to(torch.int16) + 8).clamp(0, 255).to(torch.uint8)
    return Poison(rows=replace(base, inputs=changed), trace={"loss": (0.1, math.nan, -math.inf, 1 / 3)})


@pytest.fixture(scope="module")
def aims() -> Aims:
    test = stripes(6, seed=2, size=6)
    return Aims(inputs=test.all_inputs()[:1], labels=test.labels[:1], wanted=torch.tensor([2]), ids=torch.tensor([40]))


@pytest.fixture
def folder(tmp_path: Path, poison: Poison, base: Dataset, aims: Aims, train: Dataset) -> Path:
    return write(tmp_path / "set", poison=poison, base=base, aims=aims, details=DETAILS, data_digest=train.digest())


def same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and first.numpy().tobytes() == second.numpy().tobytes()


def check_same(found: PoisonSet, poison: Poison, base: Dataset | None, aims: Aims) -> None:
    assert same(found.poison.rows.inputs, poison.rows.inputs)
    assert same(found.poison.rows.labels, poison.rows.labels)
    assert same(found.poison.rows.ids, poison.rows.ids)
    assert found.poison.rows.space == poison.rows.space
    assert repr(found.poison.trace) == repr(dict(poison.trace))  # NaN is not itself
    assert (found.base is None) == (base is None)
    if base is not None and found.base is not None:
        assert found.base.digest() == base.digest()
    for field in ("inputs", "labels", "wanted", "ids"):
        assert same(getattr(found.aims, field), getattr(aims, field)), field
    assert found.aims.trigger == aims.trigger


def test_comes_back_byte_for_byte(folder: Path, poison: Poison, base: Dataset, aims: Aims, train: Dataset) -> None:
    found = read(folder)
    check_same(found, poison, base, aims)
    assert found.manifest["base_data_sha256"] == train.digest()
    assert found.manifest["details"]["attack"] == DETAILS["attack"]
    assert train.updated(found.poison.rows).digest() == poison.apply(train).digest()


def test_comes_back_with_a_trigger_appended_rows_and_targets_between_levels(
    tmp_path: Path, poison: Poison, train: Dataset
) -> None:
    appended = replace(poison, rows=replace(poison.rows, ids=poison.rows.ids + 1000))
    between = torch.linspace(0, 1, 2 * 3 * 36).reshape(2, 3, 6, 6)
    aims = Aims(
        inputs=between, labels=torch.tensor([0, 1]), wanted=None, trigger=Corner(size=3, place=(1, 2)), ids=None
    )
    write(tmp_path / "set", poison=appended, base=None, aims=aims, details={}, data_digest="")
    found = read(tmp_path / "set", triggers={"corner": Corner})
    check_same(found, appended, None, aims)
    assert summary(found)["largest_change_255ths"] is None


def test_rounds_an_unquantised_poison_to_what_a_victim_receives(
    tmp_path: Path, poison: Poison, base: Dataset, aims: Aims
) -> None:
    exact = poison.rows.all_inputs() + 0.3 / 255
    float_poison = Poison(rows=replace(poison.rows, inputs=exact.clamp(0, 1)))
    write(tmp_path / "set", poison=float_poison, base=base, aims=aims, details={}, data_digest="")
    assert same(read(tmp_path / "set").poison.rows.inputs, poison.rows.inputs)


def test_keeps_real_valued_tables_and_empty_poison(tmp_path: Path) -> None:
    space = Space(shape=(4,), num_classes=2, bounds=(-3.0, 3.0))
    rows = Dataset.of(
        torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).clamp(-3, 3), torch.arange(5) % 2, space=space
    )
    aims = Aims(inputs=rows.all_inputs(), labels=rows.labels, wanted=None)
    for count in (0, 3):
        poison = Poison(rows=rows.at(slice(count)))
        write(tmp_path / "set", poison=poison, base=rows.at(slice(count)), aims=aims, details={}, data_digest="")
        check_same(read(tmp_path / "set"), poison, rows.at(slice(count)), aims)


def test_appended_rows_come_back_with_their_origins(tmp_path: Path, train: Dataset, aims: Aims) -> None:
    origins = torch.tensor([20, 2, 20])  # one of them twice
    rows = replace(train.rows(origins), ids=FIRST_APPENDED + torch.arange(3))
    poison = Poison(rows=replace(rows, inputs=rows.inputs // 2), origins=origins)
    base = poison.clean(train)
    write(tmp_path / "set", poison=poison, base=base, aims=aims, details=DETAILS, data_digest=train.digest())
    found = read(tmp_path / "set")
    check_same(found, poison, base, aims)
    assert same(found.poison.origins, origins)
    clean = found.poison.clean(train)
    assert clean is not None
    assert found.base is not None
    assert clean.digest() == found.base.digest()
    assert found.manifest["version"] == 2
    said = summary(found)
    assert (said["rows"], said["origins"], said["relabelled"]) == (3, [20, 2, 20], 0)


def test_origins_without_their_clean_rows_are_refused(tmp_path: Path, train: Dataset, aims: Aims) -> None:
    rows = replace(train.rows(torch.tensor([20, 2])), ids=FIRST_APPENDED + torch.arange(2))
    poison = Poison(rows=rows, origins=torch.tensor([20, 2]))
    for base, words in ((None, "needs their clean rows"), (train.rows(torch.tensor([20, 3])), "ids of its origins")):
        with pytest.raises(DataError, match=words):
            write(tmp_path / "set", poison=poison, base=base, aims=aims, details={}, data_digest="")
    with pytest.raises(
        DataError, match=r"2 rows needs as many int64 origins, but they are torch.int64 of shape \(1,\)"
    ):
        Poison(rows=rows, origins=torch.tensor([20]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space=tables(), seed=st.integers(0, 1000), appended=st.booleans(), count=st.integers(0, 4))
def test_poison_of_any_table_comes_back(tmp_path: Path, space: Space, seed: int, appended: bool, count: int) -> None:
    data, draws = table_rows(6, space=space, seed=seed), torch.Generator().manual_seed(seed)
    origins = torch.randint(0, 6, (count,), generator=draws) if appended else torch.randperm(6, generator=draws)[:count]
    base = data.rows(origins)
    wild = base.inputs + space.unit(base.inputs) * torch.randn(base.inputs.shape, generator=draws)
    rows = replace(base, inputs=wild, ids=FIRST_APPENDED + torch.arange(count) if appended else origins)
    poison = Poison(rows=rows, origins=origins if appended else None)
    aims = Aims(inputs=data.inputs[:2], labels=data.labels[:2], wanted=None)
    write(tmp_path / "set", poison=poison, base=base, aims=aims, details={}, data_digest="")
    found = read(tmp_path / "set")
    check_same(found, poison.quantised(), base, aims)
    assert same(found.poison.origins, poison.origins)
    if count:
        found.poison.rows.checked()


def test_says_which_columns_of_a_table_are_changed() -> None:
    base = Dataset.of(torch.tensor([ADA, ADA, ADA]), torch.tensor([0, 1, 1]), space=TABLE)
    inputs = base.inputs.clone()
    inputs[:, 0] = torch.tensor([36.0, 37.0, 72.0])
    inputs[1:, 2:5] = torch.tensor([1.0, 0.0, 0.0])
    inputs[1, 5] = 0.0
    poison = Poison(rows=replace(base, inputs=inputs))
    found = summary(PoisonSet(poison=poison, base=base, aims=no_aims(), manifest={}))
    assert found["columns"] == ["age", "income", "work", "married", "sex", "born"]
    assert found["changed_columns"] == {"age": 2, "work": 2, "married": 1}
    assert list(found["changed_columns"]) == ["age", "work", "married"]  # most first
    assert found["largest_change"] == 1.0
    assert "largest_change_255ths" not in found
    unknown = summary(PoisonSet(poison=poison, base=None, aims=no_aims(), manifest={}))
    assert unknown["changed_columns"] is unknown["largest_change"] is None


def no_aims() -> Aims:
    return Aims(inputs=torch.zeros(0, 9), labels=torch.zeros(0, dtype=torch.int64), wanted=None)


def test_what_needs_no_columns_and_no_origins_is_written_as_it_was_before_there_were_any(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["version"] == 1
    assert "origins" not in manifest
    assert manifest["space"].keys() == SPACE.keys()
    assert json.loads(json.dumps(read(folder).manifest)) == manifest


def test_equal_content_gives_equal_bytes(
    tmp_path: Path, folder: Path, poison: Poison, base: Dataset, aims: Aims, train: Dataset
) -> None:
    shuffled = dict(reversed(DETAILS.items()))
    again = write(tmp_path / "b", poison=poison, base=base, aims=aims, details=shuffled, data_digest=train.digest())
    for name in (MANIFEST, TENSORS):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_says_what_is_in_it(folder: Path) -> None:
    assert summary(read(folder)) == {
        "rows": 3,
        "classes": {"stripe 2": 3},
        "relabelled": 0,
        "largest_change_255ths": 8.0,
        "goal": "1 input of class 'stripe 0' (id 40) is to be called 'stripe 2'",
        "attack": "gradient-matching",
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("wanted", "trigger", "words"),
    [
        (None, None, "4 inputs of 2 classes are to be called anything else"),
        ([2, 2, 2, 2], Corner(), "4 inputs of 2 classes with the trigger 'corner' are to be called 'stripe 2'"),
        ([1, 0, 1, 0], None, "4 inputs of 2 classes are to be called one of 2 classes, chosen for each"),
    ],
)
def test_says_every_goal_in_words(
    poison: Poison, wanted: list[int] | None, trigger: Trigger | None, words: str
) -> None:
    aims = Aims(
        inputs=torch.zeros(4, 3, 6, 6),
        labels=torch.tensor([0, 1, 0, 1]),
        wanted=None if wanted is None else torch.tensor(wanted),
        trigger=trigger,
    )
    assert summary(PoisonSet(poison=poison, base=None, aims=aims, manifest={}))["goal"] == words


# Writing


def test_replaces_an_older_set_and_refuses_any_other_folder(
    tmp_path: Path, folder: Path, poison: Poison, base: Dataset, aims: Aims
) -> None:
    write(folder, poison=poison, base=base, aims=aims, details={"seed": 8}, data_digest="")
    assert read(folder).manifest["details"] == {"seed": 8}
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'notes\.txt', which would be lost"):
        write(folder, poison=poison, base=base, aims=aims, details={}, data_digest="")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MANIFEST).write_text("{}")
    with pytest.raises(StoreError, match=r"holds 'manifest\.json', which would be lost"):
        write(tmp_path / "other", poison=poison, base=base, aims=aims, details={}, data_digest="")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        write(tmp_path / "file", poison=poison, base=base, aims=aims, details={}, data_digest="")
    assert (folder / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_the_old_set_and_nothing_else(
    tmp_path: Path, folder: Path, poison: Poison, base: Dataset, aims: Aims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for name in ("set", "new"):
        with pytest.raises(StoreError, match="No space left on device; free space"):
            write(tmp_path / name, poison=poison, base=base, aims=aims, details={}, data_digest="")
    assert [each.name for each in tmp_path.iterdir()] == ["set"]
    assert read(folder).manifest["details"]["seed"] == 7


def test_a_failed_move_puts_the_old_set_back(
    tmp_path: Path, folder: Path, poison: Poison, base: Dataset, aims: Aims, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, moves = Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        moves.append(self.name)
        if len(moves) == 2:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(StoreError, match="Permission denied"):
        write(folder, poison=poison, base=base, aims=aims, details={}, data_digest="")
    assert [each.name for each in tmp_path.iterdir()] == ["set"]
    assert read(folder).manifest["details"]["seed"] == 7


def test_a_parent_that_is_a_file_is_a_sentence(tmp_path: Path, poison: Poison, base: Dataset, aims: Aims) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="cannot write the poison set"):
        write(tmp_path / "file" / "set", poison=poison, base=base, aims=aims, details={}, data_digest="")


def test_refuses_clean_rows_of_other_ids(tmp_path: Path, poison: Poison, train: Dataset, aims: Aims) -> None:
    with pytest.raises(DataError, match="must have the ids of the poison"):
        write(tmp_path / "set", poison=poison, base=train.at(slice(3)), aims=aims, details={}, data_digest="")
    assert not (tmp_path / "set").exists()


# Damage


def edit(folder: Path, **changes: Any) -> None:
    """Another manifest, signed anew, so that it is its content that is looked at."""
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    manifest.pop("manifest_sha256")
    (folder / MANIFEST).write_bytes(as_text(manifest))


def edit_tensors(folder: Path, **changes: Tensor | None) -> None:
    """Another content with the right hash, as only someone who means harm would write it."""
    tensors = safetensors.torch.load((folder / TENSORS).read_bytes()) | changes
    data = safetensors.torch.save({name: tensor for name, tensor in tensors.items() if tensor is not None})
    (folder / TENSORS).write_bytes(data)
    edit(folder, poison_sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "version 3, but this release reads up to version 2; upgrade"),
        ({"version": "1"}, "version: Input should be a valid integer"),
        ({"format": "zip"}, "format: Input should be 'mithridate-poison-set'"),
        ({"ids": [1, "2", 3]}, "ids.1: Input should be a valid integer"),
        ({"ids": [1, 2, 3]}, "'ids' differs between manifest.json and poison.safetensors"),
        ({"ids": [2**70, 2, 3]}, "'ids' differs"),
        ({"labels": [0, 0, 0]}, "'labels' differs"),
        ({"poison_sha256": "0" * 64}, "does not have the SHA-256"),
        ({"trace": {"loss": ["many"]}}, "trace.loss.0"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"space": None}, "space: Input"),
        ({"origins": [1, 2, 3]}, "lacks 'base_ids'"),
        ({"space": SPACE | {"columns": [{"name": "age"}]}}, "space.columns.0.kind: Field required"),
        ({"space": SPACE | {"columns": [COLUMN]}}, "rows of 1 columns have the shape (1,)"),
        ({"space": SPACE | {"columns": [COLUMN | {"low": 2.0}]}}, "needs a lower and a higher"),
        ({"space": SPACE | {"num_classes": 2**70}}, "space.num_classes"),
        ({"space": SPACE | {"shape": [2**70, 6, 6]}}, "inputs have shape (3, 3, 6, 6)"),
        ({"space": SPACE | {"bounds": [1.0, 0.0]}}, "bounds must be"),
        ({"space": SPACE | {"levels": 4}}, "holds the code"),
        ({"goal": {"labels": [0], "wanted": [1], "ids": [40], "trigger": None}}, "'target_wanted' differs"),
        ({"goal": {"labels": [0], "wanted": None, "ids": None, "trigger": {"name": "cornr"}}}, "did you mean 'corner'"),
        (
            {"goal": {"labels": [0], "wanted": None, "ids": None, "trigger": {"name": "corner", "colour": 1}}},
            "has no setting 'colour'",
        ),
        (
            {"goal": {"labels": [0], "wanted": None, "ids": None, "trigger": {"name": "corner", "size": "3"}}},
            "has a wrong setting (size: Input should be a valid integer)",
        ),
        ({"goal": {"labels": [0], "wanted": None, "ids": None, "trigger": {}}}, "its trigger 'None' is not known"),
    ],
)
def test_a_wrong_manifest_is_a_sentence(folder: Path, change: dict[str, Any], words: str) -> None:
    edit(folder, **change)
    with pytest.raises(FormatError) as caught:
        read(folder, triggers={"corner": Corner})
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": None}, "lacks 'inputs'"),
        ({"inputs": torch.zeros(3, 3, 6, 5, dtype=torch.uint8)}, "inputs have shape (3, 3, 6, 5)"),
        ({"inputs": torch.zeros((), dtype=torch.uint8)}, "'inputs' is torch.uint8 of shape ()"),
        ({"inputs": torch.zeros(3, 3, 6, 6)}, "rows with 256 levels are stored as uint8"),
        ({"inputs": torch.zeros(3, 3, 6, 6, dtype=torch.int16)}, "'inputs' is torch.int16"),
        ({"base_labels": torch.tensor([0, 0, 9])}, "labels must lie in 0..2"),
        ({"base_labels": None}, "lacks 'base_labels'"),
        ({"target_inputs": torch.full((1, 3, 6, 6), math.nan)}, "NaN"),
        ({"target_inputs": torch.zeros(2, 3, 6, 6)}, "2 inputs need 2 labels"),
        ({"ids": torch.tensor([20, 2, 12])}, "'ids' differs"),
        ({"base_ids": torch.tensor([20, 2, 12])}, "'base_ids' differs"),
    ],
)
def test_wrong_tensors_are_a_sentence(folder: Path, change: dict[str, Tensor | None], words: str) -> None:
    edit_tensors(folder, **change)
    with pytest.raises(FormatError) as caught:
        read(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [MANIFEST, TENSORS])
def test_a_missing_or_short_file_is_a_sentence(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for damage in (content[: len(content) // 2], content[:-1] if name == TENSORS else content[:-3], b""):
        (folder / name).write_bytes(damage)
        with pytest.raises(FormatError, match=f"{name}.*copy the whole folder again"):
            read(folder)
    (folder / name).unlink()
    with pytest.raises(FormatError, match=f"cannot read '.*{name}'"):
        read(folder)


def test_a_safetensors_file_that_is_none_is_a_sentence(folder: Path) -> None:
    (folder / TENSORS).write_bytes(b"\xff" * 40)
    edit(folder, poison_sha256=hashlib.sha256(b"\xff" * 40).hexdigest())
    with pytest.raises(FormatError, match=r"poison\.safetensors is damaged"):
        read(folder)


def test_deeply_nested_json_is_a_sentence(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 200_000)
    with pytest.raises(FormatError, match="damaged"):
        read(folder)


def reads_or_refuses(folder: Path) -> PoisonSet | None:
    try:
        return read(folder, triggers={"corner": Corner})
    except FormatError:
        return None


quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@quick
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), name=st.sampled_from([MANIFEST, TENSORS]))
def test_a_flipped_byte_is_refused_or_harmless(folder: Path, place: float, byte: int, name: str) -> None:
    content = (folder / name).read_bytes()
    at = int(place * len(content))
    try:
        (folder / name).write_bytes(content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :])
        found = reads_or_refuses(folder)
    finally:
        (folder / name).write_bytes(content)
    assert found is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@quick
@given(data=st.data())
def test_no_manifest_gives_a_traceback(folder: Path, data: st.DataObject) -> None:
    text = (folder / MANIFEST).read_text()
    manifest = json.loads(text)
    part = data.draw(st.sampled_from([manifest, manifest["space"], manifest["goal"], manifest["details"]]))
    key = data.draw(st.sampled_from([*part, "new"]))
    if data.draw(st.booleans()):
        part.pop(key, None)
    else:
        part[key] = data.draw(junk)
    try:
        (folder / MANIFEST).write_text(json.dumps(manifest))
        reads_or_refuses(folder)
        manifest.pop("manifest_sha256", None)
        (folder / MANIFEST).write_bytes(as_text(manifest))  # signed anew: its content is looked at too
        reads_or_refuses(folder)
    finally:
        (folder / MANIFEST).write_text(text)


@quick
@given(header=st.binary(max_size=60), length=st.integers(0, 80))
def test_no_safetensors_header_gives_a_traceback(folder: Path, header: bytes, length: int) -> None:
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    data = length.to_bytes(8, "little") + header
    (kept / TENSORS).write_bytes(data)
    edit(kept, poison_sha256=hashlib.sha256(data).hexdigest())
    assert reads_or_refuses(kept) is None
