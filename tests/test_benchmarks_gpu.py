"""The GPU benchmark on a CPU at tiny size: every piece runs, goes on where it was cut off, and tells what it saw."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from mithridate.errors import MithridateError
from tests.datasets.generated import images, labels, png, write_table

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PIECES = (
    "machine",
    "exactness",
    "steps",
    "craft",
    "victims",
    "fast-victims",
    "epic",
    "together",
    "benchmark-scratch-fast",
    "witches-brew",
    "benchmark-scratch",
)
QUICK = [name for name in PIECES if name not in ("craft", "witches-brew", "benchmark-scratch")]  # those have own tests


@pytest.fixture(scope="module")
def scripts():
    """The script and its parts, by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        names = ("place", "keeping", "results", "carrying", "matching", "victims", "trials")
        yield {"gpu": importlib.import_module("gpu")} | {
            name: importlib.import_module(f"gpu_pieces.{name}") for name in names
        }
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [each for each in sys.modules if each == "gpu" or each.partition(".")[0] == "gpu_pieces"]:
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """A folder with a CIFAR-10 of noise."""
    folder = tmp_path_factory.mktemp("data")
    for part, rows in (("train", 100), ("test", 20)):
        pictures = [png(each) for each in images(rows, seed=rows, height=32, width=32)]
        write_table(folder / "cifar10" / f"mini-{part}.parquet", pictures, labels(rows, 10), names=())
    return folder


@pytest.fixture
def run(scripts, cifar, tmp_path, monkeypatch):
    """Call the script on the tiny data in a work folder: what the file of results then holds. ``late`` is the clock."""
    monkeypatch.setitem(sys.modules, "mithridate.ops.medoids_numba", None)  # compiling it takes longer than all of this
    monkeypatch.setenv("MITHRIDATE_DATA", str(cifar))
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))

    def called(*pieces, late=None, work="work", out="gpu.json", more=()):
        with monkeypatch.context() as patched:
            patched.setattr(scripts["place"].Place, "late", late or (lambda self: False))
            named = [word for piece in pieces for word in ("--piece", piece)]
            words = [*named, "--tiny", "--device", "cpu", "--work", str(tmp_path / work), "--out", str(tmp_path / out)]
            assert scripts["gpu"].main([*words, *more]) == 0
        return json.loads((tmp_path / out).read_text())["pieces"]

    return called


def after(checks):
    """A clock by which the time is up once it was looked at so often."""
    left = iter(range(checks))
    return lambda self: next(left, None) is None


def test_lists_the_pieces_that_are_promised(scripts, capsys):
    assert scripts["gpu"].main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PIECES)


@pytest.mark.parametrize("name", QUICK)
def test_every_piece_runs_and_says_what_it_measured(run, name):
    found = run(name)[name]
    assert found["complete"]
    assert not found["left"]
    assert found["calls"] == 1
    assert found["environment"]["device"] == "cpu"
    assert {"torch", "processor", "tiny"} <= set(found["environment"])
    assert found["units"]
    assert not [each for each in found["units"].values() if "failed" in each or "absent" in each]
    for line in found["rows"]:
        assert line["case"]
        assert line["value"] is not None or line["met"] == "not measured"
        assert line.get("met") not in ("met", "not met")  # no goal is judged without a GPU


def test_exact_backends_are_exact(run):
    units = run("exactness")["exactness"]["units"]
    for name, each in units.items():
        assert each["cosine"] > (0.9 if "bf16" in name else 0.999), name
        assert 0 <= each["equal_signs"] <= 1


def test_units_that_are_done_are_not_done_again(run):
    first = run("machine", late=after(3))["machine"]
    assert not first["complete"]
    assert len(first["units"]) == 3
    assert first["left"][0] == "convolution tf32"
    second = run("machine")["machine"]
    assert second["complete"]
    assert second["calls"] == 2
    assert {name: second["units"][name] for name in first["units"]} == first["units"]


def test_a_craft_goes_on_at_its_step_as_if_it_had_not_stopped(run):
    whole = run("craft", work="whole", out="whole.json")["craft"]
    cut = run("craft", late=after(3))["craft"]
    assert cut["left"]
    gone_on = run("craft")["craft"]
    assert gone_on["complete"]
    first = next(iter(whole["units"]))
    assert gone_on["units"][first]["resumed"]
    assert not whole["units"][first]["resumed"]
    for name, each in whole["units"].items():
        assert gone_on["units"][name]["loss"] == each["loss"]


def test_a_victim_goes_on_at_its_epoch_as_if_it_had_not_stopped(run):
    whole = run("victims", work="whole", out="whole.json")["victims"]["units"]
    cut = run("victims", late=after(1))["victims"]
    assert cut["partial"]["fast settings 0"]["epochs_done"] == 1
    found = run("victims")["victims"]["units"]
    assert found["fast settings 0"]["calls"] == 2
    assert found["fast settings 0"]["epochs_in_this_call"] == 1
    assert {name: each["loss"] for name, each in found.items()} == {name: each["loss"] for name, each in whole.items()}


def test_a_protocol_goes_on_at_its_job_and_says_what_it_knows(run, tmp_path):
    cut = run("witches-brew", late=after(6), more=["--trials", "2", "--pack", str(tmp_path / "packed")])
    cut = cut["witches-brew"]
    assert cut["left"] == ["witches-brew"]
    assert 0 < cut["partial"]["witches-brew"]["jobs"]["left"] < cut["partial"]["witches-brew"]["jobs"]["planned"]
    again = ["--trials", "2", "--restore", str(tmp_path / "packed")]  # on a machine that has forgotten everything
    found = run("witches-brew", work="other", more=again)["witches-brew"]
    assert found["calls"] == 2
    assert found["complete"]
    unit = found["units"]["witches-brew"]
    assert unit["jobs"]["left"] == 0
    success = next(line for line in found["rows"] if "success" in line["case"])
    assert success["n"] == 2
    assert "to" in success["range"]
    assert "controls: clean" in success["note"]
    assert "noise" in success["note"]


def test_protocols_are_changed_only_where_it_is_said(scripts, tmp_path):
    import torch

    def asked(name, device):
        place = scripts["place"].Place(device=torch.device(device), tiny=False, folder=tmp_path, deadline=0.0)
        return scripts["trials"].settings(place, name)

    scratch = asked("benchmark-scratch", "cuda")
    assert scratch["protocol"]["name"] == "benchmark-scratch"
    assert [each["model"]["name"] for each in scratch["victims"]] == ["resnet18"]
    assert scratch["victims"][0]["compile"]
    assert scratch["attacks"][0]["restarts"] == 8
    fast = asked("benchmark-scratch-fast", "cuda")
    assert fast["victims"][0]["recipe"] == "fast"
    assert not fast["published"]
    assert fast["surrogates"][0]["recipe"] == "paper-40"
    assert fast["setups"] == "benchmark-scratch"


class TestCarrying:
    @pytest.fixture
    def data(self, tmp_path):
        for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"):
            path = tmp_path / "here" / "cifar10" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode() * 1000)
        return tmp_path / "here"

    def test_data_cut_into_parts_are_whole_again_in_any_order(self, scripts, data, tmp_path, capsys):
        main = scripts["gpu"].main
        assert main(["--data", str(data), "--split", str(tmp_path / "parts"), "--count", "3"]) == 0
        for said, number in (("1 of 3", 3), ("2 of 3", 1), ("is in", 2)):
            assert main(["--data", str(tmp_path / "there"), "--join", str(tmp_path / "parts" / str(number))]) == 0
            assert said in capsys.readouterr().out
        for path in (data / "cifar10").iterdir():
            assert (tmp_path / "there" / "cifar10" / path.name).read_bytes() == path.read_bytes()
        assert not (tmp_path / "there" / "parts").exists()

    def test_parts_that_do_not_fit_are_refused(self, scripts, data, tmp_path):
        carrying = scripts["carrying"]
        parts = carrying.split(data, tmp_path / "parts", 2)
        part = next(parts[1].glob("*.part"))
        part.write_bytes(part.read_bytes()[:-1])
        with pytest.raises(MithridateError, match="do not fit together"):
            carrying.join(tmp_path / "parts", tmp_path / "there")

    def test_work_comes_back_without_what_is_computed_again(self, scripts, tmp_path, monkeypatch):
        carrying, work = scripts["carrying"], tmp_path / "work"
        for name in ("machine.json", "runs/x/store.sqlite", "networks/resnet18.safetensors", "runs/x/notes/a"):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(b"0" * 9000)
        monkeypatch.setattr(carrying, "PIECE", 10_000)
        assert "parts" in carrying.pack(work, tmp_path / "out")
        assert all(each.stat().st_size <= 10_000 for each in (tmp_path / "out").iterdir())
        carrying.restore(tmp_path / "out", tmp_path / "again")
        back = {str(each.relative_to(tmp_path / "again")) for each in (tmp_path / "again").rglob("*") if each.is_file()}
        assert back == {"machine.json", "runs/x/store.sqlite"}
        assert "already" in carrying.restore(tmp_path / "out", work)
        monkeypatch.setattr(carrying, "MOST", 1)
        assert "more than can be carried" in carrying.pack(work, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    def test_results_are_merged_piece_by_piece(self, run, scripts, tmp_path):
        run("machine")
        out = tmp_path / "all.json"
        assert scripts["gpu"].main(["--merge", str(tmp_path / "gpu.json"), "--out", str(out)]) == 0
        run("steps", work="other", out="other.json")
        assert scripts["gpu"].main(["--merge", str(tmp_path / "other.json"), "--out", str(out)]) == 0
        found = json.loads(out.read_text())
        assert list(found["pieces"]) == ["machine", "steps"]
        assert {each["piece"] for each in found["measured"]} == {"machine", "steps"}
        assert {"name", "about", "command", "environment", "core_seconds"} <= set(found)


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "nothing is asked for"),
            (["--piece", "machin", "--work", "w"], "there is no piece 'machin': did you mean 'machine'"),
            (["--piece", "machine"], "name one with --work"),
            (["--piece", "machine", "--work", "w", "--tiny"], "name another file with --out"),
            (["--join", "parts"], "no folder is named for CIFAR-10"),
            (["--split", "parts", "--data", "nowhere"], "CIFAR-10 is not in"),
            (["--piece", "machine", "--work", "w", "--out", "o", "--device", "cuda:x"], "there is no device 'cuda:x'"),
            (["--merge", "nothing.json", "--out", "o"], "nothing.json"),
        ],
    )
    def test_a_sentence_says_what_is_wrong(self, scripts, words, said, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MITHRIDATE_DATA", "")
        assert scripts["gpu"].main(words) == 1
        assert said in capsys.readouterr().err

    def test_absent_data_end_the_call_with_a_sentence(self, scripts, tmp_path, monkeypatch, capsys):
        from mithridate.datasets import wellknown
        from mithridate.errors import AbsentError

        def absent(*_, **__):
            raise AbsentError("no network")

        monkeypatch.setattr(wellknown, "hub_rows", absent)
        monkeypatch.setenv("MITHRIDATE_DATA", str(tmp_path))
        monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path))
        words = ["--piece", "steps", "--tiny", "--device", "cpu", "--work", str(tmp_path / "w")]
        monkeypatch.setattr("mithridate.loading._LOADED", {})
        assert scripts["gpu"].main([*words, "--out", str(tmp_path / "o")]) == 1
        assert "train set of CIFAR-10 was not found" in capsys.readouterr().err

    def test_other_work_and_other_machines_do_not_mix(self, run, scripts, tmp_path):
        run("machine")
        path = tmp_path / "gpu.json"
        found = json.loads(path.read_text())
        found["pieces"]["machine"]["environment"]["device"] = "a GPU"
        path.write_text(json.dumps(found))
        with pytest.raises(AssertionError):  # the script ended with 1
            run("steps")
        kept = tmp_path / "work" / "machine.json"
        kept.write_text(kept.read_text().replace('"device": "cpu"', '"device": "a GPU"'))
        with pytest.raises(AssertionError):
            run("machine", out="new.json")


class TestGoals:
    def test_are_met_or_not(self, scripts):
        row = scripts["results"].row
        assert row("craft", [59.0, 70.0, 20.0], "s", at_most=60)["met"] == "met"
        assert row("craft", [61.0], "s", at_most=60)["met"] == "not met"
        assert row("accuracy", [0.93], "share", at_least=0.94)["met"] == "not met"
        assert row("craft", [], "s", at_most=60)["met"] == "not measured"
        assert row("rate", [2.0], "")["met"] == ""

    def test_the_first_victim_of_a_process_does_not_count_as_one_after_it(self, scripts):
        def victim(seconds, *, first):
            return {"seconds": seconds, "accuracy": 0.95, "compiling_included": first}

        units = {"fast 0": victim(40.0, first=True), "fast 1": victim(1.5, first=False), "fast 2": {"absent": "none"}}
        first, after_it, accuracy = scripts["victims"].fast_rows(units)
        assert (first["value"], after_it["value"], after_it["met"]) == (40.0, 1.5, "met")
        assert accuracy["n"] == 2

    def test_what_fails_stays_so_until_it_is_asked_for_again(self, run, scripts, monkeypatch):
        broken = {"on": True}
        once = scripts["matching"].Problem.derivatives

        def derivatives(self, backend, precision):
            if broken["on"] and backend == "double" and precision == "bf16":
                raise RuntimeError("no such engine")
            return once(self, backend, precision)

        monkeypatch.setattr(scripts["matching"].Problem, "derivatives", derivatives)
        found = run("steps")["steps"]
        assert found["units"]["double, bf16"] == {"failed": "RuntimeError: no such engine"}
        assert any(line["case"] == "double, bf16" and "no such engine" in line["note"] for line in found["rows"])
        broken["on"] = False
        assert "failed" in run("steps")["steps"]["units"]["double, bf16"]
        assert "seconds" in run("steps", more=["--again"])["steps"]["units"]["double, bf16"]
