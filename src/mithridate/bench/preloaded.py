"""What every measuring process has loaded when it begins, so that it begins at once. Nothing is computed here."""

import numpy  # noqa: F401
import scipy.stats  # noqa: F401
import torch  # noqa: F401
