"""MLflow: a local SQLite store in DIR/mlflow.sqlite, its files in DIR/mlflow. Needs the ``mlflow`` extra.

Look at it with ``mlflow ui --backend-store-uri sqlite:///DIR/mlflow.sqlite``.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from mithridate.errors import MissingExtraError
from mithridate.tracker import Point, Tracker

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported; we never use a network
try:
    with warnings.catch_warnings():  # of the libraries below it
        warnings.simplefilter("ignore")
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
except ImportError as error:
    raise MissingExtraError("--track mlflow", "mlflow") from error

_BATCH = 1000, 100
"""Metrics and parameters in one call, at most: https://mlflow.org/docs/latest/rest-api.html#log-batch."""
_LONGEST = 6000
"""Characters of a parameter, at most."""


class MLflow(Tracker):
    """One MLflow run, reopened by its id each time the campaign goes on."""

    name: ClassVar[str] = "mlflow"

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._client: Any = None
        self._run = ""

    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        """Reopen the run, or make one with the settings as parameters."""
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        with _quiet():
            self._client = MlflowClient(tracking_uri=f"sqlite:///{self._folder / 'mlflow.sqlite'}")
            self._run = identity if identity and self._is_there(identity) else self._made(title, settings)
            self._client.update_run(self._run, status="RUNNING")
        return self._run

    def last(self) -> dict[str, int]:
        """The last steps, from the history of each metric."""
        with _quiet():
            names = list(self._client.get_run(self._run).data.metrics)
            return {name: max(each.step for each in self._client.get_metric_history(self._run, name)) for name in names}

    def log(self, points: Sequence[Point]) -> None:
        """Add metrics, each call in one transaction."""
        now = int(time.time() * 1000)
        found = [Metric(point.tag, point.value, now, point.step) for point in points]
        with _quiet():
            for k in range(0, len(found), _BATCH[0]):
                self._client.log_batch(self._run, metrics=found[k : k + _BATCH[0]])

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        """Copy the files to the run's artefacts, and end it."""
        with _quiet():
            for path in files:
                self._client.log_artifact(self._run, str(path))
            self._client.set_terminated(self._run, status="FINISHED" if complete else "KILLED")

    def _is_there(self, run: str) -> bool:
        try:
            self._client.get_run(run)
        except MlflowException:
            return False
        return True

    def _made(self, title: str, settings: Mapping[str, Any]) -> str:
        known = self._client.get_experiment_by_name(title)
        place = (self._folder / "mlflow").as_uri()
        owner = known.experiment_id if known else self._client.create_experiment(title, artifact_location=place)
        run = str(self._client.create_run(owner, run_name=title).info.run_id)
        found = [Param(name, json.dumps(value)[:_LONGEST]) for name, value in settings.items()]
        for k in range(0, len(found), _BATCH[1]):
            self._client.log_batch(run, params=found[k : k + _BATCH[1]])
        return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave warnings of the libraries below to their makers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
