"""Labelled images of the Hugging Face hub, through the ``datasets`` extra."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mithridate.datasets.images import Colour, decoded
from mithridate.datasets.imagetable import BATCH, IMAGE_COLUMNS, LABEL_COLUMNS, column
from mithridate.datasets.rows import Integers, Rows, numbered
from mithridate.errors import AbsentError, DataError, MissingExtraError


def hub_rows(
    repository: str,
    *,
    part: str,
    config: str | None = None,
    revision: str | None = None,
    image: str | None = None,
    label: str | None = None,
    size: int | None = None,
    colour: Colour = "auto",
) -> Rows:
    """The rows of one part of a hub data set, numbered from 0. The hub's library keeps what it downloads.

    Raises :class:`MissingExtraError` without the extra, :class:`DataError` where the network, the name or a column
    fails.
    """
    table, library = _table(repository, part=part, config=config, revision=revision)
    place = f"{repository} ({part})"
    image = column(table.column_names, image, IMAGE_COLUMNS, setting="image", place=place)
    label = column(table.column_names, label, LABEL_COLUMNS, setting="label", place=place)
    if not isinstance(table.features[image], library.Image):
        raise DataError(f"{place}: column '{image}' must hold images, but it holds {str(table.features[image])[:100]}")
    kind = table.features[label]
    images = table.select_columns([image]).with_format("arrow")
    labels = np.array(table.select_columns([label]).with_format("arrow")[:].column(label).to_pylist())
    if labels.dtype.kind not in "iu":
        raise DataError(f"{place}: column '{label}' must hold whole numbers from 0, but it holds {str(kind)[:100]}")

    def inputs(positions: Integers) -> Any:
        return decoded(_encoded(images, image, positions, place), len(positions), size=size, colour=colour)

    names = tuple(kind.names) if isinstance(kind, library.ClassLabel) else ()
    return numbered(place, labels.astype(np.int64), inputs, classes=names)


def _table(repository: str, *, part: str, config: str | None, revision: str | None) -> tuple[Any, Any]:
    try:
        import datasets as library
    except ImportError:
        raise MissingExtraError(f"reading '{repository}' from the Hugging Face hub", "datasets") from None
    try:
        return library.load_dataset(repository, config, split=part, revision=revision), library
    except Exception as error:  # three network libraries below it, each with errors of its own
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise AbsentError(
            f"'{repository}' ({part}) could not be read from the Hugging Face hub: {type(error).__name__}: {reason} "
            "(check the name, the part and the connection)"
        ) from error


def _encoded(images: Any, name: str, positions: Integers, place: str) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(positions), BATCH):
        batch = positions[start : start + BATCH].tolist()
        for row, item in zip(batch, images[batch].column(name).to_pylist(), strict=True):
            yield f"{place}, row {row}", _bytes(item or {}, f"{place}, row {row}")


def _bytes(item: dict[str, Any], place: str) -> bytes:
    """The bytes of an image, or those of the file that the hub's library unpacked it to."""
    data = item.get("bytes")
    if isinstance(data, bytes):
        return data
    if not item.get("path"):
        raise DataError(f"{place} has no image bytes")
    try:
        return Path(item["path"]).read_bytes()
    except OSError as error:
        raise DataError(f"{place}: its file {item['path']} cannot be read: {error.strerror}") from error
