"""Layers of any network, by hooks: the values they put out, and a network that is left as it was."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.mobilenet import MobileNetV2
from mithridate.models.resnet import BasicBlock, ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import wrap
from mithridate.ops.layers import LAST_BUT_ONE, PENULTIMATE, crafting, dropouts, mean_of, recording, resolved
from mithridate.seeding import Seed

SPACE = Space(shape=(3, 16, 16), num_classes=3, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
INPUTS = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def built(architecture):
    with Seed(0).scope():
        return architecture.build(SPACE).eval()


def sequential(rectifier=None):
    """A plain module of a user's: two blocks by name, and a head."""
    with Seed(0).scope():
        blocks = OrderedDict(
            flat=nn.Flatten(),
            first=nn.Sequential(OrderedDict(linear=nn.Linear(768, 6), relu=rectifier or nn.ReLU())),
            second=nn.Linear(6, 5),
            fc=nn.Linear(5, 3),
        )
        return nn.Sequential(blocks)


def hooks_of(module):
    return [each for part in module.modules() for each in (*part._forward_hooks.values(), *part._backward_hooks)]


class TestRecording:
    def test_named_layers_of_any_module_put_out_what_they_put_out(self):
        module = sequential()
        names = ["first.linear", PENULTIMATE, "first", "module.second"]
        with recording(wrap(module), names) as recorder:
            linear, penultimate, first, second = recorder(INPUTS)
        expected = module.first.linear(INPUTS.flatten(1))
        assert torch.equal(linear, expected)
        assert torch.equal(first, expected.relu())
        assert torch.equal(second, module.second(expected.relu()))
        assert torch.equal(penultimate, second)

    def test_a_layer_is_kept_as_it_was_when_the_next_one_writes_into_it(self):
        module = sequential(nn.ReLU(inplace=True))
        with recording(wrap(module), ["first.linear"]) as recorder:
            (linear,) = recorder(INPUTS)
        assert float(linear.detach().min()) < 0
        assert torch.equal(linear, module.first.linear(INPUTS.flatten(1)))

    def test_gradients_reach_the_inputs(self):
        module, inputs = sequential(), INPUTS.clone().requires_grad_(True)
        with recording(wrap(module), ["first.linear"]) as recorder:
            (slope,) = torch.autograd.grad(recorder(inputs)[0].sum(), inputs)
        expected = module.first.linear.weight.sum(0).expand(4, -1)
        assert torch.allclose(slope.flatten(1), expected, atol=1e-6)

    def test_each_call_records_anew(self):
        with recording(wrap(sequential()), ["first"]) as recorder:
            one, two = recorder(INPUTS)[0], recorder(INPUTS[:2] * 0.5)[0]
        assert len(one) == 4
        assert len(two) == 2

    def test_no_hook_is_left_even_after_an_error(self):
        module = sequential()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        model = wrap(module)
        with recording(model, ["first", "second"]) as recorder:
            recorder(INPUTS)
            assert len(hooks_of(module)) == 2
        assert not hooks_of(model)
        with pytest.raises(RuntimeError, match="stop"), recording(model, ["first"]):
            raise RuntimeError("stop")
        with pytest.raises(ConfigError), recording(model, ["first", "absent"]):
            pass
        assert not hooks_of(model)
        after = module.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_unknown_layers_are_refused_with_a_suggestion(self):
        with (
            pytest.raises(ConfigError, match="no layer 'frist': did you mean 'first'"),
            recording(wrap(sequential()), ["frist"]),
        ):
            pass
        with pytest.raises(ConfigError, match="did you mean 'penultimate'"):
            resolved(built(MLP(hidden=(4,))), "penultimat")

    def test_layers_beyond_the_features_and_outputs_that_are_no_tensor_are_refused(self):
        model = wrap(sequential())
        with recording(model, ["fc"]) as recorder, pytest.raises(ModelError, match="never run"):
            recorder(INPUTS)

        class Pair(nn.Module):
            def forward(self, inputs):
                return inputs, inputs

        class First(nn.Module):
            def forward(self, pair):
                return pair[0].flatten(1)

        module = nn.Sequential(OrderedDict(pair=Pair(), first=First(), fc=nn.Linear(768, 3)))
        with recording(wrap(module), ["pair"]) as recorder, pytest.raises(ModelError, match="puts out a tuple"):
            recorder(INPUTS)


class TestLastButOne:
    def test_of_a_resnet_it_is_the_first_block_of_the_last_stage(self):
        model = built(ResNet18(width=4))
        blocks = [each for each in model.modules() if isinstance(each, BasicBlock)]
        assert len(blocks) == 8
        assert model.get_submodule(resolved(model, LAST_BUT_ONE)) is blocks[-2]
        with recording(model, [LAST_BUT_ONE, PENULTIMATE]) as recorder:
            block, penultimate = recorder(INPUTS)
        assert block.shape == (4, 32, 2, 2)  # 8 widths, a stage in which the image has been halved three times
        assert torch.allclose(blocks[-1](block).mean((2, 3)), penultimate, atol=1e-6)

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_of_a_network_without_blocks_it_is_the_activation_before_the_last(self, dropout):
        model = built(SmallConvNet(widths=(4, 5, 6), dropout=dropout))
        with recording(model, [LAST_BUT_ONE]) as recorder:
            (found,) = recorder(INPUTS)
        assert found.shape == (4, 5, 8, 8)
        assert float(found.detach().min()) == 0
        with recording(built(MLP(hidden=(7, 6, 5))), [LAST_BUT_ONE]) as recorder:
            assert recorder(INPUTS)[0].shape == (4, 6)

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_an_activation_with_dropout_is_no_block(self, dropout):
        model = built(MobileNetV2(dropout=dropout))
        blocks = [each for each in model.body if type(each).__name__ == "InvertedResidual"]
        assert len(blocks) == 17
        assert model.get_submodule(resolved(model, LAST_BUT_ONE)) is blocks[-2]

    def test_networks_that_have_none_are_told(self):
        for model in (built(Linear()), built(MLP(hidden=(4,)))):
            with pytest.raises(ConfigError, match="fewer than two blocks"):
                resolved(model, LAST_BUT_ONE)
        with pytest.raises(ConfigError, match="name the layer"):
            resolved(wrap(sequential()), LAST_BUT_ONE)


class TestCrafting:
    @pytest.mark.parametrize("dropout", [True, False])
    def test_only_dropout_is_on_and_nothing_asks_for_gradients(self, dropout):
        model = built(SmallConvNet(widths=(4, 5), dropout=0.5)).train()
        model.last.weight.requires_grad_(False)
        model.body[1].eval()
        modes = {name: part.training for name, part in model.named_modules()}
        asking = {name: each.requires_grad for name, each in model.named_parameters()}
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with crafting(model, dropout=dropout):
            assert [part for part in model.modules() if part.training] == (dropouts(model) if dropout else [])
            assert not any(each.requires_grad for each in model.parameters())
            varies = not torch.equal(model(INPUTS), model(INPUTS))
            assert varies == dropout
        assert {name: part.training for name, part in model.named_modules()} == modes
        assert {name: each.requires_grad for name, each in model.named_parameters()} == asking
        assert len(set(asking.values())) == len(set(modes.values())) == 2
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_dropout_of_nothing_is_none(self):
        model = nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.1), nn.Identity())
        assert dropouts(model) == [model[1]]


def test_the_mean_over_draws_is_taken_layer_by_layer():
    draws = [[torch.tensor([1.0]), torch.tensor([10.0])], [torch.tensor([2.0]), torch.tensor([40.0])]]
    assert [each.tolist() for each in mean_of(draws)] == [[1.5], [25.0]]
