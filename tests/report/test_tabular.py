"""Results for other programs: every number of the summary, and nothing that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mithridate.report import tables, tabular, typeset
from mithridate.report.load import read
from mithridate.store import COLUMNS, Store
from tests.report.fabricate import add_craft, add_victim
from tests.report.fabricate_defenses import EPIC, NONE, controls, fabricate_defenses
from tests.report.fabricate_degrade import fabricate_table

HOSTILE = '=HYPERLINK("x")|50% of a_b & {c}\\d^~<e>'
Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate_defenses(tmp_path_factory.mktemp("defended"), (NONE, EPIC, *controls(EPIC)))


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    found: Rows = tables.summary(read(folder))["rows"]
    return found


@pytest.fixture
def hostile(tmp_path: Path) -> Rows:
    """One row whose defense is named to break whatever it is put into."""
    with Store(tmp_path, create=True) as store:
        add_craft(store, 0)
        add_victim(store, "attack", 0, hit=True, defense=HOSTILE)
    found: Rows = tables.summary(read(tmp_path))["rows"]
    return found


def in_csv(rows: Rows) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tabular.as_csv(rows))))


def test_csv_has_a_line_for_each_combination_with_the_numbers_of_the_summary(rows: Rows) -> None:
    found = in_csv(rows)
    assert [line["defense"] for line in found] == [row["defense"] for row in rows]
    for line, row in zip(found, rows, strict=True):
        success = row["success"]
        assert isinstance(success, dict)
        assert [float(line[name]) for name in ("success", "success_low", "success_high")] == list(success.values())
        assert int(line["trials"]) == row["trials"]
    epic = next(line for line in found if line["defense"] == "epic")
    assert epic["worth"] == next(row for row in rows if row["defense"] == "epic")["comparison"]["worth"]  # type: ignore[index]


def test_csv_neutralises_formulas_and_leaves_negative_numbers(hostile: Rows) -> None:
    (line,) = in_csv(hostile)
    assert line["defense"] == f"'{HOSTILE}"
    assert [tabular.harmless(value) for value in ("+1", "-x", "@a", "\tb", -1.5, "a=b")] == [
        "'+1", "'-x", "'@a", "'\tb", -1.5, "a=b",
    ]  # fmt: skip


def test_parquet_has_the_columns_of_csv_as_numbers(rows: Rows, tmp_path: Path) -> None:
    tabular.write_parquet(tmp_path / "table.parquet", rows)
    found = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert found == [tabular.flat(row) for row in rows]
    assert list(found[0]) == list(in_csv(rows)[0])


def test_parquet_of_no_results_has_its_columns(tmp_path: Path) -> None:
    tabular.write_parquet(tmp_path / "table.parquet", [])
    found = pq.read_table(tmp_path / "table.parquet")
    assert (found.num_rows, found.column_names) == (0, list(tabular.flat({})))


def test_raw_rows_are_the_scalars_of_the_store_in_lots(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "_LOT", 7)
    with Store(folder) as store:
        tabular.write_raw_parquet(tmp_path / "rows.parquet", tabular.raw(store))
        kept = store.rows()
    found = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["key"] for row in found] == [row["key"] for row in kept]
    for line, row in zip(found, kept, strict=True):
        assert {name: line[name] for name in COLUMNS} == {name: row.get(name) for name in COLUMNS}


def test_markdown_is_aligned_and_every_line_has_as_many_cells(rows: Rows) -> None:
    lines = typeset.as_markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(k for k, sign in enumerate(line) if sign == "|") for line in lines}) == 1
    assert any("beyond" in line for line in lines)


def test_markdown_escapes_what_it_would_read(hostile: Rows) -> None:
    line = typeset.as_markdown(hostile).splitlines()[2]
    assert r'=HYPERLINK("x")\|50% of a\_b & {c}\\d^~\<e>' in line


def test_latex_is_a_booktabs_table_with_as_many_cells_in_each_line(rows: Rows) -> None:
    text = typeset.as_latex(rows)
    assert all(text.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"))
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(rows)
    assert {line.replace(r"\&", "").count("&") for line in lines} == {len(columns) - 1}


def test_latex_escapes_all_that_is_special(hostile: Rows) -> None:
    expected = (
        r"=HYPERLINK(\textquotedbl{}x\textquotedbl{})\textbar{}50\% of a\_b \& \{c\}\textbackslash{}d"
        r"\textasciicircum{}\textasciitilde{}\textless{}e\textgreater{}"
    )
    assert expected in typeset.as_latex(hostile)


def test_attacks_that_degrade_are_told_with_their_rise(tmp_path: Path) -> None:
    rows = tables.summary(read(fabricate_table(tmp_path)))["rows"]
    assert "rise (points)" in typeset.as_markdown(rows).splitlines()[0]
    assert float(in_csv(rows)[0]["rise"]) == rows[0]["rise"]["mean"]


def test_what_is_known_of_no_row_has_no_column(hostile: Rows) -> None:
    heading = typeset.as_markdown(hostile).splitlines()[0]
    assert "noise" not in heading
    assert "published" not in heading
