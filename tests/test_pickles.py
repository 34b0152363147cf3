from __future__ import annotations

import builtins
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mithridate import pickles
from mithridate.errors import FormatError
from mithridate.pickles import Pixels, read_pickle

PICTURE = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], Any]:
    def loaded(content: bytes) -> Any:
        path = tmp_path / "a.pickle"
        path.write_bytes(content)
        return read_pickle(path)

    return loaded


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            0,
            255,
            70_000,
            -1,
            2**40,
            -(2**70),
            1.5,
            "é",
            [1, [2]],
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
        ),
        *({"a": 1, "b": (2, {"c": []})}, list(range(3000)), ["a"] * 300),
    ],
)
def test_reads_plain_data_as_python_does(load: Callable[[bytes], Any], value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
        np.arange(6, dtype=">i4")[::2],
        np.array([True, False]),
        np.float64([0.5]).reshape(()),
        torch.arange(12.0).reshape(3, 4),
        torch.arange(12).reshape(3, 4)[1:, ::2],
        torch.arange(12, dtype=torch.uint8).reshape(3, 4).t(),
        torch.rand(3, 2, 2, dtype=torch.float64).permute(1, 2, 0),
        torch.tensor(5),
    ],
)
def test_reads_arrays_and_tensors_as_they_were(load: Callable[[bytes], Any], array: Any, protocol: int) -> None:
    found = load(pickle.dumps(array, protocol))
    assert not found.image
    np.testing.assert_array_equal(found.values, np.asarray(array), strict=True)


def test_reads_numpy_1_spellings_and_scalars(load: Callable[[bytes], Any]) -> None:
    for protocol in (2, 4):
        old = pickle.dumps([np.int64(3), np.arange(3)], protocol).replace(
            b"numpy._core.multiarray", b"numpy.core.multiarray"
        )
        old = (
            old.replace(b"\x8c\x16numpy.core", b"\x8c\x15numpy.core").replace(b"\x95", b"\x95")
            if protocol == 4
            else old
        )
        number, array = load(_unframed(old))
        assert number == 3
        assert array.values.tolist() == [0, 1, 2]


def _unframed(content: bytes) -> bytes:
    """A protocol 4 pickle without its frame, whose length an edit has changed."""
    return content[:2] + content[11:] if content[1] >= 4 else content


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_reads_pil_images(load: Callable[[bytes], Any], protocol: int, mode: str) -> None:
    picture = PICTURE.convert(mode)
    (found, label), *_ = load(pickle.dumps([(picture, 7)] * 3, protocol))
    assert found.image
    assert label == 7
    np.testing.assert_array_equal(found.values, np.asarray(picture), strict=True)


# Hostile files. MARKER is touched by every one of them that is run.


def _call(function: Any, *arguments: Any) -> Any:
    """An object whose pickle calls ``function``, whatever it is."""

    class Hostile:
        def __reduce__(self) -> Any:
            return function, arguments

    return Hostile()


def _hostile(marker: str) -> dict[str, bytes]:
    touch = f"open({marker!r}, 'w').close()"
    command = f"touch {marker}"
    array = pickle.dumps(np.arange(3), 2)
    short = lambda text: b"\x8c" + bytes([len(text)]) + text  # noqa: E731
    return {
        "os.system": pickle.dumps(_call(os.system, command)),
        "posix.system": b"cposix\nsystem\nX" + struct.pack("<I", len(command)) + command.encode() + b"\x85R.",
        "builtins.exec": pickle.dumps(_call(exec, touch)),
        "builtins.eval": pickle.dumps(_call(eval, touch)),
        "builtins.getattr": pickle.dumps(_call(getattr, "", "__class__")),
        "copyreg._reconstructor": pickle.dumps(PICTURE, 2).replace(b"cPIL.Image\nImage", b"ccopyreg\n_reconstructor"),
        "dotted name": b"\x80\x04"
        + short(b"PIL.Image")
        + short(b"Image.open")
        + b"\x93"
        + short(marker.encode())
        + b"\x85R.",
        "name in an allowed module": b"cnumpy\nload\nX" + struct.pack("<I", 1) + b"x\x85R.",
        "torch.load": b"ctorch\nload\nX" + struct.pack("<I", 1) + b"x\x85R.",
        "INST": f"(S'{command}'\nios\nsystem\n.".encode(),
        "OBJ": b"(cos\nsystem\nX" + struct.pack("<I", len(command)) + command.encode() + b"o.",
        "extension": b"\x80\x02\x82\x01)R.",
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "protocol 0 persistent id": b"Pa\n.",
        "calls a class": b"cPIL.Image\nImage\n)R.",
        "calls a number": b"K\x01)R.",
        "new of a function": b"ccollections\nOrderedDict\n)\x81.",
        "state of a name": b"cnumpy\ndtype\n}X\x08\x00\x00\x00__call__K\x01sb.",
        "state of a list": b"]}X\x01\x00\x00\x00aK\x01sb.",
        "array of objects": array.replace(b"X\x02\x00\x00\x00i8", b"X\x02\x00\x00\x00O8"),
        "array larger than its bytes": array.replace(b"K\x01K\x03\x85", b"K\x01K\xff\x85"),
        "dtype of fields": array.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x003"),
        "encode by another codec": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        "OrderedDict of something": b"ccollections\nOrderedDict\n]\x85R.",
        "storage that is a program": b"ctorch.storage\n_load_from_bytes\n"
        + pickle.dumps(pickle.dumps(_call(os.system, command)), 3)[2:-1]
        + b"\x85R.",
        "storage that is a zip": b"ctorch.storage\n_load_from_bytes\nC\x04PK\x03\x04\x85R.",
    }


@pytest.mark.parametrize("kind", sorted(_hostile("")))
def test_refuses_hostile_files_and_runs_nothing(load: Callable[[bytes], Any], tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    content = _hostile(str(marker))[kind]
    assert content not in (pickle.dumps(np.arange(3), 2), pickle.dumps(PICTURE, 2))  # the edit took
    with pytest.raises(FormatError, match=r"a\.pickle'") as caught:
        load(content)
    assert not marker.exists()
    if "." in kind:
        module, name = kind.split(".")
        spellings = {f"'{spelling}.{name}'" for spelling in (module, module.replace("os", "posix"), "__builtin__")}
        assert any(spelling in str(caught.value) for spelling in spellings), str(caught.value)


def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """Python's own unpickler runs them, so that the test above means something."""
    marker = tmp_path / "marker"
    for kind in ("os.system", "posix.system", "builtins.exec", "builtins.eval", "INST", "OBJ"):
        pickle.loads(_hostile(str(marker))[kind])
        assert marker.exists(), kind
        marker.unlink()


def test_a_hostile_name_cannot_write_to_the_terminal(load: Callable[[bytes], Any]) -> None:
    with pytest.raises(FormatError) as caught:
        load(b"\x80\x04\x8c\x05\x1b[31m\x8c\x01x\x93.")
    assert "\x1b" not in str(caught.value)


def _deep_tuple(levels: int) -> bytes:
    """``t = (t, t)`` many times over: hashing, printing or comparing it takes for ever."""
    return b")" + b"".join(b"\x94h" + bytes([place]) + b"\x86" for place in range(levels))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04}" + _deep_tuple(100) + b"K\x01s.",
        b"\x80\x04cPIL.Image\nImage\n)\x81](}" + _deep_tuple(100) + b"K\x01K\x01\x86NC\x01aeb.",
        b"\x80\x02cnumpy\ndtype\n" + _deep_tuple(100) + b"\x85R.",
        b"\x80\x04" + b"]" * 300_000 + b".",
        b"\x80\x04" + b"(" * 300_000 + b".",
        b"\x80\x04" + b"K\x00" * 40_000 + b"(t" * 25_000 + b".",
        b"\x80\x04)" + b"\x85" * 99_000 + b"0.",
        b"\x80\x04B\xff\xff\xff\x7fa.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"K\x01.",
        b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x01\x00"
        + b"a" * 65536
        + b"q\x01X\x06\x00\x00\x00latin1q\x02"
        + b"h\x00h\x01h\x02\x86R" * 15_000
        + b".",
    ],
    ids=["key", "mode", "code", "lists", "marks", "tuples", "nest", "bytes", "bytes8", "frame", "encode"],
)
def test_a_small_file_costs_little(
    load: Callable[[bytes], Any], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence, or data within the bounds: 100 bytes for each opcode and four times the file."""
    monkeypatch.setattr(pickles, "MOST_STEPS", 100_000)
    tracemalloc.start()
    start = time.process_time()
    try:
        with suppress(FormatError):
            load(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 20  # seconds; tracemalloc slows this many times over
    assert peak < 100_000 * 120 + 5 * len(content)


def test_a_high_memo_place_costs_nothing(load: Callable[[bytes], Any]) -> None:
    assert load(b"\x80\x02K\x05r\xff\xff\xff\x7f0j\xff\xff\xff\x7f.".replace(b"0j", b"j")) == 5


def test_a_tensor_cannot_look_beyond_its_storage(load: Callable[[bytes], Any]) -> None:
    good = pickle.dumps(torch.arange(4.0).reshape(2, 2), 2)
    shape, stride = b"K\x02K\x02\x86", b"K\x02K\x01\x86"
    assert good.count(shape) == good.count(stride) == 1
    for old, new in ((shape, b"K\x02K\x03\x86"), (stride, b"K\x03K\x01\x86"), (stride, b"K\x02J\xff\xff\xff\xff\x86")):
        with pytest.raises(FormatError):
            load(good.replace(old, new))


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    with path.open("wb") as file:
        file.truncate(2 << 30)  # a sparse file
    with pytest.raises(FormatError, match="larger than 1024 MiB"):
        read_pickle(path)


def test_strange_escapes_in_strings_are_refused_without_a_warning(load: Callable[[bytes], Any]) -> None:
    with pytest.raises(FormatError, match="STRING"):
        load(b"\x80\x02S'\\d'\n.")


def test_old_protocols_are_refused_with_a_reason(load: Callable[[bytes], Any]) -> None:
    with pytest.raises(FormatError, match="pickle protocols 2 to 5"):
        load(pickle.dumps([1000], 0))


quick = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
VALID = [
    pickle.dumps([(PICTURE, 1), (PICTURE, 2)], 2),
    pickle.dumps([(PICTURE, 1), (PICTURE, 2)], 4),
    pickle.dumps((PICTURE, 1, torch.rand(3, 1, 1), [0, 1]), 4),
    pickle.dumps([{"target class": 1, "base indices": np.arange(3)}], 5),
]


def _plain(value: Any) -> bool:
    """Whether nothing but data came out, to the second level."""
    inner = value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else ()
    module = type(value).__module__
    return module in (builtins.__name__, Pixels.__module__) and all(
        type(each).__module__ in (builtins.__name__, Pixels.__module__) for each in inner
    )


@quick
@given(content=st.binary(max_size=200))
def test_random_bytes_are_data_or_a_sentence(load: Callable[[bytes], Any], content: bytes) -> None:
    try:
        found = load(b"\x80\x04" + content + b".")
    except FormatError:
        return
    assert _plain(found)


@quick
@given(valid=st.sampled_from(VALID), edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), max_size=4))
def test_damaged_pickles_are_data_or_a_sentence(
    load: Callable[[bytes], Any], valid: bytes, edits: list[tuple[float, bytes]]
) -> None:
    content = _unframed(valid)
    for place, new in edits:
        at = int(place * len(content))
        content = content[:at] + new + content[at + 1 :]
    try:
        found = load(content)
    except FormatError:
        return
    assert _plain(found)
