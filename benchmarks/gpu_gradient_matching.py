"""Run the published gradient-matching protocols on a GPU for as many trials as ten minutes allow, and go on next time.

    python benchmarks/gpu_gradient_matching.py --data DATA --out OUT [--minutes 9] [--preset witches-brew]
                                               [--from PREVIOUS_OUT] [--cifar-parts FOLDER] [-- --set a.b=c ...]

* ``--data``: a folder laid out as MITHRIDATE_DATA. With ``--cifar-parts`` CIFAR-10's training Parquet is first put
  together there from ``FOLDER/train.part-*`` (made with  split -b 48M; machines that take 64 MiB a call get it in two).
* ``--out``: what comes back lies here: ``run.tar`` in pieces of 15 MiB (store and poison sets, no networks) and
  ``result.json`` (success so far beside the published 90 % or 44-47 %, hardware, seconds, whether all is done).
* ``--from``: the pieces of an earlier call; the run goes on where it stopped.

Training runs in bf16, channels-last, compiled; the published runs used float32. That is recorded in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

PIECE = 15 * 2**20
PUBLISHED = {
    "witches-brew": "90.00 % (SE 3.87), 10 trials x 8 victims, Geiping et al. 2021, table 2 (as recalled)",
    "benchmark-scratch": "45 % (leaderboard); 44 % and 47 % (independent), 100 set-ups",
}
FAST = ("precision=bf16", "channels_last=true", "compile=true")


def main() -> int:
    """Restore, run until the time is up, pack."""
    asked = arguments()
    started = time.monotonic()
    if asked.cifar_parts:
        joined(asked.cifar_parts, asked.data / "cifar10" / "train-00000-of-00001.parquet")
    run = Path("runs") / f"gpu-{asked.preset}"
    if asked.previous:
        restored(asked.previous, run.parent)
    code = trials(asked, run, seconds=asked.minutes * 60 - (time.monotonic() - started) - 45)
    packed(run, asked.out)
    (asked.out / "result.json").write_text(json.dumps(result(asked, run, code), indent=1), encoding="utf-8")
    print((asked.out / "result.json").read_text(encoding="utf-8"))
    return 0 if code in (0, 130) else code


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--preset", default="witches-brew")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--from", dest="previous", type=Path)
    parser.add_argument("--cifar-parts", type=Path)
    parser.add_argument("rest", nargs="*", help="passed on to  mithridate run")
    return parser.parse_args()


def trials(asked: Any, run: Path, *, seconds: float) -> int:
    """Run the preset, interrupting it cleanly when the time is up; its exit code."""
    kinds = ["victims.0", "surrogates.0"] if asked.preset == "benchmark-scratch" else ["victims.0"]
    fast = FAST if asked.device != "cpu" else ()
    changes = [part for kind in kinds for setting in fast for part in ("--set", f"{kind}.{setting}")]
    command = [sys.executable, "-m", "mithridate", "run", asked.preset, "--device", asked.device, "--out", str(run)]
    environment = {**os.environ, "MITHRIDATE_DATA": str(asked.data.resolve())}
    process = subprocess.Popen([*command, *changes, *asked.rest], env=environment)
    try:
        return process.wait(timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait(timeout=120)


def result(asked: Any, run: Path, code: int) -> dict[str, Any]:
    """What there is so far, beside what was published."""
    from mithridate.store import Store

    with Store(run) as store:
        meta, rows = store.meta(), store.rows()
        failures = [failure.message for failure in store.failures()]
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    return {
        "preset": asked.preset,
        "finished": code == 0,
        "published": PUBLISHED.get(asked.preset),
        "precision": "float32" if asked.device == "cpu" else "bf16, channels-last, compiled",
        "environment": meta["environment"],
        "jobs": {"planned": meta["jobs"], "rows": len(rows)},
        "seconds": {kind: [round(r["seconds"], 1) for r in rows if r["kind"] == kind] for kind in ("craft", "victim")},
        "failures": failures,
        "rows": summary,
    }


def joined(parts: Path, target: Path) -> None:
    """Put a file together from its parts, in the order of their names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for part in sorted(parts.glob("train.part-*")):
            file.write(part.read_bytes())


def packed(run: Path, out: Path) -> None:
    """Store and poison sets in one archive, cut into pieces."""
    out.mkdir(parents=True, exist_ok=True)
    whole = out / "run.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(run, arcname=run.name, filter=lambda entry: None if "/networks" in entry.name else entry)
    data = whole.read_bytes()
    for old in out.glob("run.tar.*"):
        old.unlink()
    for k in range(0, len(data), PIECE):
        (out / f"run.tar.{k // PIECE:02}").write_bytes(data[k : k + PIECE])
    whole.unlink()


def restored(previous: Path, folder: Path) -> None:
    """The run folder out of an archive's pieces."""
    whole = folder / "previous.tar"
    folder.mkdir(parents=True, exist_ok=True)
    with whole.open("wb") as file:
        for piece in sorted(previous.glob("run.tar.*")):
            with piece.open("rb") as part:
                shutil.copyfileobj(part, file)
    with tarfile.open(whole) as archive:
        archive.extractall(folder, filter="data")
    whole.unlink()


if __name__ == "__main__":
    sys.exit(main())
