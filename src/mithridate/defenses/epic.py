"""EPIC, Effective Poison Identification: drop the rows whose gradients stand alone in their class, while training.

Not All Poisons are Created Equal: Robust Training against Data Poisoning, Yang, Liu, Mirzasoleiman, ICML 2022,
https://arxiv.org/abs/2210.09671, Algorithm 1; the authors' release: https://github.com/YuYang0901/EPIC.

After a warm-up, every few epochs: take the softmax outputs of the unaugmented rows, cluster the gradients
``p - onehot(y)`` of each class around greedy medoids, and drop for good the rows whose medoid represents nobody else.

Presets: ``release-40`` and ``release-200`` are the released settings for trainings of 40 and 200 epochs;
``release-transfer`` and ``release-fine-tune`` those for 40 epochs on pretrained features. ``paper`` is the text's: a
warm-up of 10 epochs for a fraction of 0.1 (20 for 0.2, 30 for 0.3), gradients with the bias, and each round clusters
what the rounds before have left; its interval is the release's. ``guarded`` is the default and ours, because the others
can ruin a network: late rounds and small classes lose far more than poison. Most of what is dropped is the hard tail of
the data, in late rounds up to a quarter of a class at once; De Gaspari et al. 2024 (https://arxiv.org/abs/2403.13523)
fine-tuned on 50 images a class and saw accuracy fall from 89 % to about 70 % with fractions of 0.1 and 0.2 and to 28 %
with 0.3. So ``guarded`` takes at most 30 % of a class in all, leaves classes of 20 rows or fewer alone, and derives its
rounds from the length of the training. No attack was run to choose these numbers.

Differences from the paper and its release:

1. Medoids are shared out among the classes by largest remainder, where the release rounds up and lets random classes
   lose one; ties go to the lowest id. So nothing is drawn, and the order of the rows does not matter. Classes of
   different size are no trouble (the release numbers its clusters as if all classes had equally many).
2. The gradient is that with respect to the logits, as released; the paper speaks of the last layer's input.
3. A class never loses its last row, nor a class of ``min_cluster`` rows any.
4. ``weighted`` weights each row by the size of its cluster. The paper's theory weights medoids so; its release weights
   nothing, which is the default.
5. Where the learning rate never drops in steps (one-cycle, cosine, constant), the last round is held after 7/8 of the
   epochs: that is where the 40-epoch recipe has its last drop, and where the rate of a one-cycle schedule has fallen to
   about a sixth. Warm-up and interval, where not given, are the same recipe's shares: 1/4 and 1/20.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset
from mithridate.defense import HookDefense
from mithridate.errors import ConfigError, nearest
from mithridate.facts import Fact, defender
from mithridate.learner import Batch, Hook, Learner, Progress, Removal
from mithridate.model import Classifier
from mithridate.ops.confidence import confidences, evaluating
from mithridate.ops.isolation import alone, cluster_sizes, gaps
from mithridate.ops.likeness import KERNELS, Kernel
from mithridate.seeding import Seed

_AS_PUBLISHED = {"max_total_drop": None, "min_class_size": 1}
_RELEASE = {"fraction": 0.1, "stop": "last-drop", "ground_set": "all", "use_bias": False, **_AS_PUBLISHED}


@dataclass(frozen=True, kw_only=True)
class EPIC(HookDefense):
    """Drop rows whose gradients stand alone in their class, in rounds during training."""

    name: ClassVar[str] = "epic"
    assumes: ClassVar[tuple[Fact, ...]] = (
        defender(
            "poisoned rows",
            "isolated in gradient space while the network is trained",
            where="Yang et al. 2022",
        ),
    )
    drops: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "guarded": {},
            "paper": {"fraction": 0.1, "interval": 10, "warmup": 10, "ground_set": "active", **_AS_PUBLISHED},
            "release-40": {"interval": 2, "warmup": 10, **_RELEASE},
            "release-200": {"interval": 10, "warmup": 30, **_RELEASE},
            "release-transfer": {"interval": 1, "warmup": 1, **_RELEASE, "fraction": 0.2, "stop": 10},
            "release-fine-tune": {"interval": 1, "warmup": 5, **_RELEASE, "fraction": 0.6},
        }
    )

    fraction: float = 0.1
    """Medoids per row, in (0, 1). Paper: 0.1, 0.2 and 0.3."""
    interval: int | None = None
    """Epochs between rounds, which are held where the epochs done are a multiple of it. Release: 2 of 40, 10 of 200.
    None: a twentieth of the epochs."""
    warmup: int | None = None
    """Epochs done before the first round. Release: 10 of 40, 30 of 200; paper: 10. None: a quarter of the epochs."""
    stop: int | Literal["last-drop"] = "last-drop"
    """Rounds are held before this many epochs are done, or until the learning rate drops for the last time, that
    moment included. Release: last-drop, or 10 in transfer."""
    min_cluster: int = 1
    """Rows in clusters of up to so many members are dropped. Paper: 1."""
    ground_set: Literal["all", "active"] = "all"
    """What is clustered: all rows, so that dropped ones go on taking up medoids (release, slower), or those still
    trained on (paper)."""
    use_bias: bool = True
    """Whether the last layer's bias enters the probabilities. Release: no. Without it the head must be affine."""
    kernel: Kernel = "exp"
    """Similarity of gradients: ``exp`` of the distance, ``linear`` in it, or ``cosine``. Paper: exp."""
    weighted: bool = False
    """Weight the loss of each row by the size of its cluster in the last round, with a mean of 1. Paper: no."""
    max_total_drop: float | None = 0.3
    """Share of each class that may ever be dropped, in [0, 1]; of the isolated rows those farthest from their nearest
    neighbour go first. None: any. Paper: none."""
    min_class_size: int = 20
    """No class is left with fewer rows than this; 1: only its last row is safe. Paper: none."""
    batch_size: int = 512
    """Rows in a forward pass of a round; changes speed alone."""

    def __post_init__(self) -> None:
        """Refuse settings that choose nothing, or nothing sensible."""
        if not 0 < self.fraction < 1:
            raise ConfigError(f"fraction must lie in (0, 1), but it is {self.fraction:g}")
        for what in ("interval", "warmup", "stop", "min_cluster", "min_class_size", "batch_size"):
            value = getattr(self, what)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {value}")
        if isinstance(self.stop, str) and self.stop != "last-drop":
            raise ConfigError(f"stop must be 'last-drop' or a number of epochs, but it is '{self.stop}'")
        if self.max_total_drop is not None and not 0 <= self.max_total_drop <= 1:
            raise ConfigError(f"max_total_drop must lie in [0, 1], but it is {self.max_total_drop:g}")
        if self.ground_set not in ("all", "active"):
            raise ConfigError(f"ground_set must be 'all' or 'active', but it is '{self.ground_set}'")
        if self.kernel not in KERNELS:
            raise ConfigError(f"there is no kernel '{self.kernel}': {nearest(self.kernel, KERNELS)}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> EPIC:
        """The settings published under ``name``, with ``changes``. Raises :class:`ConfigError` for another name."""
        if name not in cls.presets:
            raise ConfigError(f"there is no preset '{name}': {nearest(name, cls.presets)}")
        return cls(**{**cls.presets[name], **changes})

    def rounds(self, epochs: int, last_drop: int | None = None) -> range:
        """How many epochs are done before each round of a training of ``epochs``.

        ``last_drop`` is the number of epochs done when the learning rate falls for the last time, None where it falls
        smoothly or never.
        """
        interval = self.interval or max(1, epochs // 20)
        warmup = self.warmup or max(1, -(-epochs // 4))
        last = 7 * epochs // 8 if last_drop is None else last_drop
        end = last + 1 if self.stop == "last-drop" else self.stop
        return range(-(-warmup // interval) * interval, min(end, epochs), interval)

    def ground(self, ids: Tensor, active: Tensor) -> Tensor:
        """Positions ``(M,)`` of the rows to be clustered, in the order of their ids; ``active`` ``(N,)`` bool."""
        order = ids.argsort()
        return order if self.ground_set == "all" else order[active[order]]

    def chosen(
        self, probabilities: Tensor, *, rows: Tensor, labels: Tensor, ids: Tensor, active: Tensor, workers: int = 1
    ) -> Choice:
        """Which rows go in a round.

        ``probabilities`` ``(M, C)`` are softmax outputs of the unaugmented rows at positions ``rows`` ``(M,)``, in the
        order that :meth:`ground` tells. ``labels``, ``ids`` and ``active`` (bool: trained on), ``(N,)``, are of all
        rows.
        """
        own = labels[rows]
        sizes = cluster_sizes(
            probabilities, own, self.fraction, ids=ids[rows], kernel=self.kernel, workers=workers
        )  # (M,)
        suspects = (alone(sizes, own, self.min_cluster) & active[rows]).nonzero()[:, 0]
        ranked = suspects[gaps(probabilities, own, suspects).argsort(descending=True, stable=True)]  # else by id
        going = rows[ranked[_places(own[ranked]) < self._allowed(labels, active)[own[ranked]]]]
        staying = active.clone()
        staying[going] = False
        return Choice(ids=ids[going], held_back=len(suspects) - len(going), weights=_weights(sizes, rows, staying))

    def _allowed(self, labels: Tensor, active: Tensor) -> Tensor:
        """How many rows of each class may go now, ``(C,)``."""
        rows = torch.bincount(labels)
        left = torch.bincount(labels[active], minlength=len(rows))
        allowed = left - self.min_class_size
        if self.max_total_drop is not None:
            most = (rows.double() * self.max_total_drop + 1e-9).long()
            allowed = allowed.minimum(most - (rows - left))
        return allowed.clamp_min(0)

    def hook(self, learner: Learner, seed: Seed) -> Hook:
        """A fresh hook; nothing is drawn, so the seed does not matter."""
        return _Rounds(self, learner.last_drop())


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What a round decided."""

    ids: Tensor
    """``(n,)`` int64: the rows that go, farthest from their nearest neighbour first, lower ids first among equals."""
    held_back: int
    """Rows that stand alone and are still trained on, but are kept by ``max_total_drop`` or ``min_class_size``."""
    weights: Tensor
    """``(N,)`` float32: sizes of clusters, divided by their mean over the rows that stay; 1 for all others."""


class _Rounds(Hook):
    """Holds the rounds of one training."""

    def __init__(self, defense: EPIC, last_drop: int | None) -> None:
        self.settings = self.defense = defense
        self.last_drop = last_drop
        self.held_back = self.classes = 0  # no classes: no round yet
        self.ids, self.weights = torch.zeros(0, dtype=torch.int64), torch.zeros(0)  # in ascending order of ids

    def drop(self, data: Dataset, active: Tensor, progress: Progress | None) -> Removal | None:
        """Hold a round, where one is due."""
        if progress is None or progress.epoch not in self.defense.rounds(progress.epochs, self.last_drop):
            return None
        started = time.perf_counter()
        rows = self.defense.ground(data.ids, active)
        with evaluating(progress.model):
            parts = [
                confidences(progress.model, data.take(part)[0], use_bias=self.defense.use_bias)
                for part in torch.split(rows, self.defense.batch_size)
            ]
        found = self.defense.chosen(
            torch.cat(parts), rows=rows, labels=data.labels, ids=data.ids, active=active, workers=workers(data.device)
        )
        self.held_back, self.classes = found.held_back, data.space.num_classes
        order = data.ids.argsort()
        self.ids, self.weights = data.ids[order], found.weights[order]
        seconds = time.perf_counter() - started
        return Removal(by=self.defense.name, epoch=progress.epoch, ids=found.ids, seconds=seconds)

    def transform(self, model: Classifier, batch: Batch, generator: torch.Generator) -> Batch:
        """Labels as weighted probabilities, so that the cross-entropy of each row is multiplied by its weight."""
        if not self.defense.weighted or not self.classes:
            return batch
        labels = batch.labels if batch.labels.ndim == 2 else functional.one_hot(batch.labels, self.classes)
        ids, weights = self.ids.to(labels.device), self.weights.to(labels.device)
        return replace(batch, labels=labels * weights[torch.searchsorted(ids, batch.ids)][:, None])

    def facts(self) -> Mapping[str, float]:
        """How many rows that stood alone the last round had to keep."""
        return {"epic_held_back": float(self.held_back)}

    def state(self) -> Checkpoint:
        """Weights and count of the last round; which rows are gone is in the training's own state."""
        facts = {"held_back": self.held_back, "classes": self.classes}
        return Checkpoint(tensors={"ids": self.ids, "weights": self.weights}, facts=facts)

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state."""
        self.held_back, self.classes = int(state.facts["held_back"]), int(state.facts["classes"])
        self.ids, self.weights = state.tensors["ids"], state.tensors["weights"]


def workers(device: torch.device) -> int:
    """How many classes to cluster at once: a thread each on a CPU, at most 4 as in the release, for memory's sake."""
    return min(4, torch.get_num_threads()) if device.type == "cpu" else 1


def _places(labels: Tensor) -> Tensor:
    """For each of ``labels`` ``(n,)``, how many before it are the same, ``(n,)``."""
    places = torch.zeros_like(labels)
    for label in torch.unique(labels):
        mine = (labels == label).nonzero()[:, 0]
        places[mine] = torch.arange(len(mine), device=labels.device)
    return places


def _weights(sizes: Tensor, rows: Tensor, staying: Tensor) -> Tensor:
    """Weights ``(N,)`` of a mean of 1 over the rows ``staying`` ``(N,)``, from cluster sizes of ``rows``; else 1."""
    weights = torch.ones(len(staying), dtype=torch.float64, device=staying.device)
    weights[rows] = sizes.clamp_min(1).double()
    weights /= weights[staying].mean()
    return torch.where(staying, weights, 1.0).float()
