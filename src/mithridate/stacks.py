"""The stacks of defenses an experiment tries: those asked for, then the controls of each one that drops rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from mithridate import registry
from mithridate.control import Control, MatchedControl
from mithridate.defense import Defense
from mithridate.errors import ConfigError
from mithridate.settings import distinct, fingerprint


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
    added = [_control(name, stack) for stack in asked if _drops(stack) for name in controls.drops]
    everything = {fingerprint(stack): stack for stack in (*asked, *added)}
    return tuple(Stack(defenses=stack, control_of=_controlled(stack, asked)) for stack in everything.values())


def _controlled(control: tuple[Defense, ...], asked: Sequence[tuple[Defense, ...]]) -> tuple[int, ...]:
    """Numbers of the stacks asked for that ``control`` is a control of; none where it is no control."""
    if not control or not isinstance(control[-1], Control):
        return ()
    like = control[-1].like if isinstance(control[-1], MatchedControl) else None
    return tuple(
        number
        for number, stack in enumerate(asked)
        if _drops(stack) and fingerprint(stack[:-1]) == fingerprint(control[:-1]) and like in (None, stack[-1])
    )


def _drops(stack: Sequence[Defense]) -> bool:
    """Whether a stack ends in a defense that drops rows and is no control itself."""
    return bool(stack) and stack[-1].drops and not isinstance(stack[-1], Control)


def _control(name: str, stack: tuple[Defense, ...]) -> tuple[Defense, ...]:
    """The same stack with the last defense replaced by a control of it."""
    kind = registry.kind(Defense, name)
    needs_like = any(each.name == "like" for each in fields(kind))
    return (*stack[:-1], kind(like=stack[-1]) if needs_like else kind())


def names(found: Sequence[Stack]) -> list[str]:
    """A name for each stack, for tables; defenses of one name are told apart by the settings that differ."""
    everything = [each for stack in found for defense in stack.defenses for each in _with_like(defense)]
    single = list({fingerprint(each): each for each in everything if not isinstance(each, MatchedControl)}.values())
    titles = dict(zip(map(fingerprint, single), distinct(single, [each.title for each in single]), strict=True))

    def title(defense: Defense) -> str:
        if isinstance(defense, MatchedControl):
            return f"{defense.name} (like {title(defense.like)})"
        return titles[fingerprint(defense)]

    return [" + ".join(title(each) for each in stack.defenses) or "none" for stack in found]


def _with_like(defense: Defense) -> list[Defense]:
    return [defense, *_with_like(defense.like)] if isinstance(defense, MatchedControl) else [defense]
