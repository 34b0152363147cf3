"""Crews of surrogates, and several poisons for one target: what is crafted, with what, and what rows say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mithridate import poisonset
from mithridate.preflight import problems
from tests.runs import TINY, carried_out, results, tiny

NET = {"model": {"name": "mlp", "hidden": [9]}, "epochs": 2, "batch_size": 32, "augmentation": None}
ALONE: dict[str, Any] = {"trials": 1, "runs": 1, "controls": {"clean": 0, "noise": 1}}


def finished(folder: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    assert not [each.error for each in carried_out(tiny(**changes), folder) if each.error]
    return results(folder)


def poison_of(folder: Path, key: str) -> list[float]:
    return poisonset.read(folder / "poisons" / key).poison.rows.all_inputs().flatten().tolist()


class TestCrews:
    def test_craft_what_an_experiment_of_these_surrogates_alone_does(self, tmp_path: Path) -> None:
        """Bit for bit: nothing of the others reaches it."""
        both = finished(tmp_path / "both", **ALONE, ensemble=2, crews={"one": [0], "two": [0, 1]})
        alone = finished(tmp_path / "alone", **ALONE, ensemble=1)
        renamed = {"attack", "crew"}
        shared = [key for key in alone if key in both]
        assert len(shared) == len(alone) == 4
        for key in shared:
            mine, theirs = both[key], alone[key]
            assert {k: v for k, v in mine.items() if k not in renamed} == {
                k: v for k, v in theirs.items() if k not in renamed
            }
        crafts = {row["crew"]: key for key, row in both.items() if row["kind"] == "craft"}
        assert poison_of(tmp_path / "both", crafts["one"]) == poison_of(tmp_path / "alone", crafts["one"])
        assert poison_of(tmp_path / "both", crafts["one"]) != poison_of(tmp_path / "both", crafts["two"])
        assert {row["attack"] for row in both.values() if "attack" in row} == {
            "gradient-matching (crew one)", "gradient-matching (crew two)",
        }  # fmt: skip

    def test_share_with_a_victim_what_their_own_members_do(self, tmp_path: Path) -> None:
        crews = {"other": [0], "same": [1]}
        found = finished(tmp_path, **ALONE, surrogates=[NET, *TINY["victims"]], crews=crews)
        boxes = {row["crew"]: row["box"] for row in found.values() if row.get("control") == "attack"}
        assert boxes == {"other": "black-box", "same": "grey-box"}

    def test_of_one_member_cannot_be_asked_for_the_second(self) -> None:
        threat = {**TINY["threat"], "labels": "dirty", "origin": "random-subset"}
        flips = [{"name": "loss-flips", "surrogate": 1}]
        asked = tiny(threat=threat, attacks=flips, ensemble=2, crews={"both": [0, 1], "one": [0]})
        assert problems(asked) == ["attacks[0]: surrogate 1 is asked for, but there are 1 (from 0)"]


class TestSeeds:
    def test_craft_other_poisons_for_the_same_target(self, tmp_path: Path) -> None:
        found = finished(tmp_path, **ALONE | {"runs": 2}, seeds=2)
        crafts = [key for key, row in found.items() if row["kind"] == "craft"]
        assert poison_of(tmp_path, crafts[0]) != poison_of(tmp_path, crafts[1])
        victims = [row for row in found.values() if row.get("control") == "attack"]
        assert sorted((row["trial"], row["seed"], row["run"]) for row in victims) == [
            (0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3),
        ]  # fmt: skip
        assert len({row["targets"][0]["id"] for row in victims}) == 1
        assert sum(row.get("control") == "noise" for row in found.values()) == 1

    def test_leave_what_was_there_when_they_are_added(self, tmp_path: Path) -> None:
        before = finished(tmp_path, **ALONE)
        after = finished(tmp_path, **ALONE, seeds=2)
        assert before.items() <= after.items()
        assert len(after) == len(before) + 2
