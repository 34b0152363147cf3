"""Tiny labelled images in the forms that sources read, and where the real files are."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

NAMES = ("cat", "dog", "T-shirt/top")


def images(rows=9, *, seed=0, channels=3, height=4, width=5):
    """``(N, C, H, W)`` uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (rows, channels, height, width), dtype=np.uint8)


def labels(rows=9, classes=3):
    return np.arange(rows) % classes


def png(image, kind="PNG"):
    """One ``(C, H, W)`` image encoded."""
    packed = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))).save(packed, kind)
    return packed.getvalue()


def write_table(path, encoded, numbers, *, image="image", label="label", names=NAMES, row_group=4, **columns):
    """A Parquet file by the Hugging Face convention, written by hand."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": each, "path": None} for each in encoded], type=kind)
    table = pa.table({image: pictures, label: pa.array(numbers), **columns})
    if names:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)
    return path


def write_pair(folder, *, train_rows=9, test_rows=6, **settings):
    """Training and test files of noise; the images behind them are ``images(rows, seed=0)`` and ``seed=1``."""
    channels = settings.pop("channels", 3)
    parts = (("train", train_rows, 0), ("test", test_rows, 1))
    return [
        write_table(
            folder / f"{part}.parquet",
            [png(each) for each in images(rows, seed=seed, channels=channels)],
            labels(rows),
            **settings,
        )
        for part, rows, seed in parts
    ]


def write_class_folders(folder, pictures, numbers, names=("a", "b", "c")):
    for row, (each, number) in enumerate(zip(pictures, numbers, strict=True)):
        place = folder / names[number]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:03d}.png").write_bytes(png(each))
    return folder


def shared_data():
    """The folder with the real data sets; skips where it is absent."""
    named = os.environ.get("MITHRIDATE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not here; name their folder in MITHRIDATE_DATA")
    return folder.resolve()
