"""Promises of the pictures: the pixels shown are the pixels stored."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from mithridate.report import pictures
from mithridate.report.load import Craft, read
from mithridate.store import Store
from tests.report.fabricate import add_craft


def decoded(picture: pictures.Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))))


@pytest.fixture
def craft(tmp_path: Path) -> tuple[Path, Craft]:
    with Store(tmp_path, create=True) as store:
        add_craft(store, 0)
    return tmp_path, read(tmp_path).crafts[0]


def test_pixels_survive_exactly():
    codes = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4)
    shown = pictures.picture(codes / 255, "alt")
    assert shown is not None
    assert (shown.width, shown.height) == (4, 5)
    assert np.array_equal(decoded(shown), codes.transpose(1, 2, 0))


def test_large_pictures_are_averaged_down():
    shown = pictures.picture(np.full((1, 300, 200), 0.2), "alt")
    assert shown is not None
    assert (shown.width, shown.height) == (64, 96)
    assert set(decoded(shown).reshape(-1)) == {51}


@pytest.mark.parametrize("shape", [(4,), (2, 8, 8), (3, 0, 0)])
def test_what_is_no_image_has_no_picture(shape: tuple[int, ...]):
    assert pictures.picture(np.zeros(shape), "alt") is None


@pytest.mark.parametrize(("codes", "factor"), [(32, 4), (16, 8), (8, 16), (4, 32), (0, 1), (255, 1)])
def test_the_largest_difference_fills_the_range(codes: int, factor: int):
    base = np.zeros((1, 1, 1, 2))
    changed = base + np.array([codes, 0]) / 255
    assert pictures.amplification(changed, base) == factor
    shown = pictures.difference(changed, base, factor).reshape(-1)
    assert shown[1] == 0.5
    assert shown[0] == pytest.approx(0.5 if codes == 0 else 1.0, abs=0.01)


def test_codes_of_few_levels_are_scaled_by_their_manifest(craft: tuple[Path, Craft]):
    folder, made = craft
    place = folder / made.folder
    save_file({"inputs": np.full((1, 1, 8, 8), 16, dtype=np.uint8)}, place / "poison.safetensors")
    (place / "manifest.json").write_text(json.dumps({"space": {"levels": 17}}))
    rows = pictures.rows(read(folder), made, 8)
    assert rows is not None
    assert rows.inputs.max() == 1.0


def test_a_damaged_poison_set_is_no_picture_and_no_error(craft: tuple[Path, Craft]):
    folder, made = craft
    (folder / made.folder / "poison.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00broken")
    assert pictures.rows(read(folder), made, 8) is None


def test_a_row_cannot_lead_out_of_the_run_folder(tmp_path: Path):
    with Store(tmp_path / "run", create=True) as store:
        key = add_craft(store, 0)
        store.poison_folder(key).rename(tmp_path / "outside")
        row = store.rows("craft")[0]
        store.add(key, "craft", row | {"folder": "../outside"})
    run = read(tmp_path / "run")
    assert pictures.rows(run, run.crafts[0], 8) is None
