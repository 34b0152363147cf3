"""Promises of what a run says it was computed with."""

from __future__ import annotations

import numpy as np
import scipy
import sklearn
import torch

from mithridate.runtime import describe


def test_names_the_versions_that_results_depend_on():
    found = describe(torch.device("cpu"))
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
    assert versions.items() <= found.items()
