"""The cases of ``mithridate bench``: every module here has ``CASES``, a tuple of ``Case`` and ``Growth``.

Listing must be instant, so a module here imports torch and what it measures inside ``prepare`` only. A model to
follow: :mod:`mithridate.bench.cases.augmentation`.
"""
