"""What a sanitiser takes out or relabels before training: sorted rows, the training's seed, and a state to resume."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch

from mithridate import checkpoint
from mithridate.defense import (
    Defense,
    Filter,
    Sanitised,
    Sanitiser,
    Verdict,
    check_where,
    features_of,
    points_of,
    protect,
)
from mithridate.errors import ConfigError, DataError, FormatError
from mithridate.learner import Removal
from mithridate.learners.cached import Cached
from mithridate.seeding import Seed
from mithridate.sifting import Relabelling, Sifting
from mithridate.testing.witnesses import Diary, Ledger
from tests.conftest import stripes
from tests.test_defense import Change, Changed, Listed, same

DATA = stripes(60, seed=1)
SEED = Seed(4)
KEPT = DATA.without(torch.tensor([3, 40, 7]))


@dataclass(frozen=True, kw_only=True)
class Told(Sanitiser):
    """Takes out the rows listed, the last one first, and gives others a label. Remembers what it was asked."""

    name: ClassVar[str] = "told"

    ids: tuple[int, ...] = (3, 40, 7)
    relabel: tuple[tuple[int, int], ...] = ()
    trains: bool = False
    asked: list[tuple] = field(default_factory=list, compare=False)

    def sift(self, learner, data, *, seed):
        self.asked.append((learner, data, seed))
        reused = learner.fit(data, seed=seed).reused if self.trains else 0.0
        scores = torch.tensor([float(self.ids.index(k)) if k in self.ids else -1.0 for k in data.ids.tolist()])
        labels = data.labels.clone() if self.relabel else None
        for which, label in self.relabel:
            labels[data.positions(torch.tensor([which]))] = label
        return Verdict(scores=scores, flagged=scores >= 0, labels=labels, reused=reused)


@dataclass(frozen=True, kw_only=True)
class Relabels(Told):
    """Takes out nothing, and says so."""

    name: ClassVar[str] = "relabels"
    drops: ClassVar[bool] = False

    ids: tuple[int, ...] = ()
    relabel: tuple[tuple[int, int], ...] = ((0, 2), (5, 1), (4, 1))  # 4 is called 1 already


class TestSanitised:
    def test_sifts_with_the_learner_inside_and_the_seed_of_the_training_whatever_the_order(self, learner):
        defense = Told()
        shuffled = DATA.at(torch.randperm(60, generator=Seed(0).generator()))
        defense.protect(learner).fit(shuffled, seed=SEED)
        ((inside, data, seed),) = defense.asked
        assert inside is learner
        assert data.digest() == DATA.digest()
        assert seed == SEED

    def test_trains_on_the_rest_and_names_the_most_suspect_first(self, learner):
        diary = Diary()
        found = Told().protect(learner).fit(DATA, seed=SEED, hooks=(Change(Changed()), diary))
        assert same(found, learner.fit(KEPT, seed=SEED, hooks=(Change(Changed()),)))
        assert diary.since(0) == set(KEPT.ids.tolist())
        (removal,) = found.removals
        assert (removal.by, removal.epoch, removal.ids.tolist()) == ("told", 0, [7, 40, 3])
        assert found.facts == {}

    def test_rows_relabelled_stay_where_they_are_and_are_counted(self, learner):
        shuffled, ledger = DATA.at(torch.arange(59, -1, -1)), Ledger()
        found = Relabels().protect(learner).fit(shuffled, seed=SEED, hooks=(ledger,))
        labels = shuffled.labels.clone()
        labels[59 - 0], labels[59 - 5] = 2, 1
        assert same(found, learner.fit(replace(shuffled, labels=labels), seed=SEED))
        assert ledger.labels == dict(zip(shuffled.ids.tolist(), labels.tolist(), strict=True))
        assert (found.removals, found.facts) == ((), {"relabelled": 2.0})

    def test_rows_can_be_relabelled_and_others_taken_out(self, learner):
        ledger = Ledger()
        found = Told(relabel=((0, 2),)).protect(learner).fit(DATA, seed=SEED, hooks=(ledger,))
        assert ledger.labels == {**dict(zip(KEPT.ids.tolist(), KEPT.labels.tolist(), strict=True)), 0: 2}
        assert ([len(each.ids) for each in found.removals], found.facts) == ([3], {"relabelled": 1.0})

    def test_a_filter_may_relabel_too(self, learner):
        class Corrects(Listed):
            def judge(self, features, data, *, seed):
                verdict = super().judge(features, data, seed=seed)
                return replace(verdict, labels=torch.where(data.ids == 0, 2, data.labels))

        ledger = Ledger()
        found = Corrects().protect(learner).fit(DATA, seed=SEED, hooks=(ledger,))
        assert ledger.labels[0] == 2
        assert found.facts == {"relabelled": 1.0}

    @pytest.mark.parametrize("defense", [Told(trains=True), Relabels(trains=True), Told(ids=())], ids=str)
    @pytest.mark.parametrize("stop", [1, 2])
    def test_resumed_it_does_not_sift_again(self, learner, tmp_path, defense, stop):
        memory = Cached(learner=learner, folder=tmp_path / "memory")
        memory.fit(DATA, seed=SEED)
        around = replace(defense, ids=(1,), relabel=()) if defense.ids else replace(defense, relabel=((9, 1),))
        for progress in protect(memory, [defense, around]).train(DATA, seed=SEED):
            if progress.epoch == stop:
                checkpoint.write(progress.state(), tmp_path / "state")
                break
        fresh = [replace(each, asked=[]) for each in (defense, around)]
        found = protect(learner, fresh).fit(DATA, seed=SEED, resume=checkpoint.read(tmp_path / "state"))
        assert [each.asked for each in fresh] == [[], []]
        whole = protect(learner, [defense, around]).fit(DATA, seed=SEED)
        assert same(found, whole)
        assert [each.ids.tolist() for each in found.removals] == [each.ids.tolist() for each in whole.removals]
        assert found.facts == whole.facts
        assert found.reused == progress.reused

    def test_seconds_are_those_of_all_its_work_and_found_work_is_said(self, learner, tmp_path):
        memory = Cached(learner=learner, folder=tmp_path)
        first, again = (Told(trains=True).protect(memory).fit(DATA, seed=SEED) for _ in range(2))
        assert first.reused == 0
        assert again.reused > again.removals[0].seconds > again.reused / 10
        assert same(first, again)

    def test_a_state_of_another_training_is_refused(self, learner):
        for state in (checkpoint.Checkpoint(), learner.fit(DATA, seed=SEED).state()):
            with pytest.raises(FormatError, match="not that of a training with a filter"):
                Told().protect(learner).fit(DATA, seed=SEED, resume=state)

    @pytest.mark.parametrize(
        "labels",
        [torch.zeros(59, dtype=torch.int64), torch.zeros(60), torch.full((60,), 3), torch.full((60,), -1)],
        ids=["a row too few", "no whole numbers", "too high", "too low"],
    )
    def test_labels_that_are_none_are_refused(self, learner, monkeypatch, labels):
        verdict = Verdict(scores=torch.zeros(60), flagged=torch.zeros(60, dtype=torch.bool), labels=labels)
        monkeypatch.setattr(Told, "sift", lambda *_, **__: verdict)
        with pytest.raises(DataError, match=r"the labels of the verdict of told must be 60 whole numbers .* 0\.\.2"):
            Told().protect(learner).fit(DATA, seed=SEED)

    def test_it_is_a_learner_around_another(self, learner):
        defense = Told()
        assert defense.protect(learner) == Sanitised(learner=learner, defense=defense)
        assert (Sanitiser.drops, issubclass(Sanitiser, Defense), issubclass(Sanitiser, Filter)) == (True, True, False)
        built = [each.build(DATA.space, SEED).state_dict() for each in (defense.protect(learner), learner)]
        assert all(torch.equal(value, built[1][name]) for name, value in built[0].items())


class TestSifting:
    def test_the_rest_keeps_its_order(self):
        sifting = Sifting(
            removal=Removal(by="x", epoch=0, ids=torch.tensor([2, 9, 77])),
            relabelling=Relabelling(ids=torch.tensor([8, 1]), labels=torch.tensor([0, 2])),
        )
        data = stripes(10, seed=1).at(torch.tensor([9, 8, 1, 2, 0]))
        rest = sifting.rest(data)
        assert (rest.ids.tolist(), rest.labels.tolist()) == ([8, 1, 0], [0, 2, 0])
        assert data.labels.tolist() == [0, 2, 1, 2, 0]

    def test_where_nothing_happened_it_is_the_same_data(self):
        assert Sifting(removal=None).rest(DATA) is DATA


def test_points_are_inputs_or_the_features_of_the_undefended_network(learner):
    inputs, saved = points_of(learner, DATA, where="inputs", seed=SEED)
    assert torch.allclose(inputs, ((DATA.all_inputs() - 0.38) / 0.2).flatten(1), atol=1e-5)
    assert saved == 0.0
    features, saved = points_of(learner, DATA, where="features", seed=SEED)
    assert torch.equal(features, features_of(learner.fit(DATA, seed=SEED).model, DATA))


def test_a_place_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="space must be 'inputs' or 'features', but it is 'pixels'"):
        check_where("pixels")
