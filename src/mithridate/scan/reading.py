"""Somebody's own images, read as one set of rows with the names of their files.

A scan needs rows only, so nothing is held out: of a folder with ``train/`` and ``test/``, and of an ``.npz`` file with
``x_train``, the training part is scanned. Labels may have gaps: classes are the labels that occur, in order, and keep
their numbers as names. Images of different sizes, or larger than ``LARGEST``, are resized.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mithridate.dataset import Dataset, Space, channel_statistics
from mithridate.datasets.images import MAX_BYTES, SUFFIXES, decoded
from mithridate.datasets.imagetable import parquet_files, parquet_rows
from mithridate.datasets.manifest import read_manifest
from mithridate.datasets.rows import Integers, Rows, check_size, numbered
from mithridate.datasets.tensors import array_rows
from mithridate.errors import DataError

LARGEST = 64
"""Pixels a side of the images that are scanned, unless a size is asked for: what a small network learns in minutes."""
LEAST_ROWS = 100
"""Rows that a scan needs: of fewer, 1 % is not even one row."""
LEAST_OF_CLASS = 10
"""Rows that a class needs to be judged; smaller ones are trained on only."""
INPUTS, LABELS = ("x_train", "x", "images", "data", "inputs"), ("y_train", "y", "labels", "targets")
"""What arrays of images and of labels are called in ``.npz`` files, in the order they are looked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What is to be scanned."""

    place: str
    """The folder or file, as it was named."""
    data: Dataset
    """The rows; ids are their numbers from 0."""
    files: tuple[str, ...]
    """For each row the name of its file; empty where rows have none."""
    notes: tuple[str, ...]
    """What was done to the data, in sentences."""

    @property
    def judged(self) -> torch.Tensor:
        """The rows of classes that are large enough to be judged, ``(N,)`` bool."""
        sizes = torch.bincount(self.data.labels, minlength=self.data.space.num_classes)
        return sizes[self.data.labels] >= LEAST_OF_CLASS


Sized = Callable[[int | None], tuple[Rows, tuple[str, ...]]]
"""Rows, and the names of their files, with images resized to so many pixels or left as they are."""


def read(place: str | Path, *, size: int | None = None) -> Material:
    """The images at ``place``: a folder of class folders, Parquet, ``.npz``, or ``.npy`` beside its labels.

    ``size`` resizes to so many pixels a side. Raises :class:`DataError` in a sentence for everything that cannot be
    scanned.
    """
    check_size(size)
    rows = _reader(Path(place))
    try:
        found, files = rows(size)
        inputs = found.inputs(np.arange(len(found.labels)))
    except DataError:
        if size is not None:
            raise
        found, files = rows(LARGEST)  # of different sizes, perhaps; any other fault is raised again
        inputs = found.inputs(np.arange(len(found.labels)))
        return _material(place, found, files, inputs, (_resized("the images differ in size"),))
    notes: tuple[str, ...] = ()
    if size is None and inputs.ndim == 4 and max(inputs.shape[2:]) > LARGEST:
        height, width = inputs.shape[2:]
        found, files = rows(LARGEST)
        inputs = found.inputs(np.arange(len(found.labels)))
        if inputs.shape[2:] != (height, width):  # arrays are not resized
            notes = (_resized(f"the images have {width} x {height} pixels"),)
    return _material(place, found, files, inputs, notes)


def _resized(why: str) -> str:
    return f"{why}, so all were resized to {LARGEST} x {LARGEST} (choose with --size)"


def _reader(path: Path) -> Sized:
    """How to read what is there, by what it is and how it is called."""
    if path.is_dir():
        return lambda size: _folder(path, size)
    if not path.exists():
        raise DataError(f"there is no folder or file {path}")
    kinds: dict[str, Sized] = {
        ".parquet": lambda size: _parquet(path, size),
        ".npz": lambda size: (_arrays(path), ()),
        ".npy": lambda size: (_array(path), ()),
    }
    if path.suffix.lower() not in kinds:
        raise DataError(
            f"{path} is no folder, and its name does not end in {', '.join(kinds)}; name a folder with one sub-folder "
            "of images a class, or such a file"
        )
    return kinds[path.suffix.lower()]


def _folder(path: Path, size: int | None) -> tuple[Rows, tuple[str, ...]]:
    """One sub-folder a class, those of ``train/`` where there is one; or Parquet files where there are no others."""
    folders = _sub_folders(path)
    if (path / "train") in folders:
        path, folders = path / "train", _sub_folders(path / "train")
    if not folders:
        if any(path.rglob("*.parquet")):
            return _parquet(path, size)
        raise DataError(_no_classes(path))
    names = read_manifest(path) or {each.name: each.name for each in folders}
    files = [_images(path / name) for name in names]
    empty = [name for name, each in zip(names, files, strict=True) if not each]
    if not any(files):
        raise DataError(f"no sub-folder of {path} holds images (looked for {', '.join(sorted(SUFFIXES))})")
    if empty and read_manifest(path) is None:
        raise DataError(f"{path / empty[0]} holds no images; delete it if it is no class")
    listed = [file for each in files for file in each]
    labels = np.repeat(np.arange(len(files)), [len(each) for each in files])

    def inputs(positions: Integers) -> Any:
        encoded = ((str(listed[row]), _bytes(listed[row])) for row in positions.tolist())
        return decoded(encoded, len(positions), size=size, colour="auto")

    rows = numbered(str(path), labels, inputs, classes=tuple(names.values()))
    return rows, tuple(file.relative_to(path).as_posix() for file in listed)


def _sub_folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}, which the manifest beside it names")
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _no_classes(path: Path) -> str:
    loose = sum(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    if loose:
        return f"{path} holds {loose} images, but no sub-folders; a scan needs labels: put each class in one of its own"
    return f"{path} is empty: it must have one sub-folder a class, with images in it"


def _parquet(path: Path, size: int | None) -> tuple[Rows, tuple[str, ...]]:
    return parquet_rows(parquet_files(path, setting="FOLDER|FILE"), id_column=None, size=size), ()


def _arrays(path: Path) -> Rows:
    """Images and labels of an ``.npz`` file."""
    with _numpy(path), zipfile.ZipFile(path) as packed:
        unpacked = sum(each.file_size for each in packed.infolist())
        if unpacked > MAX_BYTES:
            raise DataError(f"{path} unpacks to {unpacked} bytes, more than the {MAX_BYTES} that are held in memory")
    with _numpy(path), np.load(path, allow_pickle=False) as found:
        x, y = (_name(path, found.files, usual) for usual in (INPUTS, LABELS))
        return _array_rows(found[x], found[y], places=(f"{path}: {x}", f"{path}: {y}"))


def _array(path: Path) -> Rows:
    """Images of an ``.npy`` file; their labels are in a file beside it, or they are not at all."""
    stem = path.stem
    beside = [stem.replace(x, y) for x, y in zip(("x_train", "images", "data", "inputs"), LABELS * 2, strict=False)]
    beside += ["y" + stem[1:], f"{stem}_labels", "labels", "y"]
    labels = next((file for each in beside if (file := path.with_name(f"{each}.npy")).is_file() and file != path), None)
    if labels is None:
        raise DataError(
            f"{path} has no labels beside it; put them into labels.npy there, or both into an .npz file as x and y"
        )
    with _numpy(path):
        images = np.load(path, allow_pickle=False)
    with _numpy(labels):
        numbers = np.load(labels, allow_pickle=False)
    return _array_rows(images, numbers, places=(str(path), str(labels)))


def _array_rows(images: NDArray[Any], labels: NDArray[Any], *, places: tuple[str, str]) -> Rows:
    if images.ndim < 3:
        raise DataError(
            f"{places[0]} has shape {images.shape}, but a scan is for images: (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    return array_rows(images, labels, places=places, bounds=None, layout="auto", class_names=())


def _name(path: Path, there: Sequence[str], usual: Sequence[str]) -> str:
    found = next((name for name in usual if name in there), None)
    if found is None:
        raise DataError(f"{path} has no array {' or '.join(usual)}; it has: {', '.join(there)[:200] or 'nothing'}")
    return found


class _numpy:  # noqa: N801 - reads as a function
    """Turns the dozen kinds of errors of damaged NumPy files into one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._warnings.__enter__()
        warnings.simplefilter("ignore")  # numpy remarks on headers written by Python 2

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._warnings.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, DataError):
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
            raise DataError(f"{self._path} cannot be read (damaged, cut short, or another format): {reason}") from error


def _material(
    place: str | Path, rows: Rows, files: tuple[str, ...], inputs: NDArray[Any], notes: tuple[str, ...]
) -> Material:
    labels, classes, gaps = _without_gaps(rows)
    count = len(labels)
    if count < LEAST_ROWS:
        raise DataError(f"{place} has {count} rows, but a scan needs at least {LEAST_ROWS}: it looks for the odd 1 %")
    sizes = np.bincount(labels)
    if (sizes >= LEAST_OF_CLASS).sum() < 2:
        raise DataError(
            f"{place}: a scan needs at least 2 classes of at least {LEAST_OF_CLASS} rows, but there "
            + (f"is only the class '{classes[0]}'" if len(classes) == 1 else f"are {_counted(sizes, classes)}")
        )
    stored = torch.from_numpy(np.ascontiguousarray(inputs))
    space = Space(
        shape=tuple(inputs.shape[1:]),
        num_classes=len(classes),
        levels=256 if inputs.dtype == np.uint8 else None,
        classes=classes,
    )
    data = Dataset.of(stored, torch.from_numpy(labels), space=space)  # refuses NaN and values outside [0, 1]
    mean, std = channel_statistics(stored, space)
    small = [f"'{classes[k]}' ({sizes[k]})" for k in np.flatnonzero(sizes < LEAST_OF_CLASS)]
    if small:
        gaps += (f"too few rows to be judged: class {', '.join(small)}; they are trained on, and get no score",)
    return Material(
        place=str(place),
        data=replace(data, space=replace(space, mean=mean, std=std)),
        files=files,
        notes=(*notes, *_mixed(inputs), *gaps),
    )


def _without_gaps(rows: Rows) -> tuple[Integers, tuple[str, ...], tuple[str, ...]]:
    """Labels from 0 without gaps, the names of their classes, and a note where there were gaps."""
    present, labels = np.unique(rows.labels, return_inverse=True)
    if len(present) and present[0] < 0:
        row = int(np.flatnonzero(rows.labels < 0)[0])
        raise DataError(
            f"{rows.place}: row {row} has label {rows.labels[row]}, but labels must be whole numbers from 0"
            + (" (-1 commonly marks rows without a label)" if rows.labels[row] == -1 else "")
        )
    if len(present) and rows.classes and present[-1] >= len(rows.classes):
        raise DataError(f"{rows.place}: there is a label {present[-1]}, but only {len(rows.classes)} class names")
    classes = tuple(rows.classes[k] if rows.classes else str(k) for k in present)
    highest = len(rows.classes) - 1 if rows.classes else int(present[-1]) if len(present) else -1
    if highest + 1 == len(present):
        return labels.astype(np.int64), classes, ()
    note = f"labels run to {highest}, but only {len(present)} of them occur; these are the classes: {_few(classes)}"
    return labels.astype(np.int64), classes, (note,)


def _mixed(inputs: NDArray[Any]) -> tuple[str, ...]:
    """A note where some images are grey and others are not."""
    if inputs.ndim != 4 or inputs.shape[1] != 3:
        return ()
    grey = sum(
        int((part == part[:, :1]).all(axis=(1, 2, 3)).sum()) for part in np.array_split(inputs, len(inputs) // 512 + 1)
    )
    if not 0 < grey < len(inputs):
        return ()
    return (f"{grey} of {len(inputs)} images are grey, the others coloured; the grey ones have three equal channels",)


def _counted(sizes: NDArray[Any], classes: Sequence[str]) -> str:
    return _few([f"'{name}' ({size})" for name, size in zip(classes, sizes.tolist(), strict=True)])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
