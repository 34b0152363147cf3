"""Greedy medoids against the naive rule, brute force, and another library."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mithridate.errors import ConfigError, DataError
from mithridate.ops import facility, likeness, medoids
from mithridate.ops.likeness import KERNELS
from mithridate.ops.medoids import by_class, facility_location
from tests.ops.medoids_oracle import library_picks

COMPILED = medoids._compiled_greedy()
NUMBA = pytest.param("numba", marks=pytest.mark.skipif(COMPILED is None, reason="numba is not installed"))
ENGINES = ["torch", NUMBA]
FROZEN = json.loads(Path(__file__).with_name("medoids_oracle.json").read_text(encoding="utf-8"))


def selected(points, count, *, kernel="exp", scale=None, engine="torch", dense=True):
    """The medoids by one engine, with all similarities kept or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medoids, "_compiled_greedy", lambda: COMPILED if engine == "numba" else None)
        patch.setattr(medoids, "DENSE_BYTES", 10**9 if dense else 0)
        return facility_location(points, count, kernel=kernel, scale=scale)


def everything(found):
    return found.chosen.tolist(), found.assigned.tolist(), found.sizes.tolist()


def rounded_similarities(points, kernel, scale=None):
    """The matrix that the rule works on, in whole steps: what the greedy rule must be exact for."""
    columns = points.double().t().contiguous()
    columns = likeness.directions(columns) if kernel == "cosine" else columns
    law = likeness.law_of(columns, kernel, scale)
    return likeness.similarity(likeness.unlikeness(columns, columns, law), law).numpy().astype(np.int64)


def obvious_similarities(points, kernel, scale=None):
    x = points.double().numpy()
    distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    if kernel == "exp":
        return np.exp(-distance / (scale or x.shape[1]))
    if kernel == "linear":
        return 1 - distance / (np.sqrt((np.ptp(x, axis=0) ** 2).sum()) or 1)
    norms = np.sqrt((x**2).sum(1))
    x = x / np.where(norms > 0, norms, 1)[:, None]
    return x @ x.T


def naive(similar, count):
    """Picks, and by how much each beat the runner-up, by the rule written out in whole numbers."""
    best, picks, leads = np.zeros(len(similar), np.int64), [], []
    for _ in range(count):
        gains = np.maximum(similar - best, 0).sum(1)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        leads.append(int(np.diff(np.sort(gains)[-2:])[0]) if len(gains) > 1 else 1)
        best = np.maximum(best, similar[picks[-1]])
    return picks, leads


def scattered(n, width, *, seed, dtype=torch.float64):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outputs(n, *, seed=0):
    """Softmax outputs ``(n, 10)`` float32, some so confident that they are all but equal."""
    logits = scattered(n, 10, seed=seed)
    logits[:, 0] += torch.linspace(-1, 25, n)
    return logits.softmax(1).float()


@st.composite
def sets(draw):
    """Few points on a coarse grid, so with duplicates and ties, or anywhere; and how many medoids."""
    width = draw(st.integers(1, 3))
    number = draw(st.sampled_from([st.integers(-1, 2), st.floats(-3, 3, width=32)]))
    rows = draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=12))
    return torch.tensor(rows, dtype=torch.float64), draw(st.integers(1, len(rows)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=40)
@given(case=sets(), dense=st.booleans(), scale=st.sampled_from([None, 0.01, 1.0]))
def test_picks_are_those_of_the_naive_rule(engine, kernel, case, dense, scale):
    points, count = case
    found = selected(points, count, kernel=kernel, scale=scale, engine=engine, dense=dense)
    assert found.chosen.tolist() == naive(rounded_similarities(points, kernel, scale), count)[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_picks_are_those_of_the_naive_rule_on_hundreds_of_saturated_outputs(engine, kernel, dense):
    points = outputs(700)  # more than one tile
    found = selected(points, 70, kernel=kernel, engine=engine, dense=dense)
    assert found.chosen.tolist() == naive(rounded_similarities(points, kernel), 70)[0]


@pytest.mark.parametrize("kernel", KERNELS)
@given(case=sets(), scale=st.sampled_from([None, 0.01, 1.0, 50.0]))
def test_similarities_are_the_formulas_to_a_billionth(kernel, case, scale):
    exact = np.maximum(obvious_similarities(case[0], kernel, scale), 0)
    tolerance = 1e-7 if kernel == "cosine" else 1.5e-9
    assert np.abs(rounded_similarities(case[0], kernel, scale) / 2**30 - exact).max() < tolerance


def test_similarities_tell_apart_what_a_matrix_product_in_float32_cannot():
    points = torch.tensor([[0.9, 0.1], [0.9 + 2e-5, 0.1 - 2e-5], [0.9 + 5e-5, 0.1 - 5e-5]], dtype=torch.float32)
    similar = rounded_similarities(points, "exp") / 2**30
    distance = -2 * np.log(similar)
    assert distance[0, 1] == pytest.approx(2e-5 * math.sqrt(2), rel=2e-3)
    assert distance[0, 2] == pytest.approx(5e-5 * math.sqrt(2), rel=2e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", ["exp", "linear"])
@given(case=sets())
def test_points_belong_to_their_nearest_medoid_the_first_picked_on_ties(engine, kernel, case):
    points, count = case
    found = selected(points, count, kernel=kernel, engine=engine)
    x = points.numpy()
    squares = sum((x[:, None, d] - x[None, found.chosen.numpy(), d]) ** 2 for d in range(x.shape[1]))
    nearest = squares.argmin(1)  # the first of the least
    assert found.assigned.tolist() == nearest.tolist()
    assert found.sizes.tolist() == np.maximum(np.bincount(nearest, minlength=count), 1).tolist()


@pytest.mark.parametrize("engine", ENGINES)
@given(case=sets())
def test_cosine_leaves_points_without_a_positive_similarity_to_nobody(engine, case):
    points, count = case
    found = selected(points, count, kernel="cosine", engine=engine)
    similar = obvious_similarities(points, "cosine")[:, found.chosen.numpy()]
    assume(not ((np.abs(similar) < 1e-6) & (np.abs(similar) > 1e-15)).any())
    for similarities, place in zip(similar, found.assigned.tolist(), strict=True):
        if similarities.max() < 1e-6:
            assert place == -1
        else:
            near = np.flatnonzero(similarities > similarities.max() - 1e-7)
            equal = similarities[near].min() > similarities.max() - 1e-15  # else rounded directions decide
            assert place in near[: 1 if equal else None]
    counted = np.bincount(found.assigned[found.assigned >= 0].numpy(), minlength=count)
    assert found.sizes.tolist() == np.maximum(counted, 1).tolist()


def test_cosine_by_hand():
    points = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [3.0, 3.0]])
    one = facility_location(points, 1, kernel="cosine")
    assert everything(one) == ([0], [0, 0, -1, -1, 0], [3])  # 2 + sqrt(1/2) = 2.71 against 1 + 2 sqrt(1/2) = 2.41


def test_equal_medoids_share_a_cluster_and_each_has_a_size():
    found = facility_location(torch.zeros(3, 2), 3)
    assert everything(found) == ([0, 1, 2], [0, 0, 0], [3, 1, 1])


def test_ties_go_to_the_lowest_position():
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert facility_location(points, 2, kernel="linear").chosen.tolist() == [1, 2]
    assert facility_location(points.flip(0), 2, kernel="linear").chosen.tolist() == [1, 2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_isolated_points_do_not_depend_on_the_order_of_the_points(engine, kernel):
    compared = 0
    for seed in range(6):
        points = 0.5 * scattered(40, 3, seed=seed) + torch.tensor([3.0, 0.0, 0.0])
        points[[5, 17, 30]] -= torch.tensor([[6.0, 0.0, 0.0], [3.0, 3.0, 0.0], [3.0, 0.0, 3.0]])  # far from all others
        if min(naive(rounded_similarities(points, kernel), 8)[1]) == 0:
            continue  # a tie, which the order decides
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        straight = selected(points, 8, kernel=kernel, engine=engine)
        mixed = selected(points[order], 8, kernel=kernel, engine=engine)
        assert order[mixed.chosen].tolist() == straight.chosen.tolist()
        alone = set(straight.chosen[straight.sizes == 1].tolist())
        assert set(order[mixed.chosen[mixed.sizes == 1]].tolist()) == alone
        compared += bool(alone)
    assert compared >= 3


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_engines_and_keeping_similarities_or_not_agree_to_the_last_point(kernel, dtype):
    points = torch.cat([outputs(500).to(dtype), scattered(300, 10, seed=3, dtype=dtype) / 5])
    reference = everything(selected(points, 120, kernel=kernel, dense=False))
    assert everything(selected(points, 120, kernel=kernel, dense=True)) == reference
    if COMPILED is None:
        pytest.skip("the other half needs numba")
    for dense in (True, False):
        assert everything(selected(points, 120, kernel=kernel, engine="numba", dense=dense)) == reference


@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_points_are_taken_at_their_value(kernel):
    points = outputs(200)
    assert everything(facility_location(points, 40, kernel=kernel)) == everything(
        facility_location(points.double(), 40, kernel=kernel)
    )


def test_the_scale_is_the_width_unless_given():
    points = scattered(60, 3, seed=1)
    assert everything(facility_location(points, 15)) == everything(facility_location(points, 15, scale=3.0))
    assert facility_location(points, 15).chosen.tolist() != facility_location(points, 15, scale=0.2).chosen.tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_never_stops_early_and_leaves_its_points_alone(engine):
    points = torch.cat([scattered(6, 2, seed=2), torch.zeros(6, 2)]).requires_grad_(True)
    before = points.detach().clone()
    found = selected(points, 12, engine=engine, scale=0.001)  # duplicates, and points that nothing is similar to
    assert sorted(found.chosen.tolist()) == list(range(12))
    assert bool((found.assigned >= 0).all())
    assert torch.equal(points, before)


def agrees_with_library(points, kernel, picks, gains):
    """The same picks, equal points being one, and the same gains, as far as the library's float32 tells."""
    found = selected(points, len(picks), kernel=kernel)
    first = (points[:, None] == points[None]).all(-1).int().argmax(1)  # of each point's duplicates
    assert first[found.chosen].tolist() == first[picks].tolist()
    best, mine = np.zeros(len(points)), []
    similar = obvious_similarities(points, kernel)
    for pick in found.chosen.tolist():
        mine.append(float(np.maximum(similar[pick] - best, 0).sum()))
        best = np.maximum(best, similar[pick])
    assert mine == pytest.approx(gains, abs=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_agrees_with_the_frozen_answers_of_another_library(kernel):
    answer = FROZEN["answers"][kernel]
    agrees_with_library(torch.tensor(FROZEN["points"], dtype=torch.float64), kernel, answer["picks"], answer["gains"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_agrees_with_another_library(kernel):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("submodlib", reason="submodlib-py is not installed; the frozen answers are compared")
        for seed in range(3):
            points = scattered(90, 4, seed=seed)
            agrees_with_library(points, kernel, *library_picks(points.numpy(), 12, kernel))


def peak_of(run):
    """Bytes that a call adds to this process at most."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = resident("VmRSS")
    except OSError:
        pytest.skip("peak memory can be measured on Linux only")
    run()
    return resident("VmHWM") - before


def resident(field):
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(field))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_is_bounded(engine):
    points = outputs(4000)  # all similarities: 64 MB as 32-bit numbers
    selected(points[:50], 2, engine=engine)
    assert peak_of(lambda: selected(points, 2, engine=engine, dense=False)) < 24e6
    assert peak_of(lambda: selected(points, 2, engine=engine, dense=True)) > 48e6  # the measurement would have seen it


def test_similarities_are_kept_up_to_the_stated_limit():
    assert medoids.dense(7071)
    assert not medoids.dense(7072)


@pytest.mark.parametrize("workers", [1, 3])
def test_classes_are_clustered_by_themselves(workers):
    points, labels = outputs(120), torch.arange(120) % 4
    found = by_class(points, labels, {3: 5, 0: 30, 1: 2}, workers=workers)
    assert list(found) == [0, 1, 3]
    for label, count in ((0, 30), (1, 2), (3, 5)):
        members, result = found[label]
        assert members.tolist() == list(range(label, 120, 4))
        assert everything(result) == everything(facility_location(points[members], count))


@pytest.mark.parametrize("kernel", KERNELS)
def test_classes_side_by_side_get_the_medoids_they_get_alone(kernel):
    """The batch that a CUDA device works on, with classes of unlike sizes and counts, one too large to be kept."""
    points = torch.cat([outputs(300), scattered(100, 10, seed=4).float() / 5])
    labels = torch.cat([torch.arange(300) % 5, torch.full((100,), 7)])
    counts = {0: 20, 1: 60, 2: 1, 4: 13, 7: 100}
    members = {label: (labels == label).nonzero()[:, 0] for label in counts}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medoids, "DENSE_BYTES", 4 * 60**2)
        patch.setattr(medoids, "TOGETHER_BYTES", 3 * 4 * 60**2)
        assert list(medoids._groups({label: len(own) for label, own in members.items()})) == [[7], [0, 1, 2], [4]]
        found = medoids._side_by_side(points, members, counts, kernel, None)
    for label, own in members.items():
        assert everything(found[label]) == everything(selected(points[own], counts[label], kernel=kernel))


@settings(max_examples=40)
@given(cases=st.lists(sets(), min_size=1, max_size=4), kernel=st.sampled_from(KERNELS))
def test_a_batch_of_any_sets_picks_as_the_naive_rule_in_each(cases, kernel):
    prepared = [medoids._prepared(points, count, kernel, None) for points, count in cases]
    columns, laws = zip(*prepared, strict=True)
    found = facility.kept_greedy(columns, [count for _, count in cases], laws)
    for (points, count), (chosen, _) in zip(cases, found, strict=True):
        assert chosen.tolist() == naive(rounded_similarities(points, kernel), count)[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_row_is_the_same_whether_few_or_many_of_it_are_near(kernel, monkeypatch):
    points = torch.cat([outputs(300), scattered(300, 10, seed=3).float() / 5])
    reference = everything(selected(points, 90, kernel=kernel))
    for many in (1, 10**9):  # never whole rows, always
        monkeypatch.setattr(facility, "MANY", many)
        assert everything(selected(points, 90, kernel=kernel, dense=False)) == reference


@pytest.mark.parametrize(
    ("points", "count", "settings", "error", "sentence"),
    [
        (torch.zeros(3, 2), 0, {}, ConfigError, "0 medoids cannot be picked from 3 points; allowed: 1 to 3"),
        (torch.zeros(3, 2), 4, {}, ConfigError, "4 medoids cannot be picked from 3 points"),
        (torch.zeros(3), 1, {}, DataError, r"shape \(n, D\), but are torch.float32 of shape \(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), 1, {}, DataError, "must be floats"),
        (torch.zeros(0, 2), 1, {}, DataError, "at least one point"),
        (torch.zeros(3, 0), 1, {}, DataError, "one coordinate"),
        (torch.tensor([[1.0], [math.nan]]), 1, {}, DataError, "finite"),
        (torch.tensor([[1.0], [math.inf]]), 1, {}, DataError, "finite"),
        (torch.tensor([[1e200]], dtype=torch.float64), 1, {}, DataError, "at most 1e"),
        (torch.zeros(3, 2), 1, {"kernel": "rbf"}, ConfigError, "unknown kernel 'rbf'; allowed: exp, linear, cosine"),
        (torch.zeros(3, 2), 1, {"scale": 0.0}, ConfigError, "scale must be positive"),
        (torch.zeros(3, 2), 1, {"scale": math.nan}, ConfigError, "scale must be positive"),
    ],
)
def test_bad_input_is_a_sentence(points, count, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        facility_location(points, count, **settings)


def test_bad_classes_are_a_sentence_naming_the_class():
    points, labels = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ConfigError, match="class 1: 3 medoids cannot be picked from 2 points"):
        by_class(points, labels, {0: 1, 1: 3})
    with pytest.raises(DataError, match="class 7: there must be at least one point"):
        by_class(points, labels, {7: 1})
    with pytest.raises(DataError, match="one label a point"):
        by_class(points, labels[:3], {0: 1})
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        by_class(points, labels, {0: 1}, workers=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_classes_on_cuda_are_those_of_a_cpu():
    points, labels, counts = outputs(900), torch.arange(900) % 3, {0: 30, 1: 100, 2: 7}
    found, wanted = by_class(points.cuda(), labels.cuda(), counts), by_class(points, labels, counts)
    assert {label: everything(each) for label, (_, each) in found.items()} == {
        label: everything(each) for label, (_, each) in wanted.items()
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_cuda_equals_cpu(kernel, dense):
    points = outputs(900)
    found = selected(points.cuda(), 90, kernel=kernel, dense=dense)
    assert found.chosen.device.type == found.assigned.device.type == found.sizes.device.type == "cuda"
    assert everything(found) == everything(selected(points, 90, kernel=kernel, dense=dense))
