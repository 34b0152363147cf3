"""Images and tables written to files that other programs read, without loss."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from mithridate.dataset import Dataset
from mithridate.datasets.manifest import MANIFEST, folder_names, manifest_text
from mithridate.errors import DataError

ROW_GROUP = 10_000
"""Rows written at a time; a row group of the Parquet file."""


def write_parquet(dataset: Dataset, path: str | Path) -> None:
    """Write 8-bit images as Parquet by the Hugging Face convention: ``image``, ``label``, and ``id``; or a table.

    Images are PNG, so nothing is lost; ``datasets.load_dataset("parquet", ...)`` reads them with their class names.
    A table has its original columns (a one-hot group is one column of categories), then the name of its class as
    ``label``, and ``id``. The file appears whole or not at all. Raises :class:`DataError` for data that PNG cannot
    hold, and where ``path`` is taken or cannot be written.
    """
    if dataset.space.columns:
        table = _table(dataset)
        with _whole(Path(path)) as unfinished:
            pq.write_table(table, unfinished, row_group_size=ROW_GROUP, write_page_checksum=True)
        return
    schema = _schema(dataset)
    codes = _codes(dataset)
    with _whole(Path(path)) as unfinished, pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for start in range(0, len(dataset), ROW_GROUP):
            rows = slice(start, start + ROW_GROUP)
            images = [{"bytes": _png(each), "path": None} for each in codes[rows]]
            columns = [images, dataset.labels[rows].tolist(), dataset.ids[rows].tolist()]
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))


def write_folder(dataset: Dataset, folder: str | Path) -> None:
    """Write 8-bit images as PNG files named by their ids, in one sub-folder a class.

    Sub-folders are numbered, so that sorting them keeps the labels, and hold only plain characters of the class's
    name; ``mithridate.json`` beside them has the full names. The folder appears whole or not at all. Raises
    :class:`DataError` for data that PNG cannot hold, and where ``folder`` is taken or cannot be written.
    """
    codes = _codes(dataset)
    names = [dataset.space.name(label) for label in range(dataset.space.num_classes)]
    with _whole(Path(folder)) as unfinished:
        places = [unfinished / name for name in folder_names(names)]
        for place in places:
            place.mkdir(parents=True)
        for image, label, row_id in zip(codes, dataset.labels.tolist(), dataset.ids.tolist(), strict=True):
            (places[label] / f"{row_id}.png").write_bytes(_png(image))
        (unfinished / MANIFEST).write_text(manifest_text(names), encoding="utf-8")


def _table(dataset: Dataset) -> pa.Table:
    """The rows of a table as they were before one-hot groups were spread, with class names and ids behind them."""
    space, values = dataset.space, dataset.checked().all_inputs().cpu().numpy()
    assert space.layout is not None
    groups = {space.columns[each.start].group: each for each in space.layout.groups}
    found: dict[str, NDArray[Any]] = {}
    for place, column in enumerate(space.columns):
        if column.kind != "one-hot":
            found[column.name] = values[:, place].astype(np.float32 if column.kind == "real" else np.int64)
        elif column.group not in found:
            own = groups[column.group]
            names = np.array([each.category for each in space.columns[own]], dtype=object)
            found[column.group] = names[values[:, own].argmax(1)]
    classes = np.array([space.name(label) for label in range(space.num_classes)], dtype=object)
    for name, last in (("label", classes[dataset.labels.cpu().numpy()]), ("id", dataset.ids.cpu().numpy())):
        free = next(each for k in range(len(found) + 1) if (each := name + "_" * k) not in found)
        found[free] = last
    return pa.table(found)


def _codes(dataset: Dataset) -> NDArray[np.uint8]:
    """The images as ``(N, C, H, W)`` uint8; floats are rounded to the level that stores them."""
    dataset.checked()
    space = dataset.space
    if space.columns:
        raise DataError("a table of named columns cannot be written as a folder of images; write it as Parquet")
    if len(space.shape) != 3 or space.shape[0] not in (1, 3):
        raise DataError(f"only images with 1 or 3 channels can be written as PNG, but inputs have shape {space.shape}")
    if space.levels != 256 or space.bounds != (0.0, 1.0):
        found = "real numbers" if space.levels is None else f"{space.levels} levels"
        raise DataError(
            f"only 8-bit images (256 levels in [0, 1]) can be written without loss, but these have {found} in "
            f"[{space.bounds[0]:g}, {space.bounds[1]:g}]"
        )
    stored = dataset.inputs if not dataset.inputs.is_floating_point() else space.encode(dataset.inputs)
    codes: NDArray[np.uint8] = stored.cpu().numpy()
    return codes


def _png(image: NDArray[np.uint8]) -> bytes:
    """One image ``(C, H, W)`` as PNG."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(packed, "PNG")
    return packed.getvalue()


def _schema(dataset: Dataset) -> Any:
    names = [dataset.space.name(label) for label in range(dataset.space.num_classes)]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        "id": {"dtype": "int64", "_type": "Value"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", image), ("label", pa.int64()), ("id", pa.int64())]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A place beside ``path`` that becomes ``path`` once the block is through, and vanishes if it fails."""
    if path.exists() or path.is_symlink():
        raise DataError(f"{path} exists already and is not overwritten; choose another name, or delete it first")
    work: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
        yield work / "unfinished"
        (work / "unfinished").rename(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
