"""Files that are written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mithridate.errors import StoreError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part. Raises :class:`StoreError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        do = "free space or choose another --out"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            do = "choose a place where you may write (a run folder can be copied as a whole, and read there)"
        elif error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
            do = "choose another path (it is that of a folder, or there is a file where its folder would be)"
        raise StoreError(f"cannot write '{path}': {error.strerror or error}; {do}") from error
