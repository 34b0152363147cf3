r"""What the fast paths cost and give on a GPU, in resumable pieces of minutes, each beside what is aimed at.

    python benchmarks/gpu.py --list
    python benchmarks/gpu.py --piece NAME [--piece NAME ...] --work DIR --out FILE [--minutes 9] [--tiny]
    python benchmarks/gpu.py --all --work DIR --out FILE [--minutes 9]

What is done is kept in ``--work``, unit by unit: a call that ends, at its own limit or killed, is gone on with by the
next one with the same folder. A craft goes on at its step, a victim at its epoch, a protocol's run at its job.
``--out`` holds all pieces measured so far, one machine and size a file. Units that failed stay so; ``--again`` tries
them again. ``--tiny`` is for trying it out, on a CPU too: a few rows and small networks, and no goal is judged.

CIFAR-10 is looked for in MITHRIDATE_DATA (or ``--data``), laid out as ``cifar10/train-00000-of-00001.parquet``. The
precision, layout and compilation of every training are recorded: published runs used float32.

A machine with a GPU that is lent for minutes at a time, bare, takes 64 MiB a call, the tree (12 MiB) included, and 10
minutes. The Parquet files are 111 MiB, so they go in three parts, in three calls one right after the other (a machine
without a call for half a minute goes back). The package pydantic goes as wheels, and so does this project.

Here first, in the root (``.carry/`` and ``.whl/`` must be ignored by git; see the device's README for wheels)::

    printf '/.carry/\n/.whl/\n' >> .git/info/exclude
    python benchmarks/gpu.py --data FOLDER_ABOVE_CIFAR10 --split .carry/cifar --count 3
    python -m pip wheel --no-deps -w .whl .
    python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .whl \
        pydantic==V pydantic_core==V annotated-types==V typing-inspection==V typing-extensions==V   (V: as here)

Then there, each line a call of ``run``; ``carry`` names what it takes. S stands for ``python3 -m pip install -q
--no-index --no-deps --no-compile --upgrade --target /tmp/site .whl/*.whl``, G for ``PYTHONPATH=src:/tmp/site
PYTHONUNBUFFERED=1 MITHRIDATE_DATA=/tmp/data python3 benchmarks/gpu.py`` and W for ``--work /tmp/work --out
$OUT/gpu.json --pack $OUT``::

    1. carry [.carry/cifar/1, .whl]  S; G --join .carry/cifar/1; G --piece machine W --minutes 1
    2. carry [.carry/cifar/2]        G --join .carry/cifar/2; G --piece together W --minutes 3
    3. carry [.carry/cifar/3]        G --join .carry/cifar/3; G --piece craft --piece steps W --minutes 8
    4. carry []                      G --piece fast-victims --piece epic --piece victims W --minutes 6
    5. carry []                      G --piece benchmark-scratch-fast --trials 20 --piece exactness W --minutes 8

which is some 28 minutes with starts and transfers; in a later session ``--all`` goes on with what is not done, and
``witches-brew`` and ``benchmark-scratch`` (hours) in as many calls as one likes. After every call, here::

    python benchmarks/gpu.py --merge FILES_AT/gpu.json        into benchmarks/results/gpu.json
    cp FILES_AT/work.tar.* .carry/work/                       for a machine that has forgotten everything

On such a machine the joining calls come first again, and then one with ``carry [.carry/work]`` and ``--restore
.carry/work`` beside its ``--piece`` (the work must be less than the 64 MiB that a call takes, the tree included).
Networks, and jobs that were under way, are not carried: they are computed again. Nothing of this has run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_pieces import carrying, ceilings, crafting, epic, matching, results, together, trials, victims
from gpu_pieces.keeping import Kept, Piece, carried_out
from gpu_pieces.place import Place
from mithridate import runtime
from mithridate.errors import ConfigError, MithridateError, nearest

PLACE = Path(__file__).resolve().parent / "results" / "gpu.json"
PIECES: dict[str, Piece] = {
    piece.name: piece
    for piece in (
        ceilings.PIECE,
        matching.EXACTNESS,
        matching.STEPS,
        crafting.PIECE,
        victims.VICTIMS,
        victims.FAST_VICTIMS,
        epic.PIECE,
        together.PIECE,
        *trials.PIECES,
    )
}
RESERVE = 20.0
"""Seconds of a call that are left for writing."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what is asked; 1 and a sentence where that cannot be."""
    started = time.monotonic()
    asked = arguments(words)
    if asked.data is not None:
        os.environ["MITHRIDATE_DATA"] = str(asked.data.resolve())
    try:
        if asked.list:
            print("\n".join(f"{name:24}{piece.about}" for name, piece in PIECES.items()))
        elif asked.split or asked.join or asked.merge:
            print(carried(asked))
        else:
            measure(asked, started)
    except MithridateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def arguments(words: Sequence[str] | None) -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the pieces")
    parser.add_argument("--piece", action="append", default=[], help="measure this; may be repeated")
    parser.add_argument("--all", action="store_true", help="measure every piece that is not done")
    parser.add_argument("--work", type=Path, help="folder in which work is kept between calls")
    parser.add_argument("--out", type=Path, help="file of results; default on a GPU: benchmarks/results/gpu.json")
    parser.add_argument("--minutes", type=float, default=9, help="when to stop")
    parser.add_argument("--trials", type=int, help="trials planned of each protocol; default: all that it has")
    parser.add_argument("--again", action="store_true", help="try units that failed again")
    parser.add_argument("--tiny", action="store_true", help="a few rows and small networks: to try it out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, help="the folder above cifar10/; default: MITHRIDATE_DATA")
    parser.add_argument("--pack", type=Path, help="also write the work here, in parts of 15 MiB")
    parser.add_argument("--restore", type=Path, help="first unpack the work that --pack wrote here")
    parser.add_argument("--split", type=Path, help="cut CIFAR-10 into --count parts, in this folder")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--join", type=Path, help="take the parts of CIFAR-10 in this folder into --data")
    parser.add_argument("--merge", type=Path, help="take the pieces of this file into --out")
    return parser.parse_args(words)


def carried(asked: Any) -> str:
    """Split, join or merge; what came of it."""
    if asked.merge:
        out = asked.out or PLACE
        try:
            found = json.loads(asked.merge.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"'{asked.merge}' is no file of results ({error})") from error
        if asked.out is None and not all(results.judged(each["environment"]) for each in found["pieces"].values()):
            raise ConfigError("only full results of a GPU go where results are recorded; name another file with --out")
        results.merge(found["pieces"], out, command=found["command"], order=PIECES)
        return f"'{out}' holds what '{asked.merge}' does"
    named = os.environ.get("MITHRIDATE_DATA")
    if not named:
        raise ConfigError("no folder is named for CIFAR-10; name the one above cifar10/ with --data or MITHRIDATE_DATA")
    if asked.join:
        return carrying.join(asked.join, Path(named))
    if asked.count < 1:
        raise ConfigError(f"--count must be at least 1, but it is {asked.count}")
    return "\n".join(map(str, carrying.split(Path(named), asked.split, asked.count)))


def measure(asked: Any, started: float) -> None:
    """Measure the pieces asked for until the minutes are over, writing results as they come."""
    pieces = chosen(asked)
    device = runtime.device(asked.device)
    out = output(asked, device)
    if asked.restore:
        print(carrying.restore(asked.restore, asked.work))
    runtime.use_threads(runtime.cores() if device.type == "cuda" else 1)
    place = Place(
        device=device,
        tiny=asked.tiny,
        folder=asked.work,
        deadline=started + 60 * asked.minutes - (0 if asked.tiny else RESERVE),
        trials=asked.trials,
    )
    for piece in pieces:

        def write(kept: Kept, piece: Piece = piece) -> None:
            command = "python benchmarks/gpu.py --all" + (" --tiny" if asked.tiny else "")
            results.merge({piece.name: results.told(piece, kept)}, out, command=command, order=PIECES)

        if asked.again:
            forget(piece, place)
        kept = carried_out(piece, place, say=lambda text: print(text, flush=True), after=write)
        print(f"{piece.name}: {'complete' if not kept.left else 'left: ' + ', '.join(kept.left)}", flush=True)
        for each in results.told(piece, kept)["rows"]:
            print("  " + ", ".join(f"{value}" for value in each.values() if value not in ("", None)))
    if asked.pack:
        print(carrying.pack(asked.work, asked.pack))


def chosen(asked: Any) -> list[Piece]:
    """The pieces asked for. Raises :class:`ConfigError` for none, an unknown one, and no folder for work."""
    names = list(PIECES) if asked.all else asked.piece
    if not names:
        raise ConfigError("nothing is asked for: name pieces with --piece (--list shows them), or take --all")
    for name in names:
        if name not in PIECES:
            raise ConfigError(f"there is no piece '{name}': {nearest(name, PIECES)}")
    if asked.work is None:
        raise ConfigError("no folder is named to keep work in between calls; name one with --work")
    if asked.minutes < 0:
        raise ConfigError(f"--minutes must be at least 0, but it is {asked.minutes:g}")
    return [PIECES[name] for name in names]


def output(asked: Any, device: torch.device) -> Path:
    """The file of results. Raises :class:`ConfigError` where those of no GPU would stand among the recorded."""
    if asked.out is not None:
        found: Path = asked.out
        return found
    if asked.tiny or device.type != "cuda":
        raise ConfigError("only full results of a GPU go where results are recorded; name another file with --out")
    return PLACE


def forget(piece: Piece, place: Place) -> None:
    """Have the failed units of a piece done again."""
    kept = Kept.of(piece, place)
    kept.again()
    kept.write()


if __name__ == "__main__":
    sys.exit(main())
