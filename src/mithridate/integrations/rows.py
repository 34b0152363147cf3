"""Rows and labels as scikit-learn has them, as data sets, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError
from mithridate.learners.fitted import Feed, Floats
from mithridate.seeding import Seed

Statistics = tuple[Floats, Floats]

_TOO_LARGE = "the rows hold numbers too large for float32; scale them first"


class UnfitError(DataError, ValueError):
    """Rows that cannot be trained on; a ``ValueError`` as well, which scikit-learn asks for."""


class Kept(Feed):
    """The user's own rows and classes, found again by what the defense sees of them."""

    def __init__(self, rows: Any, names: NDArray[Any], *, limit: int) -> None:
        count, width = rows.shape
        if sparse.issparse(rows) and count * width > limit:
            raise UnfitError(
                f"{count} sparse rows of {width} columns are {count * width} numbers once made dense for the defense, "
                f"but dense_limit is {limit}; keep fewer columns (max_features of a vectoriser) or raise it"
            )
        self.rows, self.names = rows, names
        dense = np.asarray(rows.toarray() if sparse.issparse(rows) else rows, np.float64)
        self.mean, self.scale = statistics(dense)
        with np.errstate(over="ignore", invalid="ignore"):
            self.scaled: NDArray[np.float32] = ((dense - self.mean) / self.scale).astype(np.float32)
        self.places = {row.tobytes(): k for k, row in enumerate(self.scaled)}

    def training(self, data: Dataset) -> Any:
        """The rows themselves."""
        return self.rows[data.ids.cpu().numpy()]

    def asked(self, features: Floats) -> Any:
        """The rows themselves; of rows that are not among them, the nearest thing to what they would be."""
        places = [self.places.get(row.tobytes(), -1) for row in features.astype(np.float32)]
        if -1 not in places:
            return self.rows[places]
        dense = features * self.scale + self.mean
        return sparse.csr_matrix(dense) if sparse.issparse(self.rows) else dense

    def named(self, labels: NDArray[np.int64]) -> NDArray[Any]:
        """The classes themselves."""
        return self.names[labels]


def validated(estimator: Any, *rows_and_labels: Any, **checks: Any) -> Any:
    """What scikit-learn's own validation makes of rows, or rows and labels; it notes their columns while fitting."""
    fitting = len(rows_and_labels) == 2
    try:
        from sklearn.utils.validation import validate_data
    except ImportError:  # before scikit-learn 1.6
        return estimator._validate_data(*rows_and_labels, reset=fitting, **checks)
    return validate_data(estimator, *rows_and_labels, reset=fitting, **checks)


def classes_of(labels: Any, who: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes ``(C,)``, ascending, and the number of each row's ``(n,)``."""
    check_classification_targets(labels)
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UnfitError(f"{who} needs rows of at least two classes, but all {len(labels)} are of one class")
    return classes, numbers.reshape(-1).astype(np.int64)


def dataset_of(rows: NDArray[np.float32], labels: NDArray[np.int64], classes: NDArray[Any]) -> Dataset:
    """Rows numbered from 0, in a space around them. Raises :class:`UnfitError` where float32 cannot hold them."""
    if not np.isfinite(rows).all():
        raise UnfitError(_TOO_LARGE)
    bounds, names = (min(float(rows.min()), -1.0), max(float(rows.max()), 1.0)), tuple(map(str, classes))
    space = Space(shape=(rows.shape[1],), num_classes=len(names), classes=names, bounds=bounds)
    return Dataset.of(torch.from_numpy(rows), torch.from_numpy(labels), space=space)


def statistics(rows: Floats) -> Statistics:
    """Mean and standard deviation of each column, ``(d,)``; 1 for a column that is constant.

    Raises :class:`UnfitError` where there is none.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = rows.mean(0), rows.std(0)
    if not np.isfinite(scale).all():
        raise UnfitError(_TOO_LARGE)
    return mean, np.where(scale > 0, scale, 1.0)


def seed_of(random_state: Any) -> Seed:
    """The seed that scikit-learn's ``random_state`` stands for; None draws one from numpy's global state."""
    return Seed(int(check_random_state(random_state).randint(2**31 - 1)))
