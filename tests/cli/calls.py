"""Calling the command line: within this process for speed, or as a person does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mithridate.cli import main
from tests.runs import TINY


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a call ended in."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.out)


class Caller:
    """``mithridate ...`` in this process, through the same ``main`` as the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path) -> Said:
        """Call with these words; any error but a deliberate end goes on to the test."""
        self._monkeypatch.setattr(sys, "argv", ["mithridate", *map(str, words)])
        before, code = signal.getsignal(signal.SIGTERM), 0
        self._capsys.readouterr()
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(code=code, out=out, err=err)


def written(folder: Path, **changes: Any) -> Path:
    """The tiny experiment as a YAML file."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return path


def command(*words: str | Path) -> list[str]:
    """``mithridate ...`` for a process of its own."""
    return [sys.executable, "-m", "mithridate", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what makes terminals colourful."""
    dropped = ("FORCE_COLOR", "COLUMNS", "LINES", "TERM", "TTY_COMPATIBLE", "NO_COLOR")
    return {key: value for key, value in os.environ.items() if key not in dropped} | {"OMP_NUM_THREADS": "1"} | more


def process(*words: str | Path, **more: str) -> Said:
    """``mithridate ...`` in a process of its own, to its end."""
    done = subprocess.run(command(*words), capture_output=True, text=True, env=environment(**more), check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)
