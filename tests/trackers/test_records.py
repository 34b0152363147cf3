"""The records of real libraries, read back by their own readers: whole, once, and without a network."""

from __future__ import annotations

import socket
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from mithridate.tracking import KINDS, following
from tests.runs import tiny
from tests.test_tracking import Book, told, tracked

Points = list[tuple[str, int, float]]


def tensorboard_points(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(tag, each.step, each.value) for tag in found.Tags()["scalars"] for each in found.Scalars(tag)]


def mlflow_points(folder: Path) -> Points:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.sqlite'}")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.data.params["threat.budget"] == "0.05"
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["experiment.json"]
    names = run.data.metrics
    return [
        (name, each.step, each.value) for name in names for each in client.get_metric_history(run.info.run_id, name)
    ]


def wandb_points(folder: Path) -> Points:
    """By the library's own records; it has no reader of files."""
    from mithridate.trackers.wandb_files import logged

    runs = list((folder / "wandb").glob("offline-run-*"))
    assert len({path.name.rpartition("-")[2] for path in runs}) == 1, "one id, each time"
    assert all((path / "files" / "experiment.json").is_file() for path in runs[-1:])
    calls = [call for call, _ in logged(folder / "wandb")]
    assert calls == list(range(len(calls)))
    return [
        (tag, int(values["at"]), value)
        for _, values in logged(folder / "wandb")
        for tag, value in values.items()
        if tag != "at"
    ]


READERS = {"tensorboard": tensorboard_points, "mlflow": mlflow_points, "wandb": wandb_points}


@pytest.mark.parametrize("name", KINDS)
def test_hold_every_point_once_after_stops(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    real = socket.socket.connect

    def near(self: socket.socket, address: object) -> None:
        assert not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost"), address
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", near)
    book, folder = Book(tmp_path), tmp_path / "run"
    tracked(tiny(), tmp_path / "whole", book)
    for jobs in (2, 6, 1000):
        following([name], experiment=tiny(), folder=folder, say=pytest.fail)
        module, kind = KINDS[name]
        tracker = getattr(import_module(f"mithridate.trackers.{module}"), kind)(folder)
        # in one process W&B refuses to open a run twice
        assert tracked(tiny(), folder, tracker, jobs=jobs, killed=name != "wandb") == []
    with warnings.catch_warnings():  # the libraries' own, while they are read back
        warnings.simplefilter("ignore")
        found = [each for each in READERS[name](folder) if "seconds" not in each[0]]
    assert set(Counter((tag, step) for tag, step, _ in found).values()) == {1}
    assert {(tag, step): value for tag, step, value in found} == pytest.approx(told(book), rel=1e-6)
