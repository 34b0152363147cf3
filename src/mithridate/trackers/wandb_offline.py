"""Weights & Biases, always offline: runs in DIR/wandb, which ``wandb sync`` uploads. Needs the ``wandb`` extra."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from mithridate.errors import MissingExtraError
from mithridate.tracker import Point, Tracker
from mithridate.trackers.wandb_files import logged

os.environ["WANDB_MODE"] = "offline"  # before the import: nothing may ask for a login
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
try:
    import wandb
except ImportError as error:
    raise MissingExtraError("--track wandb", "wandb") from error

_AT = "at"
"""The metric that is the horizontal axis of all others: W&B's own steps only count calls."""


class WandB(Tracker):
    """One W&B run; each time the campaign goes on it gets another folder of the same id, as W&B does offline."""

    name: ClassVar[str] = "wandb"

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve() / "wandb"
        self._run: Any = None
        self._calls = 0

    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        """Start a run of this id, or of a new one; settings are its config."""
        self._calls = 1 + max((call for call, _ in logged(self._folder)), default=-1)
        self._run = wandb.init(
            project="mithridate",
            name=title,
            id=identity or None,
            dir=str(self._folder.parent),
            config=dict(settings),
            resume="allow",
            reinit="create_new",
            settings=_settings(),
        )
        self._run.define_metric("*", step_metric=_AT)
        return str(self._run.id)

    def last(self) -> dict[str, int]:
        """The last steps, read from the files of all earlier starts."""
        found: dict[str, int] = {}
        for _, values in logged(self._folder):
            for tag in values:
                found[tag] = max(int(values[_AT]), found.get(tag, 0))
        return found

    def log(self, points: Sequence[Point]) -> None:
        """Add points, those of one step in one call."""
        for step, same in groupby(sorted(points, key=lambda point: point.step), key=lambda point: point.step):
            self._run.log({**{point.tag: point.value for point in same}, _AT: step}, step=self._calls)
            self._calls += 1

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        """Copy the files into the run's folder, and end it."""
        for path in files:
            copy = Path(self._run.dir) / path.name
            shutil.copyfile(path, copy)
            self._run.save(str(copy), base_path=self._run.dir, policy="now")
        self._run.finish(exit_code=0 if complete else 1)


def _settings() -> Any:
    """Offline, silent, and telling nothing of the machine."""
    return wandb.Settings(
        mode="offline",
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
