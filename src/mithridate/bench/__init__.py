"""Speed: the fast ways beside the plain ones in this package, timed in turn, with their accuracy beside every time.

``mithridate bench`` runs it; :mod:`mithridate.bench.case` says what a case is.
"""
