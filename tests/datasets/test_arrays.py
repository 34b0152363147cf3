from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from mithridate.config import parse
from mithridate.datasets.arrays import PARTS, Arrays
from mithridate.errors import ConfigError, DataError
from mithridate.settings import plain
from mithridate.source import Source
from tests.datasets.generated import NAMES, images, labels

CODES = images(9, height=5)


def source(inputs, numbers=None, **settings):
    numbers = labels(len(inputs)) if numbers is None else numbers
    return Arrays(x_train=inputs, y_train=numbers, x_test=inputs[:6], y_test=numbers[:6], **settings)


@pytest.mark.parametrize(
    "inputs",
    [
        CODES,
        CODES.transpose(0, 2, 3, 1),
        torch.from_numpy(CODES),
        torch.from_numpy(CODES).float() / 255,
        CODES / 255,
        (CODES / 255).tolist(),
    ],
    ids=["codes", "channels last", "tensor", "float tensor", "float64", "list"],
)
def test_eight_bit_images_in_any_form_are_the_same_rows(inputs):
    found = source(inputs).load()
    assert found.train.inputs.dtype == torch.uint8
    assert torch.equal(found.train.inputs, torch.from_numpy(CODES))
    assert found.train.space.levels == 256
    assert found.train.labels.tolist() == labels(9).tolist()
    assert found.test.ids.tolist() == list(range(6))


def test_grey_images_get_a_channel():
    for inputs in (CODES[:, 0], CODES[:, :1], CODES[:, :1].transpose(0, 2, 3, 1)):
        assert torch.equal(source(inputs).load().train.inputs, torch.from_numpy(CODES[:, :1]))


def test_images_that_were_never_eight_bit_stay_real():
    values = np.random.default_rng(0).random((9, 4, 4))
    found = source(values).load()
    assert found.train.space.levels is None
    assert torch.equal(found.train.inputs[:, 0], torch.from_numpy(values).float())


def test_tables_keep_their_values_and_bounds():
    table = np.random.default_rng(0).normal(size=(9, 5)) * 100
    found = source(table, bounds=(-1000.0, 1000.0), class_names=NAMES).load()
    assert found.train.space.shape == (5,)
    assert found.train.space.bounds == (-1000.0, 1000.0)
    assert found.train.space.levels is None
    assert found.train.space.classes == NAMES
    assert found.train.space.mean == pytest.approx(table.mean(0), abs=1e-4)
    assert torch.equal(found.train.inputs, torch.from_numpy(table).float())


def test_a_layout_settles_what_the_shape_does_not():
    both = images(9, channels=3, height=4, width=3)
    with pytest.raises(DataError, match=r"x_train has shape \(9, 3, 4, 3\), where both the second and the last size"):
        source(both).load()
    assert source(both, layout="channels-first").load().train.space.shape == (3, 4, 3)
    assert source(both, layout="channels-last").load().train.space.shape == (3, 3, 4)
    with pytest.raises(DataError, match=r"where neither the second nor the last size can be channels"):
        source(np.zeros((9, 4, 4, 4), dtype=np.uint8)).load()


def test_a_file_loads_as_its_arrays_do_and_survives_yaml(tmp_path):
    made = source(CODES)
    np.savez(tmp_path / "a.npz", **{part: getattr(made, part) for part in PARTS})
    saved = Arrays(path=str(tmp_path / "a.npz"))
    assert saved.load().train.digest() == made.load().train.digest()
    assert parse(Source, plain(saved)) == saved
    assert hash(parse(Source, plain(saved))) == hash(saved)


def test_arrays_are_equal_by_identity():
    assert source(CODES, labels()) != source(CODES.copy(), labels())
    numbers = labels()
    one = Arrays(x_train=CODES, y_train=numbers, x_test=CODES, y_test=numbers)
    assert one == Arrays(x_train=CODES, y_train=numbers, x_test=CODES, y_test=numbers)
    assert one != Arrays(x_train=CODES, y_train=numbers, x_test=CODES, y_test=numbers, layout="channels-first")


def test_leaves_its_arrays_alone():
    inputs, numbers = CODES.copy(), labels()
    found = source(inputs, numbers).load()
    found.train.inputs.zero_()
    found.train.labels.zero_()
    assert np.array_equal(inputs, CODES)
    assert np.array_equal(numbers, labels())


def spoilt(value):
    inputs = np.random.default_rng(0).random((9, 4, 4))
    inputs[4, 1, 1] = value
    return inputs


TABLE = np.random.default_rng(0).normal(size=(9, 5))


@pytest.mark.parametrize(
    ("inputs", "numbers", "settings", "sentence"),
    [
        (spoilt(np.nan), None, {}, r"x_train: row 4 holds NaN or infinite values"),
        (spoilt(np.inf), None, {}, r"x_train: row 4 holds NaN or infinite values"),
        (spoilt(1.5), None, {}, r"x_train: row 4 holds values from .* to 1\.5, but inputs must lie in \[0, 1\]"),
        (CODES.astype(float), None, {}, r"x_train: row 0 .*divide 8-bit images by 255, or pass them as uint8"),
        (CODES / 127.5 - 1, None, {}, r"x_train: row 0 holds values from -"),
        (
            CODES.astype(int),
            None,
            {},
            r"x_train holds int64, but images must be uint8 in 0\.\.255 or floats in \[0, 1\]",
        ),
        (CODES, None, {"bounds": (0.0, 255.0)}, r"x_train holds images, whose bounds are \(0, 1\)"),
        (TABLE, None, {}, r"x_train is a table with values from -.*; give bounds"),
        (TABLE, None, {"bounds": (0.0, 1.0)}, r"x_train: row 0 holds values"),
        (TABLE * 1e300, None, {"bounds": (-1e30, 1e30)}, r"x_train: row 0 holds NaN or infinite"),
        (TABLE[:, 0], None, {}, r"x_train has shape \(9,\), but images are \(N, H, W\)"),
        (np.zeros((9, 0, 4)), None, {}, r"x_train has shape \(9, 0, 4\), .*none of them empty"),
        (np.zeros((0, 4, 4)), None, {}, r"none of them empty"),
        (CODES[None], [0], {}, r"x_train has shape \(1, 9, 3, 5, 5\)"),
        (np.array(["a"] * 9), None, {}, r"x_train holds <U1, but it must hold numbers"),
        ([[1, 2], [3]] * 3, None, {}, r"x_train is no array: its rows differ in shape"),
        (CODES * (1 + 2j), None, {}, r"x_train holds complex128, but it must hold numbers"),
        (CODES, ["a"] * 9, {}, r"y_train holds <U1, but it must hold numbers"),
        (CODES, np.eye(9), {}, r"y_train has shape \(9, 9\), but labels must have shape \(N,\) \(one-hot labels\?"),
        (CODES, labels() + 0.5, {}, r"y_train holds fractions or NaN, but labels must be whole numbers"),
        (CODES, np.full(9, np.nan), {}, r"y_train holds fractions or NaN"),
        (CODES, labels()[:8], {}, r"x_train has 9 rows, but y_train has 8"),
        (CODES, labels() - 1, {}, r"x_train: row 0 has label -1"),
        (CODES, labels() + 1, {}, r"x_train: the highest label is 3, but no row has label 0"),
        (CODES, labels(), {"class_names": ("a", "b")}, r"x_train: row 2 has label 2, but labels must lie in 0\.\.1"),
        (CODES, labels() * 0, {}, r"x_train: all 9 training rows are of one class"),
    ],
)
def test_says_what_is_wrong_and_where(inputs, numbers, settings, sentence):
    with pytest.raises(DataError, match=sentence):
        source(inputs, numbers, **settings).load()


def test_training_and_test_arrays_must_be_alike():
    with pytest.raises(DataError, match=r"x_train has inputs of shape \(3, 5, 5\), but x_test of shape \(3, 9, 5\)"):
        Arrays(x_train=CODES, y_train=labels(), x_test=images(9, height=9), y_test=labels()).load()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "need a path, or all of x_train, y_train, x_test, y_test; not given: x_train"),
        ({"x_train": CODES}, "not given: y_train, x_test, y_test"),
        ({"path": "a.npz", "x_train": CODES}, "by path or one by one, not both"),
        ({"path": "a.npz", "bounds": (1.0, 0.0)}, "bounds must be a lower and a higher number"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Arrays(**settings)


def test_a_file_that_is_missing_damaged_or_incomplete_is_named(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"there is no file .*a\.npz"):
        Arrays(path=path).load()
    for damaged in (b"", b"PK\x03\x04 no zip", b"\x80\x04."):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz cannot be read as \.npz"):
            Arrays(path=path).load()
    np.savez(path, x_train=CODES)
    with pytest.raises(DataError, match=r"a\.npz has no array 'y_train'; it has: x_train"):
        Arrays(path=path).load()


def test_pickles_in_a_file_are_never_opened(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    objects = np.array([Harm()] * 9, dtype=object)
    np.savez(tmp_path / "a.npz", x_train=objects, y_train=labels(), x_test=CODES, y_test=labels())
    with pytest.raises(DataError, match=r"a\.npz cannot be read as \.npz .*allow_pickle"):
        Arrays(path=tmp_path / "a.npz").load()
    assert not (tmp_path / "harm").exists()


def test_a_file_that_claims_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mithridate.datasets.arrays.MAX_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x_train.npy", bytes(20_000))
    with pytest.raises(DataError, match=r"unpacks to 20000 bytes, more than the 10000"):
        Arrays(path=tmp_path / "a.npz").load()
