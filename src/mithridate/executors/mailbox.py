"""Where nodes of a cluster tell the driver what goes on there. Light to import, since it has a process of its own."""

from __future__ import annotations

from mithridate.watch import Step


class Mailbox:
    """An actor through which nodes tell the driver which jobs began, and where they are."""

    def __init__(self) -> None:
        self._letters: list[tuple[str, str | Step]] = []

    def put(self, key: str, said: str | Step) -> None:
        """Leave a job's step, or where it begins."""
        self._letters.append((key, said))

    def take(self) -> list[tuple[str, str | Step]]:
        """All that was left since the last time, oldest first."""
        found, self._letters = self._letters, []
        return found
