"""The data of an experiment decide its job keys, whatever they are called."""

from __future__ import annotations

import torch

from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.datasets.torchset import TorchDataset
from mithridate.experiment import Experiment
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP


def test_two_torch_data_sets_of_one_class_are_two_data_sets(tmp_path):
    class Pairs(torch.utils.data.Dataset):
        def __init__(self, shade):
            self.shade = shade

        def __len__(self):
            return 12

        def __getitem__(self, k):
            return torch.full((1, 8, 8), self.shade + 0.02 * k), k % 2

    def keys(shade):
        source = TorchDataset(train=Pairs(shade), test=Pairs(shade))
        learner = SGD(model=MLP(), epochs=1)
        found = Experiment(name="e", data=source, attacks=(GradientMatching(),), victims=(learner,), trials=1)
        return {job.key for job in found.jobs()}

    assert keys(0.1) == keys(0.1)
    assert not keys(0.1) & keys(0.5)
