"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from tests.cli.calls import Caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(monkeypatch, capsys)
