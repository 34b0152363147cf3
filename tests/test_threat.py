"""What is allowed: projections are nearest and idempotent, rows are drawn from where they may, and excess is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.attack import released
from mithridate.dataset import Column, Dataset, Space
from mithridate.errors import ConfigError, DataError, ThreatModelError
from mithridate.goal import Aims, Misclassify
from mithridate.poison import FIRST_APPENDED, Poison, no_poison
from mithridate.seeding import Seed
from mithridate.settings import fingerprint
from mithridate.threat import L2, Linf, ThreatModel, Unbounded
from tests.conftest import stripes
from tests.tables import ADA, TABLE, rows, tables

DATA = stripes(90, seed=1)  # 30 rows in each of 3 classes
SPACE = DATA.space
FOUR = stripes(80, seed=1, classes=4)


def aims(*, true, wanted, data=DATA):
    inputs, labels = data.take(torch.tensor([0])), torch.tensor([true])
    return Aims(inputs=inputs[0], labels=labels, wanted=None if wanted is None else torch.tensor([wanted]))


def changed(ids, *, by=0.0, data=DATA):
    rows = data.rows(torch.tensor(ids))
    return Poison(rows=replace(rows, inputs=rows.all_inputs() + by))


class TestSettings:
    def test_a_radius_in_255ths_is_refused_with_the_right_one(self):
        with pytest.raises(ConfigError, match=r"radius must lie in \(0, 1\].* but it is 8 \(did you mean 8/255\?\)"):
            Linf(radius=8)

    @pytest.mark.parametrize("radius", [0.0, -0.1, float("nan")])
    def test_a_radius_that_allows_nothing_is_refused(self, radius):
        with pytest.raises(ConfigError, match="radius must lie"):
            Linf(radius=radius)
        with pytest.raises(ConfigError, match="radius must be positive"):
            L2(radius=radius)

    def test_an_attacker_who_does_not_know_the_rows_cannot_replace_them(self):
        with pytest.raises(ConfigError, match=r"own-rows needs rows: append, .* but rows is replace"):
            ThreatModel(knows="own-rows")
        assert fingerprint(ThreatModel(rows="append", knows="own-rows")) != fingerprint(ThreatModel(rows="append"))

    def test_threats_that_could_be_said_before_keep_their_fingerprint(self):
        assert fingerprint(ThreatModel()) == "9ea087f711a6cc0feb3397cc"

    def test_a_budget_in_percent_is_refused_with_the_right_one(self):
        with pytest.raises(ConfigError, match=r"in \[0, 1\], but it is 5 \(did you mean 0.05, that is 5 %\?\)"):
            ThreatModel(budget=5)

    @pytest.mark.parametrize("slack", [-1 / 255, float("nan"), 1.5])
    def test_a_slack_that_is_none_is_refused(self, slack):
        with pytest.raises(ConfigError, match=r"slack must lie in \[0, 1\]"):
            Linf(slack=slack)

    @pytest.mark.parametrize("budget", [-0.01, 1.01, 500, float("nan")])
    def test_a_budget_that_is_no_fraction_is_refused(self, budget):
        with pytest.raises(ConfigError, match="fraction of the training rows"):
            ThreatModel(budget=budget)

    @given(st.integers(1, 60_000), st.integers(0, 100))
    def test_the_budget_pays_for_its_fraction_rounded_up(self, rows, percent):
        class Rows:
            def __len__(self):
                return rows

        assert ThreatModel(budget=percent / 100).count(Rows()) == -(-rows * percent // 100)


perturbations = st.one_of(
    st.floats(1e-3, 1).map(lambda r: Linf(radius=r)),
    st.floats(1e-3, 30).map(lambda r: L2(radius=r)),
    st.just(Unbounded()),
)


class TestPerturbation:
    @given(perturbations, st.integers(0, 1000), st.floats(0.01, 3))
    def test_projection_is_allowed_in_range_and_leaves_the_allowed_alone(self, perturbation, seed, size):
        draws = torch.Generator().manual_seed(seed)
        clean = torch.rand(3, 3, 4, 4, generator=draws)
        far = clean + size * torch.randn(clean.shape, generator=draws)
        near = perturbation.project(far, clean, SPACE)
        assert float(perturbation.excess(near, clean, SPACE).max()) <= 2e-6
        assert float(near.min()) >= 0
        assert float(near.max()) <= 1
        assert torch.allclose(perturbation.project(near, clean, SPACE), near, atol=1e-6)
        assert torch.equal(perturbation.project(clean, clean, SPACE), clean)

    @given(st.floats(1e-3, 1), st.integers(0, 1000))
    def test_linf_projection_is_the_nearest_allowed(self, radius, seed):
        draws = torch.Generator().manual_seed(seed)
        clean, far = torch.rand(2, 1, 3, 3, generator=draws), torch.randn(2, 1, 3, 3, generator=draws)
        near = Linf(radius=radius).project(far, clean, SPACE)
        low, high = (clean - radius).clamp_min(0), (clean + radius).clamp_max(1)
        assert torch.equal(near, torch.maximum(torch.minimum(far, high), low))

    def test_l2_projection_keeps_the_direction(self):
        clean = torch.full((1, 1, 2, 2), 0.5)
        step = torch.tensor([[[[3.0, 0.0], [4.0, 0.0]]]])
        near = L2(radius=0.1).project(clean + step, clean, SPACE)
        assert torch.allclose(near - clean, step * 0.02, atol=1e-6)

    def test_excess_is_the_distance_beyond_the_radius(self):
        clean = torch.zeros(2, 1, 2, 2)
        moved = clean.clone()
        moved[1, 0] = torch.tensor([[0.3, -0.4], [0.0, 0.0]])
        assert Linf(radius=0.1).excess(moved, clean, SPACE).tolist() == pytest.approx([0, 0.3])
        assert L2(radius=0.1).excess(moved, clean, SPACE).tolist() == pytest.approx([0, 0.4])

    def test_slack_is_forgiven_but_never_used(self):
        clean = torch.full((1, 3, 6, 6), 0.5)
        tight, loose = Linf(radius=0.1), Linf(radius=0.1, slack=0.05)
        assert torch.equal(loose.project(clean + 1, clean, SPACE), tight.project(clean + 1, clean, SPACE))
        noise = [each.noise(clean, SPACE, Seed(0).generator()) for each in (tight, loose)]
        assert torch.equal(*noise)
        assert loose.excess(clean + 0.14, clean, SPACE).tolist() == [0]
        assert loose.excess(clean + 0.2, clean, SPACE).tolist() == pytest.approx([0.05])

    def test_noise_uses_the_whole_radius(self):
        clean = torch.full((40, 3, 6, 6), 0.5)
        noise = Linf(radius=0.1).noise(clean, SPACE, Seed(0).generator()) - clean
        assert torch.allclose(noise.abs(), torch.tensor(0.1))
        assert abs(float((noise > 0).float().mean()) - 0.5) < 0.03
        noise = L2(radius=0.1).noise(clean, SPACE, Seed(0).generator()) - clean
        assert torch.allclose(noise.flatten(1).norm(dim=1), torch.tensor(0.1), atol=1e-5)
        noise = Unbounded().noise(clean, SPACE, Seed(0).generator())
        assert (float(noise.min()), float(noise.max())) == (pytest.approx(0, abs=1e-2), pytest.approx(1, abs=1e-2))


class TestPick:
    @pytest.mark.parametrize(
        ("origin", "allowed"),
        [
            ("single-class", {2}),
            ("self-betrayal", {1}),
            ("either-class", {1, 2}),
            ("random-subset", {0, 1, 2, 3}),
            ("third-party", {0, 3}),
        ],
    )
    def test_rows_come_from_where_they_may(self, origin, allowed):
        threat = ThreatModel(budget=0.1, origin=origin)
        seen = []
        for seed in range(12):
            ids = threat.pick(FOUR, aims(true=1, wanted=2, data=FOUR), Seed(seed))
            labels = set(FOUR.rows(ids).labels.tolist())
            assert labels <= allowed
            assert len(ids) == len(set(ids.tolist())) == 8
            assert ids.tolist() == sorted(ids.tolist())
            if origin == "third-party":
                assert len(labels) == 1
            seen.append((tuple(ids.tolist()), labels))
        assert len({ids for ids, _ in seen}) == 12
        assert set.union(*(labels for _, labels in seen)) == allowed
        again = threat.pick(FOUR, aims(true=1, wanted=2, data=FOUR), Seed(3))
        assert tuple(again.tolist()) == seen[3][0]

    def test_every_candidate_is_picked_alike(self):
        threat, times = ThreatModel(budget=0.1), torch.zeros(90)
        for seed in range(300):
            times[threat.pick(DATA, aims(true=1, wanted=2), Seed(seed))] += 1
        wanted = times[DATA.labels == 2]  # 9 of 30 rows: 90 times each, standard deviation 8
        assert float((wanted - 90).abs().max()) < 35
        assert float(times[DATA.labels != 2].max()) == 0

    def test_too_few_candidates_are_said_with_the_budget_they_allow(self):
        with pytest.raises(
            ThreatModelError, match=r"asks for 36 rows, but only 30 rows.*'single-class'.* at most 0.333"
        ):
            ThreatModel(budget=0.4).pick(DATA, aims(true=1, wanted=2), Seed(0))

    def test_a_third_party_needs_a_third_class(self):
        pair = stripes(20, seed=1, classes=2)
        with pytest.raises(ThreatModelError, match="neither target nor intended"):
            ThreatModel(origin="third-party").pick(pair, aims(true=0, wanted=1, data=pair), Seed(0))

    def test_base_ids_are_taken_as_they_are(self):
        threat = ThreatModel(budget=0.1, base_ids=(40, 3, 7))
        assert threat.pick(DATA, aims(true=1, wanted=2), Seed(0)).tolist() == [3, 7, 40]
        with pytest.raises(ThreatModelError, match=r"3 base ids are fixed, but a budget of 0\.01 pays for 1"):
            replace(threat, budget=0.01).pick(DATA, aims(true=1, wanted=2), Seed(0))
        with pytest.raises(DataError, match="id 900 is not in the data set"):
            replace(threat, base_ids=(900,)).pick(DATA, aims(true=1, wanted=2), Seed(0))

    def test_without_a_wish_either_class_is_that_of_the_targets(self):
        ids = ThreatModel(origin="either-class").candidates(DATA, aims(true=1, wanted=None), Seed(0))
        assert DATA.rows(ids).labels.unique().tolist() == [1]
        assert len(ids) == 30

    def test_without_a_wish_all_rows_may_be_poisoned(self):
        ids = ThreatModel(budget=1.0).pick(DATA, aims(true=1, wanted=None), Seed(0))
        assert ids.tolist() == DATA.ids.tolist()


class TestCheck:
    threat = ThreatModel(goal=Misclassify(), budget=0.05, perturbation=Linf(radius=8 / 255))  # 5 of 90 rows

    def refused(self, poison, sentence, **changes):
        with pytest.raises(ThreatModelError, match=sentence):
            replace(self.threat, **changes).check(DATA, poison)

    def test_what_is_allowed_passes(self):
        self.threat.check(DATA, no_poison(DATA))
        self.threat.check(DATA, changed([3, 1, 2]))
        assert int(DATA.inputs.max()) < 240  # so that nothing below leaves the range
        self.threat.check(DATA, changed([3, 1, 2], by=8 / 255))
        replace(self.threat, budget=0.0).check(DATA, no_poison(DATA))

    def test_too_many_rows(self):
        self.refused(changed([0, 1, 2, 3, 4, 5]), "has 6 rows, but a budget of 0.05 pays for 5")

    def test_a_row_named_twice(self):
        self.refused(changed([4, 4]), "names a row twice")

    def test_too_far(self):
        self.refused(changed([3], by=9 / 255), r"row 3 exceeds the allowed change by 0.0039.*Linf")

    def test_the_benchmarks_gate_forgives_one_level(self):
        def moved(levels):
            rows = DATA.rows(torch.tensor([3, 1, 2]))
            away = torch.where(rows.inputs < 128, levels, -levels)  # never out of 0..255
            return Poison(rows=replace(rows, inputs=(rows.inputs.int() + away).to(torch.uint8)))

        gate = Linf(radius=8 / 255, slack=1 / 255)
        replace(self.threat, perturbation=gate).check(DATA, moved(9))
        self.refused(moved(9), "exceeds the allowed change by 0.0039")
        self.refused(moved(10), r"exceeds the allowed change by 0.0039.*slack=0\.0039", perturbation=gate)

    def test_one_value_of_one_row_too_far(self):
        poison = changed([3, 1, 2])
        poison.rows.inputs[2, 1, 5, 5] += 0.1 if float(poison.rows.inputs[2, 1, 5, 5]) < 0.5 else -0.1
        self.refused(poison, "row 2 exceeds")

    @pytest.mark.parametrize("by", [2.0, -2.0])
    def test_outside_the_range(self, by):
        self.refused(changed([3], by=by), r"leaves the valid range \[0, 1\]", perturbation=Unbounded())

    @pytest.mark.parametrize("by", [float("nan"), float("inf")])
    def test_nan_and_infinity(self, by):
        self.refused(changed([3], by=by), "NaN or infinite", perturbation=Unbounded())

    def test_changed_labels(self):
        rows = DATA.rows(torch.tensor([3, 4]))
        poison = Poison(rows=replace(rows, labels=(rows.labels + 1) % 3))
        self.refused(poison, "changes labels")
        replace(self.threat, labels="dirty").check(DATA, poison)

    @pytest.mark.parametrize("label", [-1, 3])
    def test_labels_that_are_no_class(self, label):
        rows = DATA.rows(torch.tensor([3, 4]))
        poison = Poison(rows=replace(rows, labels=torch.tensor([0, label])))
        self.refused(poison, r"labels outside 0\.\.2", labels="dirty")

    def test_new_rows_where_only_replacing_is_allowed(self):
        rows = replace(DATA.rows(torch.tensor([3, 4])), ids=torch.tensor([3, 999]))
        self.refused(Poison(rows=rows), "appends new rows, but may only replace")

    def test_replaced_rows_where_only_appending_is_allowed(self):
        rows = replace(DATA.rows(torch.tensor([3, 4])), ids=torch.tensor([4, 999]))
        self.refused(Poison(rows=rows), "replaces training rows, but may only append", rows="append")
        fresh = Poison(rows=replace(rows, ids=torch.tensor([998, 999])), origins=rows.labels * 0 + 3)
        assert int(rows.labels[0]) != int(rows.labels[1])
        self.refused(fresh, "changes labels", rows="append")
        replace(self.threat, rows="append", labels="dirty", perturbation=Unbounded()).check(DATA, fresh)
        replace(self.threat, rows="append").check(DATA, replace(fresh, origins=torch.tensor([3, 4])))

    def test_appended_rows_keep_to_the_range_too(self):
        rows = DATA.rows(torch.tensor([3]))
        poison = Poison(rows=replace(rows, ids=torch.tensor([999]), inputs=rows.all_inputs() + 2))
        self.refused(poison, "leaves the valid range", rows="append")

    def test_appended_rows_are_measured_against_their_origins(self):
        moved = changed([3, 3, 5], by=9 / 255).rows
        poison = Poison(rows=replace(moved, ids=FIRST_APPENDED + torch.arange(3)), origins=torch.tensor([3, 3, 5]))
        self.refused(poison, r"row 3 exceeds the allowed change by 0.0039", rows="append")
        replace(self.threat, rows="append", perturbation=Linf(radius=9 / 255)).check(DATA, poison)

    @pytest.mark.parametrize(
        ("allowed", "what"),
        [
            ({}, "clean labels"),
            ({"labels": "dirty"}, "the allowed change"),
            ({"labels": "clean", "perturbation": Unbounded()}, "clean labels"),
        ],
    )
    def test_appended_rows_of_unknown_origin_pass_only_where_anything_does(self, allowed, what):
        rows = replace(DATA.rows(torch.tensor([3])), ids=torch.tensor([999]))
        self.refused(Poison(rows=rows), f"without saying .* so {what} cannot be checked", rows="append", **allowed)
        anything = replace(self.threat, rows="append", labels="dirty", perturbation=Unbounded())
        anything.check(DATA, Poison(rows=rows))

    def test_origins_are_training_rows(self):
        rows = replace(DATA.rows(torch.tensor([3, 4])), ids=torch.tensor([998, 999]))
        poison = Poison(rows=rows, origins=torch.tensor([3, 900]))
        self.refused(poison, "names row 900 as an origin, but that is no training row", rows="append")

    def test_replaced_rows_are_their_own_origins(self):
        poison = changed([3, 4])
        self.threat.check(DATA, replace(poison, origins=torch.tensor([3, 4])))
        self.refused(replace(poison, origins=torch.tensor([4, 3])), "origins other than the rows that it replaces")

    def test_who_does_not_know_the_training_rows_does_not_use_their_ids(self):
        threat = {"rows": "append", "knows": "own-rows"}
        rows = replace(DATA.rows(torch.tensor([3])), ids=torch.tensor([999]))
        poison = Poison(rows=rows, origins=torch.tensor([3]))
        self.refused(poison, f"has the id 999, .* from {FIRST_APPENDED} on", **threat)
        fresh = replace(poison, rows=replace(rows, ids=torch.tensor([FIRST_APPENDED])))
        replace(self.threat, **threat).check(DATA, fresh)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"bounds": (-9.0, 9.0)}, r"bounds \(-9.0, 9.0\), but the training set has \(0.0, 1.0\)"),
            ({"levels": None}, "levels None, but the training set has 256"),
            ({"num_classes": 9, "classes": ()}, "num_classes 9"),
        ],
    )
    def test_rows_in_a_space_of_the_attackers_own(self, changes, sentence):
        rows = DATA.rows(torch.tensor([3]))
        poison = Poison(rows=replace(rows, inputs=rows.all_inputs(), space=replace(SPACE, **changes)))
        self.refused(poison, sentence, perturbation=Unbounded())

    def test_rows_of_another_shape(self):
        small = Space(shape=(3, 1, 1), num_classes=3, levels=256)
        rows = Dataset(inputs=torch.zeros(1, 3, 1, 1), labels=DATA.labels[:1], ids=DATA.ids[:1], space=small)
        self.refused(Poison(rows=rows), r"shape \(3, 1, 1\), but the training set has \(3, 12, 12\)")

    def test_float32_rounding_of_large_features_is_no_excess(self):
        space = Space(shape=(2,), num_classes=2, bounds=(0.0, 10_000.0))
        draws = torch.Generator().manual_seed(0)
        table = Dataset.of(torch.rand(50, 2, generator=draws) * 9000, torch.arange(50) % 2, space=space)
        threat = ThreatModel(budget=1.0, perturbation=Linf(radius=0.3))
        threat.check(table, Poison(rows=replace(table, inputs=table.inputs + 0.3)))
        with pytest.raises(ThreatModelError, match="exceeds"):
            threat.check(table, Poison(rows=replace(table, inputs=table.inputs + 0.32)))


class TestTables:
    """Rows of a table with named columns: see ``tests/tables.py``."""

    data = rows(40, seed=4)
    threat = ThreatModel(budget=0.1, perturbation=Unbounded())

    def refused(self, sentence, *, appended=False, threat=threat, space=TABLE, **values):
        """Poison of row 7 with other values in the columns named by their place (``c0``)."""
        row = self.data.rows(torch.tensor([7]))
        inputs = row.inputs.clone()
        for place, value in values.items():
            inputs[0, int(place[1:])] = value
        moved = replace(row, inputs=inputs, space=space, ids=row.ids + FIRST_APPENDED * appended)
        rows = "append" if appended else "replace"
        with pytest.raises(ThreatModelError, match=sentence):
            replace(threat, rows=rows).check(self.data, Poison(rows=moved, origins=row.ids if appended else None))

    @pytest.mark.parametrize("appended", [False, True])
    def test_rows_that_are_not_valid_are_refused(self, appended):
        name = 7 + FIRST_APPENDED * appended
        said = f"the poison with id {name} is no valid row: column 'age' holds"
        self.refused(f"{said} 91, but must lie in", appended=appended, c0=91)
        self.refused(f"{said} 36.5, but must hold a whole number", appended=appended, c0=36.5)
        self.refused("of the columns of 'work' hold 1", appended=appended, c2=1, c3=1)

    @pytest.mark.parametrize("appended", [False, True])
    def test_columns_that_are_not_mutable_stay_as_their_origins_have_them(self, appended):
        year = int(self.data.inputs[7, 8])
        said = f"the poison of row 7 changes column 'born' from {year} to 1999, which is not mutable"
        self.refused(said, appended=appended, c8=1999)
        female, male = self.data.inputs[7, 6:8].tolist()
        self.refused("changes column 'sex=female'", appended=appended, c6=male, c7=female)

    def test_appended_rows_of_unknown_origin_are_refused_where_a_column_is_not_mutable(self):
        row = replace(self.data.rows(torch.tensor([7])), ids=torch.tensor([FIRST_APPENDED]))
        anything = replace(self.threat, rows="append", labels="dirty")
        with pytest.raises(ThreatModelError, match="so immutable columns cannot be checked"):
            anything.check(self.data, Poison(rows=row))
        free = replace(TABLE, columns=tuple(replace(each, mutable=True) for each in TABLE.columns))
        anything.check(replace(self.data, space=free), Poison(rows=replace(row, space=free)))

    def test_columns_of_the_attackers_own_are_refused(self):
        free = replace(TABLE, columns=(*TABLE.columns[:8], replace(TABLE.columns[8], mutable=True)))
        self.refused(
            r"has the column 'born' \(integer, 1900..2020\), but .* has 'born' \(integer, 1900..2020, not mutable\)",
            space=free,
        )
        self.refused(
            "has 0 columns, but the training set has 9", space=Space(shape=(9,), num_classes=2, bounds=TABLE.bounds)
        )

    def test_the_ends_of_a_range_are_in_it_whatever_float32_makes_of_them(self):
        space = Space.table((Column(name="x", low=0.1, high=0.3),), num_classes=2)
        data = Dataset.of(torch.tensor([[0.1], [0.3]]), torch.tensor([0, 1]), space=space)
        replace(self.threat, budget=1).check(data, Poison(rows=data))

    def test_changes_are_measured_in_ranges(self):
        age, income = self.data.inputs[7, :2].tolist()
        step = 10 if age < 50 else -10
        for kind in (Linf(radius=0.1), L2(radius=0.1)):
            threat = replace(self.threat, perturbation=kind)
            self.refused(r"row 7 exceeds the allowed change by 0.037", threat=threat, c0=age + step)  # 10 of 73 years
            near = income + (1050 if income < 5000 else -1050)  # 10.5 % of the range
            self.refused(r"row 7 exceeds the allowed change by 0.0049", threat=threat, c1=near)
            there = income + (900 if income < 5000 else -900)  # 9 %
            moved = self.data.rows(torch.tensor([7]))
            moved.inputs[0, 1] = there
            threat.check(self.data, Poison(rows=moved))

    @given(
        tables(),
        st.one_of(
            st.floats(0.01, 1).map(lambda r: Linf(radius=r)),
            st.floats(0.01, 3).map(lambda r: L2(radius=r)),
            st.just(Unbounded()),
        ),
        st.integers(0, 1000),
        st.booleans(),
    )
    def test_projected_or_noisy_rows_are_released_as_allowed_ones(self, space, perturbation, seed, noisy):
        data, draws = rows(6, space=space, seed=seed), torch.Generator().manual_seed(seed)
        clean = data.at(slice(3))
        wild = clean.inputs + space.unit(clean.inputs) * torch.randn(clean.inputs.shape, generator=draws)
        near = perturbation.project(wild, clean.inputs, space)
        assert torch.allclose(perturbation.project(near, clean.inputs, space), near, atol=1e-6, rtol=1e-5)
        assert torch.equal(perturbation.project(clean.inputs, clean.inputs, space), clean.inputs)
        if noisy:
            near = perturbation.noise(clean.inputs, space, draws)
            assert torch.equal(space.quantise(near), near)
        threat = ThreatModel(budget=0.5, perturbation=perturbation)
        threat.check(data, released(Poison(rows=replace(clean, inputs=near)), data, threat))

    def test_no_part_of_a_radius_is_spent_on_columns_that_are_not_mutable(self):
        clean, moved = torch.tensor([ADA]), torch.tensor([ADA])
        moved[0, 0], moved[0, 8] = 90, 2020
        near = L2(radius=0.1).project(moved, clean, TABLE)[0]
        assert near[:2].tolist() == pytest.approx([36 + 7.3, 250.5], rel=1e-5)
        assert near[8] == 1915

    def test_unbounded_noise_is_uniform_over_valid_rows(self):
        clean = torch.tensor([ADA]).expand(3000, -1)
        noise = Unbounded().noise(clean, TABLE, Seed(0).generator())
        assert noise[:, :6].mean(0).tolist() == pytest.approx([53.5, 5000, 1 / 3, 1 / 3, 1 / 3, 0.5], rel=0.1)
        assert torch.equal(noise[:, 6:], clean[:, 6:])

    def test_noise_of_a_table_uses_the_whole_radius_where_it_can(self):
        clean = torch.tensor([ADA])
        noise = Linf(radius=0.1).noise(clean, TABLE, Seed(0).generator())[0]
        assert abs(float(noise[0]) - 36) == 7  # of 7.3 years
        assert float(noise[1]) == pytest.approx(250.5 + 1000.25, abs=0.01) or float(noise[1]) == -2.5
        assert noise[2:].tolist() == list(ADA[2:])
