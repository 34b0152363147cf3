"""Repair: every row that can be read is kept, nothing wrong is kept as right, and what was done is said."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from mithridate import salvage
from mithridate.errors import StoreError
from mithridate.folder_lock import FolderLock
from mithridate.jobqueue import Entry
from mithridate.repair import repair
from mithridate.store import Artefact, Failure, Store

ROWS = 200
PAGE = 4096


def row(number: int) -> dict[str, Any]:
    return {"control": "attack", "success": number % 2, "curve": {"loss": [number / 7] * 90}, "odd": "ü\n" * 50}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of some fifty pages, its log merged."""
    folder = tmp_path_factory.mktemp("whole")
    with Store(folder, create=True) as store:
        store.describe(experiment={"name": "x"}, command="mithridate run x", plan="as filled")
        store.queue.fill(Entry(key=f"job{n}", kind="attack") for n in range(ROWS + 5))
        for n in range(ROWS):
            store.add_all([(f"job{n}", "victim", row(n))], job=f"job{n}")
    (folder / "experiment.json").write_text('{"name": "x"}')
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def root(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as base:
        found: int = base.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        return found


def scrambled(path: Path, start: int, size: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + size] = os.urandom(size)
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 + 100])


def head(path: Path) -> None:
    scrambled(path, 0, PAGE)


def middle(path: Path) -> None:
    scrambled(path, path.stat().st_size // 2 // PAGE * PAGE + 500, 3 * PAGE)


def root_of_results(path: Path) -> None:
    scrambled(path, (root(path, "results") - 1) * PAGE, PAGE)


def root_of_jobs(path: Path) -> None:
    scrambled(path, (root(path, "jobs") - 1) * PAGE, PAGE)


def one_bit(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        text = base.execute("SELECT row FROM details WHERE id = 7").fetchone()[0]
        base.execute("UPDATE details SET row = ? WHERE id = 7", (text.replace('"success": 0', '"success": 1'),))


def one_scalar(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE results SET success = 0.5 WHERE id = 7")


def lost_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DROP TABLE artefacts")


def lost_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DELETE FROM meta WHERE name = 'format'")


def random_bytes(path: Path) -> None:
    scrambled(path, 0, path.stat().st_size)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


class TestDamagedStore:
    @pytest.mark.parametrize(
        ("damage", "least"),
        [
            (cut_short, 80), (head, ROWS), (middle, 150), (root_of_results, ROWS), (root_of_jobs, ROWS),
            (one_bit, ROWS - 1), (one_scalar, ROWS), (lost_table, ROWS), (lost_format, ROWS),
            (random_bytes, 0), (nothing, 0),
        ],
    )  # fmt: skip
    def test_gives_back_every_readable_row_and_no_other(
        self, damage: Callable[[Path], None], least: int, folder: Path
    ) -> None:
        damage(folder / "store.sqlite")
        damaged = (folder / "store.sqlite").read_bytes()
        wrong = repair(folder, dry_run=True)
        assert wrong.faults
        assert not list(folder.glob("store.sqlite.*damaged*"))
        found = repair(folder)
        assert found.faults
        assert (folder / "store.sqlite.damaged").read_bytes() == damaged
        with Store(folder) as store:
            kept = {each["key"]: each for each in store.rows()}
            scalars = dict(store.scalars(["key", "success"]))
            states = {each.key: each.state for each in store.queue.entries()}
            assert store.meta()["experiment"] == {"name": "x"}
            assert "plan" not in store.meta(), "the queue is listed anew"
        assert len(kept) >= least
        assert all(each == {**row(int(key[3:])), "key": key, "kind": "victim"} for key, each in kept.items())
        assert scalars == {key: each["success"] for key, each in kept.items()}
        assert all((state == "done") == (key in kept) for key, state in states.items())
        assert f"Saved {len(kept)} row" in " ".join(found.said)
        assert repair(folder).faults == 0, "a second repair finds all well"

    def test_is_kept_apart_each_time(self, folder: Path) -> None:
        for _ in range(2):
            one_bit(folder / "store.sqlite")
            repair(folder)
            with Store(folder, create=True) as store:
                store.add_all([("job6", "victim", row(6))], job="job6")
                with closing(sqlite3.connect(store.path)) as base:
                    number = base.execute("SELECT id FROM results WHERE key = 'job6'").fetchone()[0]
                    base.executescript(f"UPDATE results SET id = 7 WHERE id = {number};")
                    base.executescript(f"UPDATE details SET id = 7 WHERE id = {number};")
        names = {each.name for each in folder.glob("store.sqlite.*")}
        assert {"store.sqlite.damaged", "store.sqlite.damaged-2"} <= names

    @pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
    @pytest.mark.parametrize("step", range(4))
    def test_survives_a_repair_that_is_killed_at_each_step(
        self, step: int, links: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_bit(folder / "store.sqlite")
        (folder / "poisons" / "p").mkdir(parents=True)

        def no_links(*_: object) -> None:
            raise OSError(95, "Operation not supported")

        if not links:
            monkeypatch.setattr(os, "link", no_links)
        calls = [0]

        def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*values: Any) -> Any:
                calls[0] += 1
                if calls[0] > step:
                    raise KeyboardInterrupt
                return real(*values)

            return call

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            for name in ("link", "replace", "rename"):
                patched.setattr(os, name, deadly(getattr(os, name)))
            patched.setattr(Path, "rename", deadly(Path.rename))
            repair(folder)
        assert calls[0], "the killing is felt"
        assert (folder / "store.sqlite").is_file(), "a run begun now would begin anew"
        assert (folder / "poisons" / "p").is_dir()
        repair(folder)
        with Store(folder) as store:
            assert len(store.rows()) == ROWS - 1
        assert len(list(folder.glob("store.sqlite.damaged*"))) == 1, "one database is kept once"

    def test_that_is_gone_is_not_begun_anew_but_put_back(self, folder: Path) -> None:
        """As a kill between two renames left it in earlier releases."""
        (folder / "store.sqlite").rename(folder / "store.sqlite.damaged")
        with pytest.raises(StoreError, match=rf"store.sqlite.damaged.* mithridate repair {folder}"):
            Store(folder, create=True)
        assert not (folder / "store.sqlite").exists()
        repair(folder)
        with Store(folder, create=True) as store:
            assert len(store.rows()) == ROWS

    @pytest.mark.parametrize("empty", [True, False])
    def test_that_is_gone_beside_poisons_is_not_begun_anew(self, empty: bool, tmp_path: Path) -> None:
        (tmp_path / "poisons" / "p").mkdir(parents=True)
        if empty:
            (tmp_path / "store.sqlite").touch()
        with pytest.raises(StoreError, match=rf"poisons.* mithridate repair {tmp_path}"):
            Store(tmp_path, create=True)
        assert not (tmp_path / "store.lock").exists()

    def test_that_lost_its_log_is_whole_but_older(self, folder: Path) -> None:
        with Store(folder, create=True) as store:
            store.add_all([("job200", "victim", row(200))], job="job200")
            shutil.copytree(folder, folder.parent / "killed")  # as a kill leaves it, the log unmerged
        killed = folder.parent / "killed"
        (killed / "store.sqlite-wal").unlink()
        (killed / "store.sqlite-shm").unlink()
        assert repair(killed).faults == 0
        with Store(killed) as store:
            assert len(store.rows()) == ROWS
            assert next(each.state for each in store.queue.entries() if each.key == "job200") == "waiting"

    def test_on_a_full_disk_is_left_as_it_is(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one_bit(folder / "store.sqlite")
        before = (folder / "store.sqlite").read_bytes()

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(salvage, "_write", full)
        with pytest.raises(StoreError, match="No space left on device"):
            repair(folder)
        monkeypatch.undo()
        assert (folder / "store.sqlite").read_bytes() == before
        assert not (folder / ".repair").exists()
        repair(folder)
        with Store(folder) as store:
            assert len(store.rows()) == ROWS - 1

    def test_where_the_disk_is_full_when_the_log_is_merged_nothing_changes(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one_bit(folder / "store.sqlite")
        before, salvaged = (folder / "store.sqlite").read_bytes(), salvage.salvage

        def unmerged(old: Path, new: Path) -> salvage.Saved:
            saved = salvaged(old, new)
            monkeypatch.setattr("mithridate.repair._keep_settings", lambda *_: None)
            new.with_name(f"{new.name}-wal").write_bytes(b"rows")  # which SQLite leaves where it cannot merge it
            return saved

        monkeypatch.setattr(salvage, "salvage", unmerged)
        with pytest.raises(StoreError, match="the disk is full"):
            repair(folder)
        monkeypatch.undo()
        assert (folder / "store.sqlite").read_bytes() == before
        repair(folder)
        with Store(folder) as store:
            assert len(store.rows()) == ROWS - 1

    def test_a_dry_repair_tells_of_jobs_that_lost_rows(self, folder: Path) -> None:
        with Store(folder, create=True) as store:
            store._base.execute("DELETE FROM details WHERE key = 'job3'")
            store._base.execute("DELETE FROM results WHERE key = 'job3'")
        for dry_run in (True, True, False):
            found = repair(folder, dry_run=dry_run)
            assert (found.faults, found.again) == (1, 1)
            assert "1 job lost rows" in found.said[0]
        assert repair(folder).faults == 0


class TestRefuses:
    def test_a_folder_without_a_run(self, tmp_path: Path) -> None:
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(StoreError, match="there is no run in"):
                repair(folder)
        assert list(tmp_path.iterdir()) == []

    def test_a_run_that_is_under_way(self, folder: Path) -> None:
        with Store(folder, create=True), pytest.raises(StoreError, match="is in use by another run"):
            repair(folder)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("UPDATE meta SET value = '99' WHERE name = 'format'", "this release reads"),
            ("DROP TABLE meta; ALTER TABLE results RENAME TO orders", "another program's"),
        ],
    )
    def test_what_is_not_ours_to_mend(self, change: str, words: str, folder: Path) -> None:
        with closing(sqlite3.connect(folder / "store.sqlite")) as base:
            base.executescript(change)
        before = (folder / "store.sqlite").read_bytes()
        with pytest.raises(StoreError, match=words):
            repair(folder)
        assert (folder / "store.sqlite").read_bytes() == before

    @pytest.mark.parametrize("dry_run", [True, False])
    @pytest.mark.parametrize("content", [b"notes of mine", b"", "table"])
    def test_a_folder_that_shows_no_sign_of_a_run(self, content: bytes | str, dry_run: bool, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with closing(sqlite3.connect(path)) as base:
                base.execute("CREATE TABLE orders (number)")
        before = path.read_bytes()
        with pytest.raises(StoreError, match=r"another program's|is not the database of a run"):
            repair(tmp_path, dry_run=dry_run)
        assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"store.sqlite": before}


class TestGone:
    def test_and_kept_by_an_earlier_repair_is_only_told_of_by_a_dry_one(self, folder: Path) -> None:
        (folder / "store.sqlite").rename(folder / "store.sqlite.damaged")
        assert "store.sqlite.damaged would be put in its place" in repair(folder, dry_run=True).said[0]
        assert not (folder / "store.sqlite").exists()
        repair(folder)
        with Store(folder) as store:
            assert len(store.rows()) == ROWS

    def test_beside_poisons_is_made_anew_and_leaves_the_poisons(self, tmp_path: Path) -> None:
        (tmp_path / "poisons" / "p").mkdir(parents=True)
        (tmp_path / "experiment.json").write_text('{"name": "x"}')
        assert "store.sqlite is gone" in repair(tmp_path, dry_run=True).said[0]
        assert not (tmp_path / "store.sqlite").exists()
        assert repair(tmp_path).faults == 1
        assert (tmp_path / "poisons" / "p").is_dir()
        with Store(tmp_path, create=True) as store:
            assert store.meta() == {"format": 2, "experiment": {"name": "x"}}
        assert repair(tmp_path).faults == 0


def old_run(folder: Path) -> Path:
    """A run folder as release 0.1 wrote it."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "store.sqlite")) as base:
        base.executescript(
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
            "CREATE TABLE results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, row TEXT NOT NULL, created TEXT NOT NULL);"
            "CREATE TABLE failures (key TEXT PRIMARY KEY, kind TEXT NOT NULL, message TEXT NOT NULL, "
            "trace TEXT NOT NULL, created TEXT NOT NULL);"
            "INSERT INTO meta VALUES ('format', '1'), ('keys', '[\"p\", \"v\", \"c-0\", \"c-1\"]'), "
            "('experiment', '{\"name\": \"x\"}');"
            "INSERT INTO failures VALUES ('f', 'attack', 'no luck', 'trace', '2026-01-01');"
        )
        rows = {
            "p": ("craft", {"folder": "poisons/p"}),
            "v": ("victim", {"control": "attack", "success": 1.0, "nan": float("nan")}),
            "c-0": ("victim", {"control": "clean", "success": 0.0}),
            "c-1": ("victim", {"control": "clean", "success": 0.0}),
            "left": ("victim", {"control": "attack", "success": 0.0}),
        }
        for key, (kind, each) in rows.items():
            base.execute("INSERT INTO results VALUES (?, ?, ?, '2026-01-02 03:04:05')", (key, kind, json.dumps(each)))
        base.commit()
    return folder


class TestOlderStore:
    def test_is_brought_up_to_date_with_a_copy_kept(self, tmp_path: Path) -> None:
        folder = old_run(tmp_path / "run")
        before = (folder / "store.sqlite").read_bytes()
        with pytest.raises(StoreError, match=rf"has format 1, .*mithridate repair {folder}"):
            Store(folder)
        assert repair(folder, dry_run=True).faults == 1
        assert (folder / "store.sqlite").read_bytes() == before
        repair(folder)
        assert (folder / "store.sqlite.format1").read_bytes() == before
        with Store(folder) as store:
            assert [each["key"] for each in store.rows()] == ["p", "v", "c-0", "c-1", "left"]
            assert [key for (key,) in store.scalars(["key"])] == ["p", "v", "c-0", "c-1"]
            assert store.meta() == {"format": 2, "experiment": {"name": "x"}}
            assert store.failures() == [Failure(key="f", kind="attack", message="no luck", trace="trace")]
            counts = store.progress().counts
        # the poison of this run is gone
        assert counts == {"craft": {"waiting": 1}, "attack": {"done": 1, "failed": 1}, "clean": {"done": 1}}


class TestFiles:
    @pytest.fixture
    def crafted(self, tmp_path: Path) -> Path:
        folder = tmp_path / "run"
        with Store(folder, create=True) as store:
            store.describe(plan="as filled")
            store.queue.fill([Entry(key="p", kind="craft"), Entry(key="v", kind="attack", job={"needs": ["p"]})])
            for path, job in (("poisons/p/manifest.json", "p"), ("poisons/p/poison.safetensors", "p")):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(b"content")
                store.add_all([(job, "craft", {})], artefacts=[made(folder, path, job)], job=job)
            (folder / "dropped").mkdir()
            (folder / "dropped" / "v.npz").write_bytes(b"picture")
            store.add_all([("v", "victim", {})], artefacts=[made(folder, "dropped/v.npz", "v")], job="v")
        return folder

    def test_that_are_whole_are_left_alone(self, crafted: Path) -> None:
        assert repair(crafted).said == []
        assert (crafted / "poisons" / "p" / "poison.safetensors").is_file()

    def test_that_changed_are_moved_away_and_made_again(self, crafted: Path) -> None:
        (crafted / "poisons" / "p" / "poison.safetensors").write_bytes(b"contenT")
        found = repair(crafted, dry_run=True)
        assert (found.faults, found.again) == (1, 1)
        assert (crafted / "poisons" / "p").is_dir()
        repair(crafted)
        assert (crafted / "damaged" / "poisons" / "p" / "poison.safetensors").read_bytes() == b"contenT"
        with Store(crafted) as store:
            assert {each.key: each.state for each in store.queue.entries()} == {"p": "waiting", "v": "done"}
            assert len(store.rows()) == 2, "the victim's row stays until the poison is known to differ"
            assert len(store.artefacts(["p"])) == 2, "what was recorded stays, to be held against what comes back"
        assert repair(crafted).faults == 0

    def test_that_are_missing_are_made_again(self, crafted: Path) -> None:
        (crafted / "dropped" / "v.npz").unlink()
        assert "dropped/v.npz is missing" in repair(crafted).said
        with Store(crafted) as store:
            assert {each.key: each.state for each in store.queue.entries()} == {"p": "done", "v": "waiting"}

    def test_that_no_row_depends_on_are_removed(self, crafted: Path) -> None:
        left = ["poisons/x/poison.safetensors", "poisons/.p.12ab/x", "dropped/y.npz", "notes/p/craft.part"]
        left += ["networks/n.safetensors.12.34.partial", ".summary.json.abc"]
        for each in left:
            (crafted / each).parent.mkdir(parents=True, exist_ok=True)
            (crafted / each).write_bytes(b"x")
        (crafted / "networks" / "n.safetensors").write_bytes(b"kept")
        found = repair(crafted, dry_run=True)
        assert (
            "1 left behind by killed jobs, on which no row depends, would be moved to damaged: poisons/x" in found.said
        )
        assert "5 left behind" in found.said[1]
        assert all((crafted / each).exists() for each in left)
        assert repair(crafted).faults == 0
        assert not [each for each in left if (crafted / each).exists()]
        assert (crafted / "networks" / "n.safetensors").is_file()
        assert (crafted / "damaged" / "poisons" / "x" / "poison.safetensors").is_file(), "it took long to craft"
        assert (crafted / "poisons" / "p" / "manifest.json").is_file()


def made(folder: Path, path: str, job: str) -> Artefact:
    from mithridate.artefacts import described

    return described(folder, path, job=job)


def test_the_lock_says_who_holds_the_folder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "store.lock"), FolderLock(tmp_path / "store.lock")
    first.take()
    with pytest.raises(StoreError, match=rf"in use by another run \(process {os.getpid()} on .*, since 20.* UTC: "):
        second.take()
    assert not second.held
    first.release()
    second.take()
    assert second.held
    second.release()
