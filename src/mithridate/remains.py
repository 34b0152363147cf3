"""What a folder holds of a run besides its database: how a run that lost it is told from a folder of another kind."""

from __future__ import annotations

from pathlib import Path

from mithridate.errors import StoreError

DATABASE = "store.sqlite"


def kept(folder: Path) -> list[Path]:
    """The databases that a repair replaced, the one moved away last at the end."""
    found = [each for end in ("damaged", "format1") for each in folder.glob(f"{DATABASE}.{end}*")]
    return sorted((each for each in found if not each.name.endswith(("-wal", "-shm"))), key=_age)


def of_run(folder: Path) -> list[str]:
    """The names of what only a run that has got somewhere leaves: replaced databases, poison sets, a repair begun."""
    poisons, begun = folder / "poisons", folder / ".repair"
    found = [each.name for each in kept(folder)]
    found += [poisons.name] if poisons.is_dir() and any(poisons.iterdir()) else []
    return found + ([begun.name] if begun.is_dir() else [])


def refuse(folder: Path) -> None:
    """Refuse to begin where a run has lost its database: a new, empty one would let its poisons go as orphans."""
    try:
        found = of_run(folder)
    except OSError as error:
        raise StoreError(f"cannot read '{folder}': {error.strerror or error}; choose another --out") from error
    if found:
        raise StoreError(
            f"'{folder}' holds what is left of a run ({', '.join(found[:3])}), but its {DATABASE} is gone; mend it "
            f"with  mithridate repair {folder}  or choose another folder with --out"
        )


def _age(path: Path) -> int:
    """When a file was moved, as the system tells it."""
    return path.stat().st_ctime_ns
