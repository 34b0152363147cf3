from __future__ import annotations

import numpy as np
import pytest
import torch

from mithridate.config import parse, write_yaml
from mithridate.datasets.table import Table
from mithridate.settings import fingerprint, plain
from tests.datasets.tables import people, told, write_csv, write_parquet


def loaded(path, rows, **settings):
    return Table(file=write_csv(path / "people.csv", rows), target="credit", **settings).load()


def columns(split):
    return {each.name: each for each in split.train.space.columns}


def test_holds_every_row_of_the_file_once_as_it_is_written(tmp_path):
    rows = people()
    found = loaded(tmp_path, rows)
    assert len(found.test) == 12
    held = told(found.train) | told(found.test)
    assert len(held) == len(found.train) + len(found.test) == 60
    for row, person in enumerate(rows):
        person["class"] = person.pop("credit")
        assert held[row] == person
    assert found.train.space.classes == ("bad", "good")


def test_a_column_is_what_its_values_tell(tmp_path):
    rows = people(
        paid=lambda row: row % 3 == 0,
        size=lambda row: f"{row % 4}.0",
        tiny=lambda row: f"{row % 7 + 1}e-9",
        huge=lambda row: 20_000_000 + row * row,
    )
    found = columns(loaded(tmp_path, rows))
    kinds = {name: each.kind for name, each in found.items()}
    assert kinds == {
        **{"age": "integer", "height": "real", "member": "binary"},
        **{f"city={name}": "one-hot" for name in ("Lima", "Oslo", "Rome")},
        **{"paid": "binary", "size": "integer", "tiny": "real", "huge": "real"},
    }
    ages = [row["age"] for row in rows]
    assert (found["age"].low, found["age"].high) == (min(ages), max(ages))
    assert (found["city=Oslo"].group, found["city=Oslo"].category) == ("city", "Oslo")


def test_parquet_holds_the_same_as_csv(tmp_path):
    rows = people(paid=lambda row: row % 3 == 0)
    text = loaded(tmp_path, rows)
    parquet = Table(file=write_parquet(tmp_path / "people.parquet", rows), target="credit").load()
    assert parquet.train.digest() == text.train.digest()
    assert parquet.test.digest() == text.test.digest()


@pytest.mark.parametrize(
    ("style", "settings"),
    [
        ({"separator": ";"}, {}),
        ({"separator": "\t"}, {}),
        ({"separator": "|"}, {}),
        ({"separator": "~"}, {"separator": "~"}),
        ({"ending": "\r\n"}, {}),
        ({"ending": "\r"}, {}),
        ({"encoding": "utf-8-sig"}, {}),
        ({"head": "\n\n"}, {}),
        ({"ending": "\n\n"}, {}),
        ({"ending": "\n,,,,\n  \n"}, {}),
    ],
)
def test_csv_may_be_written_in_many_ways(tmp_path, style, settings):
    rows = people(city=lambda row: ["Rome, Italy", 'the "Köln"\nof all'][row % 2])
    expected = loaded(tmp_path, rows)
    file = write_csv(tmp_path / "other.csv", rows, **style)
    found = Table(file=file, target="credit", **settings).load()
    assert found.train.digest() == expected.train.digest()
    assert found.test.digest() == expected.test.digest()


def test_decimal_commas_are_read_where_they_are_announced(tmp_path):
    rows = people()
    commas = [row | {"height": str(row["height"]).replace(".", ",")} for row in rows]
    file = write_csv(tmp_path / "commas.csv", commas, separator=";")
    found = Table(file=file, target="credit", decimal=",").load()
    assert found.train.digest() == loaded(tmp_path, rows).train.digest()


def test_the_index_of_a_data_frame_is_left_out(tmp_path):
    rows = people()
    indexed = [{"": (row * 7) % 60, **each} for row, each in enumerate(rows)]
    found = Table(file=write_csv(tmp_path / "indexed.csv", indexed), target="credit").load()
    assert found.train.digest() == loaded(tmp_path, rows).train.digest()
    named = [{**each, "__index_level_0__": (row * 7) % 60} for row, each in enumerate(rows)]
    found = Table(file=write_parquet(tmp_path / "indexed.parquet", named), target="credit").load()
    assert found.train.digest() == loaded(tmp_path, rows).train.digest()


def test_kinds_overrule_what_values_tell(tmp_path):
    kinds = {"age": "numeric", "member": "category", "height": "ignore"}
    found = columns(loaded(tmp_path, people(), kinds=kinds, immutable=("age", "city"), ignore=()))
    assert {name: each.kind for name, each in found.items() if "city" not in name} == {
        "age": "real",
        "member=0": "one-hot",
        "member=1": "one-hot",
    }
    assert {each.group or name for name, each in found.items() if not each.mutable} == {"age", "city"}


def test_a_test_file_is_the_test_set_and_widens_the_ranges(tmp_path):
    train, test = people(50), people(20, seed=1, age=lambda row: 200 + row, city=lambda row: "Cusco")
    file = write_csv(tmp_path / "test.csv", test)
    found = loaded(tmp_path, train, test=file)
    assert found.train.ids.tolist() == list(range(50))
    assert found.test.ids.tolist() == list(range(20))
    assert [each["age"] for each in told(found.test).values()] == [row["age"] for row in test]
    assert columns(found)["age"].high == 219
    assert "city=Cusco" in columns(found)


def test_networks_normalise_by_the_training_rows_alone(tmp_path):
    found = loaded(tmp_path, people(100, constant=3), train_rows=30)
    inputs = found.train.inputs.numpy().astype(np.float64)
    varies = inputs.min(0) < inputs.max(0)
    assert np.allclose(found.train.space.mean, inputs.mean(0), rtol=1e-7)
    assert np.allclose(np.array(found.train.space.std)[varies], inputs.std(0)[varies], rtol=1e-7)
    assert found.train.space.std[list(columns(found)).index("constant")] == 1


def test_a_column_that_never_varies_stays_and_cannot_be_changed(tmp_path):
    found = loaded(tmp_path, people(constant=3))
    place = list(columns(found)).index("constant")
    moved = found.train.all_inputs() + 5
    assert bool((found.train.space.clamp(moved)[:, place] == 3).all())


def test_rows_with_missing_values_are_dropped_if_that_is_asked_for(tmp_path):
    def age(row):
        return {3: "", 7: "NA", 9: " ", 11: "nan", 12: "NULL"}.get(row, row + row % 3)

    found = loaded(tmp_path, people(age=age, note=lambda row: None), missing="drop", ignore=("note",))
    held = told(found.train) | told(found.test)
    assert set(range(60)) - set(held) == {3, 7, 9, 11, 12}
    assert all(each["age"] == row + row % 3 for row, each in held.items())


def test_the_seed_decides_what_is_held_out_and_the_order(tmp_path):
    rows = people(credit=lambda row: "bad" if row < 30 else "good")
    found = loaded(tmp_path, rows)
    assert found.train.digest() == loaded(tmp_path, rows).train.digest()
    assert found.train.ids.tolist() != sorted(found.train.ids.tolist())
    assert found.test.ids.tolist() != loaded(tmp_path, rows, seed=1).test.ids.tolist()
    assert found.test.labels.bincount().tolist() == [6, 6]
    assert set(loaded(tmp_path, rows, train_rows=20).train.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (lambda row: row % 2 * 10 + 2, ("2", "12")),
        (lambda row: ("1.0", "0.0")[row % 2], ("0", "1")),
        (lambda row: ("1", "1.0", "2")[row % 3], ("1", "2")),
        (lambda row: row % 2 == 0, ("False", "True")),
        (lambda row: row % 3 / 2, ("0.0", "0.5", "1.0")),
        (lambda row: ("b", "a")[row % 2], ("a", "b")),
    ],
)
def test_classes_are_called_by_the_values_of_the_target(tmp_path, labels, names):
    found = loaded(tmp_path, people(credit=labels))
    assert found.train.space.classes == names
    for row, each in told(found.train).items():
        value = str(labels(row))
        assert each["class"] == value or float(each["class"]) == float(value)


def test_cuts_to_classes_in_their_order(tmp_path):
    rows = people(credit=lambda row: "abc"[row % 3])
    found = loaded(tmp_path, rows, classes=("c", "a"), train_rows=20, test_rows=5)
    assert (len(found.train), len(found.test), found.train.space.classes) == (20, 5, ("c", "a"))
    assert all(each["class"] == "abc"[row % 3] for row, each in told(found.train).items())


def test_survives_yaml_and_is_a_key():
    source = Table(file="a.csv", target="t", kinds={"age": "category"}, ignore=("id",), train_rows=5)
    assert parse(Table, plain(source)) == source
    assert "age: category" in write_yaml(source)
    assert fingerprint(source) != fingerprint(Table(file="a.csv", target="t", ignore=("id",), train_rows=5))
    assert hash(source) == hash(parse(Table, plain(source)))


def test_its_rows_are_valid_and_stay_so_when_stored(tmp_path):
    found = loaded(tmp_path, people())
    for part in (found.train, found.test):
        assert torch.equal(part.space.quantise(part.all_inputs()), part.all_inputs())
