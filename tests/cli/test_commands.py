"""Every command does what its help says, for people and as JSON."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml
from PIL import Image

from mithridate import __version__, config, poisonset, registry
from mithridate.experiment import Experiment
from mithridate.learner import Learner
from mithridate.learners.estimator import SHORT
from mithridate.learners.recipes import CLASSICAL, RECIPES
from mithridate.poison import Poison
from mithridate.space import Space
from mithridate.store import Store
from tests.cli.calls import Caller, process, written
from tests.runs import carried_out, results, tiny


class TestTop:
    def test_version_starts_without_torch(self) -> None:
        code = (
            "import sys; sys.argv = ['mithridate', '--version']\n"
            "from mithridate.cli import main\n"
            "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split("\n") == [f"mithridate {__version__}", "0 False", ""]

    def test_help_lists_every_command_with_its_line(self, call: Caller) -> None:
        said = call("--help")
        assert said.code == 0
        for name in ("run", "check", "list", "show", "report", "export", "inspect"):
            assert f"  {name} " in said.out
            assert call(name, "--help").code == 0
        assert call("-h").out == said.out

    def test_module_runs_and_completion_is_generated(self) -> None:
        assert process("--version").out == f"mithridate {__version__}\n"
        script = process(_MITHRIDATE_COMPLETE="source_bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        shown = process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        assert "complete" in script.out + shown.out

    def test_completion_offers_commands_presets_and_names(self) -> None:
        mithridate = str(Path(sys.executable).parent / "mithridate")

        def offered(*words: str) -> list[str]:
            environment = {
                "_MITHRIDATE_COMPLETE": "complete_bash",
                "COMP_WORDS": " ".join(["mithridate", *words]),
                "COMP_CWORD": str(len(words)),
                "PATH": "/usr/bin:/bin",
            }
            done = subprocess.run([mithridate], env=environment, capture_output=True, text=True, check=False)
            assert "Traceback" not in done.stderr
            return done.stdout.split()

        assert offered("rep") == ["repair", "report"]
        assert "quickstart" in offered("run", "qui")
        assert offered("show", "gradient-m") == ["gradient-matching"]
        assert offered("list", "mod") == ["models"]


class TestList:
    @pytest.mark.parametrize("what", registry.PLURALS)
    def test_names_every_kind_with_a_line(self, what: str, call: Caller) -> None:
        names = set(registry.places(registry.PLURALS[what]))
        said, found = call("list", what), call("list", what, "--json").json()
        assert said.code == 0
        assert {each["name"] for each in found} == names | (
            {*RECIPES, *CLASSICAL, *SHORT} if what == "learners" else set()
        )
        assert len(found) == len({each["name"] for each in found})
        for each in found:
            assert each["about"]
            assert any(line.split()[:1] == [each["name"]] and each["about"] in line for line in said.out.splitlines())

    def test_names_the_presets(self, call: Caller) -> None:
        found = {each["name"]: each["about"] for each in call("list", "presets", "--json").json()}
        assert found == {name: each.get("about", "") for name, each in config.presets().items()}
        assert "quickstart" in found


class TestShow:
    def test_tells_settings_source_and_meaning(self, call: Caller) -> None:
        said = call("show", "gradient-matching")
        assert said.code == 0
        for text in ("gradient-matching (attacks)", "steps: int = 250", "Paper: 250.", "arxiv.org/abs/2009.02276"):
            assert text in said.out
        facts = call("show", "gradient-matching", "--json").json()
        assert {each["name"]: each["default"] for each in facts["settings"]}["restarts"] == 8

    def test_of_everything_listed_works(self, call: Caller) -> None:
        for plural, noun in registry.PLURALS.items():
            for name in registry.places(noun):
                assert call("show", name, "--json").json()["kind"] == plural
                assert call("show", name).code == 0

    def test_of_a_preset_is_a_file_that_runs(self, call: Caller, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(call("show", "quickstart").out)
        assert call("show", "quickstart", "--json").json() == config.presets()["quickstart"]
        assert call("check", tmp_path / "mine.yaml").code == 0

    def test_of_a_recipe_is_settings(self, call: Caller) -> None:
        assert call("show", "paper-40", "--json").json()["settings"]["epochs"] == 40
        assert "recipe: paper-40" in call("show", "paper-40").out

    @pytest.mark.parametrize("name", SHORT)
    def test_of_a_short_name_says_what_it_stands_for_and_how_it_is_written(self, name: str, call: Caller) -> None:
        said, facts = call("show", name), call("show", name, "--json").json()
        assert said.code == 0
        assert f"{{name: sklearn, estimator: {name}}}" in said.out
        assert SHORT[name][0] in said.out
        assert (f"recipe: {name}" in said.out) == (name in CLASSICAL)
        assert facts["estimator"] == {"class": SHORT[name][0], "parameters": dict(SHORT[name][1])}
        written_so = yaml.safe_load(f"{{name: sklearn, estimator: {name}}}")
        assert config.parse(Learner, written_so).problems(Space(shape=(2,), num_classes=2, bounds=(0.0, 1.0))) == []

    def test_of_nearly_a_short_name_proposes_it(self, call: Caller) -> None:
        assert "did you mean 'random-forest'?" in call("show", "random-forst").err


class TestShowOfFacts:
    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("deep-knn", "  poison rate: assumed: 1 % of the rows [expected]"),
            ("oracle-filter", "  which rows are poisoned: all of them (oracle)"),
            ("random-flips", "  nothing beyond what the threat model says"),
            (
                "random-drop",
                "  poison rate: as many rows go as the defense that it controls took, in a training of its own",
            ),
        ],
    )
    def test_tells_what_a_method_knows_and_assumes(self, call: Caller, name: str, line: str) -> None:
        said = call("show", name).out
        _, _, rest = said.partition("Knows and assumes, as it is set by default\n")
        assert rest.splitlines()[: rest.splitlines().index("")].count(line) == 1
        assert "assumes" in call("show", name, "--json").json()

    def test_is_of_attacks_and_defenses_alone(self, call: Caller) -> None:
        assert "Knows and assumes" not in call("show", "linear").out
        assert "assumes" not in call("show", "linear", "--json").json()


class TestCheck:
    def test_counts_the_jobs_and_trains_nothing(self, call: Caller, tmp_path: Path) -> None:
        said = call("check", written(tmp_path))
        first, *rest = said.out.splitlines()
        assert (said.code, first) == (
            0,
            "tiny: no problems; 10 jobs (1 surrogate, 1 clean, 2 craft, 4 attack, 2 noise)",
        )
        assert [" ".join(line.split()) for line in rest[1:]] == [
            "attacks 1 gradient-matching",
            "scenarios 1 5 % of rows, linf 64/255",
            "crews 1 all surrogates (0)",
            "victims 1 mlp, 2 epochs",
            "defenses 1 none",
            "trials 2 draws of targets and rows, numbers 0 to 1",
            "seeds 1 poisons crafted for the targets of each trial",
            "runs 2 victims trained on each poison",
            "surrogate jobs 1 shared by all trials and attacks",
            "clean jobs 1 each shared by all attacks, scenarios and trials",
            "craft jobs 2 each shared by its victims, 2",
            "attack jobs 4",
            "noise jobs 2",
        ]
        found = call("check", written(tmp_path), "--json", "--trials", "1").json()
        assert found.pop("axes")["attacks"] == {"size": 1, "values": ["gradient-matching"], "about": ""}
        assert found == {
            "name": "tiny",
            "problems": [],
            "jobs": {"surrogate": 1, "clean": 1, "craft": 1, "attack": 2, "noise": 1},
            "total": 6,
        }
        assert [each.name for each in tmp_path.iterdir()] == ["tiny.yaml"]

    def test_names_every_crew_scenario_and_control(self, call: Caller, tmp_path: Path) -> None:
        axes = {"crews": {"a": [0], "b": [1, 0]}, "vary": {"budget": ["1 %"]}, "vary_trials": 1, "seeds": 3}
        path = written(tmp_path, **axes, ensemble=2, defenses=["none", "deep-knn"])
        said = call("check", path, "--json").json()["axes"]
        assert said["crews"]["values"] == ["a (0)", "b (1, 0)"]
        assert said["defenses"]["about"] == "2 asked for, 3 controls of theirs"
        assert said["trials"]["about"] == "draws of targets and rows, numbers 0 to 1; 1 of each variation"
        assert [each["size"] for each in said.values()] == [1, 2, 2, 1, 5, 2, 3, 2]

    def test_lists_every_problem_at_once(self, call: Caller, tmp_path: Path) -> None:
        path = written(tmp_path, trials=0, runs=0, threat={"budget": 5})
        said = call("check", path, "--set", "attacks.0.setps=1")
        assert said.code == 1
        assert "4 problems" in said.out
        found = call("check", path, "--set", "attacks.0.setps=1", "--json")
        assert (found.code, found.err) == (1, "")
        places = [each.partition(":")[0] for each in found.json()["problems"]]
        assert sorted(places) == ["attacks[0].setps", "experiment", "experiment", "threat"]

    def test_of_a_run_folder_checks_what_ran(self, call: Caller, finished: Path) -> None:
        assert call("check", finished).out.startswith("tiny: no problems; 10 jobs")


class TestReport:
    def test_draws_the_page_again(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(finished, tmp_path / "run"))
        for name in ("report.html", "summary.json"):
            (folder / name).unlink()
        said = call("report", folder)
        assert (said.code, said.out) == (0, f"Report: {folder / 'report.html'}\n")
        assert (folder / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
        assert (folder / "report.html").stat().st_size > 1000


class TestExport:
    def test_writes_the_poison_set_of_a_trial(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        said = call("export", finished, "--to", tmp_path / "deep" / "set", "--trial", "1")
        assert said.code == 0
        job = next(job for job in tiny().jobs() if job.kind == "craft" and job.trial == 1)
        for file in (finished / "poisons" / job.key).iterdir():
            assert (tmp_path / "deep" / "set" / file.name).read_bytes() == file.read_bytes()

    @pytest.mark.parametrize("full", ["parquet", "folder"])
    def test_of_a_whole_set_differs_from_the_clean_one_in_the_poison_alone(
        self, full: str, call: Caller, photographs: Path, tmp_path: Path
    ) -> None:
        said = call("export", photographs, "--to", tmp_path / "set", "--full", full)
        assert said.code == 0
        poison = poisonset.read(tmp_path / "set").poison.rows
        with Store(photographs) as store:
            clean = config.parse(Experiment, store.meta()["experiment"]).data.load().train
        found = images(tmp_path / "set", full)
        expected = Counter(image.numpy().tobytes() for image in Poison(rows=poison).apply(clean).inputs)
        assert Counter(image.tobytes() for image in found) == expected
        assert len(found) == len(clean) == 60
        assert len(poison) == 3
        assert sum((Counter(image.numpy().tobytes() for image in clean.inputs) - expected).values()) == 3

    def test_that_fails_leaves_nothing_behind(self, call: Caller, finished: Path, tmp_path: Path) -> None:
        """Digits have 17 grey levels, which no image file keeps."""
        said = call("export", finished, "--to", tmp_path / "set", "--full", "parquet")
        assert (said.code, said.out) == (1, "")
        assert "only 8-bit images" in said.err
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over 8-bit images."""
    folder, draws = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    inputs = draws.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(90) % 2
    np.savez(folder / "x.npz", x_train=inputs[:60], y_train=labels[:60], x_test=inputs[60:], y_test=labels[60:])
    experiment = tiny(data={"name": "arrays", "path": str(folder / "x.npz")}, trials=1, runs=1)
    carried_out(experiment, folder / "run")
    return folder / "run"


def images(folder: Path, full: str) -> list[np.ndarray]:
    """The exported images, each ``(C, H, W)``, read with nothing of ours."""
    if full == "folder":
        opened = [Image.open(path) for path in (folder / "train").rglob("*.png")]
    else:
        column = parquet.read_table(folder / "train.parquet").column("image").to_pylist()
        opened = [Image.open(io.BytesIO(each["bytes"])) for each in column]
    return [np.ascontiguousarray(np.asarray(each).transpose(2, 0, 1)) for each in opened]


class TestInspect:
    def test_says_what_a_set_holds(self, call: Caller, finished: Path) -> None:
        folder = next((finished / "poisons").iterdir())
        facts = call("inspect", folder, "--json").json()
        said = call("inspect", folder)
        assert said.code == 0
        assert "gradient-matching" in json.dumps(facts)
        for name in facts:
            assert name.replace("_", " ") in said.out


def test_run_says_what_it_did_in_plain_lines(call: Caller, tmp_path: Path, finished: Path) -> None:
    said = call("run", written(tmp_path), "--out", tmp_path / "run", "--workers", "1", "--device", "cpu")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == f"tiny: 10 jobs on cpu, one at a time, in {tmp_path / 'run'}"
    assert [line.partition("]")[0] for line in lines[1:11]] == [f"[{k}/10" for k in range(1, 11)]
    assert lines[-1] == f"Report: {tmp_path / 'run' / 'report.html'}"
    assert "\x1b" not in said.out
    assert "…" not in said.out, "the table is cut short"
    assert results(tmp_path / "run") == results(finished)
    again = call("run", written(tmp_path), "--out", tmp_path / "run", "--workers", "1")
    assert "10 are done already" in again.out
    assert "[" not in again.out.splitlines()[1][:1]


def test_run_goes_to_a_folder_of_its_name(call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name: square brackets are markup to the library that prints."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, name="[bold]a [link", trials=1, runs=1, controls={"clean": 0, "noise": 0})
    said = call("run", path, "--workers", "1")
    assert said.code == 0
    assert said.out.startswith("[bold]a [link: 3 jobs")
    assert "[bold]a [link: success of the poisoner" in said.out
    assert (tmp_path / "runs" / "[bold]a [link" / "report.html").is_file()
