"""YAML text to plain values: safe, bounded in size, and every mistake a sentence with its line."""

from __future__ import annotations

from typing import Any

import yaml

from mithridate.errors import ConfigError

_LONGEST = 200_000  # characters: reading so many takes seconds, and presets have two thousand


def loaded(text: str, *, where: str) -> Any:
    """What a YAML text holds, as plain values. Raises :class:`ConfigError` naming place and line."""
    if len(text) > _LONGEST:
        raise ConfigError(f"{where}: at most {_LONGEST} characters are read, but there are {len(text)}")
    try:
        return yaml.load(text, Loader=_Careful)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise ConfigError(f"{where}:{line} this is no valid YAML ({_first_words(error)})") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: this is nested too deep") from error
    except Exception as error:  # the loader raises a dozen kinds on values that do not fit their tag
        raise ConfigError(f"{where}: this is no valid YAML ({_first_words(error)})") from error


class _Careful(yaml.SafeLoader):
    """A safe loader that refuses keys written twice, aliases (nine lines of them fill any memory) and broken text."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, no alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            text = f"aliases such as *{event.anchor} are not read, write the settings out"
            raise yaml.composer.ComposerError(None, None, text, event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """The text of a node, as it can be written to a file again."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise yaml.constructor.ConstructorError(None, None, "half a character (a surrogate)", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, its keys unique."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is written twice", key.start_mark
                )
            seen.add(str(getattr(key, "value", key)))
        return super().construct_mapping(node, deep=deep)


def _without_base_60(tag: str, value: str) -> Any:
    """What YAML 1.1 reads as a number in base 60 (``10:50`` as 650) is text: here it is a range of rows."""
    constructor = yaml.SafeLoader.yaml_constructors[tag]

    def construct(loader: _Careful, node: yaml.ScalarNode) -> Any:
        return node.value if value in node.value else constructor(loader, node)

    return construct


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _Careful.add_constructor(_tag, _without_base_60(_tag, ":"))


def _first_words(error: Exception) -> str:
    return (getattr(error, "problem", None) or str(error) or type(error).__name__).partition("\n")[0]
