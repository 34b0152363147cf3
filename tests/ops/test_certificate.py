"""The radius of a majority vote is what trying every way of winning voters over gives, no less and no more."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from mithridate.ops.certificate import certified_radius, winners

VOTES = [(3, 2), (5, 2), (6, 3), (4, 3), (4, 4)]


def counts(votes, classes):
    return [votes.count(label) for label in range(classes)]


def won(tally):
    """The lowest of the classes with the most votes."""
    return tally.index(max(tally))


def survived(votes, classes):
    """How many voters can be won over, whichever they are and whatever they say then, before the winner changes."""
    winner = won(counts(votes, classes))
    for size in range(1, len(votes) + 1):
        for bought in combinations(range(len(votes)), size):
            for said in product(range(classes), repeat=size):
                changed = list(votes)
                for voter, label in zip(bought, said, strict=True):
                    changed[voter] = label
                if won(counts(changed, classes)) != winner:
                    return size - 1
    raise AssertionError("with two classes, everybody bought changes the winner")


@pytest.mark.parametrize(("voters", "classes"), VOTES, ids=[f"{v}-voters-{c}-classes" for v, c in VOTES])
def test_radius_is_exactly_what_can_be_bought_for_every_vote(voters, classes):
    tallies = [each for each in product(range(voters + 1), repeat=classes) if sum(each) == voters]
    expected = [survived([c for c in range(classes) for _ in range(tally[c])], classes) for tally in tallies]
    assert certified_radius(torch.tensor(tallies)).tolist() == expected


def test_the_lower_class_wins_a_tie_and_a_tie_withstands_nothing():
    tied = torch.tensor([[2, 0, 2], [0, 3, 3], [1, 1, 1]])
    assert winners(tied).tolist() == [0, 1, 0]
    assert certified_radius(tied).tolist() == [0, 0, 0]


def test_a_lead_of_two_is_one_voter_against_a_higher_class_and_none_against_a_lower_one():
    assert certified_radius(torch.tensor([[3, 1], [1, 3]])).tolist() == [1, 0]
