"""The command line, one file per command."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mithridate.cli import (
    benching,
    check,
    comparing,
    exporting,
    gating,
    inspecting,
    judging,
    leaderboard,
    listing,
    repairing,
    reporting,
    retrying,
    running,
    scanning,
    showing,
    status,
    stressing,
)
from mithridate.cli.terminal import errors_console
from mithridate.errors import MithridateError


class _Interrupted(BaseException):
    """An interrupt on its way to :func:`main`, past typer, which would end in silence."""


class _Group(TyperGroup):
    """The commands."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error


app = typer.Typer(
    name="mithridate",
    cls=_Group,
    help="What can a data poisoner do to your training pipeline, and what does each defense cost you?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(running.run)
app.command("check")(check.check)
app.command("bench")(benching.bench)
app.command("compare")(comparing.compare)
app.command("list")(listing.list_names)
app.command("show")(showing.show)
app.command("repair")(repairing.repair)
app.command("retry")(retrying.retry)
app.command("status")(status.status)
app.command("report")(reporting.report)
app.command("export")(exporting.export)
app.command("gate")(gating.gate)
app.command("inspect")(inspecting.inspect)
app.command("judge")(judging.judge)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("scan")(scanning.scan)
app.command("stress")(stressing.stress)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    if version:
        from mithridate import __version__

        typer.echo(f"mithridate {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; a mistake of the user's ends in a sentence and exit code 1, never in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # class names need not be in the terminal's alphabet
    sys.path.append(str(Path.cwd()))  # last, so that the user's own factories are found and shadow nothing
    with _noting_interrupts() as heard:
        _called(heard)


def _called(heard: list[int]) -> None:
    """Do what the command line says; ``heard``: interrupts so far."""
    try:
        app()
    except MithridateError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, _Interrupted):
        _stop()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else error.strerror or str(error)
        _fail(f"{what}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception:
        if not heard:
            raise
        _stop()  # a module that was being imported may make anything of an interrupt


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """A list that gets an item whenever Python's own handler of a terminal's interrupts raises inside the block."""
    heard: list[int] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield heard
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _stop() -> NoReturn:
    typer.echo("stopped", err=True)
    sys.exit(130)


def _fail(text: str, code: int) -> None:
    for line in text.splitlines():
        errors_console().print(f"error: {line}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
