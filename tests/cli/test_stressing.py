"""``mithridate stress``: from a CSV to a sentence and a report; every mistake is a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mithridate.cli import running
from mithridate.datasets.table import Table
from tests.cli.calls import Caller

HEAD = "size,kind,answer"


def csv(folder: Path, rows: int = 110, name: str = "shop.csv") -> Path:
    draws = np.random.default_rng(1)
    sizes, kinds = draws.integers(0, 50, rows), draws.integers(0, 3, rows)
    lines = [HEAD, *(f"{s},{'abc'[k]},{'yes' if s + 5 * k > 30 else 'no'}" for s, k in zip(sizes, kinds, strict=True))]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_says_what_the_poison_does_and_draws_a_report(call: Caller, tmp_path: Path) -> None:
    path = csv(tmp_path)
    before = path.read_bytes()
    said = call(
        *("stress", path, "--target", "answer", "--trials", "2", "--victim", "knn"),
        *("--budget", "10%", "--workers", "1", "--out", tmp_path / "run"),
    )
    assert said.code == 0, said.err
    assert "poison" in said.out
    assert "error" in said.out
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for word in ("back-gradient", "random-flips", "label-sanitisation", "slab", "kind", "size"):
        assert word in page
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (HEAD + "\n", (), "no row"),
        (f"{HEAD}\n" + "1,a,yes\n" * 10, (), "row"),
        (f"{HEAD}\n" + "1,a,yes\n2,b,yes\n" * 50, (), "class"),
        (f"{HEAD}\n" + "1,a,yes\n,b,no\n" * 50, (), "missing"),
        (f"{HEAD},size\n" + "1,a,yes,2\n2,b,no,3\n" * 50, (), "size"),
        (f"{HEAD}\n" + "1,a,yes\ntwo,b,no\n" * 50, ("--ignore", "nosuch"), "nosuch"),
    ],
    ids=["empty", "ten rows", "one class", "missing", "twice", "ignored column"],
)
def test_a_table_that_cannot_be_used_is_a_sentence(
    text: str, options: tuple[str, ...], sentence: str, call: Caller, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    said = call("stress", path, "--target", "answer", *options, "--out", tmp_path / "run")
    assert said.code == 1
    assert all(line.startswith("error: ") for line in said.err.splitlines())
    assert sentence in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target", "anser"), "answer"),
        (("--target", "answer", "--budget", "5"), "5 %"),
        (("--target", "answer", "--budget", "much"), "much"),
        (("--target", "answer", "--victim", "nosuch"), "nosuch"),
        (("--target", "answer", "--missing", "guess"), "guess"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_a_sentence(options: tuple[str, ...], sentence: str, call: Caller, tmp_path: Path) -> None:
    said = call("stress", csv(tmp_path), *options, "--out", tmp_path / "run")
    assert said.code == 1
    assert all(line.startswith("error: ") for line in said.err.splitlines())
    assert sentence in said.err


def test_a_file_that_is_not_there_is_a_sentence(call: Caller, tmp_path: Path) -> None:
    said = call("stress", tmp_path / "no.csv", "--target", "answer")
    assert said.code == 1
    assert "no.csv" in said.err


def test_a_victim_that_does_not_exist_is_one_sentence(call: Caller, tmp_path: Path) -> None:
    said = call("stress", csv(tmp_path), "--target", "answer", "--victim", "nosuch", "--out", tmp_path / "run")
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("error: victims[0]: there is no estimator 'nosuch'")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """The tables of stress tests that would be carried out, none of which is."""
    found: list[Table] = []
    monkeypatch.setattr(running, "carry_out", lambda experiment, **_: found.append(experiment.data))
    return found


def test_any_setting_of_the_table_can_be_given(call: Caller, tmp_path: Path, read: list[Table]) -> None:
    path = csv(tmp_path)
    signs = [("|", "separator=|"), (";", "separator=;"), (",", "separator=comma")]
    for sign, change in signs:
        path.write_text(csv(tmp_path).read_text().replace(",", sign))
        more = ("--set", change, "--set", "kinds.size=numeric", "--set", "classes=['yes', 'no']", "--set", "decimal=.")
        said = call("stress", path, "--target", "answer", "--category", "kind", *more)
        assert said.code == 0, said.err
        assert dict(read[-1].kinds) == {"kind": "category", "size": "numeric"}
        assert read[-1].classes == ("yes", "no")
    assert [each.separator for each in read] == ["|", ";", "comma"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("separator", "write it as  place=value"),
        ("seperator=;", "seperator: there is no such setting: did you mean 'separator'?"),
        ("kinds.size=whole", "kinds"),
        ("decimal=;", "decimal"),
    ],
)
def test_a_setting_of_the_table_that_is_wrong_is_a_sentence(
    change: str, sentence: str, call: Caller, tmp_path: Path
) -> None:
    said = call("stress", csv(tmp_path), "--target", "answer", "--set", change)
    assert said.code == 1
    assert sentence in said.err
