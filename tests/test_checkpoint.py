"""Checkpoints: what is written is read back bit for bit, and what was damaged is never taken for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint, generator_state, read, write
from mithridate.errors import FormatError
from mithridate.seeding import Seed

DRAWS = Seed(0).generator()
TENSORS = {
    "float32": torch.rand(3, 4, generator=DRAWS),
    "float64": torch.rand(2, generator=DRAWS, dtype=torch.float64),
    "bf16": torch.rand(5, generator=DRAWS).bfloat16(),
    "half": torch.rand(2, 2, generator=DRAWS).half(),
    "uint8": torch.tensor([0, 1, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "int64": torch.tensor([-(2**62), 2**62]),
    "empty": torch.zeros(0, dtype=torch.int64),
    "empty images": torch.zeros(0, 3, 8, 8),
    "single": torch.tensor(3.5),
    "not finite": torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0]),
    "transposed": torch.arange(12.0).reshape(3, 4).T,
    "every second": torch.arange(10)[::2],
    "expanded": torch.ones(1).expand(4),
    "channels last": torch.rand(2, 3, 4, 5, generator=DRAWS).to(memory_format=torch.channels_last),
    "needs gradients": torch.ones(2, requires_grad=True),
    "generator": generator_state(Seed(3).generator()),
}


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path):
    write(Checkpoint(tensors=TENSORS), tmp_path / "state.safetensors")
    found = read(tmp_path / "state.safetensors").tensors
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert bits(found[name]) == bits(value), name
        assert not found[name].requires_grad


def test_names_that_share_memory_are_kept_apart(tmp_path):
    whole = torch.arange(6.0)
    write(Checkpoint(tensors={"whole": whole, "again": whole, "part": whole[2:4]}), tmp_path / "state")
    found = read(tmp_path / "state").tensors
    assert [found[name].tolist() for name in ("again", "part")] == [whole.tolist(), [2.0, 3.0]]
    found["whole"].zero_()
    assert found["again"].tolist() == whole.tolist()


def test_writing_leaves_tensors_alone(tmp_path):
    before = {name: (bits(value), value.stride(), value.data_ptr()) for name, value in TENSORS.items()}
    write(Checkpoint(tensors=TENSORS), tmp_path / "state")
    assert before == {name: (bits(value), value.stride(), value.data_ptr()) for name, value in TENSORS.items()}


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain_values, max_size=4))
def test_facts_come_back_as_they_were(tmp_path_factory, facts):
    path = tmp_path_factory.mktemp("facts") / "state.safetensors"
    write(Checkpoint(facts=facts), path)
    assert read(path).facts == facts


def test_nothing_can_be_written(tmp_path):
    write(Checkpoint(), tmp_path / "deep" / "er" / "state.safetensors")
    found = read(tmp_path / "deep" / "er" / "state.safetensors")
    assert (dict(found.tensors), dict(found.facts)) == ({}, {})


def test_not_a_number_is_a_fact_too(tmp_path):
    write(Checkpoint(facts={"loss": float("nan"), "best": float("inf")}), tmp_path / "state")
    found = read(tmp_path / "state").facts
    assert repr(found["loss"]) == "nan"
    assert found["best"] == float("inf")


class TestParts:
    whole = Checkpoint(tensors={"own": torch.ones(1)}, facts={"epoch": 3}).joined(
        hook=Checkpoint(tensors={"own": torch.zeros(2)}, facts={"count": 1}).joined(
            inner=Checkpoint(facts={"count": 2, "epoch": 9})
        ),
        model=Checkpoint(tensors={"body.weight": torch.ones(2, 2)}),
    )

    def test_what_was_joined_comes_out_again(self):
        assert list(self.whole.under("model").tensors) == ["body.weight"]
        assert dict(self.whole.under("hook").under("inner").facts) == {"count": 2, "epoch": 9}
        assert self.whole.under("hook").facts["count"] == 1
        assert self.whole.under("hook").tensors["own"].tolist() == [0.0, 0.0]
        assert (self.whole.tensors["own"].tolist(), self.whole.facts["epoch"]) == ([1.0], 3)

    def test_a_part_of_a_part_can_be_named_at_once(self):
        assert dict(self.whole.under("hook/inner").facts) == {"count": 2, "epoch": 9}

    def test_names_that_begin_alike_are_different_parts(self):
        many = Checkpoint().joined(**{f"hook-{k}": Checkpoint(facts={"number": k}) for k in range(12)})
        assert [dict(many.under(f"hook-{k}").facts) for k in (1, 11)] == [{"number": 1}, {"number": 11}]
        assert not self.whole.under("mod").tensors

    def test_an_absent_part_is_empty(self):
        absent = self.whole.under("absent")
        assert (dict(absent.tensors), dict(absent.facts)) == ({}, {})

    def test_joining_changes_neither(self):
        one, two = Checkpoint(facts={"a": 1}), Checkpoint(facts={"b": 2})
        one.joined(two=two)
        assert (dict(one.facts), dict(two.facts)) == ({"a": 1}, {"b": 2})

    def test_parts_survive_the_disk(self, tmp_path):
        write(self.whole, tmp_path / "state")
        found = read(tmp_path / "state")
        assert found.facts == self.whole.facts
        assert found.tensors.keys() == self.whole.tensors.keys()


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "state.safetensors"
    write(Checkpoint(tensors={"w": torch.tensor([1.0, -2.0]), "b": torch.tensor([7], dtype=torch.uint8)},
                     facts={"epoch": 3}), path)  # fmt: skip
    return path


def same(found):
    return (found.tensors["w"].tolist(), found.tensors["b"].tolist(), found.facts) == ([1.0, -2.0], [7], {"epoch": 3})


def test_no_flipped_bit_goes_unseen(small):
    """Every third bit of a whole file: read as what was written, or refused."""
    whole, refused = small.read_bytes(), 0
    places = range(0, 8 * len(whole), 3)
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        small.write_bytes(bytes(damaged))
        try:
            assert same(read(small)), f"bit {place} is read as something else"
        except FormatError:
            refused += 1
    assert refused > 0.99 * len(places)


def test_no_cut_goes_unseen(small):
    whole = small.read_bytes()
    for length in range(len(whole)):
        small.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="is missing, damaged or no checkpoint"):
            read(small)
    small.write_bytes(whole + b"\0")
    with pytest.raises(FormatError):
        read(small)


def test_another_file_a_folder_and_no_file_are_refused_by_name(tmp_path):
    (tmp_path / "text").write_text("hello " * 100)
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder", "absent"):
        with pytest.raises(FormatError, match=f"{name}' is missing, damaged or no checkpoint"):
            read(tmp_path / name)


def test_somebody_elses_safetensors_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(FormatError, match="no checkpoint"):
        read(tmp_path / "weights.safetensors")
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors", metadata={"facts": "{}", "digest": "0"})
    with pytest.raises(FormatError, match="its content is not what was written"):
        read(tmp_path / "weights.safetensors")


def test_a_failed_writing_leaves_the_old_one_and_nothing_else(small, monkeypatch):
    def full(self, stored):
        with self.open("wb") as file:
            file.write(stored[: len(stored) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write(Checkpoint(facts={"epoch": 4}), small)
    assert same(read(small))
    assert [path.name for path in small.parent.iterdir()] == [small.name]


def test_writers_side_by_side_leave_one_of_their_checkpoints_whole(tmp_path):
    """Readers meanwhile see one or another, never a mixture or none.

    ``safetensors.safe_open`` opens a file twice, and took the header of one for the tensors of another.
    """
    path, trouble = tmp_path / "state.safetensors", []

    def checkpoint_of(number):
        return Checkpoint(
            tensors={"w": torch.full((2000,), float(number))}, facts={"number": number, "x": "x" * number}
        )

    def work(number):
        try:
            for _ in range(40):
                write(checkpoint_of(number), path)
                found = read(path)
                assert set(found.tensors["w"].tolist()) == {float(found.facts["number"])}
        except Exception as error:  # a thread's errors are nobody's
            trouble.append(error)

    write(checkpoint_of(0), path)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


def test_neighbours_do_not_write_into_each_others_file(tmp_path, monkeypatch):
    """Names that differ after their dot only."""
    written = []
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, stored: written.append(self.name) or real(self, stored))
    for name in ("epoch.1", "epoch.2"):
        checkpoint.write(Checkpoint(facts={"name": name}), tmp_path / name)
    assert len(set(written)) == 2
    assert [read(tmp_path / name).facts["name"] for name in ("epoch.1", "epoch.2")] == ["epoch.1", "epoch.2"]


def test_a_generator_goes_on_where_it_stood(tmp_path):
    generator = Seed(5).generator()
    torch.rand(3, generator=generator)
    write(Checkpoint(tensors={"order": generator_state(generator)}), tmp_path / "state")
    expected = torch.rand(4, generator=generator)
    again = torch.Generator()
    again.set_state(read(tmp_path / "state").tensors["order"])
    assert torch.equal(torch.rand(4, generator=again), expected)
