"""From what a person typed to an experiment: a file or a preset, with changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mithridate import config
from mithridate.errors import ConfigError
from mithridate.experiment import Experiment


def experiment(what: str, *, changes: list[str], trials: int | None = None) -> Experiment:
    """The experiment in a YAML file, or the bundled preset of that name. Raises with every problem of its settings."""
    settings = config.override(read(what), changes)
    if trials is not None:
        settings["trials"] = trials
    return config.parse(Experiment, settings)


def read(what: str) -> dict[str, Any]:
    """The plain settings of a file or preset."""
    path = Path(what)
    if path.is_dir():
        path = path / "experiment.json"
        if not path.is_file():
            raise ConfigError(
                f"'{what}' is a folder without experiment.json; name a YAML file, a preset or a run folder"
            )
    if path.is_file():
        try:
            return config.read_yaml(path.read_text(encoding="utf-8"), where=str(path))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: this is no text file") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        raise ConfigError(f"there is no file '{what}'")
    return config.read_yaml(config.load_preset(what), where=f"preset {what}")


def preset_names() -> list[str]:
    """Names of the bundled presets, for shell completion."""
    return list(config.presets())
