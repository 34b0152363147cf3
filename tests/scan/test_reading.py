"""Every kind of data that people have, and every mistake in them, as a sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mithridate.datasets.export import write_folder, write_parquet
from mithridate.errors import DataError
from mithridate.scan.reading import LARGEST, read
from mithridate.testing import toy


def images(folder: Path, count: int, *, mode: str = "L", size: tuple[int, int] = (8, 8), start: int = 0) -> None:
    """PNG files of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(start)
    for k in range(start, start + count):
        shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
        Image.fromarray(draws.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{k}.png")


def test_a_folder_of_class_folders_is_read_whole(tmp_path: Path) -> None:
    images(tmp_path / "cats", 70)
    images(tmp_path / "dogs", 50, start=70)
    (tmp_path / "dogs" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    found = read(tmp_path)
    assert len(found.data) == 120
    assert found.data.space.classes == ("cats", "dogs")
    assert found.data.space.shape == (1, 8, 8)
    assert found.notes == ()
    for row in (0, 69, 70, 119):
        pixels = np.asarray(Image.open(tmp_path / found.files[row]))
        assert (found.data.inputs[row, 0].numpy() == pixels).all()
        assert found.files[row].startswith(found.data.space.classes[found.data.labels[row]])


def test_only_the_training_part_is_scanned(tmp_path: Path) -> None:
    for part, count in (("train", 60), ("test", 40)):
        images(tmp_path / part / "a", count)
        images(tmp_path / part / "b", count)
    found = read(tmp_path)
    assert len(found.data) == 120
    assert found.files[0] == "a/0.png"


def test_folder_parquet_and_arrays_hold_the_same_rows(tmp_path: Path) -> None:
    data = toy(120, seed=1)
    write_folder(data, tmp_path / "folder")
    write_parquet(data, tmp_path / "rows.parquet")
    pixels, labels = data.inputs.numpy(), data.labels.numpy()
    np.savez(tmp_path / "named.npz", x_train=pixels, y_train=labels, x_test=pixels[:1], y_test=labels[:1])
    np.savez(tmp_path / "plain.npz", x=pixels[:, 0], y=labels)
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "photos.npy", pixels / np.float32(255))
    np.save(tmp_path / "photos_labels.npy", labels[:, None])
    for name in ("folder", "rows.parquet", "named.npz", "plain.npz", "x.npy", "photos.npy"):
        found = read(tmp_path / name)
        order = np.arange(120)
        if name == "folder":
            order = np.array([int(Path(file).stem) for file in found.files])
        assert (found.data.inputs.numpy() == pixels[order]).all(), name
        assert (found.data.labels.numpy() == labels[order]).all(), name
        assert found.data.ids.tolist() == list(range(120))


def test_a_folder_of_parquet_files_is_read_too(tmp_path: Path) -> None:
    write_parquet(toy(120, seed=1), tmp_path / "data" / "part-0.parquet")
    assert len(read(tmp_path / "data").data) == 120


def test_labels_with_gaps_keep_their_numbers_as_names(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 5], 40)
    np.savez(tmp_path / "gaps.npz", x=np.zeros((120, 8, 8), dtype=np.uint8), y=labels)
    found = read(tmp_path / "gaps.npz")
    assert found.data.space.classes == ("0", "1", "5")
    assert found.data.labels.tolist() == np.repeat([0, 1, 2], 40).tolist()
    assert found.notes == ("labels run to 5, but only 3 of them occur; these are the classes: 0, 1, 5",)


def test_grey_beside_coloured_is_read_as_colour_and_said(tmp_path: Path) -> None:
    images(tmp_path / "a", 60)
    images(tmp_path / "b", 60, mode="RGB")
    found = read(tmp_path)
    assert found.data.space.shape == (3, 8, 8)
    assert found.notes == ("60 of 120 images are grey, the others coloured; the grey ones have three equal channels",)


def test_images_of_different_sizes_are_resized_and_said(tmp_path: Path) -> None:
    images(tmp_path / "a", 60)
    images(tmp_path / "b", 60, size=(9, 7))
    found = read(tmp_path)
    assert found.data.space.shape == (1, LARGEST, LARGEST)
    assert found.notes == ("the images differ in size, so all were resized to 64 x 64 (choose with --size)",)
    assert read(tmp_path, size=16).data.space.shape == (1, 16, 16)
    assert read(tmp_path, size=16).notes == ()


def test_large_images_are_resized_and_said(tmp_path: Path) -> None:
    images(tmp_path / "a", 60, size=(100, 80))
    images(tmp_path / "b", 60, size=(100, 80))
    found = read(tmp_path)
    assert found.data.space.shape == (1, 64, 64)
    assert found.notes[0].startswith("the images have 100 x 80 pixels, so all were resized")


def test_small_classes_are_kept_and_not_judged(tmp_path: Path) -> None:
    for name, count in (("a", 60), ("b", 60), ("c", 3)):
        images(tmp_path / name, count)
    found = read(tmp_path)
    assert found.judged.tolist() == [True] * 120 + [False] * 3
    assert found.notes == ("too few rows to be judged: class 'c' (3); they are trained on, and get no score",)


def test_the_data_are_not_touched(tmp_path: Path) -> None:
    images(tmp_path / "a", 60)
    images(tmp_path / "b", 60)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*.png")}
    read(tmp_path)
    assert {
        file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()
    } == before


def unreadable(folder: Path) -> Path:
    images(folder / "a", 60)
    images(folder / "b", 60)
    (folder / "b" / "70.png").write_bytes(b"no image")
    return folder


def one_class(folder: Path) -> Path:
    images(folder / "cats", 120)
    return folder


def twelve(folder: Path) -> Path:
    images(folder / "a", 6)
    images(folder / "b", 6)
    return folder


def empty(folder: Path) -> Path:
    return folder


def loose(folder: Path) -> Path:
    images(folder, 3)
    return folder


def no_images(folder: Path) -> Path:
    (folder / "a").mkdir()
    (folder / "a" / "b.txt").write_text("x")
    return folder


def one_empty(folder: Path) -> Path:
    images(folder / "a", 120)
    (folder / "b").mkdir()
    return folder


def absent(folder: Path) -> Path:
    return folder / "nowhere"


def text(folder: Path) -> Path:
    (folder / "rows.csv").write_text("a,b")
    return folder / "rows.csv"


def damaged(folder: Path) -> Path:
    (folder / "rows.npz").write_bytes(b"PK no zip")
    return folder / "rows.npz"


def pickled(folder: Path) -> Path:
    np.savez(folder / "rows.npz", x=np.array([{}], dtype=object), y=np.array([0]))
    return folder / "rows.npz"


def unnamed(folder: Path) -> Path:
    np.savez(folder / "rows.npz", pixels=np.zeros(3))
    return folder / "rows.npz"


def unlabelled(folder: Path) -> Path:
    np.save(folder / "rows.npy", np.zeros((120, 8, 8), dtype=np.uint8))
    return folder / "rows.npy"


def a_table(folder: Path) -> Path:
    np.savez(folder / "rows.npz", x=np.zeros((120, 8)), y=np.arange(120) % 2)
    return folder / "rows.npz"


def minus_one(folder: Path) -> Path:
    np.savez(folder / "rows.npz", x=np.zeros((120, 8, 8), dtype=np.uint8), y=np.arange(120) % 3 - 1)
    return folder / "rows.npz"


def nothing_known(folder: Path) -> Path:
    x = np.random.default_rng(0).random((120, 8, 8), dtype=np.float32)
    x[7, 0, 0] = np.nan
    np.savez(folder / "rows.npz", x=x, y=np.arange(120) % 2)
    return folder / "rows.npz"


def lone_rows(folder: Path) -> Path:
    np.savez(folder / "rows.npz", x=np.zeros((120, 8, 8), dtype=np.uint8), y=np.arange(120))
    return folder / "rows.npz"


def text_column(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": ["a", "b"], "label": [0, 1]}), folder / "rows.parquet")
    return folder / "rows.parquet"


def other_columns(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), folder / "rows.parquet")
    return folder / "rows.parquet"


def deep(folder: Path) -> Path:
    images(folder / "a", 60)
    (folder / "b").mkdir()
    packed = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(packed, "PNG")
    (folder / "b" / "0.png").write_bytes(packed.getvalue())
    return folder


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (unreadable, "b/70.png: its 8 bytes cannot be decoded as an image"),
        (one_class, "needs at least 2 classes of at least 10 rows, but there is only the class 'cats'"),
        (twelve, "has 12 rows, but a scan needs at least 100"),
        (empty, "is empty: it must have one sub-folder a class"),
        (loose, "holds 3 images, but no sub-folders; a scan needs labels"),
        (no_images, "holds images (looked for .bmp, .gif"),
        (one_empty, "b holds no images; delete it if it is no class"),
        (absent, "there is no folder or file"),
        (text, "rows.csv is no folder, and its name does not end in .parquet, .npz, .npy"),
        (damaged, "rows.npz cannot be read (damaged, cut short, or another format)"),
        (pickled, "rows.npz cannot be read (damaged, cut short, or another format): Object arrays"),
        (unnamed, "has no array x_train or x or images or data or inputs; it has: pixels"),
        (unlabelled, "rows.npy has no labels beside it; put them into labels.npy there"),
        (a_table, "has shape (120, 8), but a scan is for images"),
        (minus_one, "row 0 has label -1, but labels must be whole numbers from 0 (-1 commonly marks rows without"),
        (nothing_known, "row 7 holds NaN or infinite values"),
        (lone_rows, "needs at least 2 classes of at least 10 rows, but there are '0' (1), '1' (1)"),
        (text_column, "column 'image' holds string, but images must be struct"),
        (other_columns, "has no column 'image' or 'img'"),
        (deep, "images must have 8 bits a channel"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_what_cannot_be_scanned_is_refused_in_a_sentence(
    made: Callable[[Path], Path], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as refused:
        read(made(tmp_path))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
