"""A damaged run folder as its owner meets it: a sentence, nothing lost or done again in silence, a way to mend it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mithridate.store import Store
from tests.cli.calls import Caller, Said, written
from tests.cli.conftest import call  # noqa: F401 (a fixture)
from tests.lives import rows, wrongs
from tests.runs import carried_out, tiny

FORMAT_1 = Path(__file__).with_name("format1.tar.xz")
"""A run of the tiny experiment, one trial and one victim, made by the last release of format 1."""
DEFENDED: dict[str, Any] = {"defenses": ["none", "oracle-filter"], "trials": 1, "runs": 1}

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with poison sets and pictures of what was dropped. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert not [each.error for each in carried_out(tiny(**DEFENDED), folder) if each.error]
    return folder


class Mended:
    """A copy of the run, with what a person does to it."""

    def __init__(self, call: Caller, whole: Path, folder: Path) -> None:  # noqa: F811
        self._call, self.folder = call, Path(shutil.copytree(whole, folder / "run"))
        self._file = written(folder, **DEFENDED)
        with Store(self.folder) as store:  # merges the log, so that all is in one file
            assert store.rows()

    def run(self) -> Said:
        """``mithridate run`` again."""
        return self._call("run", self._file, "--out", self.folder, "--workers", "1")

    def repair(self) -> Said:
        """``mithridate repair``."""
        return self._call("repair", self.folder)

    def command(self, *words: str) -> Said:
        """Another command on the folder."""
        return self._call(words[0], self.folder, *words[1:])


@pytest.fixture
def mended(call: Caller, whole: Path, tmp_path: Path) -> Mended:  # noqa: F811
    return Mended(call, whole, tmp_path)


def cut(path: Path) -> None:
    """Lose the last third, at no page's edge."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3 + 77])


def scrambled(path: Path) -> None:
    """Have the details of rows, in the middle, overwritten."""
    with closing(sqlite3.connect(path)) as base:
        (page,) = base.execute("SELECT rootpage FROM sqlite_master WHERE name = 'details'").fetchone()
        (size,) = base.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = bytes(range(256)) * (size // 256)
    path.write_bytes(content)


def headless(path: Path) -> None:
    """Lose the first page."""
    path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])


def emptied(path: Path) -> None:
    """Lose everything."""
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, scrambled, headless])
def test_a_damaged_store_is_refused_and_mended(damage: Callable[[Path], None], mended: Mended, whole: Path) -> None:
    store = mended.folder / "store.sqlite"
    damage(store)
    for said in (mended.run(), mended.command("report")):
        assert said.code == 1, said.out
        assert "is damaged" in said.err
        assert f"mithridate repair {mended.folder}" in said.err
    damaged = store.read_bytes()
    said = mended.repair()
    assert said.code == 0, said.err
    assert (mended.folder / "store.sqlite.damaged").read_bytes() == damaged
    assert mended.command("repair", "--dry-run").code == 0
    again = mended.run()
    assert again.code == 0, again.out + again.err
    assert rows(mended.folder) == rows(whole)


def test_an_empty_store_is_no_run_and_mended(mended: Mended, whole: Path) -> None:
    """Where the file was lost and made anew, all is done again: nothing of it was kept."""
    emptied(mended.folder / "store.sqlite")
    said = mended.command("status")
    assert (said.code, "is empty" in said.err) == (1, True)
    assert mended.repair().code == 0
    assert mended.run().code == 0
    assert rows(mended.folder) == rows(whole)


def poison(folder: Path) -> Path:
    return next(folder.glob("poisons/*/poison.safetensors"))


def pictures(folder: Path) -> Path:
    return next(folder.glob("dropped/*.npz"))


def missing(path: Path) -> None:
    """Removed."""
    path.unlink()


def changed(path: Path) -> None:
    """One bit of it flipped."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("which", [poison, pictures])
@pytest.mark.parametrize("damage", [missing, changed])
def test_a_damaged_file_is_named_and_made_again(
    damage: Callable[[Path], None], which: Callable[[Path], Path], mended: Mended, whole: Path
) -> None:
    path = which(mended.folder)
    name, content = path.relative_to(mended.folder).as_posix(), path.read_bytes()
    before = rows(mended.folder)
    damage(path)
    said = mended.run()
    assert said.code == 1
    assert name in said.err
    assert f"mithridate repair {mended.folder}" in said.err
    assert rows(mended.folder) == before
    looked = mended.command("repair", "--dry-run")
    assert looked.code == 1
    assert name in looked.out
    assert path.exists() == (damage is changed), "--dry-run changes nothing"
    assert mended.repair().code == 0
    again = mended.run()
    assert again.code == 0, again.out + again.err
    assert path.read_bytes() == content, "made again, to the byte"
    assert rows(mended.folder) == rows(whole)
    assert wrongs(mended.folder, rows(whole)) == []


def test_a_folder_of_format_1_is_brought_up_to_date_with_all_its_rows(call: Caller, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "run"
    with tarfile.open(FORMAT_1) as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "store.sqlite")) as base:
        before = {key: json.loads(row) for key, row in base.execute("SELECT key, row FROM results")}
    old, path = (folder / "store.sqlite").read_bytes(), written(tmp_path, trials=1, runs=1)
    for words in (("run", path, "--out", folder), ("report", folder), ("status", folder)):
        said = call(*words)
        assert said.code == 1, said.out
        assert "has format 1, of an earlier release" in said.err
        assert f"mithridate repair {folder}" in said.err
    assert (folder / "store.sqlite").read_bytes() == old
    assert call("repair", folder).code == 0
    assert (folder / "store.sqlite.format1").read_bytes() == old
    said = call("run", path, "--out", folder, "--workers", "1")
    assert said.code == 0, said.out + said.err
    assert "5 jobs on cpu" in said.out
    assert "; 5 are done already" in said.out
    with Store(folder) as store:
        after = {row.pop("key"): row for row in store.rows(planned=True)}
    for row in after.values():
        row.pop("kind")
    assert after == before
