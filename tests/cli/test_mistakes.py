"""Whatever a person gets wrong ends in a sentence on standard error and exit code 1 or 2, never in a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mithridate.store import Store
from tests.cli.calls import Caller, process, written


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "quikstart"], "there is no preset 'quikstart', and no file of that name: did you mean 'quickstart'?"),
        (["run", "nowhere.yaml"], "there is no file 'nowhere.yaml'"),
        (["run", "no/where"], "there is no file 'no/where'"),
        (["run", "."], "is a folder without experiment.json"),
        (["run", "quickstart", "--set", "trials"], "write it as  place=value"),
        (["run", "quickstart", "--set", "trials=x"], "trials: input should be a valid integer"),
        (["run", "quickstart", "--set", "threat.perturbation.radius=8"], "did you mean 8/255?"),
        (["run", "quickstart", "--set", "attacks.9.steps=1"], "'9' is no place in a list of 1"),
        (["run", "quickstart", "--set", "threat.budget=1"], "threat: a budget of 1 asks for"),
        (["run", "quickstart", "--set", "trials=1000000000"], "at most 1000000 can be run together"),
        (["run", "quickstart", "--device", "tpu"], "there is no device 'tpu'; allowed: auto, cpu, cuda"),
        (["run", "quickstart", "--device", "cuda:x"], "there is no device 'cuda:x'"),
        (["show", "gradient-m"], "nothing is called 'gradient-m': did you mean 'gradient-matching'?"),
        (["list", "atacks"], "there is no list of 'atacks': did you mean 'attacks'?"),
        (["report", "."], "there is no run in '.' (no store.sqlite); start one with  mithridate run"),
        (["export", ".", "--to", "set"], "there is no run in '.'"),
        (["export", ".", "--to", "."], "'.' exists already; choose a new folder with --to"),
        (["export", ".", "--to", "set", "--full", "zip"], "--full can be parquet or folder, but it is 'zip'"),
        (["inspect", "."], "a poison set is a folder with manifest.json"),
        (["inspect", "nowhere"], "cannot read 'nowhere/manifest.json'"),
    ],
)
def test_is_a_sentence(
    words: list[str], sentence: str, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call(*words)
    assert said.code == 1
    assert all(line.startswith("error: ") for line in said.err.splitlines())
    assert sentence in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == [], "a mistake leaves nothing behind"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "quickstart", "--trials", "0"], "Invalid value for '--trials'"),
        (["run", "quickstart", "--workers", "0"], "Invalid value for '--workers'"),
        (["run", "quickstart", "--workers", "-1"], "Invalid value for '--workers'"),
        (["check", "quickstart", "--trials", "many"], "Invalid value for '--trials'"),
        (["rum"], "No such command 'rum'"),
        (["run"], "Missing argument 'FILE|PRESET'"),
        (["run", "quickstart", "--fast"], "No such option: --fast"),
    ],
)
def test_in_the_words_themselves_is_told_with_the_usage(words: list[str], sentence: str, call: Caller) -> None:
    said = call(*words)
    assert said.code == 2
    assert sentence in " ".join(said.err.split())
    assert said.out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_of_asking_for_cuda_where_there_is_none_is_a_sentence(call: Caller) -> None:
    for device in ("cuda", "cuda:1"):
        said = call("run", "quickstart", "--device", device)
        assert (said.code, said.err) == (
            1,
            "error: CUDA was asked for, but this machine has no usable CUDA device; use --device cpu or auto\n",
        )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "an experiment is a mapping of settings, but this is None"),
        (b"\xff\xfe\x00", "this is no text file"),
        (b"\x89PNG\r\n\x1a\n", "this is no text file"),
        (b"trials: [1", "this is no valid YAML"),
        (b"trials: 1\ntrials: 2", "written twice"),
        (b"a: &a [*a]", "aliases such as *a are not read"),
        (b"a: " + b"[" * 50_000, "nested too deep"),
        (b"x" * 300_000, "at most 200000 characters"),
        (b"name: x", "data: this setting is needed"),
    ],
)
def test_in_a_file_names_the_file(content: bytes, sentence: str, call: Caller, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    run, check = call("run", path), call("check", path)
    assert sentence in run.err
    assert sentence in check.out
    assert (run.code, check.code) == (1, 1)
    assert str(path) in check.out


def test_in_several_places_is_several_sentences(call: Caller, tmp_path: Path) -> None:
    said = call("run", written(tmp_path, trials=0, runs=0, dta=1), "--out", tmp_path / "run")
    assert len(said.err.splitlines()) == 3
    assert not (tmp_path / "run").exists()


class TestFolder:
    def test_of_another_run_is_refused(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(finished, tmp_path / "run"))
        said = call("run", written(tmp_path, seed=1), "--out", folder)
        assert said.code == 1
        assert "holds the run 'tiny' with other settings; choose another folder with --out" in said.err

    def test_in_use_is_refused(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(finished, tmp_path / "run"))
        with Store(folder, create=True):
            said = call("run", written(tmp_path), "--out", folder)
            assert said.code == 1
            assert "is in use by another run" in said.err
            assert call("report", folder).code == 0, "looking at a run while it works is allowed"
            assert call("export", folder, "--to", tmp_path / "set").code == 0

    def test_that_cannot_be_written_is_refused(self, call: Caller, tmp_path: Path) -> None:
        path = written(tmp_path)
        for folder in (path / "run", Path("/proc/mithridate")):
            said = call("run", path, "--out", folder)
            assert said.code == 1
            assert "choose another folder with --out" in said.err

    @pytest.mark.parametrize("content", [b"", b"not a database" * 99])
    def test_with_a_damaged_store_is_refused_by_every_command(
        self, content: bytes, call: Caller, finished: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(finished, tmp_path / "run"))
        (folder / "store.sqlite").write_bytes(content)
        for words in (["report", folder], ["export", folder, "--to", tmp_path / "set"]):
            said = call(*words)
            assert said.code == 1
            assert str(folder / "store.sqlite") in said.err
        assert not (tmp_path / "set").exists()

    def test_with_a_damaged_poison_exports_nothing(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(finished, tmp_path / "run"))
        for file in folder.glob("poisons/*/poison.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])
        said = call("export", folder, "--to", tmp_path / "set")
        assert said.code == 1
        assert "does not have the SHA-256" in said.err
        assert not (tmp_path / "set").exists()

    def test_without_the_trial_asked_for_names_those_there_are(
        self, call: Caller, finished: Path, tmp_path: Path
    ) -> None:
        said = call("export", finished, "--to", tmp_path / "set", "--trial", "7")
        assert "there is no trial '7' in this run; there are: 0, 1" in said.err
        said = call("export", finished, "--to", tmp_path / "set", "--attack", "none")
        assert "there is no attack 'none' in this run; there are: gradient-matching" in said.err


def test_failed_jobs_are_told_and_exit_with_1(call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mithridate import work

    def failing(*_: object) -> None:
        raise ValueError("no luck [/today]")

    monkeypatch.setattr(work, "_WORK", {**work._WORK, "noise": failing})
    said = call("run", written(tmp_path), "--out", tmp_path / "run", "--workers", "1")
    assert said.code == 1
    assert "trial 0, noise control 1 failed: ValueError: no luck [/today]" in said.out
    assert "2 jobs failed or were not run, 8 of 10 jobs are done and kept; the report lists them" in said.out


@pytest.mark.parametrize("kind", ["craft", "surrogate"])
def test_jobs_that_were_never_run_are_counted_and_the_reason_is_told_at_the_end(
    kind: str, call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mithridate import work

    def failing(*_: object) -> None:
        raise ValueError("no luck [/today]")

    monkeypatch.setattr(work, "_WORK", {**work._WORK, kind: failing})
    said = call("run", written(tmp_path), "--out", tmp_path / "run", "--workers", "1")
    assert said.code == 1
    lines = said.out.splitlines()
    failed, lost = (2, 6) if kind == "craft" else (1, 8)
    assert sum("failed: ValueError" in line for line in lines) == failed
    assert not [line for line in lines if "not run: " in line]
    assert f"{lost} jobs were not run, because others that they need failed" in lines
    assert any(line.startswith(f"{failed + lost} jobs failed or were not run, ") for line in lines)
    assert lines[-1] == f"{failed} failed; the first: ValueError: no luck [/today]"
    with Store(tmp_path / "run") as store:
        messages = {each.message for each in store.failures()}
    assert messages == {"ValueError: no luck [/today]", f"not run: the {kind} job it needs failed"}


def test_text_that_the_terminal_cannot_show_is_shown_all_the_same(tmp_path: Path) -> None:
    said = process("check", written(tmp_path, name="snow ☃"), PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert said.out.startswith("snow \\u2603: no problems")


def test_in_bytes_that_are_no_text_is_a_sentence() -> None:
    said = process("run", b"\xff\xfe.yaml".decode(errors="surrogateescape"))
    assert said.code == 1
    assert "there is no file" in said.err


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["check", "list", "show", "report", "inspect", "export", "models", "mlp", "quickstart"]),
            st.sampled_from(["--json", "--set", "--trials", "--to", "--full", "--", "a.b=[", "-1", "", "/proc/x/y"]),
            st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
        ),
        max_size=5,
    )
)
def test_in_any_words_is_no_traceback(call: Caller, words: list[str]) -> None:
    if "run" in words:
        return
    assert call(*words).code in (0, 1, 2)
