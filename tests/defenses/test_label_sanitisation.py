"""Label sanitisation: rows get the label their neighbours agree on, solved by hand and against a slow oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mithridate import checkpoint
from mithridate.defense import features_of, protect, stack_name
from mithridate.defenses.label_sanitisation import LabelSanitisation
from mithridate.defenses.sphere import Sphere
from mithridate.errors import ConfigError
from mithridate.seeding import Seed
from mithridate.stacks import Controls, stacks
from mithridate.testing.witnesses import Ledger
from tests.defenses.tables import LEARNER, blobs, flipped, gone, sifted, table

SEED = Seed(3)


def relabelled(defense, data, **more):
    """The new label of each row that gets one, by id."""
    data = data.at(data.ids.argsort())
    verdict = sifted(defense, data, **more)
    assert not verdict.flagged.any()
    changed = verdict.labels != data.labels
    return dict(zip(data.ids[changed].tolist(), verdict.labels[changed].tolist(), strict=True))


class TestByHand:
    def test_a_flipped_row_in_two_blobs_gets_its_label_back(self):
        data = table([*torch.linspace(0, 1, 15), *torch.linspace(9, 10, 15)], [*[0] * 7, 1, *[0] * 7, *[1] * 15])
        assert relabelled(LabelSanitisation(), data) == {7: 0}

    def test_a_row_has_no_vote_on_itself(self):
        data = table([0.0, 1.0, 50.0, 51.0, 60.0, 61.0], [0, 1, 1, 1, 0, 0])
        assert relabelled(LabelSanitisation(k=1), data) == {0: 1, 1: 0}

    def test_as_much_as_the_threshold_is_enough(self):
        """Row 0 has neighbours 1, 1, 1, 0, 2: three of five."""
        data = table([0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 90.0, 91.0], [2, 1, 1, 1, 0, 2, 0, 2])
        for threshold, expected in ((0.5, 1), (0.6, 1), (0.61, 2)):
            found = sifted(LabelSanitisation(k=5, threshold=threshold), data).labels
            assert int(found[0]) == expected

    def test_where_two_labels_are_most_frequent_a_row_keeps_its_own(self):
        """Whether its own is one of the two, or not."""
        for own in (0, 1, 2):
            data = table([0.0, 1.0, 1.0, -1.0, -1.0, 80.0, 80.0, 80.0], [own, 0, 0, 1, 1, 2, 2, 2])
            assert int(sifted(LabelSanitisation(k=4, threshold=0.1), data).labels[0]) == own

    def test_neighbours_are_counted_by_the_labels_that_came(self):
        """Row 3 would follow once row 2 had been relabelled: its neighbours are rows 2 and 1."""
        data = table([0.0, 0.4, 1.0, 2.1, 9.0, 9.5], [0, 0, 1, 1, 1, 0])
        assert relabelled(LabelSanitisation(k=2, threshold=1.0), data) == {2: 0, 5: 1}

    def test_fewer_rows_than_neighbours_are_all_asked(self):
        """Two of three others have the other label, for all; one of each class stays."""
        assert relabelled(LabelSanitisation(k=99), table([0.0, 1.0, 2.0, 3.0], [1, 0, 0, 1])) == {2: 1, 3: 0}

    def test_a_single_row_stays(self):
        verdict = sifted(LabelSanitisation(), table([0.0], [1]))
        assert (verdict.labels.tolist(), verdict.scores.isnan().tolist()) == ([1], [True])

    def test_a_class_keeps_the_row_with_most_votes(self):
        """Of three rows called 1 among zeros, two are neighbours of each other; of these the lower id stays."""
        inputs = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 5.0, 5.01, 5.02, 5.03, 5.1, 5.11, 5.12, 5.05, 5.06]
        data = table(inputs, [*[0] * 5, 1, *[0] * 7, 1, 1], ids=[*range(20, 26), *range(30, 37), 9, 8])
        assert relabelled(LabelSanitisation(k=5), data) == {25: 0, 9: 0}


@pytest.mark.parametrize("threshold", [0.3, 0.6])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_every_row_gets_what_a_slow_oracle_says(k, threshold):
    data, _ = flipped(blobs(70, seed=5, classes=3, apart=2.0), 15)
    expected = {}
    for row in range(70):
        distances = [
            (float((data.inputs[row] - data.inputs[j]).double().square().sum()), j) for j in range(70) if j != row
        ]
        votes = Counter(int(data.labels[j]) for _, j in sorted(distances)[:k]).most_common()
        alone = len(votes) == 1 or votes[0][1] > votes[1][1]
        if alone and votes[0][1] / k >= threshold and votes[0][0] != int(data.labels[row]):
            expected[row] = votes[0][0]
    assert expected
    assert relabelled(LabelSanitisation(k=k, threshold=threshold), data) == expected
    assert gone(LabelSanitisation(k=k, threshold=threshold, action="drop"), data) == sorted(expected)


def test_scores_are_the_votes_for_other_labels():
    data = table([0.0, 1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1, 1])
    assert sifted(LabelSanitisation(k=2), data).scores.tolist() == [0.5, 0.5, 0.5, 0.0, 0.0]


def test_features_are_those_of_the_network_trained_without_defense():
    data, _ = flipped(blobs(60, seed=6), 6)
    features = features_of(LEARNER.fit(data, seed=Seed(7)).model, data)
    expected = relabelled(LabelSanitisation(), table(features, data.labels))
    assert relabelled(LabelSanitisation(space="features"), data, seed=7) == expected


def test_images_are_compared_flattened(split):
    labels = torch.where(split.train.ids == 4, 0, split.train.labels)
    data = replace(split.train, labels=labels)
    assert relabelled(LabelSanitisation(), data) == {4: int(split.train.labels[4])}


class TestTraining:
    data, wrong = flipped(blobs(60, seed=6, apart=4.0), 6)

    def test_trains_on_all_rows_with_the_labels_corrected_and_says_how_many(self):
        ledger = Ledger()
        found = LabelSanitisation().protect(LEARNER).fit(self.data, seed=SEED, hooks=(ledger,))
        changed = relabelled(LabelSanitisation(), self.data)
        assert set(changed) >= set(self.wrong.tolist())
        expected = {k: changed.get(k, label) for k, label in enumerate(self.data.labels.tolist())}
        assert ledger.labels == expected
        assert found.facts == {"relabelled": float(len(changed))}
        assert found.removals == ()
        labels = torch.tensor([expected[k] for k in range(60)])
        plain = LEARNER.fit(replace(self.data, labels=labels), seed=SEED)
        assert torch.equal(found.model.state_dict()["last.weight"], plain.model.state_dict()["last.weight"])

    def test_the_count_survives_resuming(self, tmp_path):
        learner = LabelSanitisation().protect(LEARNER)
        whole = learner.fit(self.data, seed=SEED)
        for progress in learner.train(self.data, seed=SEED):
            checkpoint.write(progress.state(), tmp_path / "state")
            break
        found = learner.fit(self.data, seed=SEED, resume=checkpoint.read(tmp_path / "state"))
        assert found.facts == whole.facts
        assert found.facts["relabelled"] >= 6
        assert torch.equal(found.model.state_dict()["last.weight"], whole.model.state_dict()["last.weight"])

    def test_worn_twice_counts_add_up(self):
        """The outer one relabels first; the inner one is given its labels."""
        data, _ = flipped(blobs(60, seed=6, apart=2.0), 6)
        one, two = LabelSanitisation(k=1), LabelSanitisation(k=9)
        outer = relabelled(two, data)
        labels = data.labels.clone()
        labels[list(outer)] = torch.tensor([*outer.values()])
        inner = relabelled(one, replace(data, labels=labels))
        assert outer
        assert inner
        found = protect(LEARNER, [one, two]).fit(data, seed=SEED)
        assert found.facts == {"relabelled": float(len(outer) + len(inner))}

    def test_dropping_removes_the_same_rows_and_relabels_none(self):
        found = LabelSanitisation(action="drop").protect(LEARNER).fit(self.data, seed=SEED)
        (removal,) = found.removals
        assert sorted(removal.ids.tolist()) == sorted(relabelled(LabelSanitisation(), self.data))
        assert removal.by == "label-sanitisation"
        assert found.facts == {}


def test_only_dropping_brings_the_controls_of_defenses_that_drop():
    asked = [(LabelSanitisation(),), (LabelSanitisation(action="drop"),), (Sphere(),)]
    found = stacks(asked, Controls(drops=("random-drop",)))
    assert [each.control_of for each in found] == [(), (), (), (1,), (2,)]
    assert stack_name(found[3].defenses) == "random-drop (like label-sanitisation)"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 0}, "k must be at least 1, but it is 0"),
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\], but it is 0"),
        ({"threshold": 1.1}, r"threshold must lie in \(0, 1\]"),
        ({"space": "pixels"}, "space must be"),
        ({"action": "hide"}, "action must be 'relabel' or 'drop', but it is 'hide'"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        LabelSanitisation(**wrong)
