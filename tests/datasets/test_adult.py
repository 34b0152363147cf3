from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from mithridate.config import parse
from mithridate.datasets.adult import Adult
from mithridate.errors import AbsentError, DataError
from mithridate.settings import plain
from tests.datasets.generated import shared_data
from tests.datasets.tables import told


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITHRIDATE_DATA", str(shared_data()))
        return Adult(immutable=("age", "race")).load()


@pytest.mark.parametrize("part", ["train", "test"])
def test_holds_the_official_rows_in_their_order(found, part):
    rows = pq.read_table(shared_data() / f"tabular/adult-{part}.parquet")
    data = getattr(found, part)
    assert data.ids.tolist() == list(range(len(rows)))
    some = data.at(slice(0, None, 97))
    for row, each in told(some).items():
        original = rows.slice(row, 1).to_pylist()[0]
        original["class"] = ("<=50K", ">50K")[original.pop("label")]
        assert each == original


def test_numbers_are_whole_and_categories_are_those_of_both_parts(found):
    columns = found.train.space.columns
    assert len(columns) == 108
    groups = {each.group for each in columns if each.kind == "one-hot"}
    assert len(groups) == 8
    assert [each.name for each in columns if each.kind == "integer"] == [
        *("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
    ]
    names = {each.name for each in columns}
    assert {"native-country=Holand-Netherlands", "workclass=?"} <= names  # the former is in no test row
    assert {each.group or each.name for each in columns if not each.mutable} == {"age", "race"}


def test_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.delenv("MITHRIDATE_DATA", raising=False)
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
    with pytest.raises(
        AbsentError, match=r"Adult was not found: there is no tabular/adult-train.parquet in .*MITHRIDATE_DATA"
    ):
        Adult().load()


def test_unknown_columns_and_yaml(monkeypatch):
    monkeypatch.setenv("MITHRIDATE_DATA", str(shared_data()))
    with pytest.raises(DataError, match="there is no column 'races'; did you mean 'race'"):
        Adult(immutable=("races",)).load()
    source = Adult(immutable=("sex",), train_rows=100)
    assert parse(Adult, plain(source)) == source
    assert len(source.load().train) == 100
