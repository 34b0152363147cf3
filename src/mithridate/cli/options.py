"""Options that commands which run jobs share."""

from __future__ import annotations

from typing import Annotated

import typer

from mithridate.errors import ConfigError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Jobs at a time; default: one a core on a CPU.")]
Executor = Annotated[
    str, typer.Option(metavar="NAME", help="Where jobs run: local, processes (one a GPU) or ray; auto chooses.")
]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster (auto: this machine's); default: one is started here.")
]
PerGpu = Annotated[
    int, typer.Option(min=1, metavar="N", help="Jobs that share a GPU, where networks are small and its memory lasts.")
]
Changed = Annotated[
    str | None,
    typer.Option(metavar="keep|redo", help="Where a method's code changed: go on beside its old rows, or redo."),
]
Track = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Also record the run for tensorboard, mlflow or wandb; may be repeated."),
]


def check_changed(changed: str | None) -> None:
    """Raise :class:`ConfigError` where ``--changed`` is neither left out, keep nor redo."""
    if changed not in (None, "keep", "redo"):
        raise ConfigError(f"--changed can be keep or redo, but it is '{changed}'")
