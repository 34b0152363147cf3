"""Well-known image sets by name: what each is, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from mithridate.datasets.rows import Classes, check_cut
from mithridate.datasets.wellknown import Known, check_normalisation, load
from mithridate.source import Source, Split


@dataclass(frozen=True, kw_only=True)
class CIFAR10(Source):
    """CIFAR-10: 50,000 + 10,000 colour images 32 x 32, 10 classes.

    Looked for as ``cifar10/train-*.parquet`` and ``test-*.parquet`` in the folder named by ``MITHRIDATE_DATA``, then in
    the cache (``MITHRIDATE_CACHE``, else ``~/.cache/mithridate``), then on the hub as ``uoft-cs/cifar10``. Where only
    ``mini-train.parquet`` (the first rows) is there, it serves as many rows as it has. Ids are the original indices.
    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """

    name: ClassVar[str] = "cifar10"

    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    per_class: str = ""
    """Which of each class's training rows to keep, by their order, as ``first:end`` (``0:4800``, or ``4800:4850``);
    empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""
    mean: tuple[float, ...] = ()
    """What networks normalise with, one number a channel; empty: computed from the training rows."""
    std: tuple[float, ...] = ()
    """Standard deviations that networks normalise with, likewise. Poisoning benchmark: .2023, .1994, .2010, with the
    mean .4914, .4822, .4465."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing, and statistics that no colour image has."""
        check_cut(self.classes, self.train_rows, self.test_rows, self.per_class)
        check_normalisation(3, self.mean, self.std)

    def load(self) -> Split:
        """``(N, 3, 32, 32)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return load(
            _CIFAR10,
            classes=self.classes,
            per_class=self.per_class,
            train_rows=self.train_rows,
            test_rows=self.test_rows,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True, kw_only=True)
class CIFAR100(Source):
    """CIFAR-100: 50,000 + 10,000 colour images 32 x 32, in 100 classes or 20 groups of five, looked for as CIFAR-10 is.

    In ``cifar100/``, or on the hub as ``uoft-cs/cifar100``. Ids are row numbers of the files; a copy that is sorted by
    class has only some classes among its first rows: cut it with ``per_class``. Source: A. Krizhevsky, *Learning
    Multiple Layers of Features from Tiny Images*, 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
    """

    name: ClassVar[str] = "cifar100"

    labels: Literal["fine", "coarse"] = "fine"
    """Which labels to take: those of the 100 classes, or of the 20 groups."""
    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    per_class: str = ""
    """Which of each class's training rows to keep, by their order, as ``first:end`` (``0:4800``, or ``4800:4850``);
    empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""
    mean: tuple[float, ...] = ()
    """What networks normalise with, one number a channel; empty: computed from the training rows."""
    std: tuple[float, ...] = ()
    """Standard deviations that networks normalise with, likewise."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing, and statistics that no colour image has."""
        check_cut(self.classes, self.train_rows, self.test_rows, self.per_class)
        check_normalisation(3, self.mean, self.std)

    def load(self) -> Split:
        """``(N, 3, 32, 32)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return load(
            _CIFAR100_FINE if self.labels == "fine" else _CIFAR100_COARSE,
            classes=self.classes,
            per_class=self.per_class,
            train_rows=self.train_rows,
            test_rows=self.test_rows,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True, kw_only=True)
class MNIST(Source):
    """MNIST: 60,000 + 10,000 grey images 28 x 28 of handwritten digits, looked for as :class:`CIFAR10` is.

    In ``mnist/``, or on the hub as ``ylecun/mnist``. Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner,
    *Gradient-based learning applied to document recognition*, 1998, https://doi.org/10.1109/5.726791.
    """

    name: ClassVar[str] = "mnist"

    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    per_class: str = ""
    """Which of each class's training rows to keep, by their order, as ``first:end`` (``0:4800``, or ``4800:4850``);
    empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_cut(self.classes, self.train_rows, self.test_rows, self.per_class)

    def load(self) -> Split:
        """``(N, 1, 28, 28)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return load(
            _MNIST,
            classes=self.classes,
            per_class=self.per_class,
            train_rows=self.train_rows,
            test_rows=self.test_rows,
        )


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(Source):
    """Fashion-MNIST: 60,000 + 10,000 grey images 28 x 28 of clothes, looked for as :class:`CIFAR10` is.

    In ``fashion_mnist/``, or on the hub as ``zalando-datasets/fashion_mnist``. Source: H. Xiao, K. Rasul, R. Vollgraf,
    *Fashion-MNIST*, 2017, https://arxiv.org/abs/1708.07747.
    """

    name: ClassVar[str] = "fashion-mnist"

    classes: Classes = ()
    """Classes to keep, by name or number, renumbered in this order; empty keeps all."""
    per_class: str = ""
    """Which of each class's training rows to keep, by their order, as ``first:end`` (``0:4800``, or ``4800:4850``);
    empty keeps all."""
    train_rows: int | None = None
    """How many of the first training rows of these classes to keep; None keeps all."""
    test_rows: int | None = None
    """How many of the first test rows of these classes to keep; None keeps all."""

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing."""
        check_cut(self.classes, self.train_rows, self.test_rows, self.per_class)

    def load(self) -> Split:
        """``(N, 1, 28, 28)`` uint8. Raises :class:`DataError` saying where to put the data if they are nowhere."""
        return load(
            _FASHION_MNIST,
            classes=self.classes,
            per_class=self.per_class,
            train_rows=self.train_rows,
            test_rows=self.test_rows,
        )


_CIFAR10 = Known(
    title="CIFAR-10",
    folder="cifar10",
    repository="uoft-cs/cifar10",
    train=50_000,
    test=10_000,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
vehicles_1 vehicles_2
"""
_CIFAR100_FINE = Known(
    title="CIFAR-100",
    folder="cifar100",
    repository="uoft-cs/cifar100",
    train=50_000,
    test=10_000,
    classes=tuple(_FINE.split()),
    label="fine_label",
)
_CIFAR100_COARSE = replace(
    _CIFAR100_FINE,
    classes=tuple(_COARSE.split()),
    label="coarse_label",
)
_MNIST = Known(
    title="MNIST",
    folder="mnist",
    repository="ylecun/mnist",
    train=60_000,
    test=10_000,
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
)
_FASHION_MNIST = Known(
    title="Fashion-MNIST",
    folder="fashion_mnist",
    repository="zalando-datasets/fashion_mnist",
    train=60_000,
    test=10_000,
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)
