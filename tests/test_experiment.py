"""An experiment's jobs: which there are, what decides each, and what one job does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mithridate import poisonset, work
from mithridate.dataset import Dataset
from mithridate.defense import protect
from mithridate.errors import ConfigError, FormatError
from mithridate.experiment import Experiment, Job, result_keys
from mithridate.learner import predictions
from mithridate.loading import load
from mithridate.preflight import problems
from mithridate.seeding import Seed
from mithridate.work import perform
from tests.runs import CPU, TINY, carried_out, results, tiny


def keys(experiment: Experiment, *kinds: str) -> set[str]:
    return {job.key for job in experiment.jobs() if not kinds or job.kind in kinds}


def rows(folder: Path, control: str) -> list[dict[str, Any]]:
    return [row for row in results(folder).values() if row.get("control") == control]


class TestJobs:
    def test_are_the_grid(self) -> None:
        jobs = tiny(vary={"budget": ["1 %"]}).jobs()
        counts = {
            kind: sum(job.kind == kind for job in jobs) for kind in ("surrogate", "clean", "craft", "attack", "noise")
        }
        assert counts == {"surrogate": 1, "clean": 1, "craft": 4, "attack": 8, "noise": 4}
        assert len({job.key for job in jobs}) == len(jobs)

    def test_come_after_what_they_need(self) -> None:
        seen: set[str] = set()
        for job in tiny(vary={"budget": ["1 %"]}, ensemble=2).jobs():
            assert set(job.needs) <= seen
            seen.add(job.key)
        assert all(job.needs for job in tiny().jobs() if job.kind not in ("surrogate", "clean"))

    def test_of_variations_can_be_fewer(self) -> None:
        jobs = tiny(vary={"budget": ["1 %", "2 %"]}, trials=3, vary_trials=1).jobs()
        assert [(job.scenario, job.trial) for job in jobs if job.kind == "craft"] == [
            (0, 0), (1, 0), (2, 0), (0, 1), (0, 2),
        ]  # fmt: skip

    def test_without_controls_and_with_surrogates_of_their_own(self) -> None:
        jobs = tiny(controls={"clean": 0, "noise": 0}, share_surrogates=False, first_trial=7).jobs()
        assert {job.kind for job in jobs} == {"craft", "attack"}
        assert {job.trial for job in jobs} == {7, 8}

    def test_of_the_largest_grid_allowed_are_listed_in_bounded_time(self) -> None:
        started = time.monotonic()
        assert len(tiny(trials=500, runs=8).jobs()) == 500 * 10 + 2
        assert time.monotonic() - started < 20
        with pytest.raises(ConfigError, match="at most 1000000 can be run together"):
            tiny(trials=250_000)


BASE = tiny()
POISONED = ("craft", "attack", "noise")
EVERYTHING = ("surrogate", "clean", "craft", "attack", "noise")


class TestKey:
    @pytest.mark.parametrize(
        ("changes", "kinds"),
        [
            ({"seed": 1}, EVERYTHING),
            ({"data": {**TINY["data"], "train_rows": 121}}, EVERYTHING),
            ({"threat": {**TINY["threat"], "budget": "6 %"}}, POISONED),
            ({"threat": {**TINY["threat"], "perturbation": {"name": "linf", "radius": "32/255"}}}, POISONED),
            ({"threat": {**TINY["threat"], "origin": "random-subset"}}, POISONED),
            ({"attacks": [{"name": "gradient-matching", "steps": 3, "restarts": 1}]}, POISONED),
            ({"victims": [{**TINY["victims"][0], "epochs": 3}]}, EVERYTHING),
            ({"victims": [{**TINY["victims"][0], "model": {"name": "mlp", "hidden": [9]}}]}, EVERYTHING),
            ({"ensemble": 2}, POISONED),
            ({"surrogates": [{"model": {"name": "linear"}, "augmentation": None}]}, ("surrogate", *POISONED)),
        ],
    )
    def test_changes_with_what_decides_the_result(self, changes: dict[str, Any], kinds: tuple[str, ...]) -> None:
        changed = tiny(**changes)
        assert not keys(BASE, *kinds) & keys(changed, *kinds)
        others = tuple(kind for kind in EVERYTHING if kind not in kinds)
        if others:
            assert keys(BASE, *others) <= keys(changed, *others)

    def test_of_a_goal_changes_the_clean_victims_too(self) -> None:
        changed = tiny(threat={**TINY["threat"], "goal": {"name": "misclassify", "target": 1}})
        assert not keys(BASE, "clean", "craft", "attack", "noise") & keys(changed)

    @pytest.mark.parametrize(
        "changes",
        [
            {"trials": 3},
            {"runs": 3},
            {"controls": {"clean": 2, "noise": 2}},
            {"notes": ["chosen on other trials"], "about": "words"},
            {"name": "another"},
            {"vary": {"budget": ["1 %"]}},
            {"attacks": [{"name": "gradient-matching", "steps": 2, "restarts": 1}, {"name": "gradient-matching"}]},
        ],
    )
    def test_stays_where_only_more_or_other_words_are_asked_for(self, changes: dict[str, Any]) -> None:
        assert keys(BASE) <= keys(tiny(**changes))

    def test_of_each_row_of_a_clean_victim_outlives_more_trials(self) -> None:
        def row_keys(experiment: Experiment) -> set[str]:
            return {key for job in experiment.jobs() for key in result_keys(experiment, job)}

        assert row_keys(BASE) <= row_keys(tiny(trials=5))

    def test_is_the_same_for_the_same_variation_wherever_it_stands(self) -> None:
        one, other = tiny(vary={"budget": ["1 %", "2 %"]}), tiny(vary={"budget": [0.02]})
        assert keys(other) <= keys(one)


class TestNames:
    def test_of_scenarios_attacks_and_victims_are_different(self) -> None:
        experiment = tiny(
            vary={"origin": ["random-subset"], "budget": ["1 %"]},
            attacks=[{"name": "gradient-matching"}, {"name": "gradient-matching", "augment": False}],
            victims=[{"model": {"name": "mlp", "hidden": [width]}, "augmentation": None} for width in (8, 9)],
        )
        for names in (experiment.scenario_names(), experiment.attack_names(), experiment.victim_names()):
            assert len(set(names)) == len(names) > 1, names

    def test_that_no_folder_can_have_are_refused(self) -> None:
        for name in ("", ".", "..", "a/b", "a\\b", "a\0b", "x" * 101, "a\nb"):
            with pytest.raises(ConfigError, match="name must be fit for a folder"):
                tiny(name=name)


class TestTargets:
    """``targets: correct``: only test rows that every surrogate calls by their right name."""

    WEAK: ClassVar = {
        "victims": [{"model": {"name": "linear"}, "epochs": 1, "batch_size": 60, "lr": 0.01, "augmentation": None}]
    }

    def test_that_a_surrogate_gets_wrong_are_never_drawn(self, tmp_path: Path) -> None:
        experiment = tiny(targets="correct", trials=12, ensemble=2, **self.WEAK)
        data = load(experiment.data)
        crew = work.cached_crew(experiment, tmp_path)
        inputs, labels = data.test.all_inputs(), data.test.labels
        models = [learner.fit(data.train, seed=Seed(0)).model for learner in crew]
        right = torch.stack([predictions(model, inputs).argmax(1) == labels for model in models]).all(0)
        assert 0 < int(right.sum()) < len(labels)  # there is something to tell apart
        allowed = set(data.test.ids[right].tolist())
        clean = next(job for job in experiment.jobs() if job.kind == "clean")
        found = perform(experiment, clean, folder=tmp_path, device=CPU)
        assert {result.row["targets"][0]["id"] for result in found} <= allowed
        anything = replace(experiment, targets="any")
        drawn = {anything.trial(replace(clean, trial=k)).goal(data).judged.ids.item() for k in range(12)}
        assert not drawn <= allowed

    def test_are_the_same_for_attack_and_clean_victims(self, tmp_path: Path) -> None:
        experiment = tiny(targets="correct", **self.WEAK)
        carried_out(experiment, tmp_path)
        targets: dict[int, set[int]] = {}
        for row in results(tmp_path).values():
            if "targets" in row:
                targets.setdefault(row["trial"], set()).add(row["targets"][0]["id"])
        assert [len(each) for each in targets.values()] == [1, 1]

    def test_wait_for_the_surrogates_and_decide_the_keys(self) -> None:
        chosen, plain = tiny(targets="correct"), tiny()
        firsts = {job.key for job in chosen.jobs() if job.kind == "surrogate"}
        assert all(set(job.needs) == firsts for job in chosen.jobs() if job.kind == "clean")
        assert not keys(chosen, "clean", "craft", "attack") & keys(plain, "clean", "craft", "attack")

    def test_cannot_be_chosen_without_shared_surrogates(self) -> None:
        with pytest.raises(ConfigError, match="only where trials share surrogates"):
            tiny(targets="correct", share_surrogates=False)


class TestControls:
    def test_judge_clean_victims_on_the_targets_of_every_trial(self, finished: Path) -> None:
        """The base rate is that of the very targets the poisoned victims are judged on."""
        attacked = {row["trial"]: row["targets"][0] for row in rows(finished, "attack")}
        clean = {row["trial"]: row["targets"][0] for row in rows(finished, "clean")}
        assert set(clean) == set(attacked) == {0, 1}
        assert attacked[0]["id"] != attacked[1]["id"]
        for trial, target in clean.items():
            assert (target["id"], target["true"], target["wanted"]) == tuple(
                attacked[trial][name] for name in ("id", "true", "wanted")
            )

    def test_train_clean_victims_on_clean_data(self, finished: Path) -> None:
        experiment, data = tiny(), load(tiny().data)
        model = experiment.victims[0].fit(data.train, seed=Seed(0).child("clean victim", 0)).model
        row = rows(finished, "clean")[0]
        test = data.test.without(torch.tensor([row["targets"][0]["id"]]))
        with torch.no_grad():
            expected = (model(test.all_inputs()).argmax(1) == test.labels).float().mean()
        assert row["clean_accuracy"] == pytest.approx(float(expected))

    def test_noise_is_on_the_same_rows_within_the_radius_and_no_poison(
        self, finished: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[Dataset] = []
        real = work.noise_like

        def watched(*args: Any, **more: Any) -> Any:
            found = real(*args, **more)
            drawn.append(found.rows)
            return found

        monkeypatch.setattr(work, "noise_like", watched)
        experiment = tiny(controls={"clean": 0, "noise": 2})
        jobs = [job for job in experiment.jobs() if job.kind == "noise" and job.trial == 0]
        rows = [perform(experiment, job, folder=finished, device=CPU)[0] for job in jobs]
        poison = poisonset.read(finished / "poisons" / jobs[0].needs[0])
        assert poison.base is not None
        for noise in drawn:
            assert torch.equal(noise.ids, poison.poison.rows.ids)
            change = (noise.all_inputs() - poison.base.all_inputs()).abs()
            assert float(change.max()) <= 64 / 255 + 1e-6
            assert float(change.max()) > 48 / 255, "the noise does not use its radius"
            assert not torch.equal(noise.inputs, poison.poison.rows.inputs)
        assert not torch.equal(drawn[0].inputs, drawn[1].inputs), "each noise victim has noise of its own"
        assert results(finished)[rows[0].key]["targets"] == rows[0].row["targets"], "the same job, the same result"


def copied(finished: Path, tmp_path: Path, job: Job) -> Path:
    """A poison set of the finished run, to be tampered with."""
    folder = tmp_path / "poisons" / job.needs[0]
    folder.mkdir(parents=True)
    for file in (finished / "poisons" / job.needs[0]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


class TestVictim:
    job = next(job for job in BASE.jobs() if job.kind == "attack")

    def test_is_trained_on_the_poison_as_exported(self, finished: Path, tmp_path: Path) -> None:
        """Another poison in the same folder, properly signed, gives another victim; the same one gives the same."""
        folder = copied(finished, tmp_path, self.job)
        (same,) = perform(BASE, self.job, folder=tmp_path, device=CPU)
        stored = results(finished)[same.key]
        assert (same.row["curve"], same.row["targets"]) == (stored["curve"], stored["targets"])
        found = poisonset.read(folder)
        inputs = found.poison.rows.inputs.clone().fill_(16)
        poisonset.write(
            folder,
            poison=replace(found.poison, rows=replace(found.poison.rows, inputs=inputs)),
            base=found.base,
            aims=found.aims,
            details={},
            data_digest=found.manifest["base_data_sha256"],
        )
        (other,) = perform(BASE, self.job, folder=tmp_path, device=CPU)
        assert other.row["curve"] != same.row["curve"]

    @pytest.mark.parametrize("file", ["poison.safetensors", "manifest.json"])
    def test_refuses_a_poison_that_was_tampered_with(self, file: str, finished: Path, tmp_path: Path) -> None:
        folder = copied(finished, tmp_path, self.job)
        content = bytearray((folder / file).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / file).write_bytes(content)
        with pytest.raises(FormatError):
            perform(BASE, self.job, folder=tmp_path, device=CPU)

    def test_of_a_zero_budget_is_trained_and_judged_all_the_same(self, tmp_path: Path) -> None:
        experiment = tiny(threat={"budget": 0}, trials=1, runs=1)
        made = {
            result.row.get("control", result.kind): result.row
            for job in experiment.jobs()
            for result in perform(experiment, job, folder=tmp_path, device=CPU)
        }
        assert made["craft"]["rows"] == 0
        assert set(made) == {"surrogate", "clean", "craft", "attack", "noise"}
        assert made["attack"]["clean_accuracy"] >= 0


def numbered(path: Path) -> Path:
    """Forty training rows whose label is their number modulo two, and ten test rows likewise."""
    draws = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 10)):
        arrays[f"x_{part}"] = draws.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 2
    np.savez(path, **arrays)
    return path


def setup(**changes: Any) -> Mapping[str, Any]:
    return {"target class": 1, "target index": 3, "base class": 0, "base indices": [4, 10, 6], **changes}


class TestSetups:
    def described(self, tmp_path: Path, *setups: Mapping[str, Any], **changes: Any) -> Experiment:
        (tmp_path / "setups.json").write_text(json.dumps(setups))
        data = {"name": "arrays", "path": str(numbered(tmp_path / "data.npz"))}
        settings = {
            "data": data,
            "setups": str(tmp_path / "setups.json"),
            "trials": len(setups),
            "threat": {"budget": 0.1},
        }
        return tiny(**{**settings, **changes})

    def test_draw_exactly_the_named_rows(self, tmp_path: Path) -> None:
        other = {"target class": 0, "target index": 8, "base class": 1, "base indices": [1, 3]}
        experiment = self.described(tmp_path, setup(), other)
        assert problems(experiment) == []
        for number, (ids, target, true, wanted) in enumerate([([4, 6, 10], 3, 1, 0), ([1, 3], 8, 0, 1)]):
            job = next(job for job in experiment.jobs() if job.kind == "craft" and job.trial == number)
            for need in experiment.jobs()[:1]:
                perform(experiment, need, folder=tmp_path, device=CPU)
            perform(experiment, job, folder=tmp_path, device=CPU)
            found = poisonset.read(tmp_path / "poisons" / job.key)
            assert sorted(found.poison.rows.ids.tolist()) == ids
            assert found.aims.ids is not None
            assert found.aims.wanted is not None
            assert (found.aims.ids.tolist(), found.aims.labels.tolist(), found.aims.wanted.tolist()) == (
                [target], [true], [wanted],
            )  # fmt: skip

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            (setup(**{"target index": 4}), "target 4 has another label than the set-up says"),
            (setup(**{"base indices": [4, 5]}), "base rows have other labels than the set-up says"),
            (setup(**{"base indices": [4, 400]}), "the set-ups name rows that this data lacks"),
            (setup(**{"target index": 99}), "the set-ups name rows that this data lacks"),
            (setup(**{"base indices": [0, 2, 4, 6, 8]}), "5 base ids are fixed, but a budget of 0.1 pays for 4"),
            (
                setup(**{"base class": 1}),
                "setups: set-up 0 in 'setups.json' needs a base class other than the target's",
            ),
            ({"target class": 1}, "setups: set-up 0 in 'setups.json' lacks 'target index'"),
        ],
    )
    def test_refuse_data_that_is_not_meant(self, wrong: Mapping[str, Any], sentence: str, tmp_path: Path) -> None:
        found = problems(self.described(tmp_path, wrong))
        assert any(sentence in each for each in found), found

    def test_are_as_many_as_there_are(self, tmp_path: Path) -> None:
        (found,) = problems(self.described(tmp_path, setup(), trials=2))
        assert found == "setups: trial 1 was asked for, but there are 1 set-ups (0..0)"

    def test_decide_the_keys_by_their_content(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
        one = self.described(tmp_path / "a", setup())
        same = self.described(tmp_path / "b", setup())
        other = self.described(tmp_path / "c", setup(**{"target index": 5}))
        assert keys(one) == keys(same)
        assert not keys(one, "clean", "craft", "attack", "noise") & keys(other)

    def test_of_the_benchmark_are_bundled(self) -> None:
        experiment = tiny(setups="benchmark-scratch", trials=100)
        trial = experiment.trial(Job(kind="craft", trial=99))
        assert len(trial.threat.base_ids) == 500


class TestAdaptive:
    """An attacker who knows the defense crafts against it, with surrogates of its own inside it."""

    changes: ClassVar[dict[str, Any]] = {
        "defenses": ["none", "cutout", "spectral-signatures"],
        "controls": {"clean": 0, "noise": 1, "drops": ["random-drop"]},
        "trials": 1,
        "runs": 1,
    }

    def test_poison_and_surrogates_belong_to_the_stack(self) -> None:
        experiment = tiny(**self.changes, adaptive=True)
        jobs = {job.key: job for job in experiment.jobs()}
        names = experiment.defense_names()
        met = {names[job.defense]: names[jobs[job.needs[0]].defense] for job in jobs.values() if job.kind == "attack"}
        assert met == {
            "none": "none", "cutout": "cutout", "spectral-signatures": "spectral-signatures",
            "random-drop (like spectral-signatures)": "spectral-signatures",
        }  # fmt: skip
        assert sum(job.kind == "surrogate" for job in jobs.values()) == 3
        assert sum(job.kind == "noise" for job in jobs.values()) == 3
        for job in jobs.values():
            if job.kind == "craft":
                stack = experiment.stacks()[job.defense].defenses
                assert experiment.trial(job).surrogates == (protect(experiment.victims[0], stack),)

    def test_the_undefended_part_is_the_same_as_ever(self) -> None:
        one, other = (tiny(**self.changes, adaptive=adaptive) for adaptive in (False, True))
        undefended = [
            {job.key for job in each.jobs() if job.kind in ("surrogate", "craft", "attack") and job.defense <= 0}
            for each in (one, other)
        ]
        assert undefended[0] <= undefended[1]
        assert sum(job.kind == "craft" for job in one.jobs()) == 1

    def test_targets_are_drawn_by_bare_surrogates(self) -> None:
        experiment = tiny(**{**self.changes, "defenses": ["cutout"]}, adaptive=True, targets="correct")
        surrogates = [job for job in experiment.jobs() if job.kind == "surrogate"]
        assert [job.defense for job in surrogates] == [-1, 0]

    def test_a_run_is_whole(self, tmp_path: Path) -> None:
        changes = {**self.changes, "defenses": ["none", {"name": "top-loss-drop", "like": "oracle-filter"}]}
        assert not [each.error for each in carried_out(tiny(**changes, adaptive=True), tmp_path) if each.error]
        crafts = [row for row in results(tmp_path).values() if "trace" in row]
        assert [row["defense"] for row in crafts] == ["none", "top-loss-drop (like oracle-filter)"]


class TestDefenseProblems:
    def test_a_defense_that_does_not_fit_the_data_is_said(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        rows = {"x_train": rng.random((90, 5)), "y_train": np.arange(90) % 3}
        np.savez(tmp_path / "table.npz", **rows, x_test=rows["x_train"], y_test=rows["y_train"])
        table = {"name": "arrays", "path": str(tmp_path / "table.npz"), "bounds": [0, 1]}
        found = problems(tiny(data=table, defenses=["none", "cutout", ["mixup", "jpeg"]]))
        assert [each.partition(":")[0] for each in found if each.startswith("defenses")] == [
            "defenses[1]",
            "defenses[2]",
        ]
        assert not [each for each in problems(tiny(defenses=["cutout", "mixup"])) if each.startswith("defenses")]
