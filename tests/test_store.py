"""The run folder: nothing that was finished is ever lost, and what cannot be used is refused in a sentence."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.jobqueue import Entry
from mithridate.overview import overview
from mithridate.store import FORMAT, Failure, Store, write_atomically

WRITER = """
import sys
from mithridate.store import Store
store = Store(sys.argv[1], create=True)
for k in range(10**6):
    store.add_all([(f"{k}-a", "victim", {"k": k, "pad": "x" * 3000}), (f"{k}-b", "victim", {"k": k})])
    print(k, flush=True)
"""
LIMITED = """
import resource, sys
from mithridate.errors import StoreError
from mithridate.store import Store, write_atomically
from pathlib import Path
store = Store(sys.argv[1], create=True)
store.add("first", "craft", {"kept": True})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for write in (
    lambda: [store.add(str(k), "victim", {"pad": "x" * 50_000}) for k in range(100)],
    lambda: store.add("big", "victim", {"pad": "x" * 300_000}),
    lambda: write_atomically(Path(sys.argv[1]) / "summary.json", "x" * 300_000),
):
    try:
        write()
        print("no error")
    except StoreError as error:
        print(error)
"""


def filled(folder: Path) -> Path:
    with Store(folder, create=True) as store:
        store.describe(experiment={"name": "x"}, notes=["a"])
        store.add("one", "craft", {"rows": 3})
        store.add("two", "victim", {"success": 1.0})
    return folder / "store.sqlite"


class TestRows:
    def test_come_back_in_order_with_key_and_kind(self, tmp_path: Path) -> None:
        filled(tmp_path)
        with Store(tmp_path) as store:
            assert store.keys() == {"one", "two"}
            assert store.rows() == [
                {"rows": 3, "key": "one", "kind": "craft"},
                {"success": 1.0, "key": "two", "kind": "victim"},
            ]
            assert store.rows("victim") == [{"success": 1.0, "key": "two", "kind": "victim"}]
            assert store.meta() == {"format": FORMAT, "experiment": {"name": "x"}, "notes": ["a"]}

    def test_of_one_result_are_written_together_or_not_at_all(self, tmp_path: Path) -> None:
        with Store(tmp_path, create=True) as store:
            with pytest.raises(TypeError):
                store.add_all([("good", "victim", {"a": 1}), ("bad", "victim", {"a": object()})])
            assert store.keys() == set()
            store.add("next", "victim", {"a": 1})  # the store goes on
            assert store.keys() == {"next"}

    def test_are_there_for_a_reader_while_the_writer_is_at_work(self, tmp_path: Path) -> None:
        with Store(tmp_path, create=True) as writer:
            writer.add("one", "victim", {})
            with Store(tmp_path) as reader:
                assert reader.keys() == {"one"}
                writer.add("two", "victim", {})
                assert reader.keys() == {"one", "two"}

    def test_may_hold_any_text_and_number(self, tmp_path: Path) -> None:
        row = {"text": "'; DROP TABLE results; --\0\n\U0001f600", "inf": float("inf"), "nested": {"a": [1, None, True]}}
        with Store(tmp_path, create=True) as store:
            store.add("'key\"", "kind'", row)
            assert store.rows("kind'") == [{**row, "key": "'key\"", "kind": "kind'"}]


class TestFailures:
    def test_stay_until_the_job_succeeds(self, tmp_path: Path) -> None:
        failure = Failure(key="job", kind="clean", message="no", trace="where")
        with Store(tmp_path, create=True) as store:
            store.fail(failure)
            store.fail(failure)
            assert store.failures() == [failure]
            store.add("other", "victim", {})
            assert store.failures() == [failure]
            store.add("job-0", "victim", {})  # a clean victim leaves a row for each trial
            assert store.failures() == []

    def test_of_jobs_that_the_experiment_holds_no_more_are_not_told(self, tmp_path: Path) -> None:
        jobs = [Entry(key="kept", kind="attack"), Entry(key="left", kind="attack")]
        with Store(tmp_path, create=True) as store:
            store.queue.fill(jobs)
            for job in jobs:
                store.fail(Failure(key=job.key, kind="attack", message="no", trace=""))
            store.queue.fill(jobs[:1])
            assert [each.key for each in store.failures()] == ["kept"]
            assert sum(each.jobs for each in overview(tmp_path).failures) == 1
            store.queue.fill(jobs)
            assert len(store.failures()) == 2, "they come back with the jobs"


class TestKill:
    def test_at_any_moment_leaves_whole_results(self, tmp_path: Path) -> None:
        for delay in (0.0, 0.03):
            folder = tmp_path / str(delay)
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
            assert writer.stdout
            seen = [int(writer.stdout.readline()) for _ in range(20)]
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            seen += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
            writer.wait()
            writer.stdout.close()
            with Store(folder, create=True) as store:  # the dead one's lock is gone with it
                keys = store.keys()
                assert {f"{k}-{half}" for k in seen for half in "ab"} <= keys, "a finished result was lost"
                assert {key for key in keys if key.endswith("-a")} == {f"{key[:-1]}a" for key in keys}, "half a result"
                store.add("after", "victim", {})


class TestOtherRun:
    def test_in_the_same_folder_is_refused_while_the_first_lives(self, tmp_path: Path) -> None:
        code = f"from mithridate.store import Store; Store({str(tmp_path)!r}, create=True)"
        with Store(tmp_path, create=True) as store:
            with pytest.raises(StoreError, match="is in use by another run"):
                Store(tmp_path, create=True)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            assert "is in use by another run" in done.stderr
            store.add("one", "victim", {})
        with Store(tmp_path, create=True) as store:
            assert store.keys() == {"one"}

    def test_that_holds_the_database_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = filled(tmp_path)
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **{**more, "timeout": 0.05}))
        holder = connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with Store(tmp_path) as store, pytest.raises(StoreError, match="in use by another run"):
            store.add("three", "victim", {})
        holder.execute("ROLLBACK")
        holder.close()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_bytes(b"name: a YAML file\n" * 500)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE meta (customer TEXT)")
    other.commit()
    other.close()


def broken_row(path: Path) -> None:
    changed(path, "UPDATE details SET row = '{\"cut' WHERE id = 1")


def odd_row(path: Path) -> None:
    changed(path, "UPDATE details SET row = '[1, 2]' WHERE id = 1")


def later_format(path: Path) -> None:
    changed(path, "UPDATE meta SET value = '99' WHERE name = 'format'")


def lost_table(path: Path) -> None:
    changed(path, "DROP TABLE failures")


def changed(path: Path, statement: str) -> None:
    base = sqlite3.connect(path)
    base.execute(statement)
    base.commit()
    base.close()


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "sentence"),
        [
            (truncated, "is damaged"),
            (overwritten, "is damaged"),
            (no_database, "is damaged (file is not a database)"),
            (empty, "is empty: no run was begun there"),
            (foreign, "is another program's database"),
            (lost_table, "is damaged (it lacks: failures)"),
            (broken_row, "holds a damaged row"),
            (odd_row, "holds a damaged row"),
            (later_format, f"has format 99, but this release reads format {FORMAT}"),
        ],
    )
    def test_is_a_sentence_when_reading(self, damage: Callable[[Path], None], sentence: str, tmp_path: Path) -> None:
        path = filled(tmp_path)
        damage(path)
        with pytest.raises(StoreError) as caught, Store(tmp_path) as store:
            store.rows()
        assert sentence in str(caught.value)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("damage", [truncated, overwritten, no_database, foreign, later_format])
    def test_is_not_written_over_by_a_new_run(self, damage: Callable[[Path], None], tmp_path: Path) -> None:
        path = filled(tmp_path)
        damage(path)
        before = path.read_bytes()
        with pytest.raises(StoreError), Store(tmp_path, create=True) as store:
            store.rows()
        assert path.read_bytes() == before

    def test_by_truncation_to_nothing_lets_a_new_run_begin(self, tmp_path: Path) -> None:
        empty(filled(tmp_path))
        with Store(tmp_path, create=True) as store:
            assert store.keys() == set()

    def test_lets_go_of_the_folder(self, tmp_path: Path) -> None:
        path = filled(tmp_path)
        content = path.read_bytes()
        no_database(path)
        with pytest.raises(StoreError):
            Store(tmp_path, create=True)
        path.write_bytes(content)
        with Store(tmp_path, create=True) as store:
            assert store.keys() == {"one", "two"}


class TestPlace:
    def test_without_a_run_says_so_and_makes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no run in"):
            Store(tmp_path / "nowhere")
        assert list(tmp_path.iterdir()) == []

    def test_below_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError, match=r"cannot use .*Not a directory; choose another folder with --out"):
            Store(tmp_path / "file" / "run", create=True)
        with pytest.raises(StoreError, match="cannot write"):
            write_atomically(tmp_path / "file" / "summary.json", "{}")

    def test_that_takes_no_files_is_refused(self) -> None:
        with pytest.raises(StoreError, match="choose another folder with --out"):
            Store("/proc/mithridate", create=True)

    def test_that_is_a_folder_named_like_the_store_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store.sqlite").mkdir()
        with pytest.raises(StoreError, match="choose another folder with --out"):
            Store(tmp_path, create=True)

    def test_that_became_read_only_is_named(self, tmp_path: Path) -> None:
        filled(tmp_path)
        with Store(tmp_path) as store:
            store._base.execute("PRAGMA query_only = ON")  # root may write everywhere, so the database says no
            with pytest.raises(StoreError, match=r"cannot be written; choose another folder with --out"):
                store.add("three", "victim", {})
            assert store.keys() == {"one", "two"}


class TestFullDisk:
    def test_is_a_sentence_and_loses_nothing(self, tmp_path: Path) -> None:
        """A limit on the size of files stands in for a full disk."""
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
        )
        sentences = done.stdout.splitlines()
        assert len(sentences) == 3, done.stderr
        assert all("free space" in each for each in sentences), sentences
        assert not list(tmp_path.glob(".summary.json*"))
        with Store(tmp_path) as store:
            keys = [row["key"] for row in store.rows()]
            assert keys[0] == "first"
            assert keys[1:] == [str(k) for k in range(len(keys) - 1)]
            assert len(keys) > 1

    def test_told_by_sqlite_is_a_sentence_and_loses_nothing(self, tmp_path: Path) -> None:
        filled(tmp_path)
        with Store(tmp_path) as store:
            pages = store._base.execute("PRAGMA page_count").fetchone()[0]
            store._base.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(StoreError, match="the disk is full"):
                store.add("three", "victim", {"pad": "x" * 100_000})
            assert store.keys() == {"one", "two"}
            store._base.execute("PRAGMA max_page_count = 10000")
            store.add("three", "victim", {"pad": "x" * 100_000})  # space was freed: the store goes on


class TestWriteAtomically:
    def test_replaces_the_file_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "summary.json"
        write_atomically(path, "old")
        write_atomically(path, "new: ü")
        assert path.read_text(encoding="utf-8") == "new: ü"
        assert [each.name for each in path.parent.iterdir()] == ["summary.json"]
        assert path.stat().st_mode & 0o777 == 0o644

    def test_keeps_the_old_file_where_the_new_one_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "summary.json"
        write_atomically(path, "old")

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device; free space or choose another --out"):
            write_atomically(path, "new")
        assert path.read_text() == "old"
        assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


def test_store_and_stats_import_no_torch() -> None:
    code = "import sys, mithridate.store, mithridate.stats; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_report_imports_no_torch() -> None:
    code = "import sys; from mithridate.report import load, tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
