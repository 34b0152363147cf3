"""``mithridate retry``: try the failed jobs of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mithridate.cli import options


def retry(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    device: options.Device = "auto",
    workers: options.Workers = None,
    executor: options.Executor = "auto",
    address: options.Address = None,
    per_gpu: options.PerGpu = 1,
    changed: options.Changed = None,
    track: options.Track = None,
) -> None:
    """Try the jobs of a run again that failed or were lost, with the settings kept in its folder."""
    from mithridate.cli.executing import device as device_for
    from mithridate.cli.running import carry_out
    from mithridate.store import Store

    options.check_changed(changed)
    with Store(folder) as store:
        meta, progress = store.meta(), store.progress()
    failed, lost = progress.total("failed"), progress.total("lost")
    if not failed + lost:
        left = progress.total("waiting", "running")
        rest = f"; {left} jobs are not done yet: go on with  {meta.get('command', 'mithridate run')}" if left else ""
        typer.echo(f"No job of the run in '{folder}' has failed{rest}")
        return
    typer.echo(f"Trying {_counted(failed, 'failed')} and {_counted(lost, 'lost')} again")
    carry_out(
        _experiment(folder, meta),
        out=folder,
        where=device_for(device, executor),
        workers=workers,
        executor=executor,
        address=address,
        per_gpu=per_gpu,
        track=track or (),
        changed=changed,
        command=str(meta.get("command", "")),
        states=("failed", "lost"),
    )


def _experiment(folder: Path, meta: dict[str, Any]) -> Any:
    """The experiment whose settings are kept in the folder."""
    from mithridate import config
    from mithridate.errors import ConfigError, StoreError
    from mithridate.experiment import Experiment

    try:
        return config.parse(Experiment, meta.get("experiment"))
    except ConfigError as error:
        raise StoreError(
            f"the settings kept in '{folder}' cannot be read back ({error}); try the failed jobs again with the file "
            f"that the run was begun with:  {meta.get('command', 'mithridate run')}"
        ) from error


def _counted(number: int, what: str) -> str:
    return f"{number} {what} job{'s' * (number != 1)}"
