"""Promises of the pictures of dropped rows."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mithridate.report import dropped
from mithridate.report.combinations import cells
from mithridate.report.dropped import Wall, arrays
from mithridate.report.load import read
from tests.report.fabricate_defenses import EPIC, NONE, add_pictures, fabricate_defenses
from tests.report.test_pictures import decoded


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return fabricate_defenses(tmp_path, [NONE, EPIC], trials=2, runs=1)


def wall(folder: Path) -> Wall | None:
    run = read(folder)
    (found,) = dropped.walls(run, [cell for cell in cells(run) if cell.defense == "epic"])
    return found


def test_shows_the_pixels_stored_with_class_and_poison(made: Path):
    found = wall(made)
    assert found is not None
    assert (found.trial, found.rows, len(found.images), found.poison) == (0, 360, 24, 8)
    stored = np.load(made / "dropped" / "epic-0.npz")
    first, second = found.images[:2]
    assert np.array_equal(decoded(second.picture), stored["images"][1])
    assert (first.label, first.poison, first.picture.alt) == (
        "ankle boot",
        True,
        "Dropped row 500, labelled “ankle boot”, poison",
    )
    assert (second.label, second.poison) == ("shirt", False)


def test_a_lost_file_gives_way_to_the_next_trial(made: Path):
    (made / "dropped" / "epic-0.npz").unlink()
    found = wall(made)
    assert found is not None
    assert found.trial == 1


def damaged(path: Path, how: str) -> None:
    good = path.read_bytes()
    rows = {name: np.zeros(3, dtype=np.int64) for name in ("labels", "ids", "poison")}
    pictures = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    contents = {
        "another shape": rows | {"images": np.zeros((3, 4), dtype=np.uint8)},
        "another length": rows | {"images": pictures[:2]},
        "another type": rows | {"images": pictures.astype(np.float64)},
        "objects": rows | {"images": np.array([{}] * 3, dtype=object)},
        "words": rows | {"images": pictures, "labels": np.array(["a", "b", "c"])},
        "no labels": {"images": pictures, "ids": rows["ids"], "poison": rows["poison"]},
    }
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif how == "flipped":
        path.write_bytes(good[:200] + bytes(each ^ 255 for each in good[200:1200]) + good[1200:])
    elif how == "huge":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 32, 32, 3)}
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header.getvalue() + b"few")
    else:
        np.savez(path, **contents[how])


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "cut", "flipped", "huge", "another shape", "another length", "another type"),
        *("objects", "words", "no labels"),
    ],
)
def test_a_damaged_file_is_no_picture_and_no_error(tmp_path: Path, how: str):
    add_pictures(tmp_path / "dropped" / "one.npz", 0)
    assert arrays(tmp_path, "dropped/one.npz") is not None
    damaged(tmp_path / "dropped" / "one.npz", how)
    assert arrays(tmp_path, "dropped/one.npz") is None


def test_a_file_that_would_fill_the_memory_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    add_pictures(tmp_path / "dropped" / "one.npz", 0)
    monkeypatch.setattr(dropped, "_FILE", 24 * 28 * 28 * 3)  # a little less than the arrays with their headers
    assert arrays(tmp_path, "dropped/one.npz") is None


def test_a_row_cannot_lead_out_of_the_run_folder(tmp_path: Path):
    add_pictures(tmp_path / "dropped" / "one.npz", 0)
    (tmp_path / "run").mkdir()
    assert arrays(tmp_path / "run", "../dropped/one.npz") is None


def test_large_pictures_of_many_defenses_share_the_room(tmp_path: Path):
    fabricate_defenses(tmp_path, [NONE, EPIC], trials=1, runs=1)
    path = tmp_path / "dropped" / "epic-0.npz"
    noise = np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)
    rows = dict(np.load(path)) | {"images": noise}
    np.savez(path, **rows)
    run = read(tmp_path)
    cell = next(cell for cell in cells(run) if cell.defense == "epic")
    (one, *_) = found = dropped.walls(run, [cell] * 8)
    assert one is not None
    assert 0 < len(one.images) < 24
    assert sum(len(row.picture.uri) for each in found if each for row in each.images) < 400_000
