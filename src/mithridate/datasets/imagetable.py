"""Labelled images in Parquet files, by the Hugging Face convention.

One column holds images as ``struct<bytes: binary, path: string>`` (or plain binary), one column whole-number labels;
class names are in the schema metadata under ``huggingface``. ``path`` is never opened.
Convention: https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mithridate.datasets.images import MAX_BYTES, Colour, decoded
from mithridate.datasets.rows import Integers, Rows
from mithridate.errors import AbsentError, DataError, nearest

Where = str | Path | tuple[str | Path, ...]

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label")
BATCH = 512
"""Rows read at a time: 1.6 MB of CIFAR-10."""


def parquet_rows(
    files: Sequence[Path],
    *,
    image: str | None = None,
    label: str | None = None,
    id_column: str | None = "id",
    size: int | None = None,
    colour: Colour = "auto",
) -> Rows:
    """The rows of ``files``, one after the other, numbered from 0 unless they have an ``id_column``.

    Raises :class:`DataError` for a file that is damaged or lacks a column; for undecodable images once they are read.
    """
    schemas = [_schema(file) for file in files]
    first, place = schemas[0], str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    image = column(first.names, image, IMAGE_COLUMNS, setting="image", place=str(files[0]))
    label = column(first.names, label, LABEL_COLUMNS, setting="label", place=str(files[0]))
    if id_column is not None and id_column != "id":
        column(first.names, id_column, (), setting="id", place=str(files[0]))
    for file, schema in zip(files, schemas, strict=True):
        for name in (image, label):
            column(schema.names, name, (), setting=name, place=str(file))
        _check_images(schema, image, file)
    labels = [_integers(file, label) for file in files]
    ids = [_integers(file, id_column) for file in files] if id_column in first.names else None
    counts = [len(each) for each in labels]

    def inputs(positions: Integers) -> Any:
        encoded = _encoded(files, counts, image, positions)
        return decoded(encoded, len(positions), size=size, colour=colour)

    return Rows(
        place=place,
        labels=np.concatenate(labels),
        ids=np.concatenate(ids) if ids else np.arange(sum(counts)),
        inputs=inputs,
        classes=_class_names(first, label),
    )


def parquet_files(where: Where, *, setting: str) -> list[Path]:
    """The Parquet files that a path, several paths, a glob or a folder mean, each folder's and glob's sorted by name.

    Raises :class:`DataError` beginning with ``setting`` where there are none.
    """
    files = [file for each in (where if isinstance(where, tuple) else (where,)) for file in _matches(each, setting)]
    if not files:
        raise DataError(f"{setting}: no Parquet file is named")
    repeated = next((file for file in files if files.count(file) > 1), None)
    if repeated is not None:
        raise DataError(f"{setting}: {repeated} is named twice")
    return files


def column(names: Iterable[str], named: str | None, usual: Sequence[str], *, setting: str, place: str) -> str:
    """The column called ``named``, or else the first of the ``usual`` ones that is there exactly once."""
    there = list(names)
    found = next((name for name in ([named] if named is not None else usual) if there.count(name) == 1), None)
    if found is None and named is not None:
        raise DataError(f"{place} has no single column '{named}'; {nearest(named, there)}")
    if found is None:
        looked = " or ".join(f"'{name}'" for name in usual)
        raise DataError(f"{place} has no column {looked}; name it with {setting} (columns: {', '.join(there)})")
    return found


def _matches(where: str | Path, setting: str) -> list[Path]:
    path = Path(where)
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        if not files:
            raise AbsentError(f"{setting}: the folder {path} holds no .parquet file")
        return files
    if path.exists():
        return [path]
    files = sorted(Path(each) for each in glob.glob(str(where), recursive=True))  # noqa: PTH207 (absolute ones too)
    if not files:
        raise AbsentError(f"{setting}: there is no file, folder or match for {where}")
    return files


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"{file} cannot be read as Parquet (damaged, cut short or another format): {reason}") from error


def _opened(file: Path) -> Any:
    """The file, its pages checked against their checksums where it has any (those we write have)."""
    return pq.ParquetFile(file, page_checksum_verification=True)


def _schema(file: Path) -> Any:
    with _reading(file), _opened(file) as opened:
        claimed = sum(opened.metadata.row_group(i).total_byte_size for i in range(opened.metadata.num_row_groups))
        if claimed > MAX_BYTES:
            raise DataError(f"{file} unpacks to {claimed} bytes, more than the {MAX_BYTES} that are held in memory")
        return opened.schema_arrow


def _check_images(schema: Any, image: str, file: Path) -> None:
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(
            f"{file}: column '{image}' holds {str(kind)[:100]}, but images must be struct<bytes: binary, path: string> "
            "or binary"
        )


def _integers(file: Path, name: str | None) -> Integers:
    """A whole-number column as ``(N,)`` int64."""
    with _reading(file):
        try:
            with _opened(file) as opened:
                values = opened.read(columns=[name]).column(name)
        except KeyError:
            raise DataError(f"{file} has no column '{name}', but the first file has one") from None
        if not pa.types.is_integer(values.type):
            advice = "set id to none to number the rows" if name == "id" else "they must be whole numbers from 0"
            raise DataError(f"{file}: column '{name}' holds {str(values.type)[:100]}; {advice}")
        if values.null_count:
            row = values.is_null().to_pylist().index(True)
            raise DataError(f"{file}: row {row} has nothing in column '{name}'")
        numbers: Integers = values.cast(pa.int64()).to_numpy()
        return np.array(numbers)  # a copy that can be written to, which torch asks for


def _encoded(
    files: Sequence[Path], counts: Sequence[int], image: str, positions: Integers
) -> Iterator[tuple[str, bytes]]:
    """Place and bytes of the images at ascending ``positions`` over all files; row groups without any are skipped."""
    start = 0
    for file, count in zip(files, counts, strict=True):
        within = positions[(positions >= start) & (positions < start + count)] - start
        start += count
        if len(within):
            yield from _encoded_in(file, image, within)


def _encoded_in(file: Path, image: str, positions: Integers) -> Iterator[tuple[str, bytes]]:
    with _reading(file), _opened(file) as opened:
        start = 0
        for group in range(opened.metadata.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            within = positions[(positions >= start) & (positions < start + rows)]
            if len(within):
                yield from _encoded_group(opened, group, image, start, within, file)
            start += rows


def _encoded_group(
    opened: Any, group: int, image: str, start: int, positions: Integers, file: Path
) -> Iterator[tuple[str, bytes]]:
    for batch in opened.iter_batches(batch_size=BATCH, row_groups=[group], columns=[image]):
        within = positions[(positions >= start) & (positions < start + len(batch))] - start
        for row, data in zip(within.tolist(), image_bytes(batch.column(0), within), strict=True):
            if data is None:
                raise DataError(f"{file}: row {start + row} has no image bytes")
            yield f"{file}, row {start + row}", data
        start += len(batch)
        if start > positions[-1]:
            return


def image_bytes(images: Any, positions: Integers) -> list[bytes | None]:
    """The bytes at ``positions`` of an Arrow array of ``struct<bytes, path>`` or binary."""
    if pa.types.is_struct(images.type):
        images = images.field("bytes")
    found: list[bytes | None] = images.take(pa.array(positions)).to_pylist()
    return found


def _class_names(schema: Any, label: str) -> tuple[str, ...]:
    """Class names in the schema metadata; none where there are none, or none that can be understood."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
