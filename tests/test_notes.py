"""Notes of a computation: what is read is what was noted, by the same computation, or nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from mithridate import checkpoint, notes
from mithridate.checkpoint import Checkpoint
from mithridate.notes import Notes, no_notes


def standing(number: int = 1) -> Checkpoint:
    return Checkpoint(tensors={"place": torch.full((3,), float(number))}, facts={"number": number})


def noted(path: Path, number: int = 1, **more) -> Notes:
    taken = Notes(path, every=0, **more)
    taken.take(lambda: standing(number))
    return taken


def read(path: Path, **more) -> int | None:
    found = Notes(path, **more).read()
    return None if found is None else int(found.facts["number"])


def test_what_was_noted_last_is_read_again(tmp_path):
    for number in (1, 2):
        noted(tmp_path / "folder" / "note", number, key="job")
    found = Notes(tmp_path / "folder" / "note", key="job").read()
    assert found.facts == {"number": 2}
    assert torch.equal(found.tensors["place"], torch.tensor([2.0, 2.0, 2.0]))


def test_nothing_is_noted_without_a_path_nor_asked_for():
    def never() -> Checkpoint:
        raise AssertionError

    no_notes.take(never)
    no_notes.drop()
    assert no_notes.read() is None
    assert no_notes.before == 0


def test_a_note_of_another_computation_is_removed(tmp_path):
    noted(tmp_path / "note", key="one")
    assert read(tmp_path / "note", key="other") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["METHOD", "torch"])
def test_a_note_of_another_release_is_removed(tmp_path, monkeypatch, what):
    noted(tmp_path / "note")
    if what == "METHOD":
        monkeypatch.setattr(notes, "METHOD", -1)
    else:
        monkeypatch.setattr(torch, "__version__", "0.1")
    assert read(tmp_path / "note") is None


@pytest.mark.parametrize("how", ["cut short", "empty", "a bit flipped", "no note"])
def test_a_damaged_note_is_removed(tmp_path, how):
    noted(tmp_path / "note")
    stored = bytearray((tmp_path / "note").read_bytes())
    if how == "cut short":
        stored = stored[:-4]
    if how == "empty":
        stored = bytearray()
    if how == "a bit flipped":
        stored[-1] ^= 1
    (tmp_path / "note").write_bytes(bytes(stored))
    if how == "no note":
        checkpoint.write(standing(), tmp_path / "note")
    assert read(tmp_path / "note") is None
    assert not list(tmp_path.iterdir())


def test_a_full_disk_stops_nothing_and_leaves_the_note_before(tmp_path, monkeypatch):
    taken, write = noted(tmp_path / "note"), Path.write_bytes

    def full(path, stored):
        write(path, stored[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    taken.take(lambda: standing(2))
    assert [each.name for each in tmp_path.iterdir()] == ["note"]
    assert read(tmp_path / "note") == 1


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    taken = noted(tmp_path / "file" / "note")
    assert taken.read() is None
    taken.drop()


class Clock:
    """Time as told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def test_notes_are_taken_no_more_often_than_said(tmp_path, monkeypatch):
    clock, asked = Clock(monkeypatch), []
    taken = Notes(tmp_path / "note", every=30)
    for clock.now in (110, 129, 131, 140, 160, 162):
        taken.take(lambda: (asked.append(clock.now), standing())[1])
    assert asked == [131, 162]


def test_notes_that_take_long_to_write_are_taken_less_often(tmp_path, monkeypatch):
    """A second of writing pays for a hundred, but notes are never put off for more than twenty intervals."""
    clock, asked = Clock(monkeypatch), []

    def slow(seconds: float) -> Checkpoint:
        asked.append(clock.now)
        clock.now += seconds
        return standing()

    taken = Notes(tmp_path / "note", every=30)
    for clock.now, seconds in ((131, 1), (180, 1), (231, 1), (233, 50), (333, 50), (882, 1), (884, 1)):
        taken.take(lambda seconds=seconds: slow(seconds))
    assert asked == [131, 233, 884]


def test_the_time_before_an_interruption_counts_as_spent(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    for began, seconds in ((100, 7), (200, 5)):
        clock.now = began
        one = Notes(tmp_path / "note", every=0)
        one.read()
        clock.now += seconds
        one.take(standing)
        clock.now += 50  # lost: it is done again
    last = Notes(tmp_path / "note")
    assert last.before == 0
    last.read()
    assert last.before == 12


def test_what_is_dropped_is_gone(tmp_path):
    noted(tmp_path / "note").drop()
    assert not list(tmp_path.iterdir())
