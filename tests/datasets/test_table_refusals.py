"""Every fault of a user's table is told in a sentence with its place."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mithridate.datasets.table import Table
from mithridate.errors import AbsentError, ConfigError, DataError
from tests.datasets.tables import people, write_csv, write_parquet


def refusal(source):
    with pytest.raises(DataError) as caught:
        source.load()
    return str(caught.value)


def of_rows(path, rows, **settings):
    return refusal(Table(file=write_csv(path / "people.csv", rows), **{"target": "credit", **settings}))


def of_text(path, text, *, name="people.csv", **settings):
    file = path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return refusal(Table(file=file, **{"target": "credit", **settings}))


def but(row, strange, usual):
    """A column of numbers that holds something else in one row."""
    return lambda each: strange if each == row else usual(each)


def mixed(row):
    return row * 2 % 41


def classes(row):
    return "ab"[row % 2]


COLUMNS = {
    "string": (
        "age",
        but(4, "abc", mixed),
        r"row 6 \(the header is row 1\), column 'age': 'abc' is no number, unlike 98%",
    ),
    "infinite": ("height", but(4, "inf", lambda row: row / 7), r"row 6 .*column 'height': 'inf' is no finite"),
    "beyond": ("height", but(4, "1e300", lambda row: row / 7), r"row 6 .*'1e300' is no finite number of float32"),
    "comma": ("height", lambda row: f"1,{row:02d}", r"row 2 .*'1,00' has a decimal comma; set decimal to ','"),
    "dates": ("height", lambda row: f"2021-03-{row % 28 + 1:02d}", r"'2021-03-01' is a date.*add it to ignore"),
    "german dates": ("height", lambda row: f"{row % 28 + 1}.3.2021", r"'1.3.2021' is a date"),
    "names": ("city", lambda row: f"person {row}", r"'city' has 60 different values in 60 rows .*nearly every row"),
    "many": ("city", lambda row: f"city {row % 25}", r"'city' has 25 different values .*at most 20 may"),
    "row numbers": ("age", lambda row: row + 1, r"column 'age' numbers the rows.*add it to ignore"),
    "one class": ("credit", "good", r"the target 'credit' is 'good' in all 60 rows; two classes are needed"),
    "continuous": ("credit", lambda row: row / 7, r"'credit' looks continuous: 60 different numbers with decimals"),
    "rare": ("credit", but(3, "c", classes), r"the class 'c' of 'credit' has 1 row; at least 5"),
    "missing": (
        "age",
        lambda row: "" if row in (3, 8) else mixed(row),
        r"missing in 'age' \(2 of 60 rows\); the first in .*row 5 \(the header is row 1\).*which leaves 58 of 60",
    ),
    "missing label": ("credit", but(3, "NA", classes), r"values are missing in 'credit' \(1 of 60 rows\)"),
}


@pytest.mark.parametrize("fault", COLUMNS)
def test_a_column_at_fault_is_named_with_what_to_do(tmp_path, fault):
    column, values, expected = COLUMNS[fault]
    assert re.search(expected, of_rows(tmp_path, people(**{column: values}), categories=20))


def test_a_target_of_very_many_values_is_no_class(tmp_path):
    text = of_rows(tmp_path, people(300, credit=lambda row: row * 3 % 301))
    assert "has 300 different values in 300 rows, more than the 100 classes" in text


def test_all_columns_at_fault_are_told_at_once(tmp_path):
    text = of_rows(tmp_path, people(city=lambda row: f"person {row}", age=lambda row: "x" if row == 5 else row))
    assert len(text.splitlines()) == 2
    assert "column 'city'" in text
    assert "column 'age'" in text


TEXTS = {
    "empty": ("", r"people.csv is empty"),
    "blank": ("\n \n", r"people.csv is empty"),
    "header only": ("age,credit", r"has a header, but no rows below it"),
    "one column": ("age;height\n1;2\n", r"has one column only, 'age;height'.*set another separator than ','"),
    "no header": ("1,2,3\n" * 50, r"has no header: its first row holds only numbers \(1, 2, 3\)"),
    "values for a header": ("31,good\n" * 50, r"there is no column 'credit', but one called '31'; put the names"),
    "twice": ("age,credit,age\n1,a,2\n", r"columns 1 and 3 are both called 'age'"),
    "no name": ("age,,credit\n1,2,a\n", r"column 2 has no name"),
    "too short": ("age,city,credit\n1,x,a\n\n2,a\n", r"row 4 \(.*row 1\) has 2 values, but the header names 3 .*'2,a'"),
    "too long": ("\nage,credit\n1,a\n2,3,a\n", r"row 4 \(the header is row 2\) has 3 values, but the header names 2"),
    "open quote": ('age,credit\n1,a\n2,"b\n3,a\n4,b', r"row 3 .* opens a quotation mark that is never closed"),
    "open quote within": ('age,credit\n1,a\n"2,b\n3,a\n', r"row 3 .* has 1 value.*a quotation mark is not closed"),
    "latin": ("age,credit\n1,größe\n".encode("latin-1"), r"not UTF-8 text \(line 2 holds the byte 0xf6\)"),
    "wide characters": ("age,credit\n1,a\n".encode("utf-16"), r"not UTF-8 text"),
    "binary": (b"\x00\x01,\x00\n", r"no text: it holds zero bytes"),
    "parquet": (b"PAR1....", r"is a Parquet file; let its name end in .parquet"),
}


@pytest.mark.parametrize("fault", TEXTS)
def test_a_text_that_is_no_table_is_told_with_the_row(tmp_path, fault):
    text, expected = TEXTS[fault]
    settings = {"separator": "comma"} if fault == "one column" else {}
    assert re.search(expected, of_text(tmp_path, text, **settings))


def test_rows_are_counted_as_they_stand_in_the_file(tmp_path):
    rows = people(age=lambda row: "abc" if row == 50 else row * 2 % 41)
    file = write_csv(tmp_path / "people.csv", rows, head="\n", ending="\n \n\n")
    line = 1 + file.read_text().splitlines().index(next(t for t in file.read_text().splitlines() if "abc" in t))
    assert f"row {line} (the header is row 2), column 'age'" in refusal(Table(file=file, target="credit"))
    parquet = write_parquet(tmp_path / "people.parquet", [row | {"age": str(row["age"])} for row in rows])
    assert "row 51 (the first is row 1), column 'age'" in refusal(Table(file=parquet, target="credit"))


def test_ten_rows_are_too_few(tmp_path):
    assert "10 rows are too few; at least 40 are needed" in of_rows(tmp_path, people(10))
    half = people(60, age=lambda row: "" if row % 4 < 2 else row)
    assert "30 rows with a value in every column are too few" in of_rows(tmp_path, half, missing="drop")


def test_names_that_are_not_there_are_answered_with_the_nearest(tmp_path):
    assert "target: there is no column 'Credits'; did you mean 'credit'?" in of_rows(
        tmp_path, people(), target="Credits"
    )
    for setting, value in (("ignore", ("agee",)), ("immutable", ("agee",)), ("kinds", {"agee": "ignore"})):
        assert f"{setting}: there is no column 'agee'; did you mean 'age'?" in of_rows(
            tmp_path, people(), **{setting: value}
        )


def test_a_sentence_about_a_wide_table_stays_short(tmp_path):
    wide = people(**{f"column{k}": k for k in range(500)})
    assert len(of_rows(tmp_path, wide, target="nothing")) < 700


def test_files_that_cannot_be_tables(tmp_path):
    with pytest.raises(AbsentError, match="there is no file"):
        Table(file=tmp_path / "absent.csv", target="credit").load()
    assert "is a folder" in refusal(Table(file=tmp_path, target="credit"))
    assert "ends in '.xlsx'" in of_text(tmp_path, "a,b\n", name="people.xlsx")
    assert "cannot be read as Parquet" in of_text(tmp_path, "a,b\n", name="people.parquet")
    whole = write_parquet(tmp_path / "whole.parquet", people()).read_bytes()
    assert "cannot be read as Parquet" in of_text(tmp_path, whole[:400], name="cut.parquet")
    nested = tmp_path / "nested.parquet"
    pq.write_table(pa.table({"a": [[1]] * 50, "credit": [0, 1] * 25}), nested)
    assert "column 'a' holds list" in refusal(Table(file=nested, target="credit"))


def test_no_byte_of_a_damaged_file_makes_a_traceback(tmp_path):
    for write, name in ((write_csv, "people.csv"), (write_parquet, "people.parquet")):
        whole = bytearray(write(tmp_path / name, people(45)).read_bytes())
        for place in range(0, len(whole), max(len(whole) // 60, 1)):
            damaged = bytearray(whole)
            damaged[place] ^= 0xFF
            (tmp_path / name).write_bytes(damaged)
            try:
                Table(file=tmp_path / name, target="credit").load()
            except DataError as error:
                assert str(error)  # noqa: PT017


def test_files_that_do_not_go_together(tmp_path):
    train = write_csv(tmp_path / "train.csv", people())
    other = write_csv(tmp_path / "test.csv", [{"ages": 1, "credit": "good"}] * 5)
    assert "has no column 'age', which" in refusal(Table(file=train, target="credit", test=other))
    assert "is the training and the test file" in refusal(Table(file=train, target="credit", test=train))
    strange = write_csv(tmp_path / "strange.csv", people(credit="unknown"))
    text = refusal(Table(file=train, target="credit", test=strange))
    assert "train.csv: the class 'unknown' of 'credit' has 0 rows" in text
    typed = write_csv(tmp_path / "typed.csv", people(age=lambda row: "x" if row == 2 else row))
    assert "typed.csv, row 4 (the header is row 1), column 'age'" in refusal(
        Table(file=train, target="credit", test=typed)
    )


def test_a_table_without_anything_to_learn_from(tmp_path):
    rows = [{"a": 1, "b": "x", "credit": "ab"[k % 2]} for k in range(50)]
    assert "nothing to learn from" in of_rows(tmp_path, rows, kinds={"b": "ignore"})
    assert "no column left to learn from" in of_rows(tmp_path, rows, ignore=("a", "b"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("binary", "is not 0 or 1"), ("integer", "is not a whole number"), ("numeric", "'Rome' is no number")],
)
def test_values_that_their_kind_forbids(tmp_path, kind, expected):
    column = "city" if kind == "numeric" else "height"
    assert expected in of_rows(tmp_path, people(city="Rome"), kinds={column: kind})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kinds": {"age": "int"}}, "there is no kind 'int'.*did you mean 'integer'"),
        ({"ignore": ("credit",)}, "ignore names 'credit', which is the target"),
        ({"kinds": {"age": "ignore"}, "immutable": ("age",)}, "'age' is both ignored and immutable"),
        ({"separator": ",,"}, "separator must be auto"),
        ({"categories": 1}, "categories must be at least 2"),
        ({"held_out": 1.5}, "held_out"),
        ({"train_rows": 0}, "train_rows"),
    ],
)
def test_settings_that_contradict_each_other(settings, expected):
    with pytest.raises(ConfigError, match=expected):
        Table(file="people.csv", target="credit", **settings)
