"""What nodes are given: all that a job begins with, once each, and only while a job needs it."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mithridate import loading
from mithridate.datasets.digits import Digits
from mithridate.errors import MissingExtraError, MithridateError
from mithridate.executors import cluster, node
from mithridate.executors.cluster import Cluster
from mithridate.executors.node import parcel
from mithridate.executors.stock import Stock
from mithridate.experiment import Experiment, Job
from mithridate.portable import Portable
from tests.executors.work import easy
from tests.runs import TINY, carried_out, tiny

pickled = import_module("multiprocessing.reduction").ForkingPickler.dumps

DEFENDED: dict[str, Any] = {
    "defenses": ["none", "oracle-filter"],
    "controls": {"clean": 1, "noise": 0, "drops": []},
    "trials": 1,
    "runs": 1,
}


class Shelf:
    """An object store: references are numbers."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def put(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept) - 1

    def files(self, stock: Stock, job: Job) -> list[list[str]]:
        """The names in each of the bundles given for a job."""
        return [sorted(self.kept[each]) for each in stock.given(job)]


def by_kind(experiment: Experiment, kind: str) -> list[Job]:
    return [job for job in experiment.jobs() if job.kind == kind]


def test_a_job_is_given_the_poison_the_surrogates_and_what_those_before_it_left(tmp_path: Path) -> None:
    experiment = tiny(**DEFENDED)
    carried_out(experiment, tmp_path)
    shelf, jobs = Shelf(), experiment.jobs()
    stock = Stock(shelf, Portable(experiment=experiment, folder=tmp_path, device="cpu"), jobs)
    (surrogate,), (craft,) = by_kind(experiment, "surrogate"), by_kind(experiment, "craft")
    plain, filtered = by_kind(experiment, "attack")
    poison = [f"poisons/{craft.key}/{name}" for name in ("manifest.json", "poison.safetensors")]
    assert shelf.files(stock, surrogate) == []
    ((network,),) = shelf.files(stock, craft)
    assert (tmp_path / network).is_file()
    assert shelf.files(stock, plain) == [poison]
    stock.take(plain, {}, shelf.put({"memory/x.safetensors": b"x"}))
    assert shelf.files(stock, filtered) == [poison, ["memory/x.safetensors"]]
    assert len(shelf.kept) == 3, "each was put once"


def test_lets_go_of_what_no_job_needs_any_more(tmp_path: Path) -> None:
    experiment = tiny(**DEFENDED)
    carried_out(experiment, tmp_path)
    shelf, jobs = Shelf(), experiment.jobs()
    stock = Stock(shelf, Portable(experiment=experiment, folder=tmp_path, device="cpu"), jobs)
    plain, filtered = by_kind(experiment, "attack")
    before = len(stock.given(plain))
    stock.take(plain, {}, shelf.put({"memory/x.safetensors": b"x"}))
    stock.over([plain])
    assert len(stock.given(filtered)) == before + 1
    stock.over([filtered])
    assert stock._left == {}
    assert not [names for names in stock._bundles if names[0].startswith("poisons/")]


def test_what_a_job_made_is_written_to_the_run_folder_and_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITHRIDATE_CACHE", str(tmp_path / "cache"))
    experiment = tiny()
    stock = Stock(Shelf(), Portable(experiment=experiment, folder=tmp_path / "run", device="cpu"), experiment.jobs())
    files = {"poisons/a/manifest.json": b"{}", "poisons/a/poison.safetensors": b"p", "dropped/b.npz": b"d"}
    stock.take(experiment.jobs()[0], {**files, "cache/networks/n.safetensors": b"n"}, None)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in files} == files
    assert (tmp_path / "cache" / "networks" / "n.safetensors").read_bytes() == b"n"
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "nothing half written"


def test_nodes_never_hear_where_the_run_folder_lies(tmp_path: Path) -> None:
    sent = bytes(pickled(parcel(Portable(experiment=tiny(), folder=tmp_path, device="cpu"))))
    assert str(tmp_path).encode() not in sent
    assert TINY["name"].encode() in sent


def test_nodes_use_the_data_that_came_with_the_parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the jobs run, the source has nothing to load from."""
    sent = bytes(pickled(parcel(Portable(experiment=tiny(), folder=tmp_path, device="cpu"))))
    digest = loading.data_digest(tiny().data)

    class Ray:
        get = staticmethod(pickle.loads)

    def absent(source: Digits) -> None:
        raise AssertionError("loaded on a node")

    monkeypatch.setattr(Digits, "load", absent)
    monkeypatch.setattr(loading, "_LOADED", {})
    monkeypatch.setattr(node, "_PARCELS", {})
    work = node._unpacked(Ray, sent).work
    assert isinstance(work, Portable)
    assert len(loading.load(work.experiment.data).train) == 120
    assert loading.data_digest(work.experiment.data) == digest


def test_nodes_with_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = parcel(easy)
    monkeypatch.setattr(node, "versions", lambda: {**there.versions, "torch": "1.0"})
    with pytest.raises(MithridateError, match=r"a node of the cluster has torch 1\.0 instead of .*; install the same"):
        there.check()


def test_a_scratch_folder_is_removed_and_so_are_those_of_the_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "gettempdir", lambda: str(tmp_path))
    with node._scratch() as first:
        (left := first.parent / "4194305-x").mkdir()  # beyond the largest number a process can have
        (left / "poison").touch()
        with node._scratch() as second:
            assert {first, second} == set(first.parent.iterdir())
    assert list(first.parent.iterdir()) == []


def test_other_work_has_no_files() -> None:
    stock = Stock(Shelf(), easy, tiny().jobs())
    assert stock.given(tiny().jobs()[-1]) == []


def test_without_ray_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(cluster, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"running jobs on a Ray cluster needs the 'ray' extra"):
        Cluster()
