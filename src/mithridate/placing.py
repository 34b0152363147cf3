"""Folders and files written whole or not at all: readers see the old content or the new one."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path


def place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` beside ``folder``, then move them there in one step: readers see the old set or the new one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        fresh.mkdir()
        for name, content in files.items():
            with (fresh / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _move(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # gone already, unless something failed


def place_file(path: Path, content: bytes) -> None:
    """Write one file beside its place, then move it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # gone already, unless something failed


def _move(fresh: Path, folder: Path) -> None:
    """Put ``fresh`` in the place of ``folder``; what was there comes back where that fails."""
    old = fresh.with_name(f"{fresh.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
