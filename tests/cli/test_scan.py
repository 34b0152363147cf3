"""``mithridate scan`` as a person calls it, from a folder of images to the page."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file

from mithridate.datasets.export import write_folder
from mithridate.models.mlp import MLP
from mithridate.testing import toy
from tests.cli.calls import Caller
from tests.scan.material import network

FILES = {"ids.csv", "ids.parquet", "scan.json", "report.html"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt the toy task on other rows."""
    path = tmp_path_factory.mktemp("weights") / "toy.safetensors"
    about = {"architecture": json.dumps({"name": "mlp", "hidden": [32]})}
    save_file(network().state_dict(), path, metadata=about)
    return path


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 1,000 images, of which 10 have wrong labels: those numbered 0, 100, 200 and so on."""
    data = toy(1000, seed=1)
    labels = data.labels.clone()
    labels[::100] = (labels[::100] + 1) % 3
    folder = tmp_path_factory.mktemp("data") / "pets"
    write_folder(replace(data, labels=labels), folder)
    return folder


def digest(folder: Path) -> str:
    """Names, contents and times of everything in a folder."""
    found = sorted(
        (str(each), each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else b"") for each in folder.rglob("*")
    )
    return hashlib.sha256(repr(found).encode()).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_finds_wrong_labels_and_writes_what_it_found_elsewhere(
    call: Caller, here: Path, pets: Path, weights: Path
) -> None:
    before = digest(pets.parent)
    said = call("scan", pets, "--model", weights, "--defenses", "spectral-signatures,epic")
    assert said.code == 0, said.err
    assert digest(pets.parent) == before, "the data are never changed"
    assert [each.name for each in here.iterdir()] == ["scan-pets"]
    assert {each.name for each in (here / "scan-pets").iterdir()} == FILES

    assert "Suspect rows found: " in said.out
    assert "scan-pets/report.html" in said.out
    with (here / "scan-pets" / "ids.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1000
    odd = {f"{k}.png" for k in range(0, 1000, 100)}
    assert len({Path(row["file"]).name for row in rows[:12]} & odd) >= 9
    assert {name.removesuffix("_score") for name in rows[0] if name.endswith("_score")} == {
        *("spectral-signatures", "epic", "loss")
    }
    table = pq.read_table(here / "scan-pets" / "ids.parquet").to_pydict()
    assert table["file"] == [row["file"] for row in rows]
    assert table["loss_score"] == [float(row["loss_score"]) for row in rows]

    told = json.loads((here / "scan-pets" / "scan.json").read_text(encoding="utf-8"))
    assert told["state"] == "suspect"
    assert [row["file"] for row in told["first"]] == [row["file"] for row in rows[:48]]
    assert told["seed"] == 0
    page = (here / "scan-pets" / "report.html").read_text(encoding="utf-8")
    assert rows[0]["file"] in page
    assert page.count("data:image/png") == 48


def test_json_is_what_the_file_holds_and_a_second_scan_takes_its_place(call: Caller, here: Path, weights: Path) -> None:
    data = toy(1000, seed=1)
    np.savez("clean.npz", x=data.inputs.numpy(), y=data.labels.numpy())
    words = ("scan", "clean.npz", "--model", weights, "--defenses", "loss", "--out", "found", "--json")
    said = call(*words)
    assert said.code == 0, said.err
    assert said.json() == json.loads(Path("found/scan.json").read_text(encoding="utf-8"))
    assert said.json()["state"] == "nothing found"
    again = call(*words, "--seed", "5")
    assert again.code == 0, again.err
    assert again.json()["seed"] == 5
    assert {each.name for each in Path("found").iterdir()} == FILES


def test_trains_a_network_by_name(call: Caller, here: Path) -> None:
    data = toy(120, seed=1)
    write_folder(data, "few")
    said = call("scan", "few", "--model", "linear", "--defenses", "deep-knn", "--json")
    assert said.code == 0, said.err
    assert said.json()["rows"] == 120
    assert said.json()["probe_accuracy"] > 0.5, "a third would be chance"
    assert said.json()["state"] in ("cannot tell", "nothing found")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no folder or file nowhere"),
        (["few", "--defenses", "deep-nn"], "--defenses: 'deep-nn' is unknown; did you mean 'deep-knn'?"),
        (["few", "--defenses", "cutmix"], "--defenses: 'cutmix' does not judge rows by their features"),
        (["few", "--false-alarm-rate", "0.5"], "--false-alarm-rate must lie between 0 and 0.5, but it is 0.5"),
        (["few", "--false-alarm-rate", "0"], "--false-alarm-rate must lie between 0 and 0.5, but it is 0"),
        (["few", "--false-alarm-rate", "0.001"], "of 120 rows is less than one row"),
        (["few", "--model", "resnet"], "--model: there is no network called 'resnet', and no file; did you mean"),
        (["few", "--model", "five.safetensors"], "is a network for 5 classes, but these data have 3: 0, 1, 2"),
        (["few", "--model", "weights.pt"], "--model: there is no file 'weights.pt'"),
        (["few", "--out", "few"], "'few' lies in the folder to be scanned, which is never written to"),
        (["few", "--out", "few/found"], "'few/found' lies in the folder to be scanned"),
        (["few", "--out", "taken"], "'taken' holds other files, which are left alone"),
        (["few", "--out", "five.safetensors"], "'five.safetensors' is a file, but a folder is needed"),
        (["few", "--size", "0"], "size must lie in 1..4096 pixels"),
        (["few", "--device", "tpu"], "there is no device 'tpu'"),
        (["five.safetensors"], "five.safetensors is no folder, and its name does not end in .parquet"),
    ],
)
def test_a_mistake_is_a_sentence_and_leaves_nothing_behind(
    words: list[str], sentence: str, call: Caller, here: Path
) -> None:
    write_folder(toy(120, seed=1), "few")
    save_file(MLP().build(replace(toy(3, seed=1).space, num_classes=5)).state_dict(), "five.safetensors")
    Path("taken").mkdir()
    Path("taken/thesis.txt").write_text("mine", encoding="utf-8")
    before = digest(here)
    said = call("scan", *words)
    assert said.code == 1
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert sentence in " ".join(said.err.split())
    assert digest(here) == before


def test_the_folder_one_stands_in_is_not_written_to(call: Caller, here: Path) -> None:
    write_folder(toy(120, seed=1), "few")
    before = digest(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("few")
        said = call("scan", ".")
    assert said.code == 1
    assert "lies in the folder to be scanned" in said.err
    assert digest(here) == before


def test_rows_without_file_names_are_told_by_number(call: Caller, here: Path, weights: Path) -> None:
    data = toy(300, seed=1)
    np.savez("rows.npz", x=data.inputs.numpy(), y=data.labels.numpy())
    said = call("scan", "rows.npz", "--model", weights, "--defenses", "loss")
    assert said.code == 0, said.err
    assert "  row " in said.out
    header = Path("scan-rows/ids.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("place,row,label,predicted")
    assert sorted(pq.read_table("scan-rows/ids.parquet")["row"].to_pylist()) == list(range(300))
