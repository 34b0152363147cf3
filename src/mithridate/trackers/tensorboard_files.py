"""TensorBoard: event files in DIR/tensorboard, read by ``tensorboard --logdir``. Needs the ``tensorboard`` extra."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mithridate.errors import MissingExtraError
from mithridate.tracker import Point, Tracker

try:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util import tensor_util
except ImportError as error:
    raise MissingExtraError("--track tensorboard", "tensorboard") from error

_LONGEST = 20_000  # characters of a text


class TensorBoard(Tracker):
    """One event file for each time the run was started, all in one folder, which TensorBoard shows as one run."""

    name: ClassVar[str] = "tensorboard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        """Open a new event file; settings are a text in the first."""
        first = not self._files()
        self._writer = EventFileWriter(str(self._folder), filename_suffix=f".{len(self._files()):06d}")
        if first:
            rows = "".join(f"| `{place}` | `{json.dumps(value)}` |\n" for place, value in settings.items())
            self._text("settings", f"# {title}\n\n| setting | value |\n| --- | --- |\n{rows}")
        return title

    def last(self) -> dict[str, int]:
        """The last steps, read from all event files."""
        found: dict[str, int] = {}
        for path in self._files():
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    found[value.tag] = max(event.step, found.get(value.tag, 0))
        return found

    def log(self, points: Sequence[Point]) -> None:
        """Add scalars."""
        for point in points:
            self._add(Summary.Value(tag=point.tag, simple_value=point.value), point.step)
        self._writer.flush()

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        """Add short files as texts and the places of others, for TensorBoard keeps no files."""
        for path in files:
            text = path.read_text(encoding="utf-8") if path.suffix == ".json" else ""
            self._text(path.name, f"`{path.name}` lies in `{path.parent.resolve()}`\n\n" + _block(text))
        self._writer.close()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("events.out.tfevents.*"))

    def _text(self, tag: str, text: str) -> None:
        self._add(
            Summary.Value(
                tag=tag,
                metadata=metadata.create_summary_metadata(tag, tag),
                tensor=tensor_util.make_tensor_proto(text.encode()),
            ),
            0,
        )

    def _add(self, value: Any, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))


def _block(text: str) -> str:
    if not text:
        return ""
    cut = text[:_LONGEST] + ("\n..." if len(text) > _LONGEST else "")
    return f"```\n{cut}\n```\n"
