"""An attack turns clean rows into poison; what it returns is quantised and checked before anyone else sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.facts import NO_ATTACKER_FACTS, Fact
from mithridate.goal import Aims, Degrade, GoalSpec
from mithridate.learner import Learner
from mithridate.notes import Notes, no_notes
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.space import Space
from mithridate.threat import ThreatModel
from mithridate.watch import Watch, silent


class Attack(ABC):
    """A published way of making poison. Kinds are frozen dataclasses in ``attacks/``, one method a file."""

    name: ClassVar[str]
    goals: ClassVar[tuple[type[GoalSpec], ...]]
    """The kinds of goal it can pursue."""
    rows: ClassVar[tuple[str, ...]] = ("replace",)
    """Whether it replaces rows, appends them, or both."""
    needs_surrogate: ClassVar[bool] = True
    """Whether it trains networks of its own."""
    needs_dirty_labels: ClassVar[bool] = False
    """Whether all it does is change labels, so that it can do nothing where they must stay."""
    flips_labels: ClassVar[bool] = False
    """Whether it gives its rows another label where labels may be dirty."""
    follows_gradients: ClassVar[bool] = True
    """Whether it needs the gradients of its surrogates' outputs in their inputs."""
    heeds_wanted: ClassVar[bool] = True
    """Whether the class wanted decides how rows are changed; else it only decides which rows are."""
    assumes: ClassVar[tuple[Fact, ...]] = NO_ATTACKER_FACTS
    """What it knows and takes for granted beside what the threat model says, whatever its settings; empty: nothing."""
    in_feature_space: ClassVar[bool] = False
    """Whether it places poison in its surrogates' feature space, so that the report draws where it lies there."""
    resumable: ClassVar[bool] = False
    """Whether :meth:`craft` also takes ``notes``, so that it goes on where it was interrupted: bit for bit on a CPU."""

    def crew(self, surrogates: Sequence[Learner]) -> Sequence[Learner]:
        """Which of the surrogates it crafts with: all of them, unless its settings say otherwise."""
        return surrogates

    def facts(self) -> tuple[Fact, ...]:
        """What it knows and takes for granted with its settings."""
        return self.assumes

    def problems(self) -> list[str]:
        """Why it cannot be tried whatever is wanted, found without crafting anything; empty where it can."""
        return []

    def misfits(self, threat: ThreatModel, space: Space, surrogates: Sequence[Learner]) -> list[str]:
        """Why it cannot craft on data of this space with these surrogates; empty where it can.

        ``surrogates`` are all those of the experiment, inside the defenses that the attacker reckons with. What
        :func:`problems` finds without the data need not be found again.
        """
        return []

    @abstractmethod
    def craft(
        self,
        data: Dataset,
        threat: ThreatModel,
        *,
        aims: Aims,
        surrogates: Sequence[Learner],
        seed: Seed,
        watch: Watch = silent,
    ) -> Poison:
        """Poison for ``data`` that pursues ``aims`` within ``threat``. Callers use :func:`craft`, which checks it.

        A ``resumable`` attack has one argument more, ``notes: Notes = no_notes``. It reads them once, before it goes
        through its steps, and offers its whole state to them after each step, before it tells ``watch``.
        """


def craft(
    attack: Attack,
    data: Dataset,
    *,
    threat: ThreatModel,
    aims: Aims,
    surrogates: Sequence[Learner] = (),
    seed: Seed,
    watch: Watch = silent,
    notes: Notes = no_notes,
) -> Poison:
    """The poison an attack makes, as it would be released: rounded to what can be stored, and within its threat model.

    ``data`` is the clean training set and ``aims`` what the attacker may know (``goal.known``). Attacks that are
    ``resumable`` go on from ``notes``. Raises :class:`ConfigError` where the attack cannot pursue the goal or lacks
    surrogates, and :class:`~mithridate.errors.ThreatModelError` where its result breaks the threat model.
    """
    wrong = problems(attack, threat, surrogates=surrogates)
    if wrong:
        raise ConfigError("; ".join(wrong))
    more = {"notes": notes} if attack.resumable else {}
    raw = attack.craft(data, threat, aims=aims, surrogates=attack.crew(surrogates), seed=seed, watch=watch, **more)
    poison = released(raw, data, threat)
    threat.check(data, poison)
    return poison


def released(poison: Poison, data: Dataset, threat: ThreatModel) -> Poison:
    """The poison rounded to what can be stored, without leaving the allowed change by rounding.

    Values go to the nearest level, rows of a table to the nearest valid one; only where that leaves a radius which is
    no whole number of levels, the rows at fault go to the last level inside it. Raises
    :class:`~mithridate.errors.ThreatModelError` for NaN or infinite values, which rounding would hide.
    """
    if not bool(torch.isfinite(poison.rows.all_inputs()).all()):
        raise ThreatModelError("the poison holds NaN or infinite values")
    rounded = poison.quantised()
    clean = poison.clean(data) if len(poison.rows) else None
    if clean is None:
        return rounded  # where it should have begun somewhere, the check that follows says so
    clean = clean.to(poison.rows.device)
    outside = ~threat.inside(rounded.rows.all_inputs(), clean.all_inputs(), poison.rows.space)
    if not bool(outside.any()):
        return rounded
    inside = poison.towards(clean).rows.inputs
    mask = outside.reshape(-1, *[1] * len(poison.rows.space.shape))
    inputs = torch.where(mask, inside, rounded.rows.inputs)
    return replace(rounded, rows=replace(rounded.rows, inputs=inputs))


def problems(attack: Attack, threat: ThreatModel, *, surrogates: Sequence[Learner]) -> list[str]:
    """Why this attack cannot be tried under this threat model; empty where it can."""
    found = attack.problems()
    if not isinstance(threat.goal, attack.goals):
        able = ", ".join(goal.name for goal in attack.goals)
        found.append(f"{attack.name} cannot pursue the goal '{threat.goal.name}' (it can: {able})")
    if threat.rows not in attack.rows:
        found.append(f"{attack.name} cannot {threat.rows} rows (it can: {', '.join(attack.rows)})")
    if attack.needs_dirty_labels and threat.labels != "dirty":
        found.append(f"{attack.name} changes labels, but the threat model says clean labels; set threat.labels: dirty")
    found += _origin_problems(attack, threat)
    if attack.needs_surrogate and not surrogates:
        found.append(f"{attack.name} needs at least one surrogate learner")
    try:
        crew = attack.crew(surrogates) if attack.needs_surrogate else ()
    except ConfigError as error:
        return [*found, str(error)]
    if attack.follows_gradients:
        blind = dict.fromkeys(each.name for each in crew if not each.differentiable)
        found += [f"{attack.name} follows gradients of its surrogates, but '{each}' has none" for each in blind]
    return found


def _origin_problems(attack: Attack, threat: ThreatModel) -> list[str]:
    """Rows of the wanted class under another label work against what is wanted."""
    generic = isinstance(threat.goal, Degrade) and threat.goal.kind == "generic"
    if not attack.flips_labels or threat.labels != "dirty" or threat.origin != "single-class" or generic:
        return []
    if threat.base_ids:
        return []
    return [
        f"{attack.name} would take rows of the wanted class and give them another label, which works against it "
        "(threat.origin: single-class); set origin to either-class, self-betrayal or random-subset"
    ]
