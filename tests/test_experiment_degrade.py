"""Experiments that degrade: which rows each trial has, who sees them, and what the rows of the store tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from mithridate import config, loading, poisonset, work
from mithridate import keys as job_keys
from mithridate.attack import Attack
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.experiment import Experiment, Job, result_keys
from mithridate.goal import Degrade
from mithridate.learners import weights
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.loading import load
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.preflight import problems
from mithridate.seeding import Seed
from mithridate.settings import fingerprint
from mithridate.source import Split
from mithridate.threat import ThreatModel, Unbounded
from mithridate.trial import Trial
from mithridate.watch import silent
from mithridate.work import data_of, perform
from tests.runs import CPU, TINY, carried_out, results, tiny
from tests.test_experiment import keys

DEGRADE = {
    "goal": {"name": "degrade", "known": 40},
    "budget": "10 %",
    "perturbation": {"name": "unbounded"},
    "labels": "dirty",
    "rows": "append",
}
LINEAR = {"model": {"name": "linear"}, "epochs": 2, "batch_size": 32, "lr": 0.1, "augmentation": None}


@dataclass(frozen=True, kw_only=True)
class Flips(Attack):
    """Append copies of rows under the next label; what it was handed is written down where a test looks."""

    name: ClassVar[str] = "flips"
    goals: ClassVar = (Degrade,)
    rows: ClassVar = ("append",)
    needs_surrogate: ClassVar[bool] = False
    seen: ClassVar[list[tuple[Dataset, Any]]] = []

    def craft(self, data, threat, *, aims, surrogates, seed, watch=silent):  # type: ignore[no-untyped-def]
        self.seen.append((data, aims))
        ids = threat.pick(data, aims, seed.child("pick"))
        clean = data.rows(ids)
        labels = (clean.labels + 1) % data.space.num_classes
        rows = replace(clean, labels=labels, ids=FIRST_APPENDED + torch.arange(len(ids)))
        return Poison(rows=rows, origins=ids)


def degrading(*, threat: Mapping[str, Any] | None = None, **changes: Any) -> Experiment:
    """Thirty training rows of each trial's own, 40 validation rows, three poison rows, a linear victim."""
    settings = {"resample": True, "training_rows": 30, "victims": [LINEAR], "runs": 1, "trials": 3, **changes}
    parsed = tiny(**settings, threat={**DEGRADE, **(threat or {})})
    return replace(parsed, attacks=(Flips(),))


BASE = degrading()
OWN = degrading(threat={"knows": "own-rows"})


def ids(data: Dataset | None) -> set[int]:
    return set() if data is None else set(data.ids.tolist())


def parts_of(data: Split) -> list[set[int]]:
    return [ids(each) for each in (data.train, data.validation, data.own)]


class TestRows:
    @pytest.mark.parametrize("changes", [{}, {"resample": False}, {"training_rows": 0}], ids=str)
    @pytest.mark.parametrize("seed", range(8))
    def test_of_training_validation_own_and_test_are_never_shared(self, changes: dict[str, Any], seed: int) -> None:
        knows = "own-rows" if changes.get("training_rows") != 0 else "training-rows"
        asked = degrading(seed=seed, threat={"knows": knows}, **changes)
        everything = load(asked.data)
        for trial in range(5):
            data = data_of(asked, Job(kind="craft", trial=trial))
            train, held, own = parts_of(data)
            assert not train & held
            assert not own & (train | held)
            size = changes.get("training_rows", 30)
            assert (len(train), len(held), len(own)) == (size or 80, 40, size)
            assert train | held | own <= ids(everything.train)
            assert data.test is everything.test, "every test row is judged"
            assert set(data.train.labels.tolist()) == {0, 1, 2}

    def test_are_those_of_its_trial_for_every_job(self) -> None:
        """Attack, clean and noise victims of one trial, under every budget; and other rows for other trials."""
        asked = degrading(vary={"budget": ["20 %"]}, threat={"knows": "own-rows"})
        found: dict[int, list[list[set[int]]]] = {}
        for job in asked.jobs():
            found.setdefault(job.trial, []).append(parts_of(data_of(asked, job)))
        assert {len(each) for each in found.values()} == {1 + 3 + 3}
        assert all(each == alike[0] for alike in found.values() for each in alike)
        for k in range(3):
            assert len({frozenset(alike[0][k]) for alike in found.values()}) == 3

    def test_are_drawn_once_where_trials_share_them(self) -> None:
        asked = degrading(resample=False)
        first, *others = (parts_of(data_of(asked, job)) for job in asked.jobs())
        assert all(each == first for each in others)
        again = parts_of(data_of(degrading(resample=False, seed=1), Job(kind="craft")))
        assert again[1] != first[1]

    def test_are_the_same_whoever_knows_them(self) -> None:
        """Perfect and limited knowledge are compared on the same victims."""
        for trial in range(3):
            one, other = (parts_of(data_of(each, Job(kind="craft", trial=trial))) for each in (BASE, OWN))
            assert one[:2] == other[:2]
            assert (len(one[2]), len(other[2])) == (0, 30)

    def test_of_a_trial_are_held_out_in_code_too(self) -> None:
        """A trial without an experiment does not train its victims on what its attacker judges by."""
        data, threat = load(BASE.data), BASE.threat
        trial = Trial(attack=Flips(), threat=threat, surrogates=(), victim=BASE.victims[0], seed=Seed(1))
        cut = trial.rows(data)
        assert parts_of(cut)[1] == set(trial.goal(data).known.ids.tolist())
        assert not parts_of(cut)[0] & parts_of(cut)[1]
        assert len(cut.train) == 80
        assert trial.rows(cut) is cut
        (outcome,) = trial.run(data)
        assert outcome.metrics["error"] == pytest.approx(outcome.metrics["success"])

    def test_of_its_own_must_be_there_for_an_attacker_who_knows_no_others(self) -> None:
        trial = Trial(attack=Flips(), threat=OWN.threat, surrogates=(), victim=BASE.victims[0])
        with pytest.raises(ConfigError, match="hold no rows of the attacker's own; set training_rows"):
            trial.run(load(BASE.data))


class TestProblems:
    def test_are_none(self) -> None:
        for asked in (BASE, OWN, degrading(resample=False), degrading(training_rows=0)):
            assert problems(asked) == []

    @pytest.mark.parametrize(
        ("changes", "known", "sentence"),
        [
            (
                {"training_rows": 100},
                40,
                "training_rows: training_rows of 100 and 40 validation rows ask for 140 rows, but there are 120",
            ),
            (
                {"training_rows": 50},
                "0.3",
                "training_rows: training_rows of 50, 36 validation rows and 50 rows of the attacker's own ask for "
                "136 rows, but there are 120",
            ),
            ({"training_rows": 0}, 40, "training_rows: knows: own-rows needs training_rows, as many for the victim"),
        ],
    )
    def test_of_sizes_are_told_once_before_anything_is_trained(
        self, changes: dict[str, Any], known: Any, sentence: str
    ) -> None:
        own = "own-rows" if changes["training_rows"] != 100 else "training-rows"
        asked = degrading(threat={"goal": {"name": "degrade", "known": known}, "knows": own}, **changes)
        (found,) = problems(asked)
        assert found.startswith(sentence)

    @pytest.mark.parametrize("fixed", [{"setups": "benchmark-scratch"}, {"threat": {"base_ids": [3]}}], ids=str)
    def test_rows_cannot_be_both_drawn_and_fixed(self, fixed: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="resample draws the training rows of each trial, but setups or"):
            tiny(resample=True, **fixed)


class TestJobs:
    def test_have_clean_victims_of_each_trial(self) -> None:
        jobs = degrading(controls={"clean": 2, "noise": 1}, runs=2).jobs()
        count = {kind: sum(job.kind == kind for job in jobs) for kind in ("clean", "craft", "attack", "noise")}
        assert count == {"clean": 6, "craft": 3, "attack": 6, "noise": 3}
        assert [(job.trial, job.run) for job in jobs if job.kind == "clean"] == [
            (trial, run) for run in range(2) for trial in range(3)
        ]
        assert [job.trial for job in jobs if job.run == 1] == [0, 0, 1, 1, 2, 2], "each before the poisoned ones"
        assert len({job.key for job in jobs}) == len(jobs)

    def test_have_no_shared_surrogates(self) -> None:
        changes = {"attacks": TINY["attacks"], "resample": True, "training_rows": 30}
        assert not [job for job in tiny(**changes).jobs() if job.kind == "surrogate"]
        assert [job for job in tiny(**{**changes, "resample": False}).jobs() if job.kind == "surrogate"]

    def test_no_more_than_can_be_listed_are_counted_with_their_clean_victims(self) -> None:
        with pytest.raises(ConfigError, match="the grid has 1250000 jobs"):
            degrading(trials=250_000, controls={"clean": 2, "noise": 1})


class TestKeys:
    @pytest.mark.parametrize(
        ("changes", "kinds"),
        [
            ({"resample": False}, ("clean", "craft", "attack", "noise")),
            ({"training_rows": 33}, ("clean", "craft", "attack", "noise")),
            ({"threat": {"goal": {"name": "degrade", "known": 41}}}, ("clean", "craft", "attack", "noise")),
            ({"threat": {"goal": {"name": "degrade", "known": "0.4"}}}, ("clean", "craft", "attack", "noise")),
            ({"seed": 1}, ("clean", "craft", "attack", "noise")),
            ({"threat": {"knows": "own-rows"}}, ("craft", "attack", "noise")),
        ],
        ids=str,
    )
    def test_change_with_what_decides_the_rows(self, changes: dict[str, Any], kinds: tuple[str, ...]) -> None:
        changed = degrading(**changes)
        assert not keys(BASE, *kinds) & keys(changed, *kinds)
        others = [kind for kind in ("clean", "craft", "attack", "noise") if kind not in kinds]
        assert all(keys(BASE, kind) == keys(changed, kind) for kind in others)

    def test_stay_where_more_is_asked_for(self) -> None:
        """More trials, budgets, and limited knowledge beside perfect knowledge, leave what was there."""
        for more in ({"trials": 5}, {"vary": {"budget": ["20 %"]}}, {"vary": {"knows": ["own-rows"]}}):
            assert keys(BASE) < keys(degrading(**more))

    def test_of_shared_surrogates_depend_on_the_rows_they_are_trained_on(self) -> None:
        def surrogates(**threat: Any) -> set[str]:
            asked = tiny(training_rows=30, threat={**DEGRADE, **threat})
            return keys(asked, "surrogate")

        everybody = [surrogates(), surrogates(knows="own-rows"), surrogates(goal={"name": "degrade", "known": 41})]
        assert all(len(each) == 1 for each in everybody)
        assert len(set.union(*everybody)) == 3

    def test_of_bundled_presets_are_what_they_were(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fingerprints over the sorted row keys of two trials of a preset, with 'data' for the digest of its data.

        Made at commit 5140dd8, before trials could have rows of their own. Where one changes on purpose (a preset was
        edited, METHOD raised), it is made anew here; else the results of every run of that preset would be lost.
        """
        for module in (job_keys, loading, weights):
            monkeypatch.setattr(module, "data_digest", lambda source: "data")
        expected = {
            "benchmark-transfer": "bd799d21854a99ee5e7d4a78",
            "convex-polytope-2019": "a292c85e55b7331c14fde1df",
            "polytope-defenses": "234844a1749e8d256b80701a",
            "polytope-quick": "2d226b51519c219055e45e54",
            "quickstart-defenses": "100233807d27f9de72486295",
            "witches-brew": "c2d36def8c505c08cfec8f8e",
        }
        found = {}
        for name in expected:
            whole = config.parse(Experiment, config.read_yaml(config.load_preset(name), where=name))
            asked = replace(whole, trials=2, vary_trials=1)
            found[name] = fingerprint(sorted(key for job in asked.jobs() for key in result_keys(asked, job)))
        assert found == expected


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The data of every training so far, in order."""
    found: list[Dataset] = []
    train: Callable[..., Iterator[Any]] = SGD.train

    def watched(self: SGD, data: Dataset, **more: Any) -> Any:
        found.append(data)
        return train(self, data, **more)

    monkeypatch.setattr(SGD, "train", watched)
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the base experiment. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("degrade")
    assert not [each.error for each in carried_out(BASE, folder) if each.error]
    return folder


class TestRun:
    def test_trains_victims_on_the_rows_of_their_trial_and_on_no_validation_row(
        self, tmp_path: Path, trained_on: list[Dataset]
    ) -> None:
        assert not [each.error for each in carried_out(OWN, tmp_path) if each.error]
        assert len(trained_on) == 3 * 3
        for trial in range(3):
            data = data_of(OWN, Job(kind="craft", trial=trial))
            clean, attack, noise = trained_on[3 * trial : 3 * trial + 3]
            assert clean.digest() == data.train.digest()
            for poisoned in (attack, noise):
                assert poisoned.at(slice(0, 30)).digest() == data.train.digest()
                assert poisoned.ids[30:].tolist() == [FIRST_APPENDED + k for k in range(3)]

    def test_hands_the_attacker_what_it_may_know(self, tmp_path: Path) -> None:
        for asked in (BASE, OWN):
            Flips.seen.clear()
            jobs = [job for job in asked.jobs() if job.kind == "craft"]
            for job in jobs:
                perform(asked, job, folder=tmp_path, device=CPU)
                data = data_of(asked, job)
                (seen, aims) = Flips.seen.pop()
                known = data.own if asked is OWN else data.train
                assert known is not None
                assert data.validation is not None
                assert seen.digest() == known.digest()
                assert aims.ids.tolist() == data.validation.ids.tolist()

    @pytest.mark.parametrize("asked", [BASE, OWN], ids=["training-rows", "own-rows"])
    def test_keeps_the_clean_rows_that_appended_ones_began_as(self, asked: Experiment, tmp_path: Path) -> None:
        job = next(job for job in asked.jobs() if job.kind == "craft")
        perform(asked, job, folder=tmp_path, device=CPU)
        found, data = poisonset.read(tmp_path / "poisons" / job.key), data_of(asked, job)
        assert found.base is not None
        began = data.own if asked is OWN else data.train
        assert began is not None
        assert ids(found.base) <= ids(began)
        assert found.base.digest() == began.rows(found.base.ids).digest()
        assert torch.equal(found.base.inputs, found.poison.rows.inputs), "this attack changes labels alone"
        assert ((found.base.labels + 1) % 3).tolist() == found.poison.rows.labels.tolist()

    @pytest.mark.parametrize("asked", [BASE, OWN], ids=["training-rows", "own-rows"])
    def test_puts_noise_on_the_rows_that_the_poison_began_as_under_its_labels(
        self, asked: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began, made, real = [], [], work.noise_like

        def watched(poison: Poison, base: Dataset, **more: Any) -> Poison:
            began.append(base)
            made.append(real(poison, base, **more))
            return made[-1]

        monkeypatch.setattr(work, "noise_like", watched)
        for kind in ("craft", "noise"):
            perform(asked, next(j for j in asked.jobs() if j.kind == kind), folder=tmp_path, device=CPU)
        craft = next(job for job in asked.jobs() if job.kind == "craft")
        found = poisonset.read(tmp_path / "poisons" / craft.key)
        assert found.base is not None
        (base,), (noise,) = began, made
        assert base.digest() == found.base.digest()
        assert noise.rows.ids.tolist() == found.poison.rows.ids.tolist()
        assert noise.rows.labels.tolist() == found.poison.rows.labels.tolist()
        assert not torch.equal(noise.rows.inputs, found.poison.rows.inputs)

    def test_tells_errors_confusions_and_shares(self, done: Path) -> None:
        rows = results(done).values()
        victims, crafts = ([row for row in rows if (name in row)] for name in ("success", "trace"))
        assert [len(victims), len(crafts)] == [9, 3]
        for row in victims:
            assert row["success"] == pytest.approx(row["error"]), "any error counts, over all test rows"
            assert row["clean_accuracy"] == pytest.approx(1 - row["error"])
            counts = torch.tensor(row["confusion"])
            assert counts.shape == (3, 3)
            assert counts.sum(1).tolist() == torch.bincount(load(BASE.data).test.labels).tolist()
            assert 1 - float(counts.diagonal().sum()) / 60 == pytest.approx(row["error"])
            assert (row["judged"], row["training_rows"]) == (60, 30)
        for row in crafts:
            assert row["total_share"] == pytest.approx(3 / 33)
            assert (row["rows"], row["budget"], row["training_rows"]) == (3, 0.1, 30)
            assert row["scenario"] == "10 % of rows, unbounded"

    def test_pairs_each_clean_victim_with_the_poisoned_one_of_its_trial(self, done: Path) -> None:
        """The same rows, and the same seed: the clean victim is what the poisoned one would have been."""
        rows = [row for row in results(done).values() if row.get("control") == "clean"]
        assert [row["trial"] for row in rows] == [0, 1, 2]
        assert len({row["training"] for row in rows}) == 3
        for row in rows:
            train = data_of(BASE, Job(kind="clean", trial=row["trial"])).train
            seed = Seed(0).child("trial", row["trial"]).child("victim", 0)
            found = BASE.victims[0].fit(train, seed=seed)
            assert row["curve"]["loss"][-1] == pytest.approx(found.loss)

    def test_has_nothing_left_to_do_afterwards(self, done: Path) -> None:
        assert carried_out(BASE, done) == []
        more = carried_out(replace(BASE, trials=4), done)
        assert sorted(each.job.kind for each in more) == ["attack", "clean", "craft", "noise"]

    def test_of_one_confusion_judges_the_rows_of_its_class(self, tmp_path: Path) -> None:
        goal = {"name": "degrade", "kind": "specific", "source": 2, "intended": 0, "known": 40}
        asked = degrading(threat={"goal": goal, "origin": "either-class"}, trials=1)
        assert not [each.error for each in carried_out(asked, tmp_path) if each.error]
        for row in results(tmp_path).values():
            if "success" not in row:
                continue
            counts = torch.tensor(row["confusion"])
            assert row["success"] == pytest.approx(float(counts[2, 0] / counts[2].sum()))
            others = counts[:2]
            assert row["clean_accuracy"] == pytest.approx(float(others.diagonal().sum() / others.sum()))


@dataclass(frozen=True, kw_only=True)
class Fitting(Flips):
    """The same, after training its surrogates."""

    name: ClassVar[str] = "fitting"
    needs_surrogate: ClassVar[bool] = True

    def craft(self, data, threat, *, surrogates, seed, **more):  # type: ignore[no-untyped-def]
        for learner in surrogates:
            learner.fit(data, seed=seed)
        return super().craft(data, threat, surrogates=surrogates, seed=seed, **more)


class TestSurrogates:
    def fitting(self, **changes: Any) -> Experiment:
        asked = degrading(controls={"clean": 0, "noise": 0}, **changes)
        return replace(asked, attacks=(Fitting(),), surrogates=(replace(asked.victims[0], epochs=1),))

    def test_that_trials_share_are_trained_once_on_the_attacker_s_own_rows(
        self, tmp_path: Path, trained_on: list[Dataset]
    ) -> None:
        asked = self.fitting(resample=False, threat={"knows": "own-rows"})
        assert not [each.error for each in carried_out(asked, tmp_path) if each.error]
        own = data_of(asked, Job(kind="craft")).own
        assert own is not None
        assert [each.digest() for each in trained_on].count(own.digest()) == 1
        assert len(trained_on) == 1 + 3

    def test_are_trained_for_each_trial_with_rows_of_its_own(self, tmp_path: Path, trained_on: list[Dataset]) -> None:
        asked = self.fitting(vary={"budget": ["20 %"]})
        assert not [each.error for each in carried_out(asked, tmp_path) if each.error]
        clean = [each.digest() for each in trained_on if len(each) == 30]
        assert sorted(clean) == sorted(
            data_of(asked, Job(kind="craft", trial=trial)).train.digest() for trial in range(3)
        ), "once for both budgets"

    def test_begin_anew_in_each_trial_with_rows_of_its_own(self, tmp_path: Path) -> None:
        """Else trials would share their initial weights, and be more alike than they are counted as."""
        for resample in (True, False):
            for learner in work.cached_crew(degrading(resample=resample), tmp_path):
                assert isinstance(learner, Cached)
                assert (learner.pinned is None) == resample

    def test_of_back_gradients_are_differentiated_though_they_are_remembered(self, tmp_path: Path) -> None:
        parsed = tiny(
            attacks=[{"name": "back-gradient", "steps": 2}],
            victims=[{"recipe": "softmax-regression", "steps": 5}],
            threat=DEGRADE,
            resample=True,
            training_rows=30,
            trials=1,
            runs=1,
        )
        assert problems(parsed) == []
        assert not [each.error for each in carried_out(parsed, tmp_path) if each.error]

    def test_that_are_not_shared_choose_no_targets(self) -> None:
        with pytest.raises(ConfigError, match="only where trials share surrogates and training rows"):
            tiny(targets="correct", resample=True, training_rows=30)


def test_noise_in_the_place_of_rows_that_began_nowhere_is_put_on_training_rows(tmp_path: Path) -> None:
    """Dirty labels and no bound ask for no origins."""

    @dataclass(frozen=True, kw_only=True)
    class Made(Flips):
        def craft(self, data, threat, **more):  # type: ignore[no-untyped-def]
            return replace(super().craft(data, threat, **more), origins=None)

    asked = replace(BASE, attacks=(Made(),), trials=1)
    assert not [each.error for each in carried_out(asked, tmp_path) if each.error]
    job = next(job for job in asked.jobs() if job.kind == "craft")
    assert poisonset.read(tmp_path / "poisons" / job.key).base is None


def test_an_attacker_with_rows_of_its_own_knows_less() -> None:
    asked = degrading(vary={"knows": ["own-rows"]})
    pretrained = replace(asked, attacks=tiny().attacks, surrogates=())
    boxes = [pretrained.box(0, 0, scenario=k) for k in range(2)]
    assert boxes == ["grey-box", "grey-box"]
    assert isinstance(ThreatModel(rows="append", perturbation=Unbounded(), knows="own-rows"), ThreatModel)
