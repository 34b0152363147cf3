"""A finished run that the report's tests read, never write."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate.report.load import Run, read
from tests.report.fabricate import fabricate


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate(tmp_path_factory.mktemp("runs") / "finished", defenses=("none", "epic 0.1"))


@pytest.fixture(scope="session")
def run(folder: Path) -> Run:
    return read(folder)
