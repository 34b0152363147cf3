"""Promises that every attack, defense and learner keeps, checked on a toy task; for the authors of new ones.

``check_attack(MyAttack(steps=30))`` in a test of yours raises ``AssertionError`` with a sentence where a promise is
broken. ``ATTACK_CHECKS``, ``DEFENSE_CHECKS`` and ``LEARNER_CHECKS`` hold the checks one by one, to be run under their
names.
"""

from mithridate.testing.attacks import ATTACK_CHECKS, TRIALS, bench_of, check_attack
from mithridate.testing.bench import Bench, CornerMark, defense_bench, toy, toy_bench
from mithridate.testing.defenses import DEFENSE_CHECKS, check_defense
from mithridate.testing.learners import LEARNER_CHECKS, check_learner
from mithridate.testing.surroundings import undisturbed

__all__ = [
    "ATTACK_CHECKS",
    "DEFENSE_CHECKS",
    "LEARNER_CHECKS",
    "TRIALS",
    "Bench",
    "CornerMark",
    "bench_of",
    "check_attack",
    "check_defense",
    "check_learner",
    "defense_bench",
    "toy",
    "toy_bench",
    "undisturbed",
]
