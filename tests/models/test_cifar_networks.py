"""The substitutes and victims of Convex Polytope: sizes as published, blocks as described, dropout on demand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.models.convnet import ConvNet
from mithridate.models.densenet import DenseLayer, DenseNet121
from mithridate.models.dpn import DPN92, DualPath
from mithridate.models.googlenet import GoogLeNet, Inception
from mithridate.models.mobilenet import MobileNetV2
from mithridate.models.parts import Bottleneck, dropout
from mithridate.models.resnet import ResNet18
from mithridate.models.resnet50 import ResNet50
from mithridate.models.resnext import ResNeXt29
from mithridate.models.senet import SENet18, WeightedBlock
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.vgg import VGG11
from mithridate.seeding import Seed

CIFAR = Space(shape=(3, 32, 32), num_classes=10, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
SMALL = Space(shape=(2, 16, 16), num_classes=3)

# Parameters at 10 classes and 3 channels, features, and the side of the last map at 32 x 32: those of the CIFAR
# networks that Convex Polytope's authors released (https://github.com/zhuchen03/ConvexPolytopePosioning).
PUBLISHED = [
    (SENet18(), 11_260_354, 512, 4),
    (ResNet50(), 23_520_842, 2048, 4),
    (ResNeXt29(), 9_128_778, 1024, 8),
    (DPN92(), 34_236_634, 2560, 4),
    (GoogLeNet(), 6_166_250, 1024, 8),
    (DenseNet121(), 6_956_298, 1024, 4),
]
NEW = [
    SENet18(width=16),
    ResNet50(width=4),
    ResNeXt29(width=4),
    DPN92(groups=4),
    GoogLeNet(multiplier=0.1),
    DenseNet121(growth=3),
]
# Each with the number of its dropouts: one a block, or one a ReLU where there are no blocks.
DROPPING = [
    *zip(NEW, (8, 16, 9, 30, 9, 58), strict=True),
    (ResNet18(width=2), 8),
    (MobileNetV2(multiplier=0.1), 17),
    (VGG11(width=2), 8),
    (ConvNet(width=2), 5),
    (SmallConvNet(widths=(4, 6), pools=(2,)), 2),
]
every_dropping = pytest.mark.parametrize("architecture", [each for each, _ in DROPPING], ids=lambda each: each.name)


def built(architecture, space=SMALL, seed=0):
    with Seed(seed).scope():
        return architecture.build(space)


def batch(space=SMALL, rows=2):
    return torch.rand(rows, *space.shape, generator=torch.Generator().manual_seed(0))


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def dropouts(model):
    return [each for each in model.modules() if isinstance(each, nn.Dropout)]


@pytest.mark.parametrize(("architecture", "parameters", "features", "side"), PUBLISHED, ids=lambda e: str(e))
def test_has_exactly_the_published_parameters_and_maps(architecture, parameters, features, side):
    with torch.device("meta"):  # no memory, no arithmetic
        model = architecture.build(CIFAR).eval()
        assert model.body[:-2](torch.rand(1, 3, 32, 32)).shape == (1, features, side, side)
    assert sum(each.numel() for each in model.parameters()) == parameters
    assert isinstance(model.body[-2], nn.AdaptiveAvgPool2d)
    assert isinstance(model.body[-1], nn.Flatten)


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 32, 32), (3, 16, 27)], ids=str)
@pytest.mark.parametrize("architecture", NEW, ids=lambda each: each.name)
def test_head_of_features_is_the_forward_for_any_channels_and_sizes(architecture, shape):
    space = Space(shape=shape, num_classes=3)
    model = built(architecture, space).eval()
    features = model.features(batch(space))
    assert features.shape == (2, model.last.in_features)
    assert model(batch(space)).shape == (2, 3)
    assert torch.equal(model.head(features), model(batch(space)))


@pytest.mark.parametrize("architecture", NEW, ids=lambda each: each.name)
def test_every_parameter_and_pixel_takes_part(architecture):
    model, inputs = built(architecture).double().eval(), batch().double().requires_grad_()
    loss = functional.cross_entropy(model(inputs), torch.tensor([0, 1]))
    *_, pixels = torch.autograd.grad(loss, [*model.parameters(), inputs])  # fails where a parameter has no part
    assert float((pixels != 0).double().mean()) > 0.9


@pytest.mark.parametrize("architecture", [NEW[0], NEW[4]], ids=lambda each: each.name)
def test_double_backward_matches_a_finite_difference(architecture):
    model, inputs = built(architecture).double().eval(), batch().double().requires_grad_()
    parameters, along = list(model.parameters()), values(*batch().shape).double()

    def norm(at):
        loss = functional.cross_entropy(model(at), torch.tensor([0, 1]))
        return sum(each.square().sum() for each in torch.autograd.grad(loss, parameters, create_graph=True))

    (exact,) = torch.autograd.grad(norm(inputs), inputs)
    step = 1e-7
    slope = (norm(inputs + step * along) - norm(inputs - step * along)).detach() / (2 * step)
    assert float((exact * along).sum()) == pytest.approx(float(slope), rel=1e-3, abs=1e-6)


def test_a_bottleneck_adds_to_its_input():
    block, inputs = Bottleneck(6, 2, 6, stride=1).eval(), values(2, 6, 5, 5)
    assert torch.equal(block(inputs), (block.residual(inputs) + inputs).relu())
    nn.init.zeros_(block.residual[-1].weight)
    assert torch.equal(block(inputs), inputs.relu())


def test_a_dual_path_adds_to_the_first_channels_and_appends_the_rest():
    block, inputs = DualPath(12, 4, 8, 2, stride=1, first=False, groups=2).eval(), values(2, 12, 5, 5)
    new, outputs = block.residual(inputs), block(inputs)
    assert outputs.shape == (2, 14, 5, 5)
    assert torch.equal(outputs[:, :8], (inputs[:, :8] + new[:, :8]).relu())
    assert torch.equal(outputs[:, 8:12], inputs[:, 8:].relu())
    assert torch.equal(outputs[:, 12:], new[:, 8:].relu())


def test_squeeze_and_excitation_weighs_channels_by_their_means():
    """Computed once more with plain matrices."""
    block, inputs = WeightedBlock(32, 32, stride=1).eval(), values(2, 32, 5, 5)
    found = block.residual(block.active(inputs))
    _, squeeze, _, excite, _ = block.weights
    hidden = (found.mean((2, 3)) @ squeeze.weight[:, :, 0, 0].T + squeeze.bias).relu()
    weights = (hidden @ excite.weight[:, :, 0, 0].T + excite.bias).sigmoid()
    assert hidden.shape == (2, 2)  # the paper's reduction of 16
    assert torch.allclose(block(inputs), inputs + weights[:, :, None, None] * found, atol=1e-6)


def test_the_shortcut_of_a_pre_activation_block_is_projected_after_the_activation():
    block, inputs = WeightedBlock(4, 6, stride=2).eval(), values(2, 4, 6, 6)
    nn.init.zeros_(block.residual[-1].weight)
    assert torch.allclose(block(inputs), functional.conv2d(block.active(inputs), block.shortcut.weight, stride=2))


def test_an_inception_block_puts_its_branches_behind_one_another():
    block, inputs = Inception(3, 2, 4, 5, 6, 7, 8).eval(), values(2, 3, 9, 9)
    outputs = block(inputs)
    assert outputs.shape == (2, 2 + 5 + 7 + 8, 9, 9)
    for branch, start, stop in ((block.one, 0, 2), (block.three, 2, 7), (block.five, 7, 14), (block.pool, 14, 22)):
        assert torch.equal(outputs[:, start:stop], branch(inputs))
    # how far each branch sees: 1, 3, 5 and 3 pixels
    for branch, reach in ((block.one, 0), (block.three, 1), (block.five, 2), (block.pool, 1)):
        spread = inputs.clone()
        spread[:, :, 4, 4] += 10
        rows = (branch(spread) != branch(inputs)).flatten(0, 1).any(0).any(1).nonzero().flatten()
        assert (int(rows.min()), int(rows.max())) == (4 - reach, 4 + reach)


def test_a_dense_layer_keeps_all_it_was_given():
    layer, inputs = DenseLayer(5, 3).eval(), values(2, 5, 4, 4)
    assert torch.equal(layer(inputs), torch.cat([inputs, layer.new(inputs)], dim=1))


def test_densenet_refuses_images_that_its_halvings_would_swallow():
    DenseNet121(growth=2).build(Space(shape=(1, 8, 8), num_classes=2))
    with pytest.raises(ModelError, match="at least 8 x 8, but these are 30 x 7"):
        DenseNet121(growth=2).build(Space(shape=(1, 30, 7), num_classes=2))


@pytest.mark.parametrize(("architecture", "count"), DROPPING, ids=lambda each: str(getattr(each, "name", each)))
def test_dropout_stands_once_in_every_block_and_nowhere_without(architecture, count):
    model = built(replace(architecture, dropout=0.25))
    assert [each.p for each in dropouts(model)] == [0.25] * count
    assert dropouts(built(architecture)) == []
    for place in dropouts(model):  # each on the way to the logits: silence at one is heard at the end
        place.register_forward_hook(lambda *_: heard.append(True))
    heard = []
    model.eval()(batch())
    assert len(heard) == count


@every_dropping
def test_dropout_is_random_while_training_only(architecture):
    model = built(replace(architecture, dropout=0.25)).eval()
    assert torch.equal(model(batch()), model(batch()))
    for each in dropouts(model):
        each.train()  # alone: batch normalisation moves in training too
    assert not torch.equal(model(batch()), model(batch()))


@every_dropping
def test_weights_trained_with_dropout_fit_the_network_without(architecture):
    with_dropout, without = built(replace(architecture, dropout=0.25), seed=1).eval(), built(architecture).eval()
    assert not torch.equal(with_dropout(batch()), without(batch()))
    without.load_state_dict(with_dropout.state_dict())
    assert torch.equal(with_dropout(batch()), without(batch()))


@every_dropping
def test_dropout_leaves_the_first_weights_as_they_are(architecture):
    with_dropout, without = (built(each).state_dict() for each in (replace(architecture, dropout=0.25), architecture))
    assert list(with_dropout) == list(without)
    assert all(torch.equal(with_dropout[name], without[name]) for name in without)


def test_weights_saved_before_there_was_dropout_still_fit():
    """The names of convolutions as they were without the setting: all later ones would move if it took a place."""
    resnet, vgg, mobile = built(ResNet18(width=2)), built(VGG11(width=2)), built(MobileNetV2(multiplier=0.1))
    assert isinstance(resnet.body[3].residual[3], nn.Conv2d)
    assert [k for k, each in enumerate(vgg.body) if isinstance(each, nn.Conv2d)] == [0, 4, 8, 11, 15, 18, 22, 25]
    assert [k for k, each in enumerate(mobile.body[4].block) if isinstance(each, nn.Conv2d)] == [0, 3, 6]
    assert [k for k, each in enumerate(built(ConvNet(width=2)).body) if isinstance(each, nn.Conv2d)] == [0, 2, 4, 6, 9]


@pytest.mark.parametrize(
    "architecture", [*NEW[:4], NEW[5], ResNet18(width=2), MobileNetV2(multiplier=0.1)], ids=lambda each: each.name
)
def test_dropout_reaches_the_last_convolution_of_a_block_and_no_other(architecture):
    model = built(replace(architecture, dropout=0.5)).eval()
    block = next(each for each in model.body if dropouts(each))
    (path,) = [each for name, each in block.named_children() if name in {"residual", "block", "new"}]
    convolutions, given = [each for each in path if isinstance(each, nn.Conv2d)], []
    for each in convolutions:
        each.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    inputs = 1 + values(2, model.body[0].out_channels, 6, 6)
    block(inputs)
    dropouts(block)[0].train()
    block(inputs)
    calm, dropped = given[: len(convolutions)], given[len(convolutions) :]
    assert [torch.equal(*pair) for pair in zip(calm, dropped, strict=True)] == [True] * (len(calm) - 1) + [False]


@pytest.mark.parametrize("chance", [1.0, -0.1, float("nan")])
@every_dropping
def test_an_impossible_dropout_is_refused(architecture, chance):
    with pytest.raises(ConfigError, match=f"dropout must be at least 0 and below 1, but it is {chance:g}"):
        replace(architecture, dropout=chance)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (SENet18, {"width": 0}, "width must be at least 1, but it is 0"),
        (ResNet50, {"width": 0}, "width must be at least 1, but it is 0"),
        (ResNeXt29, {"width": 0}, "width must be at least 1, but it is 0"),
        (ResNeXt29, {"groups": 0}, "groups must be at least 1, but it is 0"),
        (DPN92, {"groups": 6}, "groups must be a positive multiple of 4, but it is 6"),
        (DPN92, {"groups": 0}, "groups must be a positive multiple of 4, but it is 0"),
        (GoogLeNet, {"multiplier": 0.0}, "multiplier must be positive, but it is 0"),
        (DenseNet121, {"growth": 0}, "growth must be at least 1, but it is 0"),
    ],
)
def test_impossible_settings_are_refused(kind, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        kind(**settings)


def test_dropout_keeps_the_mean():
    assert float(dropout(0.3).train()(torch.ones(100_000)).mean()) == pytest.approx(1, abs=0.02)
    assert isinstance(dropout(0.0), nn.Identity)
