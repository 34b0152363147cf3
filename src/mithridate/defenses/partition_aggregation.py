"""Deep partition aggregation: a network for each part of the training set, a majority vote, and what it withstands.

"Deep Partition Aggregation: Provable Defenses against General Poisoning Attacks", A. Levine and S. Feizi, ICLR 2021,
https://arxiv.org/abs/2006.14768, section 3 and theorem 1. A hash of the row puts every training row into one of ``k``
partitions; a row that an attacker inserts or removes therefore reaches one network and one vote. The certificate of
the voting network is proven, not estimated: it needs no more than that nothing else carries a row into another vote.

What the certificate counts, for an input whose certificate is ``r``:

- rows inserted or removed, in all: ``r`` of them cannot change the class of the input;
- labels changed: ``r`` of them, since the hash leaves the label out, so that the row stays where it is;
- rows whose inputs are changed (with their labels or without): ``r // 2``, since such a row is taken from one partition
  and put into another. They add up: inserted + removed + labels changed + 2 x inputs changed is at most ``r``.

Differences from the paper:

1. The hash is SHA-256 of the input as stored (uint8 codes or floats, so the same picture stored in two ways may go to
   two partitions) modulo ``k``; the paper adds up the pixels of an image. Any fixed function will do.
2. Inputs are normalised with the mean and standard deviation of the partition. Statistics of all rows would carry
   every row into every partition. A space without statistics stays without.
3. Rows are numbered anew inside their partition, in the order of hash and label, and the seed comes from the number of
   the partition: neither ids nor the order of the rows reach a network. Equal rows count as often as they occur.
4. A partition whose rows have one class (one row, for example) votes for that class, one without rows for class 0.
5. The semi-supervised variant (SS-DPA) is not here.

What is proven is that training is a function of the partition. So it must be repeatable: on a GPU that means
deterministic kernels, which are the user's to switch on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space, channel_statistics
from mithridate.defense import Defense
from mithridate.errors import ConfigError, FormatError
from mithridate.facts import Fact, defender
from mithridate.learner import Around, Hook, Learner, Progress, Removal, predictions, removals_of, removals_state
from mithridate.model import Classifier
from mithridate.ops.certificate import certified_radius, winners
from mithridate.seeding import Seed

_NETWORK = -1
_ABSENT = -2


@dataclass(frozen=True, kw_only=True)
class PartitionAggregation(Defense):
    """Train a network on each part of the rows and let them vote; says how many rows cannot change the vote."""

    name: ClassVar[str] = "partition-aggregation"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "few enough of them inserted, removed or changed: as many as the certificate of an input allows",
            where="Levine and Feizi 2021, theorem 1",
        ),
    )
    outermost: ClassVar[bool] = True

    partitions: int = 50
    """Networks that vote, each trained on a part of the rows. More withstand more and know less. Paper: 50 or 250 on
    CIFAR-10, 1200 or 3000 on MNIST."""

    def __post_init__(self) -> None:
        """Refuse a vote without voters."""
        if self.partitions < 1:
            raise ConfigError(f"partitions must be at least 1, but it is {self.partitions}")

    def protect(self, learner: Learner) -> Learner:
        """Train as ``learner`` does on each partition, and vote."""
        return Partitioned(learner=learner, defense=self)


@dataclass(frozen=True, kw_only=True)
class Partitioned(Around):
    """Trains one network on each partition with the learner inside.

    Defenses inside train with every network, with hooks of their own. A hook from outside is refused, because it holds
    the state of one training, not of many: such a defense comes before this one in the stack.
    """

    name: ClassVar[str] = "partitioned"

    defense: PartitionAggregation
    """How many partitions."""

    def build(self, space: Space, seed: Seed) -> Voting:
        """As many untrained networks of the learner inside, voting."""
        members = [self.learner.build(space, seed.child("partition", k)) for k in range(self.defense.partitions)]
        return Voting(members, num_classes=space.num_classes)

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """One item for each partition done; those still to be trained abstain. Facts are the largest of any network.

        Loss and accuracy are means over the rows of the partitions done, each at the end of its training; a partition
        of one class counts with a loss of 0 and an accuracy of 1.
        """
        if hooks:
            raise ConfigError(
                f"partition-aggregation trains {self.defense.partitions} networks, but a defense that acts inside the "
                "training loop serves one training: put it before partition-aggregation in the stack"
            )
        run = _Run(model=self.build(data.space, seed.child("weights")).to(data.device).eval())
        run.model.constants.fill_(_ABSENT)
        if resume is not None:
            run.restore(resume)
            if run.done == self.defense.partitions:  # stopped after the last one
                yield run.progress()
        for number, index in list(enumerate(partitioned(data, self.defense.partitions)))[run.done :]:
            self._train_one(run, number, data, index, seed)
            yield run.progress()

    def _train_one(self, run: _Run, number: int, data: Dataset, index: Tensor, seed: Seed) -> None:
        part = standing_alone(data, index)
        constant = constant_vote(part)
        if constant is None:
            run.add(self.learner.fit(part, seed=seed.child("partition", number)), data.ids[index])
        else:
            run.add_constant(constant, len(part))


class Voting(Classifier):
    """Networks that each have one vote. The logits are the votes of each class, less a little for higher classes."""

    constants: Tensor
    """``(k,)`` int64: the class that a member always votes for; -1: what its network says; -2: it abstains."""

    def __init__(self, members: Sequence[Classifier], *, num_classes: int) -> None:
        """Let ``members`` vote, every one by its network."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_classes = num_classes
        self.register_buffer("constants", torch.full((len(members),), _NETWORK))

    def features(self, inputs: Tensor) -> Tensor:
        """Votes ``(N, k * num_classes)``: member by member a 1 for its class and 0 for others, all 0 if it abstains.

        They have the gradients of the members' probabilities (a straight-through estimate), for attackers who adapt.
        """
        return torch.cat([self._votes(k, constant, inputs) for k, constant in enumerate(self.constants.tolist())], 1)

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, num_classes)``: the votes of each class, less the class times ``1 / (2 num_classes)``.

        So the votes decide, and among equal ones the lowest class: always exactly one class has the highest logit.
        """
        votes = features.reshape(len(features), len(self.members), self.num_classes)
        return votes.sum(1) - self._handicap(features.device)

    def head_parameters(self) -> list[nn.Parameter]:
        """None: votes are counted."""
        return []

    def certificate(self, inputs: Tensor) -> Tensor:
        """How many training rows may be inserted or removed, in all, without changing the class of an input: proven.

        ``(N,)`` int64. A changed label counts once, a changed input twice: it leaves one partition for another.
        """
        counts = predictions(self, inputs) + self._handicap(inputs.device)
        return certified_radius(counts.round())

    def _handicap(self, device: torch.device) -> Tensor:
        return torch.arange(self.num_classes, device=device) / (2 * self.num_classes)

    def _votes(self, number: int, constant: int, inputs: Tensor) -> Tensor:
        """Votes ``(N, num_classes)`` of one member."""
        if constant == _ABSENT:
            return torch.zeros(len(inputs), self.num_classes, device=inputs.device)
        if constant != _NETWORK:
            chosen = torch.full((len(inputs),), constant, device=inputs.device)
            return functional.one_hot(chosen, self.num_classes).float()
        logits: Tensor = self.members[number](inputs).float().nan_to_num()  # a network that broke down has a vote too
        likely = logits.softmax(1)
        votes = functional.one_hot(winners(logits), self.num_classes).float()
        return votes + (likely - likely.detach())  # the difference is 0, but has a gradient


@dataclass(kw_only=True, eq=False)
class _Run:
    """Everything that changes while partitions are trained: what a checkpoint holds."""

    model: Voting
    done: int = 0
    rows: int = 0
    loss: float = 0.0
    """Sum over the rows of the partitions done; so is ``hits``."""
    hits: float = 0.0
    reused: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)
    removals: tuple[Removal, ...] = ()

    def add(self, found: Progress, ids: Tensor) -> None:
        """The network of a partition whose rows have ``ids`` outside it, in the order of the partition."""
        self.model.members[self.done] = found.model
        self.model.constants[self.done] = _NETWORK
        self.removals += tuple(replace(each, ids=ids[each.ids.to(ids.device)]) for each in found.removals)
        names = [*self.facts, *(name for name in found.facts if name not in self.facts)]
        self.facts = {name: max(each[name] for each in (self.facts, found.facts) if name in each) for name in names}
        self.reused += found.reused
        self._count(len(ids), found.loss, found.accuracy)

    def add_constant(self, label: int, rows: int) -> None:
        """A partition that always votes for ``label``."""
        self.model.constants[self.done] = label
        self._count(rows, 0.0, 1.0)

    def _count(self, rows: int, loss: float, accuracy: float) -> None:
        self.done += 1
        self.rows += rows
        self.loss += rows * loss
        self.hits += rows * accuracy

    def progress(self) -> Progress:
        """Where the training stands."""
        return Progress(
            epoch=self.done,
            epochs=len(self.model.members),
            model=self.model,
            loss=self.loss / max(self.rows, 1),
            accuracy=self.hits / max(self.rows, 1),
            removals=self.removals,
            facts=self.facts,
            reused=self.reused,
            state=self.state,
        )

    def state(self) -> Checkpoint:
        """Where the training stands, to go on with the next partition."""
        counts = {name: getattr(self, name) for name in ("done", "rows", "loss", "hits", "reused")}
        return Checkpoint(facts=counts).joined(
            model=Checkpoint(tensors={**self.model.state_dict(), "constants": self.model.constants.clone()}),
            facts=Checkpoint(facts=self.facts),
            removals=removals_state(self.removals),
        )

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state. Raises :class:`FormatError` where it does not fit."""
        try:
            self._restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(
                "the state to resume from is not that of this training of partitions; train from the start, or with "
                "the settings, data and defenses it was written with"
            ) from error

    def _restore(self, state: Checkpoint) -> None:
        for name in ("done", "rows", "loss", "hits", "reused"):
            setattr(self, name, state.facts[name])
        self.model.load_state_dict(dict(state.under("model").tensors))
        self.facts = state.under("facts").facts
        self.removals = removals_of(state.under("removals"))


def partitioned(data: Dataset, partitions: int) -> list[Tensor]:
    """Positions ``(n_k,)`` int64 of the rows of each partition, in an order that the rows' content alone decides."""
    hashes, labels = _hashes(data), data.labels.tolist()
    homes: list[list[int]] = [[] for _ in range(partitions)]
    for row in sorted(range(len(data)), key=lambda each: (hashes[each], labels[each])):
        homes[int.from_bytes(hashes[row], "big") % partitions].append(row)
    return [torch.tensor(rows, dtype=torch.int64, device=data.device) for rows in homes]


def standing_alone(data: Dataset, index: Tensor) -> Dataset:
    """The rows at ``index``, numbered from 0, in a space that knows of no other rows."""
    part, space = data.at(index), data.space
    if len(part) and (space.mean or space.std):
        mean, std = channel_statistics(part.inputs, space)
        space = replace(space, mean=mean if space.mean else (), std=std if space.std else ())
    return replace(part, ids=torch.arange(len(part), device=data.device), space=space)


def constant_vote(part: Dataset) -> int | None:
    """The class that a partition votes for without a network: its only one, or 0 without rows; else None."""
    classes = set(part.labels.tolist())
    return None if len(classes) > 1 else min(classes, default=0)


def _hashes(data: Dataset) -> list[bytes]:
    """SHA-256 of each input as it is stored, read a few rows at a time."""
    hashes: list[bytes] = []
    for stored in torch.split(data.inputs, 1024):
        rows = stored.cpu().flatten(1).contiguous().view(torch.uint8).numpy()
        hashes += [hashlib.sha256(row.tobytes()).digest() for row in rows]
    return hashes
