"""Promises of what a defense is credited with, and of the words for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.report.appraisal import headline, others, sentences
from mithridate.report.combinations import cells, chosen
from mithridate.report.comparison import Comparison, comparisons
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, experiment
from tests.report.fabricate_defenses import EPIC, NONE, Made, add_defended, controls, fabricate_defenses

JPEG = Made(name="jpeg", success=0.0)


def compared(folder: Path) -> Comparison:
    """The only ordinary defense of a run."""
    found = cells(read(folder))
    cell = chosen(found)
    assert cell is not None
    (only,) = comparisons(found, cell)
    return only


def by_hand(folder: Path, hits: dict[str, list[int]], *, drops: list[str] | None = None, **changes: Made) -> Path:
    """One network a trial: for every stack the trials in which it was hit, of eight. ``drops`` are asked for."""
    made = {each.name: each for each in (NONE, EPIC, JPEG, *controls(EPIC))} | changes
    with Store(folder, create=True) as store:
        asked = {} if drops is None else {"experiment": experiment(controls={"drops": drops})}
        store.describe(classes=list(CLASSES), **asked)
        for trial in range(8):
            add_craft(store, trial)
            for name, trials in hits.items():
                add_defended(store, "attack", trial, made[name], success=float(trial in trials))
            add_defended(store, "clean", trial, NONE)
    return folder


RANDOM, TOP_LOSS = (each.name for each in controls(EPIC))
ALL = list(range(8))


@pytest.mark.parametrize(
    ("hits", "worth", "said"),
    [
        pytest.param(
            {"none": ALL, "epic": [], RANDOM: ALL, TOP_LOSS: ALL}, "beyond", "clearly below both controls", id="beyond"
        ),
        pytest.param(
            {"none": ALL, "epic": [], RANDOM: ALL, TOP_LOSS: [0, 1]},
            "dropping",
            "not clearly below top-loss-drop, so what it does may be the dropping alone",
            id="no better than one control",
        ),
        pytest.param(
            {"none": ALL, "epic": [], RANDOM: [0], TOP_LOSS: [0, 1]},
            "dropping",
            "not clearly below random-drop and top-loss-drop",
            id="no better than either",
        ),
        pytest.param(
            {"none": ALL, "epic": [], RANDOM: ALL}, "uncontrolled", "top-loss-drop was not run", id="no control"
        ),
        pytest.param({"none": ALL, "epic": []}, "uncontrolled", "random-drop and top-loss-drop was", id="no controls"),
        pytest.param({"none": ALL, "epic": ALL[1:]}, "none", "not clearly lower than without", id="too little"),
        pytest.param({"none": [0], "epic": []}, "unlanded", "has not clearly landed", id="the attack did not land"),
        pytest.param({"none": [0], "epic": ALL}, "worse", "helps the poisoner", id="worse than nothing"),
        pytest.param({"epic": []}, "missing", "without a defense", id="nothing to compare with"),
        pytest.param({"none": ALL, "jpeg": []}, "lower", "clearly lower than without a defense", id="drops nothing"),
    ],
)
def test_credit_is_given_with_caution(tmp_path: Path, hits: dict[str, list[int]], worth: str, said: str):
    found = compared(by_hand(tmp_path, hits))
    assert found.worth == worth
    assert said in headline(found)
    assert found.good == (worth in ("beyond", "lower"))


def test_a_control_that_dropped_another_number_of_rows_proves_nothing(tmp_path: Path):
    random, _ = controls(EPIC)
    fewer = replace(random, rounds=((3, 300, 12),))  # 300 rows, not 360
    hits = {"none": ALL, "epic": [], RANDOM: ALL, TOP_LOSS: ALL}
    found = compared(by_hand(tmp_path, hits, **{RANDOM: fewer}))
    assert found.worth == "unequal"
    assert "but random-drop dropped another number of rows" in headline(found)
    assert "another number of rows" in others(found)[1]
    assert "another number of rows" not in others(found)[2]


def test_the_oracle_is_no_control_to_be_beaten(tmp_path: Path):
    oracle = Made(name="oracle-filter", success=0.0, rounds=((0, 160, 160),), control_of=("epic",), oracle=True)
    hits = {"none": ALL, "epic": [0], RANDOM: ALL, TOP_LOSS: ALL, "oracle-filter": []}
    found = compared(by_hand(tmp_path, hits, **{"oracle-filter": oracle}))
    assert [each.name for each in found.controls] == ["random-drop", "top-loss-drop"]
    assert found.worth == "beyond"


def test_compares_over_the_trials_that_both_have(tmp_path: Path):
    """Without defense, trials 0 to 3 are hit; a defense that was run on the others only is not compared with those."""
    by_hand(tmp_path, {"none": [0, 1, 2, 3]})
    with Store(tmp_path) as store:
        for trial in (3, 4, 5):
            add_defended(store, "attack", trial, JPEG, success=0.0)
    found = compared(tmp_path)
    assert found.undefended is not None
    assert found.undefended.difference.trials == 3
    assert found.undefended.difference.mean == pytest.approx(-1 / 3)
    assert found.undefended.estimate.mean == pytest.approx(1 / 3)


def test_the_price_is_taken_trial_by_trial(tmp_path: Path):
    """0.80 + t/100 without and 0.78 + t/100 with the defense: -2 points, and no spread at all."""
    with Store(tmp_path, create=True) as store:
        for trial in range(4):
            add_defended(store, "attack", trial, NONE, clean_accuracy=0.8 + trial / 100, seconds=20.0)
            add_defended(store, "attack", trial, JPEG, clean_accuracy=0.78 + trial / 100, seconds=30.0)
    found = compared(tmp_path)
    assert found.accuracy is not None
    assert (found.accuracy.mean, found.accuracy.low, found.accuracy.high) == pytest.approx((-0.02, -0.02, -0.02))
    price = "Its price: clean accuracy −2.0 points [−2.0 to −2.0] and 1.5 × the time of an undefended network."
    assert sentences(found)[-1].replace("\N{NO-BREAK SPACE}", " ") == price


def test_every_number_stands_with_its_interval(tmp_path: Path):
    hits = {"none": ALL, "epic": [], RANDOM: ALL, TOP_LOSS: ALL[1:]}
    found = compared(by_hand(tmp_path, hits))
    plain = [each.replace("\N{NO-BREAK SPACE}", " ") for each in (*sentences(found), *others(found))]
    # Wilson at 0 of 8: 0 to 32 %; -100 + sqrt(2) * 32.4 = -54; each of the 2^8 swaps is as likely, p = 1/256
    assert plain[0] == "Success 0 % [0–32 %]: clearly below both controls."
    assert plain[1] == "It dropped 360 rows (9.0 %) on average: 64 % of the poison and 6.7 % of the clean rows."
    assert plain[3] == "No defense: 100 % [68–100 %], difference −100 points [−100 to −54], p = 0.0039, 8 trials"
    assert plain[4].startswith("As many random rows dropped: 100 % [68–100 %], difference −100 points")
    assert plain[5].startswith("As many of the highest-loss rows dropped: 88 % [53–98 %], difference −88 points")


def test_old_runs_without_a_word_about_drops_are_compared_as_they_are(tmp_path: Path):
    """A release before the controls: ten trials of two, 75 % against 20 %."""
    found = compared(fabricate_defenses(tmp_path, [NONE, Made(name="old", success=0.1)], trials=10))
    assert not found.drops
    assert found.worth == "lower"


def test_the_oracle_filter_is_a_ceiling_and_no_control_to_be_beaten(tmp_path: Path):
    """As a campaign writes its rows: the oracle filter is no oracle by its flag, and drops another number of rows."""
    with Store(tmp_path, create=True) as store:
        for trial in range(8):
            for name, hit, dropped, control_of in (
                ("none", True, 0, None),
                ("epic", False, 40, None),
                ("random-drop (like epic)", True, 40, ["epic"]),
                ("top-loss-drop (like epic)", True, 40, ["epic"]),
                ("oracle-filter", False, 12, ["epic"]),
            ):
                more = {"dropped": dropped, "dropped_poison": 0, "poison_rows": 12, "training_rows": 240}
                add_victim(store, "attack", trial, hit=hit, defense=name, control_of=control_of, oracle=False, **more)
                if name == "none":
                    add_victim(store, "clean", trial, hit=False)
    found = cells(read(tmp_path))
    (epic,) = comparisons(found, found[0])
    assert epic.worth == "beyond"
    assert [each.name for each in epic.controls] == ["random-drop", "top-loss-drop"]


@pytest.mark.parametrize(
    ("drops", "hits", "worth", "said"),
    [
        pytest.param(["random-drop"], {RANDOM: ALL}, "beyond", "clearly below random-drop.", id="the one asked for"),
        pytest.param(["random-drop"], {RANDOM: [0]}, "dropping", "not clearly below random-drop, so", id="not beaten"),
        pytest.param(["random-drop"], {}, "uncontrolled", "but random-drop was not run", id="asked for and not run"),
        pytest.param([], {}, "uncontrolled", "but no control that drops as many rows was asked for", id="none asked"),
        pytest.param(["oracle-filter"], {}, "uncontrolled", "rows was asked for, so it may be", id="a ceiling alone"),
        pytest.param([], {RANDOM: ALL, TOP_LOSS: ALL}, "beyond", "clearly below both controls.", id="run all the same"),
    ],
)
def test_only_controls_that_were_asked_for_are_missed(
    tmp_path: Path, drops: list[str], hits: dict[str, list[int]], worth: str, said: str
):
    found = compared(by_hand(tmp_path, {"none": ALL, "epic": [], **hits}, drops=drops))
    assert found.worth == worth
    assert said in headline(found)


LOSS = replace(EPIC, name="loss-sanitisation (fraction=0.2)")
LIKE_LOSS = controls(LOSS)
BOTH = ["random-drop", "top-loss-drop"]


@pytest.mark.parametrize(
    ("drops", "random", "top", "worth", "said"),
    [
        pytest.param(
            BOTH,
            ALL,
            [],
            "beyond",
            "clearly below random-drop (top-loss-drop does nearly the same as this defense and need not be beaten).",
            id="a twin is no rival",
        ),
        pytest.param(BOTH, [0], [], "dropping", "not clearly below random-drop, so", id="random rows do it too"),
        pytest.param(BOTH, ALL, None, "beyond", "clearly below random-drop (", id="a twin is not missed"),
        pytest.param(
            BOTH[1:], None, [], "uncontrolled", "its only control, top-loss-drop, does nearly the same", id="alone"
        ),
    ],
)
def test_loss_sanitisation_need_not_beat_the_drop_of_the_highest_loss(
    tmp_path: Path, drops: list[str], random: list[int] | None, top: list[int] | None, worth: str, said: str
):
    rates = {LIKE_LOSS[0].name: random, LIKE_LOSS[1].name: top}
    hits = {"none": ALL, LOSS.name: [], **{name: each for name, each in rates.items() if each is not None}}
    made = {each.name: each for each in (LOSS, *LIKE_LOSS)}
    found = compared(by_hand(tmp_path, hits, drops=drops, **made))
    assert found.worth == worth
    assert said in headline(found)


IDLE = tuple(Made(name=f"idle-{k}", success=1.0) for k in range(5))


@pytest.mark.parametrize(("beside", "worth"), [(0, "lower"), (2, "lower"), (5, "none")])
def test_chances_are_adjusted_for_the_defenses_compared_beside(tmp_path: Path, beside: int, worth: str):
    """Six of eight trials no longer hit: p = 1/64 of itself, 3/64 among three defenses, and 6/64 among six."""
    idle = {each.name: ALL for each in IDLE[:beside]}
    by_hand(tmp_path, {"none": ALL, "jpeg": ALL[6:], **idle}, **{each.name: each for each in IDLE})
    found = cells(read(tmp_path))
    jpeg = next(each for each in comparisons(found, found[0]) if each.cell.defense == "jpeg")
    assert jpeg.undefended is not None
    assert jpeg.undefended.difference.chance == pytest.approx((1 + beside) / 64)
    assert jpeg.undefended.difference.family == 1 + beside
    assert jpeg.worth == worth
    said = f"p = {(1 + beside) / 64:.2g}" + (f" adjusted for {1 + beside} defenses" if beside else "")
    assert said in others(jpeg)[0].replace("\N{NO-BREAK SPACE}", " ")
    assert (f"(tests adjusted for {1 + beside} defenses)" in headline(jpeg)) == bool(beside)


def test_too_few_trials_for_so_many_defenses_are_called_so(tmp_path: Path):
    """Of 2^8 swaps the best has p = 1/256; among thirteen defenses that is 5.1 %."""
    idle = tuple(Made(name=f"idle-{k}", success=1.0) for k in range(12))
    hits = {"none": ALL, "jpeg": [], **{each.name: ALL for each in idle}}
    by_hand(tmp_path, hits, **{each.name: each for each in idle})
    found = cells(read(tmp_path))
    jpeg = next(each for each in comparisons(found, found[0]) if each.cell.defense == "jpeg")
    assert jpeg.worth == "none"
    assert "(tests adjusted for 13 defenses; over 8 trials none can be clear)" in headline(jpeg)


def test_a_claim_against_controls_is_adjusted_by_its_weakest_test(tmp_path: Path):
    """Epic beats both controls by p = 1/128; its twin of another name does too, so each claim doubles."""
    other = replace(EPIC, name="knn")
    named = {each.name: each for each in (EPIC, other, *controls(EPIC), *controls(other))}
    hits = {"none": ALL, "epic": [], "knn": [], RANDOM: ALL[1:], TOP_LOSS: ALL[1:]}
    hits |= {each.name: ALL[1:] for each in controls(other)}
    by_hand(tmp_path, hits, **named)
    found = cells(read(tmp_path))
    epic, knn = comparisons(found, found[0])
    for each in (epic, knn):
        assert each.worth == "beyond"
        assert [rival.difference.chance for rival in each.rivals] == pytest.approx([2 / 128] * 2)
        assert [rival.difference.family for rival in each.rivals] == [2, 2]


@pytest.mark.parametrize("made", ["epic", "jpeg"])
def test_nothing_is_credited_where_the_undefended_attack_has_not_landed(tmp_path: Path, made: str):
    """Two of eight hit, and none with the defense: no sentence praises it, whatever its difference."""
    hits = {"none": [0, 1], made: [], RANDOM: [0, 1], TOP_LOSS: [0, 1]} if made == "epic" else {"none": [0], made: []}
    found = compared(by_hand(tmp_path, hits))
    assert (found.worth, found.good, found.landed) == ("unlanded", False, False)
    told = " ".join([headline(found), *sentences(found)])
    assert "no credit, because without a defense the attack has not clearly landed" in told
    assert "clearly lower" not in told
    assert "clearly below" not in told
