"""Short of memory: crafting is tried again with less at once, the result stays the same, and a sentence says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mithridate import poisonset
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.executor import Ended
from mithridate.learners.sgd import SGD
from mithridate.memory import halving, out_of_memory
from mithridate.watch import Step, silent
from tests.runs import TINY, carried_out, results, tiny

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_knows_the_errors_that_say_so(error: Exception) -> None:
    assert out_of_memory(error)


def test_takes_no_other_error_for_one() -> None:
    assert not any(out_of_memory(each) for each in (RuntimeError("size mismatch"), ValueError("out of memory")))


def test_knows_the_error_of_this_machine() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_halves_until_it_fits_and_says_so() -> None:
    heard: list[str] = []

    def act(size: int) -> int:
        if size > 3:
            raise MemoryError
        return -size

    assert halving(act, size=25, watch=lambda step: heard.append(step.note)) == (-3, 3)
    assert [note.split(" instead")[0] for note in heard] == [
        f"out of memory: tried again with micro_batch {size}" for size in (12, 6, 3)
    ]


def test_gives_up_at_one_row_and_at_once_on_other_errors() -> None:
    tried: list[int] = []

    def act(size: int) -> int:
        tried.append(size)
        raise MemoryError

    with pytest.raises(MemoryError):
        halving(act, size=8, watch=silent)
    assert tried == [8, 4, 2, 1]

    def wrong(size: int) -> int:
        tried.append(size)
        raise ValueError("not allowed")

    with pytest.raises(ValueError, match="not allowed"):
        halving(wrong, size=8, watch=silent)
    assert tried == [8, 4, 2, 1, 8]


def fitting(most: int) -> Callable[..., Any]:
    """Crafting that finds no memory for more rows at once than ``most``."""
    real = GradientMatching.craft

    def craft(self: GradientMatching, *given: Any, **named: Any) -> Any:
        if self.micro_batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, *given, **named)

    return craft


class TestCampaign:
    def test_that_runs_short_has_the_rows_of_one_that_does_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With exact derivatives; what the approximate ones round depends on how many rows they take at once."""
        heard: list[Step] = []
        experiment = tiny(trials=1, runs=1, attacks=[{**TINY["attacks"][0], "backend": "double"}])
        carried_out(experiment, finished := tmp_path / "finished")
        monkeypatch.setattr(GradientMatching, "craft", fitting(1))
        carried_out(experiment, folder := tmp_path / "short", report=lambda job, step: heard.append(step))
        short, whole = results(folder), results(finished)
        crafts = [key for key, row in short.items() if row["kind"] == "craft"]
        assert {short[key].pop("micro_batch") for key in crafts} == {1}
        assert not any("micro_batch" in row for row in whole.values())
        notes = {step.note for step in heard if step.note}
        assert notes == {
            f"out of memory: tried again with micro_batch {n} instead of 6, which changes the poison by float "
            "rounding at most"
            for n in (3, 1)
        }
        for key in crafts:
            assert poison(folder, key).poison.rows.inputs.equal(poison(finished, key).poison.rows.inputs)
            assert poison(folder, key).manifest["details"] == poison(finished, key).manifest["details"]
        for key, row in whole.items():
            if row["kind"] == "victim":
                assert short[key] == row

    def test_that_cannot_craft_says_what_to_lower(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(GradientMatching, "craft", fitting(0))
        (error,) = {each.error for each in carried_out(tiny(), tmp_path) if each.error and not each.lost}
        assert error == (
            "crafting with gradient-matching ran out of memory, even with micro_batch 1 (CUDA out of memory. Tried to "
            "allocate 2.00 GiB); lower threat.budget, take smaller or fewer surrogates, or run fewer jobs at a time "
            "(--workers 1)"
        )

    def test_that_cannot_train_says_what_to_lower(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def train(self: SGD, *given: Any, **named: Any) -> Any:
            raise MemoryError

        monkeypatch.setattr(SGD, "train", train)
        failed: list[Ended] = [each for each in carried_out(tiny(), tmp_path) if each.error and not each.lost]
        assert {each.error for each in failed} == {
            "training ran out of memory (MemoryError); lower the learner's batch_size, take a smaller network, or run "
            "fewer jobs at a time (--workers 1)"
        }


def test_a_micro_batch_stays_part_of_the_settings_it_was_stored_under() -> None:
    """Keys of older runs hold it: what fits is found out beside the settings, and never written into them."""
    one, other = (tiny(attacks=[{"name": "gradient-matching", "micro_batch": n}]) for n in (4, 8))
    assert {job.key for job in one.jobs()} != {job.key for job in other.jobs()}


def poison(folder: Path, key: str) -> poisonset.PoisonSet:
    return poisonset.read(folder / "poisons" / key)
