"""Promises that every defense keeps, checked on a toy task."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

import torch
import yaml
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.defense import Defense, Filter, HookDefense, stack_name
from mithridate.errors import MithridateError
from mithridate.learner import Learner, Progress
from mithridate.settings import fingerprint, plain
from mithridate.testing.bench import Bench, defense_bench
from mithridate.testing.orders import check_order_of_rows
from mithridate.testing.resuming import check_resuming
from mithridate.testing.runs import SEED, TOLD, differences, emptied, protected, truth
from mithridate.testing.surroundings import undisturbed
from mithridate.testing.witnesses import Diary, Tally
from mithridate.trial import accuracy

UNSEEN = 0.02
"""Share of the rows that may be missing from a training without being named: batches may be drawn at random."""
UNSEEN_LATER = 0.15
"""The same, for its second half."""


def check_defense(defense: Defense | type[Defense], *, bench: Bench | None = None) -> None:
    """Check every promise of a defense (a class is tried with its default settings).

    Without ``bench`` the toy task is used; give one where the defense needs another learner, or rows of another kind.
    Raises ``AssertionError`` with a sentence for the first promise that is broken.
    """
    defense = defense() if isinstance(defense, type) else defense
    for check in DEFENSE_CHECKS.values():
        check(defense, bench or defense_bench())


def check_same_seed_same_model(defense: Defense, bench: Bench) -> None:
    """The seed decides weights, removals and facts bit for bit (on a CPU), whatever the global random state."""
    learner = protected(defense, bench)
    first = learner.fit(bench.data.train, seed=SEED)
    torch.rand(3)
    apart = differences(first, learner.fit(bench.data.train, seed=SEED))
    assert not apart, f"{defense.name} trains two networks from one seed: {apart}"


def check_learns_clean_data(defense: Defense, bench: Bench) -> None:
    """On clean data it leads to a network clearly better than guessing."""
    _assert_learns(protected(defense, bench), bench, defense.name)


def check_says_what_it_drops(defense: Defense, bench: Bench) -> None:
    """It drops ids it was given, each at most once, says which, and trains on all others and on no others."""
    data, name = bench.data.train, defense.name
    found, diary = _watched(defense, bench)
    dropped = [each for removal in found.removals for each in removal.ids.tolist()]
    strangers = sorted(set(dropped) - set(data.ids.tolist()))
    assert not strangers, f"{name} drops ids that it was not given: {strangers[:5]}"
    assert len(set(dropped)) == len(dropped), f"{name} drops {len(dropped) - len(set(dropped))} rows more than once"
    assert defense.drops or not dropped, f"{name} drops {len(dropped)} rows, so its class must say  drops = True"
    for removal in found.removals:
        assert removal.by == name, f"{name} drops rows in the name of '{removal.by}'"
        still = diary.since(removal.epoch) & set(removal.ids.tolist()) if diary else set()
        assert not still, f"{name} goes on training on {len(still)} of the rows it says it dropped"
    if diary:
        for epoch, share in ((0, UNSEEN), (found.epochs // 2, UNSEEN_LATER)):
            unseen = set(data.ids.tolist()) - set(dropped) - diary.since(epoch)
            said = f"{name} leaves out {len(unseen)} rows after epoch {epoch} and does not say so"
            assert len(unseen) <= share * len(data), said


def check_empties_no_class(defense: Defense, bench: Bench) -> None:
    """Where a class is rare, it is not emptied without a word: a row of it is left, or an error says why not."""
    for counts in ((60, 40, 4), (60, 40, 1)):
        data = _lopsided(bench.data.train, counts)
        learner = protected(defense, _on(data, bench))
        with suppress(MithridateError):  # that is a word
            found = learner.fit(data, seed=SEED)
            gone = emptied(data, torch.cat([data.ids[:0], *(removal.ids for removal in found.removals)]))
            assert not gone, f"{defense.name} drops every row of class {gone} of {counts}, and says nothing"
            if isinstance(defense, Filter):
                _assert_spares_classes(defense, data, counts)


def check_ids_mean_nothing(defense: Defense, bench: Bench) -> None:
    """Ids are names: where they are other numbers in the same order, the result is the same."""
    data = bench.data.train
    renamed = replace(data, ids=_other_ids(data))
    first = protected(defense, bench).fit(data, seed=SEED)
    other = protected(defense, _on(renamed, bench)).fit(renamed, seed=SEED)
    expected = tuple(replace(each, ids=renamed.ids[data.positions(each.ids)]) for each in first.removals)
    apart = differences(replace(first, removals=expected), other)
    assert not apart, f"{defense.name} reads something out of ids: with other numbers in the same order, {apart}"


def check_stacks(defense: Defense, bench: Bench) -> None:
    """It can be worn with other defenses, inside or outside of them, and over itself.

    Where it cannot, an error must say so; but inside or outside of an ordinary one it must work. Over itself it need
    not learn: too little may be left of a toy task.
    """
    ready, refusals = protected(defense, bench), []
    stacks = {
        "inside another defense": Tally().protect(ready),
        "outside another defense": protected(defense, replace(bench, learner=Tally().protect(bench.learner))),
    }
    for where, learner in stacks.items():
        try:
            found = _assert_learns(learner, bench, f"{defense.name} {where}")
        except MithridateError as refusal:
            refusals.append(str(refusal))
            continue
        assert found.facts.get("tally"), f"{defense.name} {where} hides what the other one reports"
        named = {removal.by for removal in found.removals}
        assert "tally" in named, f"{defense.name} {where} hides what the other one drops"
    assert len(refusals) < len(stacks), f"{defense.name} can be worn with no other defense: {refusals}"
    with suppress(MithridateError):
        found = protected(defense, replace(bench, learner=ready)).fit(bench.data.train, seed=SEED)
        finite = all(bool(each.isfinite().all()) for each in found.model.parameters())
        assert finite, f"{defense.name} over itself ends in weights that are not finite"


def check_defending_leaves_everything_alone(defense: Defense, bench: Bench) -> None:
    """Data, settings, the learner inside and the global random states are what they were, after every epoch."""
    data, name = bench.data.train, defense.name
    digest, settings, inside = data.digest(), pickle.dumps(defense), pickle.dumps(bench.learner)
    learner = protected(defense, bench)
    training = learner.train(data, seed=SEED)
    while True:
        with undisturbed(name):
            if next(training, None) is None:
                break
    assert data.digest() == digest, f"{name} writes into its data"
    assert pickle.dumps(defense) == settings, f"{name} keeps something on itself while training"
    assert pickle.dumps(bench.learner) == inside, f"{name} changes the learner inside"


def check_defense_settings_compare(defense: Defense, bench: Bench) -> None:
    """Settings pickle, compare, hash and go through YAML; so do protected learners: they identify a training."""
    name, learner = defense.name, defense.protect(bench.learner)
    again = pickle.loads(pickle.dumps(defense))  # noqa: S301 (ours, here)
    assert again == defense, f"{name} does not survive pickling"
    assert hash(again) == hash(defense), f"{name} has two hashes"
    assert fingerprint(again) == fingerprint(defense), f"{name} has two fingerprints"
    settings = plain(defense)
    assert yaml.safe_load(yaml.safe_dump(settings)) == settings, f"{name} does not survive YAML"
    assert again.protect(bench.learner) == learner, f"{name} makes two learners of one, so none can be remembered"
    changed = fingerprint(learner) != fingerprint(bench.learner)
    assert changed, f"what {name} makes of a learner has the settings of that learner: trainings would be mixed up"
    if isinstance(defense, HookDefense):
        named = defense.hook(bench.learner, SEED).settings
        assert named == defense, f"hook.settings of {name} is {named}, not {defense}: trainings cannot be remembered"


def check_defense_cites_its_paper(defense: Defense, bench: Bench) -> None:
    """The module says where the method is from, by an address."""
    text = inspect.getdoc(inspect.getmodule(type(defense))) or ""
    assert "http" in text, f"the module of {defense.name} cites no paper by its address"


def check_only_oracles_listen(defense: Defense, bench: Bench) -> None:
    """The truth changes nothing, but for an oracle: whose name is stamped, and which one truth tells from another."""
    name, data = defense.name, bench.data.train
    one, two = (defense.told(truth(data, count)) for count in (TOLD, 2 * TOLD))
    listens = fingerprint(one, vars(one)) != fingerprint(two, vars(two))
    if "oracle" not in stack_name([defense]):
        said = f"{name} changes when it is told the truth, but is not stamped: let  oracle  be True"
        assert not listens, said
        assert one == defense, said
        return
    assert listens, f"{name} is stamped as an oracle, but does not listen"
    assert "oracle" in stack_name([one]), f"{name} loses its stamp once it has been told the truth"
    trained = [fingerprint(each.protect(bench.learner)) for each in (one, two)]
    assert trained[0] != trained[1], f"{name} hides what it was told from its settings: trainings would be mixed up"


DEFENSE_CHECKS: Mapping[str, Callable[[Defense, Bench], None]] = MappingProxyType(
    {
        "same seed, same model": check_same_seed_same_model,
        "learns clean data": check_learns_clean_data,
        "says what it drops": check_says_what_it_drops,
        "empties no class": check_empties_no_class,
        "the order of rows does not matter": check_order_of_rows,
        "ids mean nothing": check_ids_mean_nothing,
        "resuming equals not stopping": check_resuming,
        "stacks": check_stacks,
        "leaves everything alone": check_defending_leaves_everything_alone,
        "settings compare": check_defense_settings_compare,
        "cites its paper": check_defense_cites_its_paper,
        "only oracles listen": check_only_oracles_listen,
    }
)


def _assert_learns(learner: Learner, bench: Bench, who: str) -> Progress:
    """The end of a training that must be three standard errors better than guessing."""
    found = learner.fit(bench.data.train, seed=SEED)
    test = bench.data.test
    chance = 1 / test.space.num_classes
    needed = chance + 3 * (chance * (1 - chance) / len(test)) ** 0.5
    right = accuracy(found.model, test)
    assert right > needed, (
        f"{who} learns nothing: {right:.0%} of clean test rows are right, guessing gives {chance:.0%}"
    )
    assert found.epoch == found.epochs, f"{who} ends after {found.epoch} of {found.epochs} epochs"
    return found


def _watched(defense: Defense, bench: Bench) -> tuple[Progress, Diary | None]:
    """The end of a training, and which rows were trained on when; None where hooks are refused in a sentence."""
    learner, data, diary = protected(defense, bench), bench.data.train, Diary()
    try:
        found = learner.fit(data, seed=SEED, hooks=(diary,))
    except MithridateError:
        return learner.fit(data, seed=SEED), None
    assert diary.seen, f"{defense.name} does not hand on the hooks it is given"
    return found, diary


def _assert_spares_classes(defense: Filter, data: Dataset, counts: tuple[int, ...]) -> None:
    """A filter spares a row of each class where the rare one lies far off, and where all rows lie in one place."""
    noise = torch.randn(len(data), 16, generator=SEED.generator())
    far = noise + 100.0 * (data.labels == data.labels.max())[:, None]
    for features, where in ((far, "that lies far off"), (torch.ones_like(noise), "where all lie in one place")):
        verdict = defense.judge(features, data, seed=SEED)
        gone = emptied(data, data.ids[verdict.flagged])
        assert not gone, f"{defense.name} drops every row of class {gone} of {counts} {where}, and says nothing"


def _lopsided(data: Dataset, counts: tuple[int, ...]) -> Dataset:
    """So many rows of each class, in the order of the data."""
    kept = [(data.labels == label).nonzero().flatten()[:count] for label, count in enumerate(counts)]
    return data.at(torch.cat(kept).sort().values)


def _on(data: Dataset, bench: Bench) -> Bench:
    """The bench with other training rows."""
    return replace(bench, data=replace(bench.data, train=data))


def _other_ids(data: Dataset) -> Tensor:
    """Ids ``(N,)`` in the same order as those of ``data``, wide and unevenly apart, larger than any table."""
    gaps = torch.randint(1, 2**33, (len(data),), generator=SEED.child("ids").generator())
    return gaps.cumsum(0)[data.ids.argsort().argsort()]
