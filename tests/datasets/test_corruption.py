"""Whatever happens to the bytes of a file, its source gives a split or one sentence."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mithridate.datasets.arrays import Arrays
from mithridate.datasets.folder import Folder
from mithridate.datasets.parquet import Parquet
from mithridate.errors import DataError
from mithridate.source import Split
from tests.datasets.generated import images, labels, png, write_class_folders, write_pair

changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
lengths = st.one_of(st.just(1.0), st.floats(0, 1))
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def corrupted(data, changed, length):
    """The bytes with some set to others, then cut to a part of their length."""
    found = bytearray(data)
    for where, value in changed:
        found[int(where * len(found))] = value
    return bytes(found[: int(length * len(found))])


def loads_or_says_why(source):
    try:
        found = source.load()
    except DataError:
        return
    assert isinstance(found, Split)
    assert len(found.train) == len(found.train.checked())


@quick
@given(changed=changes, length=lengths)
def test_parquet(tmp_path, changed, length):
    train, test = write_pair(tmp_path)
    train.write_bytes(corrupted(train.read_bytes(), changed, length))
    loads_or_says_why(Parquet(train=train, test=test))


@quick
@given(changed=changes, length=lengths)
def test_npz(tmp_path, changed, length):
    packed = io.BytesIO()
    np.savez(packed, x_train=images(), y_train=labels(), x_test=images(), y_test=labels())
    (tmp_path / "a.npz").write_bytes(corrupted(packed.getvalue(), changed, length))
    loads_or_says_why(Arrays(path=tmp_path / "a.npz"))


@quick
@given(changed=changes, length=lengths, kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_images(tmp_path, changed, length, kind):
    write_class_folders(tmp_path, images(6), labels(6))
    (tmp_path / "a" / "x.png").write_bytes(corrupted(png(images(1)[0], kind), changed, length))
    loads_or_says_why(Folder(path=tmp_path))


@quick
@given(
    manifest=st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    right=st.booleans(),
)
def test_manifest(tmp_path, manifest, right):
    write_class_folders(tmp_path, images(6), labels(6))
    content = {"format": "mithridate image folder 1", "classes": manifest} if right else manifest
    (tmp_path / "mithridate.json").write_text(json.dumps(content))
    loads_or_says_why(Folder(path=tmp_path))


@pytest.mark.parametrize("byte", range(0, 400, 7))
def test_the_last_bytes_of_a_parquet_file(tmp_path, byte):
    train, test = write_pair(tmp_path)
    stored = bytearray(train.read_bytes())
    stored[-1 - byte] ^= 0xFF
    train.write_bytes(stored)
    loads_or_says_why(Parquet(train=train, test=test))
