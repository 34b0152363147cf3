"""Where a poison lies: a case in the plane, worked out by hand, seen by a network whose features are its inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims
from mithridate.model import Classifier
from mithridate.poison import Poison, Trigger
from mithridate.polytope_view import polytope_view

SPACE = Space(shape=(2,), num_classes=3, bounds=(-9.0, 9.0))
TARGET_CLASS, INTENDED = 2, 1
BASES = [(4.0, -1.0), (4.0, 1.0), (5.0, 0.0)]
MOVED = [(-2.0, 1.0), (2.0, 1.0), (0.0, 5.0)]
TARGET = (0.0, 3.0)  # a quarter of the first, a quarter of the second, half of the third
CLOUD = [(-4.0, -1.0), (-4.0, 1.0)]
OTHERS = [(4.0, -2.0), (4.0, 2.0)]


class Seeing(Classifier):
    """A network whose features are its inputs, or what ``body`` makes of them."""

    def __init__(self, body: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body or nn.Identity()
        self.last = nn.Linear(2, 3)

    def features(self, inputs):
        return self.body(inputs)

    def head(self, features):
        return self.last(features)

    def head_parameters(self):
        return list(self.last.parameters())


def rows(points, label, first_id):
    return Dataset.of(torch.tensor(points), torch.full((len(points),), label), space=SPACE, first_id=first_id)


def joined(*parts):
    return Dataset(
        inputs=torch.cat([each.inputs for each in parts]),
        labels=torch.cat([each.labels for each in parts]),
        ids=torch.cat([each.ids for each in parts]),
        space=SPACE,
    )


def case(*, target=TARGET, bases=BASES, moved=MOVED, cloud=CLOUD, others=OTHERS):
    """Data, poison and aims, with rows of a third class that are of no interest."""
    clean = rows(bases, INTENDED, 10)
    parts = [rows([(7.0, 7.0)], 0, 0), clean, *([rows(cloud, TARGET_CLASS, 100)] if cloud else [])]
    data = joined(*parts, *([rows(others, INTENDED, 500)] if others else []))
    aims = Aims(
        inputs=torch.tensor([target, (8.0, 8.0)]),
        labels=torch.tensor([TARGET_CLASS, 0]),
        wanted=torch.tensor([INTENDED, 0]),
    )
    return {"data": data, "poison": Poison(rows=replace(clean, inputs=torch.tensor(moved))), "aims": aims}


def seen(model=None, **changes):
    return polytope_view(model or Seeing(), **{**case(), **changes})


class TestNumbers:
    def test_of_a_target_inside_the_polytope(self):
        view = seen()
        assert view["coefficients"] == pytest.approx([0.25, 0.25, 0.5], abs=1e-3)
        assert view["hull"] == pytest.approx(0, abs=1e-3)
        assert view["mean"] == pytest.approx(2 / 9, abs=1e-4)  # the mean is (0, 7/3), two thirds below; over three
        assert view["each"] == pytest.approx([8**0.5 / 3, 8**0.5 / 3, 2 / 3], abs=1e-4)

    def test_of_the_untouched_rows(self):
        view = seen()
        assert view["clean_hull"] == pytest.approx(20**0.5 / 3, abs=1e-3)  # the corner (4, 1) is nearest
        assert view["clean_mean"] == pytest.approx(((13 / 3) ** 2 + 9) ** 0.5 / 3, abs=1e-4)
        assert "clean_each" not in view

    def test_of_a_target_outside(self):
        """Nearest is the middle of the edge between the first two."""
        view = seen(**case(target=(0.0, -1.0)))
        assert view["coefficients"] == pytest.approx([0.5, 0.5, 0.0], abs=1e-3)
        assert view["hull"] == pytest.approx(2.0, abs=1e-3)
        assert view["mean"] == pytest.approx(10 / 3, abs=1e-4)

    def test_of_a_single_poison_agree(self):
        view = seen(**case(bases=BASES[:1], moved=MOVED[:1]))
        assert view["coefficients"] == [1.0]
        assert view["hull"] == view["mean"] == view["each"][0] == pytest.approx(8**0.5 / 3, abs=1e-4)

    def test_are_plain(self):
        assert json.loads(json.dumps(seen(), allow_nan=False)) == seen()


def points(view, group):
    return [point for point, name in zip(view["points"], view["groups"], strict=True) if name == group]


def listed(expected):
    return [pytest.approx(list(each), abs=1e-4) for each in expected]


class TestPlane:
    def test_has_the_classes_across_and_the_poison_upwards(self):
        """The centres of the classes are (-4, 0) and (4, 0), and the poison is widest upwards: the plane itself."""
        view = seen()
        for group, expected in {
            "target class": CLOUD,
            "intended class": OTHERS,
            "base": BASES,
            "poison": MOVED,
            "target": [TARGET],
        }.items():
            assert points(view, group) == listed(expected), group
        assert len(view["points"]) == len(view["groups"]) == 11
        assert len(view["axes"]) == 2

    def test_turns_with_the_data(self):
        """All points a quarter turned, and moved: the same picture, but for where up is."""

        def turned(points):
            return [(1.0 - y, 1.0 + x) for x, y in points]

        given = case(
            target=turned([TARGET])[0],
            bases=turned(BASES),
            moved=turned(MOVED),
            cloud=turned(CLOUD),
            others=turned(OTHERS),
        )
        view = seen(**given)
        assert points(view, "target class") == listed([(x, -y) for x, y in CLOUD])
        assert points(view, "poison") == listed([(x, -y) for x, y in MOVED])
        assert points(view, "target") == listed([(TARGET[0], -TARGET[1])])

    def test_shows_eighty_rows_of_a_class(self):
        view = seen(**case(cloud=CLOUD * 60, others=OTHERS * 41))
        assert [len(points(view, name)) for name in ("target class", "intended class", "base")] == [80, 80, 3]

    @pytest.mark.parametrize("moved", [MOVED[:1], [(1.0, 0.0)]], ids=["anywhere", "on the axis"])
    def test_of_a_single_poison_is_a_plane_too(self, moved):
        view = seen(**case(bases=BASES[:1], moved=moved))
        shown = torch.tensor(view["points"])
        assert bool(torch.isfinite(shown).all())
        assert shown[:, 0].tolist() == pytest.approx([x for x, _ in [*CLOUD, *OTHERS, BASES[0], *moved, TARGET]])


@dataclass(frozen=True, kw_only=True)
class Upwards(Trigger):
    """Three units up."""

    name = "upwards"

    def apply(self, inputs):
        return inputs + torch.tensor([0.0, 3.0])


def test_a_target_is_seen_with_its_trigger():
    given = case(target=(0.0, 0.0))
    assert seen(**{**given, "aims": replace(given["aims"], trigger=Upwards())})["hull"] == pytest.approx(0, abs=1e-3)


def test_dropout_is_switched_off():
    model = Seeing(nn.Dropout(0.5)).train()
    assert seen(model) == seen()


@pytest.mark.parametrize(
    "changes",
    [
        {"aims": replace(case()["aims"], wanted=None)},
        {"aims": Aims(inputs=torch.zeros(0, 2), labels=torch.zeros(0).long(), wanted=torch.zeros(0).long())},
        case(cloud=[]),
        case(others=[]),
        {"model": Seeing(nn.Threshold(5.5, float("nan")))},
        {"model": Seeing(nn.Threshold(2.5, float("inf")))},
    ],
    ids=["nothing wanted", "no target", "no target class", "no intended class", "NaN", "infinite"],
)
def test_nothing_is_shown_where_there_is_nothing_to_see(changes):
    assert seen(**changes) is None


def test_data_and_poison_are_left_alone():
    given = case()
    before = given["data"].digest(), given["poison"].rows.digest()
    polytope_view(Seeing(), **given)
    assert (given["data"].digest(), given["poison"].rows.digest()) == before
