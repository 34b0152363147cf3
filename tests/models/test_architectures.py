"""What every architecture promises: sizes as published, parts that make the whole, fresh weights from the seed."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mithridate.dataset import Space
from mithridate.errors import ModelError
from mithridate.model import Architecture
from mithridate.models.convnet import ConvNet
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.mobilenet import InvertedResidual, MobileNetV2
from mithridate.models.resnet import BasicBlock, ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.vgg import VGG11
from mithridate.registry import KINDS, kind
from mithridate.seeding import Seed

CIFAR = Space(shape=(3, 32, 32), num_classes=10, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
GREY = Space(shape=(1, 28, 28), num_classes=7, mean=(0.29,), std=(0.35,))
TABLE = Space(shape=(5,), num_classes=3, bounds=(-10.0, 10.0))

TINY = [
    ConvNet(width=2),
    ConvNet(width=2, batch_norm=True),
    SmallConvNet(widths=(4, 6), pools=(2,)),
    ResNet18(width=2),
    VGG11(width=2),
    MobileNetV2(multiplier=0.1),
    MLP(hidden=(8, 6)),
    Linear(),
]
IMAGES_ONLY = TINY[:6]

# (parameters in millions, million multiply-adds a forward): CIFAR-10 networks of the poisoning papers, each figure
# as published to three or four digits. MobileNetV2: torchvision's 3 504 872 parameters less 990 classes' 1281 each.
PUBLISHED = [
    (ResNet18(), 11.174, 555.4),
    (ResNet18(width=16), 0.70, 35.0),
    (ConvNet(width=32), 0.289, 147.8),
    (ConvNet(), 1.13, 589.3),
    (VGG11(), 9.23, 152.8),
    (MobileNetV2(), (3_504_872 - 990 * 1281) / 1e6, None),
]


def built(architecture, space, seed=0):
    with Seed(seed).scope():
        return architecture.build(space)


def batch(space, rows=3, seed=0):
    low, high = space.bounds
    return low + (high - low) * torch.rand(rows, *space.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("architecture", "millions", "mega_macs"), PUBLISHED, ids=lambda each: str(each))
def test_has_the_published_size_and_cost(architecture, millions, mega_macs):
    model = architecture.build(CIFAR).eval()
    assert sum(each.numel() for each in model.parameters()) / 1e6 == pytest.approx(millions, rel=5e-3)
    if mega_macs is not None:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(batch(CIFAR, rows=1))
        assert counter.get_total_flops() / 2e6 == pytest.approx(mega_macs, rel=2e-3)


def test_small_nets_have_the_size_counted_by_hand():
    grey = Space(shape=(1, 28, 28), num_classes=10)
    conv = 9 * (1 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 64 * 10 + 10
    assert sum(each.numel() for each in SmallConvNet().build(grey).parameters()) == conv
    mlp = (5 * 8 + 8) + (8 * 6 + 6) + (6 * 3 + 3)
    assert sum(each.numel() for each in MLP(hidden=(8, 6)).build(TABLE).parameters()) == mlp
    assert sum(each.numel() for each in Linear().build(TABLE).parameters()) == 5 * 3 + 3


@pytest.mark.parametrize("space", [CIFAR, GREY, Space(shape=(3, 40, 33), num_classes=4)], ids=lambda s: str(s.shape))
@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_head_of_features_is_the_forward_at_any_image_size(architecture, space):
    model = built(architecture, space).eval()
    inputs = batch(space)
    features = model.features(inputs)
    assert features.ndim == 2
    assert len(features) == len(inputs)
    assert model(inputs).shape == (3, space.num_classes)
    assert torch.equal(model.head(features), model(inputs))


@pytest.mark.parametrize("architecture", TINY[6:], ids=str)
def test_works_on_tables(architecture):
    assert built(architecture, TABLE)(batch(TABLE)).shape == (3, 3)


@pytest.mark.parametrize("architecture", IMAGES_ONLY, ids=str)
def test_refuses_tables_with_a_sentence(architecture):
    with pytest.raises(ModelError, match=r"needs images of shape \(channels, height, width\), but inputs are \(5,\)"):
        architecture.build(TABLE)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_same_seed_same_weights_and_another_seed_others(architecture):
    one, same, other = (built(architecture, GREY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one if key.endswith("last.weight"))


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_normalises_inside(architecture):
    plain = Space(shape=GREY.shape, num_classes=GREY.num_classes)
    inside, outside = built(architecture, GREY).double().eval(), built(architecture, plain).double().eval()
    inputs = batch(GREY).double()
    normalised = (inputs - inside.normalise.mean) / inside.normalise.std
    assert inside.normalise.mean.item() == pytest.approx(0.29)
    assert inside.normalise.std.item() == pytest.approx(0.35)
    assert torch.allclose(inside(inputs), outside(normalised), rtol=1e-12, atol=0)
    assert not torch.allclose(inside(inputs), outside(inputs), rtol=1e-7, atol=0)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_head_parameters_are_all_that_the_logits_add_to_the_features(architecture):
    model = built(architecture, GREY).eval()
    logits = model.head(model.features(batch(GREY)).detach()).square().sum()
    reached = torch.autograd.grad(logits, list(model.parameters()), allow_unused=True)
    heads = {id(each) for each in model.head_parameters()}
    for parameter, gradient in zip(model.parameters(), reached, strict=True):
        assert (gradient is not None) == (id(parameter) in heads)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_mixed_derivative_matches_a_finite_difference(architecture):
    """d/dx <v, dL/dw> along u against the slope of <v, dL/dw> along u, in float64 (what gradient matching needs)."""
    model = built(architecture, GREY).double().eval()
    inputs, draws = batch(GREY).double().requires_grad_(), torch.Generator().manual_seed(1)
    parameters = list(model.parameters())
    vector = [torch.randn(each.shape, generator=draws, dtype=torch.float64) for each in parameters]
    along = torch.randn(inputs.shape, generator=draws, dtype=torch.float64)

    def projected(at):
        loss = functional.cross_entropy(model(at), torch.tensor([0, 1, 2]))
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        return sum((g * v).sum() for g, v in zip(gradients, vector, strict=True))

    (exact,) = torch.autograd.grad(projected(inputs), inputs)
    step = 1e-7  # small enough that hardly any gate flips
    slope = (projected(inputs + step * along) - projected(inputs - step * along)).detach() / (2 * step)
    assert float((exact * along).sum()) == pytest.approx(float(slope), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_gradients_of_each_row_come_from_torch_func(architecture):
    model = built(architecture, GREY).eval()
    weights = {name: each.detach() for name, each in model.named_parameters()}
    inputs, labels = batch(GREY), torch.tensor([0, 1, 2])

    def loss(parameters, image, label):
        return functional.cross_entropy(functional_call(model, parameters, (image[None],)), label[None])

    each_row = vmap(grad(loss), in_dims=(None, 0, 0))(weights, inputs, labels)
    whole = torch.autograd.grad(functional.cross_entropy(model(inputs), labels), list(model.parameters()))
    for (_, rows), mean in zip(each_row.items(), whole, strict=True):
        assert torch.allclose(rows.mean(0), mean, atol=1e-5)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_compiles_into_one_graph(architecture):
    model = built(architecture, GREY).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(batch(GREY)), model(batch(GREY)), atol=1e-6)


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_changes_nothing_in_place(architecture):
    model = built(architecture, GREY)
    assert not any(getattr(each, "inplace", False) for each in model.modules())
    inputs = batch(GREY)
    before = inputs.clone()
    model(inputs)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("name", sorted(KINDS[Architecture]))
def test_is_registered_under_its_own_name(name):
    assert kind(Architecture, name).name == name


@pytest.mark.parametrize("architecture", TINY, ids=str)
def test_settings_and_networks_pickle(architecture):
    assert pickle.loads(pickle.dumps(architecture)) == architecture
    model = built(architecture, GREY).eval()
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(batch(GREY)), model(batch(GREY)))


def test_shortcuts_carry_the_input_past_a_silent_block():
    inputs = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    residual, inverted = BasicBlock(4, 4, stride=1).eval(), InvertedResidual(4, 4, expansion=6, stride=1).eval()
    torch.nn.init.zeros_(residual.residual[-1].weight)
    torch.nn.init.zeros_(inverted.block[-1].weight)
    assert torch.equal(residual(inputs), inputs.relu())
    assert torch.equal(inverted(inputs), inputs)


def test_resnet_starts_from_kaiming_fan_out_and_not_from_silent_blocks():
    body = built(ResNet18(width=16), CIFAR).body
    for layer in body.modules():
        if isinstance(layer, torch.nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert bool((layer.weight == 1).all())


def test_networks_without_shortcuts_start_slowly():
    slow = {type(each).name for each in TINY if each.slow_start}
    assert slow == {"convnet", "vgg11", "mobilenetv2"}
