"""Published protocols: what was left of them is named, place by place, and what is free is not."""

from __future__ import annotations

from typing import Any

import pytest

from mithridate import config
from mithridate.errors import ConfigError, ProblemsError
from mithridate.experiment import Experiment
from mithridate.protocol import FIXED, Protocol, Published, changes
from tests.runs import TINY, begun, tiny

PUBLISHED = {"attack": "gradient-matching", "victim": 0, "rate": "45 %", "trials": 100, "source": "a table, 2021"}
PRESET = {**TINY, "name": "published", "protocol": {"name": "published", "version": 2}, "published": [PUBLISHED]}


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    """A preset that is a protocol, among the real ones."""
    real = config.load_preset
    monkeypatch.setattr(
        config, "load_preset", lambda name: config.write_yaml(PRESET) if name == "published" else real(name)
    )


def following(**settings: Any) -> Experiment:
    return config.parse(Experiment, {**PRESET, **settings})


class TestDeviations:
    def test_are_none_of_the_protocol_itself(self):
        assert following().deviations() == []

    def test_are_none_where_no_protocol_is_named(self):
        assert tiny(trials=1).deviations() == []

    def test_are_none_where_a_setting_is_written_otherwise_but_equal(self):
        assert following(threat={**TINY["threat"], "budget": 0.05, "labels": "clean"}).deviations() == []

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"data": {**TINY["data"], "train_rows": 60}}, ["data.train_rows: 120 -> 60"]),
            ({"data": {**TINY["data"], "classes": [0, 1, 3]}}, ["data.classes[2]: 2 -> 3"]),
            ({"threat": {**TINY["threat"], "budget": "6 %"}}, ["threat.budget: 0.05 -> 0.06"]),
            ({"vary": {"budget": [0.01]}}, ["vary.budget: None -> [0.01]"]),
            ({"victims": [{**TINY["victims"][0], "epochs": 3}]}, ["victims[0].epochs: 2 -> 3"]),
            ({"setups": "benchmark-scratch"}, ["setups:  -> benchmark-scratch"]),
            ({"training_rows": 30}, ["training_rows: 0 -> 30"]),
            ({"targets": "correct"}, ["targets: any -> correct"]),
            ({"trials": 1}, ["trials: 2 -> 1"]),
            ({"first_trial": 5}, ["first_trial: 0 -> 5"]),
            ({"protocol": {"name": "published", "version": 1}}, ["version: 2 -> 1"]),
            ({"trials": 3, "targets": "correct"}, ["targets: any -> correct", "trials: 2 -> 3"]),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_name_each_place_that_is_fixed(self, settings, expected):
        assert following(**settings).deviations() == expected

    def test_name_the_kind_where_it_is_another(self):
        threat = {**TINY["threat"], "perturbation": {"name": "l2", "radius": 2}}
        assert "threat.perturbation.name: linf -> l2" in following(threat=threat).deviations()
        assert "data.name: digits -> bundled" in following(data="bundled").deviations()

    def test_name_a_victim_that_was_added_or_taken_away(self):
        more = [TINY["victims"][0], {**TINY["victims"][0], "epochs": 3}]
        (sentence,) = following(victims=more).deviations()
        assert sentence.startswith("victims: [{'name': 'sgd'")
        assert len(sentence) < 120

    @pytest.mark.parametrize(
        "settings",
        [
            {"name": "mine", "about": "words", "notes": ["more words"]},
            {"attacks": [{"name": "gradient-matching", "steps": 9}, "bullseye-polytope"]},
            {"surrogates": [{"model": "linear"}], "ensemble": 3, "share_surrogates": False},
            {"defenses": ["none", "cutout"], "adaptive": True},
            {"controls": {"clean": 0, "noise": 0}},
            {"runs": 7},
            {"seed": 3},
            {"published": []},
        ],
        ids=lambda settings: next(iter(settings)),
    )
    def test_are_none_in_what_is_free(self, settings):
        assert following(**settings).deviations() == []

    def test_of_every_bundled_protocol_are_none(self):
        protocols = [each for each in config.presets().values() if "protocol" in each]
        for each in protocols:
            experiment = config.parse(Experiment, each)
            assert experiment.protocol is not None
            assert (experiment.protocol.name, experiment.deviations()) == (each["name"], [])

    def test_are_told_with_the_run(self, tmp_path):
        def notes(folder, **settings):
            with begun(following(**settings), tmp_path / folder) as store:
                return store.meta()["notes"]

        assert notes("whole") == [
            "Protocol: published, version 2, as published (data, threat, victims, set-ups and number of trials)."
        ]
        assert notes("less", trials=1) == [
            "Not the protocol published, version 2, whose numbers these do not compare with. Changed: trials: 2 -> 1."
        ]

    def test_of_an_unknown_protocol_are_refused_with_the_nearest_name(self):
        with pytest.raises(
            ConfigError, match=r"there is no preset 'benchmark-scrath'.*did you mean 'benchmark-scratch'"
        ):
            tiny(protocol={"name": "benchmark-scrath", "version": 1}).deviations()


class TestChanges:
    def test_look_at_what_is_fixed_alone(self):
        assert changes({"seed": 1, "trials": 3}, {"seed": 2, "trials": 3}) == []
        assert [each.partition(":")[0] for each in changes(dict.fromkeys(FIXED, 1), {})] == list(FIXED)

    def test_go_into_mappings_and_lists_of_one_length(self):
        ours, theirs = {"data": {"a": [1, {"b": 2}], "c": 3}}, {"data": {"a": [1, {"b": 5}], "d": 4}}
        assert changes(ours, theirs) == ["data.a[1].b: 5 -> 2", "data.d: 4 -> None", "data.c: None -> 3"]
        assert changes({"data": [1]}, {"data": [1, 2]}) == ["data: [1, 2] -> [1]"]
        assert changes({"data": {"a": 1}}, {"data": [1]}) == ["data: [1] -> {'a': 1}"]

    def test_shorten_what_is_long(self):
        assert changes({"data": "x" * 41}, {"data": "y" * 40}) == [f"data: {'y' * 40} -> {'x' * 37}..."]


class TestPublished:
    def test_rates_are_read_as_percentages(self):
        assert following().published == (
            Published(attack="gradient-matching", victim=0, rate=0.45, trials=100, source="a table, 2021"),
        )

    @pytest.mark.parametrize("rate", [-0.1, 1.01, 85])
    def test_rates_meant_in_percent_are_refused(self, rate):
        with pytest.raises(ConfigError, match=r"rate must lie in \[0, 1\] \(write 85 % or 0.85\), but it is"):
            Published(attack="a", victim=0, rate=rate, trials=1, source="s")

    def test_of_a_victim_that_is_none_are_refused(self):
        with pytest.raises(ProblemsError, match=r"published names victim 1, but there are 1 \(from 0\)"):
            following(published=[{**PUBLISHED, "victim": 1}])

    def test_stand_beside_our_attacks_of_the_kind_under_the_names_that_tables_have(self):
        attacks = [{"name": "gradient-matching", "steps": steps} for steps in (1, 2)]
        victims = [{**TINY["victims"][0], "epochs": epochs} for epochs in (2, 3)]
        others = [{**PUBLISHED, "victim": 1, "rate": 0.25}, {**PUBLISHED, "attack": "convex-polytope"}]
        experiment = following(attacks=attacks, victims=victims, published=[PUBLISHED, *others])
        found = experiment.published_beside()
        assert [(each["attack"], each["victim"], each["rate"]) for each in found] == [
            ("gradient-matching (steps=1)", "mlp, 2 epochs", 0.45),
            ("gradient-matching (steps=2)", "mlp, 2 epochs", 0.45),
            ("gradient-matching (steps=1)", "mlp, 3 epochs", 0.25),
            ("gradient-matching (steps=2)", "mlp, 3 epochs", 0.25),
        ]
        assert {each["source"] for each in found} == {"a table, 2021"}


def test_a_protocol_needs_a_version():
    with pytest.raises(ProblemsError, match=r"protocol\.version: this setting is needed"):
        tiny(protocol={"name": "published"})
    assert tiny(protocol={"name": "published", "version": 2}).protocol == Protocol(name="published", version=2)
