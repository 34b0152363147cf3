"""The stacks of defenses an experiment tries: those asked for, then the controls of each one that drops rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mithridate import registry
from mithridate.control import Control, MatchedControl
from mithridate.defense import Defense
from mithridate.errors import ConfigError
from mithridate.settings import fingerprint, plain, short


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What runs beside every attack and every defense, so that its number means something. 0 or none: switched off."""

    clean: int = 2
    """Victims trained on clean data and judged on every trial's targets: the base rate."""
    noise: int = 1
    """Victims a trial trained on the same rows with random noise of the same radius."""
    drops: tuple[str, ...] = ("random-drop", "top-loss-drop", "oracle-filter")
    """Controls that run beside each defense which drops rows: as many random rows, as many of the highest loss, and
    (once for all of them) exactly the poison."""

    def __post_init__(self) -> None:
        """Refuse negative numbers and names that are no control."""
        if min(self.clean, self.noise) < 0:
            raise ConfigError("controls are numbers of victims, at least 0")
        for name in self.drops:
            if not issubclass(registry.kind(Defense, name), Control):
                raise ConfigError(
                    f"'{name}' is a defense, no control; allowed: random-drop, top-loss-drop, oracle-filter"
                )


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Defenses worn together, the first one innermost."""

    defenses: tuple[Defense, ...] = ()
    control_of: tuple[int, ...] = ()
    """Numbers of the stacks that this one is a control of; empty for those asked for."""


def stacks(asked: Sequence[tuple[Defense, ...]], controls: Controls) -> tuple[Stack, ...]:
    """Those asked for, in order, and then their controls, each once; a control asked for by name is not added again."""
    added = [
        _control(name, stack, place)
        for stack in asked
        if (place := _dropper(stack)) is not None
        for name in controls.drops
    ]
    everything = {fingerprint(stack): stack for stack in (*asked, *added)}
    return tuple(Stack(defenses=stack, control_of=_controlled(stack, asked)) for stack in everything.values())


def _controlled(control: tuple[Defense, ...], asked: Sequence[tuple[Defense, ...]]) -> tuple[int, ...]:
    """Numbers of the stacks asked for that ``control`` is a control of; none where it is no control."""
    places = [k for k, each in enumerate(control) if isinstance(each, Control)]
    return tuple(number for number, stack in enumerate(asked) if any(_is_control(control, stack, k) for k in places))


def _is_control(control: Sequence[Defense], stack: Sequence[Defense], place: int) -> bool:
    """Whether two stacks are the same but for a dropping defense at ``place`` and a control of it."""
    if len(control) != len(stack) or _dropper(stack) != place:
        return False
    here = control[place]
    rest = [fingerprint(*each[:place], *each[place + 1 :]) for each in (control, stack)]
    return rest[0] == rest[1] and (not isinstance(here, MatchedControl) or here.like == stack[place])


def _dropper(stack: Sequence[Defense]) -> int | None:
    """The place of the last defense that drops rows and is no control itself; None where there is none."""
    found = [k for k, each in enumerate(stack) if each.drops and not isinstance(each, Control)]
    return found[-1] if found else None


def _control(name: str, stack: tuple[Defense, ...], place: int) -> tuple[Defense, ...]:
    """The same stack with the defense at ``place`` replaced by a control of it."""
    kind = registry.kind(Defense, name)
    needs_like = any(each.name == "like" for each in fields(kind))
    return (*stack[:place], kind(like=stack[place]) if needs_like else kind(), *stack[place + 1 :])


def names(found: Sequence[Stack]) -> list[str]:
    """A name for each stack, for tables. It depends on the stack alone, so that a run keeps its names as it grows."""
    return [" + ".join(_title(each) for each in stack.defenses) or "none" for stack in found]


def _title(defense: Defense) -> str:
    """What a defense calls itself, the published preset it is nearest to, and the settings that differ from that."""
    if isinstance(defense, MatchedControl):
        return f"{defense.name} (like {_title(defense.like)})"
    mine, usual = plain(defense), {each["name"]: each["default"] for each in registry.settings(type(defense))}
    presets = {"": {}} | {f", {name}": each for name, each in getattr(defense, "presets", {}).items()}
    changes = {name: _changed(mine, {**usual, **each}) for name, each in presets.items()}
    preset = min(changes, key=lambda name: len(changes[name]))  # of several the first: the defaults
    told = ", ".join(f"{key}={short(value)}" for key, value in changes[preset].items())
    return f"{defense.title}{preset} ({told})" if told else f"{defense.title}{preset}"


def _changed(mine: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in ``mine`` that are not as usual."""
    return {key: value for key, value in mine.items() if key in usual and value != usual[key] and value != "true"}
