"""``mithridate retry`` and ``repair``, and what ``run`` asks about a folder that is there."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mithridate import methods, opening
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.store import Store
from tests.cli.calls import Caller, environment, written
from tests.runs import carried_out, results, tiny
from tests.test_campaign import breaking


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


class TestRetry:
    def test_finishes_what_failed_without_the_file(
        self, call: Caller, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("craft", ValueError("no luck"), patched, trial=0)
            carried_out(tiny(), tmp_path)
        said = call("retry", tmp_path, "--workers", "1")
        assert said.code == 0
        assert "Trying 1 failed job and 3 lost jobs again" in said.out
        assert results(tmp_path) == results(finished)
        with Store(tmp_path) as store:
            assert store.failures() == []
            assert store.meta()["command"] == "mithridate run tiny", "the report names the run's own command"
        said = call("retry", tmp_path)
        assert (said.code, said.out) == (0, f"No job of the run in '{tmp_path}' has failed\n")

    def test_goes_where_it_is_told_and_does_as_is_said_of_changed_methods(
        self, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            breaking("noise", ValueError("no luck"), patched, trial=0)
            carried_out(tiny(), tmp_path)
        with Store(tmp_path, create=True) as store:
            store.describe(methods=dict.fromkeys(store.meta()["methods"], "before"))
        said = call("retry", tmp_path, "--executor", "local")
        assert said.code == 1
        assert "--changed" in said.err
        said = call("retry", tmp_path, "--executor", "local", "--changed", "keep")
        assert (said.code, said.err) == (0, "")
        assert "one at a time" in said.out
        with Store(tmp_path) as store:
            assert store.meta()["mixed"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--changed", "maybe"], "--changed can be keep or redo"),
            (["--executor", "moon"], "--executor can be"),
            (["--address", "auto"], "say --executor ray too"),
            (["--track", "paper"], "paper"),
        ],
    )
    def test_says_what_is_wrong_with_an_option(
        self, options: list[str], words: str, call: Caller, folder: Path
    ) -> None:
        with Store(folder, create=True) as store:
            store.queue.release(tiny().jobs()[-1].key, state="failed")
        said = call("retry", folder, *options)
        assert said.code != 0
        assert words in said.err

    def test_says_what_fails_again(self, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        breaking("craft", ValueError("no luck"), monkeypatch, trial=0)
        carried_out(tiny(), tmp_path)
        said = call("retry", tmp_path, "--workers", "1")
        assert said.code == 1
        assert "ValueError: no luck" in said.out
        with Store(tmp_path) as store:
            assert store.failures()[0].attempts == 2

    def test_of_a_run_whose_settings_are_lost_says_so(self, call: Caller, folder: Path) -> None:
        with Store(folder, create=True) as store:
            store.queue.release(tiny().jobs()[-1].key, state="failed")
            store.describe(experiment={"name": "tiny", "odd": 1})
        said = call("retry", folder)
        assert said.code == 1
        assert "cannot be read back" in said.err
        assert "mithridate run tiny" in said.err

    def test_without_a_run_is_a_sentence(self, call: Caller, tmp_path: Path) -> None:
        said = call("retry", tmp_path)
        assert said.code == 1
        assert "there is no run in" in said.err


class TestRepair:
    def test_of_a_whole_run_says_so(self, call: Caller, folder: Path) -> None:
        said = call("repair", folder)
        assert (said.code, said.out) == (0, f"The run in '{folder}' is whole.\n")

    def test_says_what_it_would_do_then_does_it(self, call: Caller, folder: Path) -> None:
        store = folder / "store.sqlite"
        store.write_bytes(store.read_bytes()[:-9000])
        said = call("run", written(folder.parent), "--out", folder, "--workers", "1")
        assert said.code == 1
        assert f"mithridate repair {folder}" in said.err
        said = call("repair", folder, "--dry-run")
        assert said.code == 1
        assert "store.sqlite is damaged" in said.out
        assert "Nothing was changed" in said.out
        said = call("repair", folder)
        assert said.code == 0
        assert "the old one is kept as store.sqlite.damaged" in said.out
        assert "is mended. Go on with:  mithridate run tiny" in said.out
        assert call("run", written(folder.parent), "--out", folder, "--workers", "1").code == 0
        assert call("repair", folder).out == f"The run in '{folder}' is whole.\n"


class TestRun:
    def test_may_insist_on_an_empty_folder(self, call: Caller, folder: Path) -> None:
        said = call("run", written(folder.parent), "--out", folder, "--no-resume")
        assert said.code == 1
        assert "is not empty, but --no-resume begins in an empty folder and removes nothing" in said.err
        assert (folder / "report.html").is_file()

    def test_refuses_other_words_for_changed_methods(self, call: Caller, folder: Path) -> None:
        said = call("run", written(folder.parent), "--out", folder, "--changed", "drop")
        assert said.code == 1
        assert "--changed can be keep or redo, but it is 'drop'" in said.err

    def test_asks_nobody_where_there_is_no_terminal(
        self, call: Caller, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = methods.version
        monkeypatch.setattr(methods, "version", lambda cls: "new" if cls is GradientMatching else real(cls))
        assert opening.methods is methods
        said = call("run", written(folder.parent), "--out", folder, "--workers", "1")
        assert said.code == 1
        assert "the code of gradient-matching has changed" in said.err
        assert "--changed keep" in said.err
        said = call("run", written(folder.parent), "--out", folder, "--workers", "1", "--changed", "keep")
        assert said.code == 0
        assert "gradient-matching are mixed" in (folder / "report.html").read_text()

    @pytest.mark.parametrize(("answer", "code", "done"), [("redo", 0, 8), ("stop", 1, 0)])
    def test_asks_a_person_at_a_terminal(self, answer: str, code: int, done: int, folder: Path) -> None:
        with Store(folder, create=True) as store:
            store.describe(methods={**store.meta()["methods"], "gradient-matching": "older"})
        here, there = pty.openpty()
        words = ["run", str(written(folder.parent)), "--out", str(folder), "--workers", "1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mithridate", *words], stdin=there, stdout=there, stderr=there, env=environment()
        )
        os.close(there)
        os.write(here, f"{answer}\n".encode())
        said = b""
        try:
            while part := os.read(here, 4096):
                said += part
        except OSError:  # the other side is closed
            pass
        os.close(here)
        assert process.wait() == code, said.decode()
        assert b"The code of gradient-matching has changed since this run was begun" in said
        assert b"Traceback" not in said
        with Store(folder) as store:
            again = [entry for entry in store.queue.entries() if entry.attempts == 2]
        assert len(again) == done
