"""The first of several sources that is there: the full data where they are, others where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mithridate.errors import AbsentError, ConfigError, MissingExtraError
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class FirstOf(Source):
    """The first of several sources that is there, so that one experiment runs where a set is and where it is not.

    A source that is not on this machine is looked for on the hub, as it is alone. Where the ``datasets`` extra is
    installed but no network is, that takes half a minute a source; ``HF_HUB_OFFLINE=1`` makes it give up at once.
    """

    name: ClassVar[str] = "first-of"

    sources: tuple[Source, ...]
    """Sources in the order they are tried; the later ones are only read where the earlier ones are not there."""

    def __post_init__(self) -> None:
        """Refuse none."""
        if not self.sources:
            raise ConfigError("sources must name at least one source, but it names none")

    def load(self) -> Split:
        """What the first source loads that is there. A damaged one is not passed over.

        Raises :class:`AbsentError` with why each of them is not there.
        """
        failures = []
        for source in self.sources:
            try:
                return source.load()
            except (AbsentError, MissingExtraError) as error:
                failures.append(f"{source.name}: {error}")
        raise AbsentError(f"none of the {len(failures)} sources can be loaded; " + "; ".join(failures))
