"""``mithridate gate``: whether a run shows that poison stays below a limit, for pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mithridate.errors import ConfigError

EXIT = {"passed": 0, "exceeded": 3, "unknown": 4}
"""Exit codes by outcome."""


def share(text: object) -> float:
    """A share as people write it, "0.05", "5%" or "5 %", in [0, 1]. Raises :class:`ConfigError` for anything else."""
    number = str(text).strip()
    try:
        return float(number.removesuffix("%")) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise ConfigError(f"a limit is a share such as 0.05 or 5%, but this is {number!r}") from None


def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    max_success: Annotated[
        float | None, typer.Option(metavar="P", parser=share, help="Highest success of the poisoner: 5% or 0.05.")
    ] = None,
    max_rise: Annotated[
        float | None,
        typer.Option(metavar="P", parser=share, help="Highest rise of the error, for attacks that degrade: 5%."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="P", parser=share, help="Lowest accuracy on clean data of poisoned victims: 80%."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(metavar="P", parser=share, help="Confidence of every bound, one-sided.")
    ] = 0.95,
    attack: Annotated[str | None, typer.Option(help="This attack alone.")] = None,
    defense: Annotated[str | None, typer.Option(help="This defense alone; none: the undefended victims.")] = None,
    allow_unlanded: Annotated[
        bool, typer.Option("--allow-unlanded", help="Let pass though the attack did not land without the defense.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write SARIF 2.1.0.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Pass (0) where bounds on success keep to the limit, fail (3) where they break it, or say that it cannot tell (4).

    Without a defense in the run the undefended victims stand before the gate. An unfinished run, or one with failed
    jobs, never passes. Refused input ends with 1.
    """
    import json

    from mithridate import __version__
    from mithridate.cli.terminal import console
    from mithridate.report import gate_files
    from mithridate.report.gating import Limits
    from mithridate.report.gating import gate as judged
    from mithridate.store import write_atomically

    limits = Limits(
        max_success=max_success,
        max_rise=max_rise,
        min_accuracy=min_accuracy,
        confidence=confidence,
        allow_unlanded=allow_unlanded,
    )
    for path in (junit, sarif):
        if path and not path.absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    found = judged(folder, limits, attack=attack, defense=defense)
    if junit:
        write_atomically(junit, gate_files.as_junit(found))
    if sarif:
        write_atomically(sarif, gate_files.as_sarif(found, version=__version__))
    if as_json:
        typer.echo(json.dumps(gate_files.as_json(found), indent=2, ensure_ascii=False))
        raise typer.Exit(EXIT[found.outcome])
    screen, marks = console(), {"passed": "passed", "exceeded": "EXCEEDED", "unknown": "cannot tell"}
    for each in found.cells:
        screen.print(f"{marks[each.outcome]}: {each.name}\n  {each.sentence}", markup=False, highlight=False)
    screen.print(found.sentence, markup=False, highlight=False)
    if found.unfinished and found.outcome == "exceeded":
        screen.print(f"Besides, {found.unfinished}.", markup=False, highlight=False)
    raise typer.Exit(EXIT[found.outcome])
