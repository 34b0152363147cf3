"""The derivatives of gradient matching, against double backward written out in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mithridate.dataset import Space
from mithridate.models.convnet import ConvNet
from mithridate.models.mlp import MLP
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops import compiling, mixed
from mithridate.ops.criteria import CRITERIA
from mithridate.ops.gradients import EXACT, Derivatives, matched, mixed_partial, parameter_gradient, parameters_of
from mithridate.ops.matching import OBJECTIVES, cosine, similarity
from mithridate.ops.mixed import SMOOTHED_STEP
from mithridate.ops.passes import Passes

QUICK = ("double", "reverse-over-forward", "gated-difference")
"""The published gradient, without a compiler."""


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, reduction="sum")


def network(dtype=torch.float64, seed=0):
    """A small trained-looking network with every covered kink: relu, relu6, leaky relu, max-pool, and batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(5, 5, 3),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(20, 3),
        )
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


def rows(count, dtype=torch.float64, seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 8, 8, generator=draws, dtype=dtype), torch.arange(count) % 3


def target_gradient(net, dtype=torch.float64):
    x, _ = rows(1, dtype, seed=9)
    return parameter_gradient(net, x, torch.tensor([2]), criterion=cross_entropy)


def slow_and_obvious(net, x, y, objective, scale, constant=None):
    """The objective and its derivative in the inputs by one double backward through everything at once."""
    leaf = x.clone().requires_grad_(True)
    loss = cross_entropy(net(leaf), y) * scale
    gradient = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    if constant is not None:
        gradient = [g + c for g, c in zip(gradient, constant, strict=True)]
    value = objective(gradient)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("loss", sorted(OBJECTIVES))
def test_matching_gradient_equals_double_backward_in_float64(loss):
    net, (x, y) = network(), rows(7)
    target = target_gradient(net)

    def objective(g):
        return OBJECTIVES[loss](g, target)

    value, slope = slow_and_obvious(net, x, y, objective, 1 / 7)
    found = matched(net, x, y, objective=objective, criterion=cross_entropy, scale=1 / 7)
    assert float(found.value) == pytest.approx(float(value), rel=1e-9)
    assert relative(found.inputs, slope) < 1e-6


@pytest.mark.parametrize("backend", ["double", "reverse-over-forward", "gated-difference"])
@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_micro_batches_do_not_change_the_objective(backend, micro_batch):
    net, (x, y) = network(torch.float32), rows(7, torch.float32)
    target = target_gradient(net, torch.float32)
    constant = [0.01 * t for t in target]
    settings = {
        "objective": lambda g: similarity(g, target),
        "criterion": cross_entropy,
        "scale": 1 / 7,
        "constant": constant,
        "backend": backend,
    }
    whole = matched(net, x, y, micro_batch=7, **settings)
    parts = matched(net, x, y, micro_batch=micro_batch, **settings)
    assert float(parts.value) == pytest.approx(float(whole.value), rel=1e-5)
    assert relative(parts.inputs, whole.inputs) < (0.02 if backend == "gated-difference" else 1e-5)
    _, slope = slow_and_obvious(net, x, y, settings["objective"], 1 / 7, constant)
    assert float(cosine([parts.inputs], [slope])) > 0.999


NETS = {
    "every kink and batch norm": network,
    "convnet": lambda dtype: built(ConvNet(width=4, batch_norm=True), dtype),
    "convnet with biases": lambda dtype: built(ConvNet(width=4), dtype),
    "resnet": lambda dtype: built(ResNet18(width=4), dtype),
    "dropout, off": lambda dtype: built(SmallConvNet(widths=(4, 6), pools=(1, 2), dropout=0.5), dtype),
    "perceptron": lambda dtype: built(MLP(hidden=(12,)), dtype),
    "gelu": lambda dtype: sequential(
        dtype, nn.Conv2d(2, 6, 3), nn.GELU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(54, 3)
    ),
    "norm before convolution": lambda dtype: sequential(
        dtype, nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ),
    "activations read as they lie": lambda dtype: sequential(
        dtype, nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Viewed(), nn.Linear(144, 3)
    ),
    "convolution read twice": lambda dtype: sequential(dtype, Twice(), nn.Flatten(), nn.Linear(144, 3)),
}


class Viewed(nn.Module):
    """Fails on any layout but the usual one."""

    def forward(self, x):
        return x.view(len(x), -1)


class Twice(nn.Module):
    """Here the norm does not belong into the convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        before = self.first(x)
        return torch.relu(self.norm(before)) + torch.tanh(before)


def built(architecture, dtype):
    side = 9 if isinstance(architecture, ConvNet) else 8
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = architecture.build(Space(shape=(2, side, side), num_classes=3, mean=(0.4, 0.5), std=(0.3, 0.2)))
    return shaken(net).to(dtype)


def sequential(dtype, *layers):
    return shaken(nn.Sequential(*layers)).to(dtype)


def shaken(net):
    """Weights and statistics of no special values, in evaluation mode."""
    draws = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data = torch.randn(module.weight.shape, generator=draws) / module.weight[0].numel() ** 0.5
            if module.bias is not None:
                module.bias.data = torch.randn(module.bias.shape, generator=draws) * 0.1
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=draws) + 0.5)
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=draws) * 0.2)
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draws) * 0.3)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=draws) + 0.5)
    return net.eval()


def images(name, count=16, dtype=torch.float32):
    x, y = rows(count, torch.float64)
    return (nn.functional.pad(x, (0, 1, 0, 1)) if name.startswith("convnet") else x).to(dtype), y


def exact(name, count=16):
    """The direction of a target, and the mixed partial in it, in float64 by double backward."""
    net, (x, y) = NETS[name](torch.float64), images(name, count, torch.float64)
    direction = parameter_gradient(net, x[:1] * 0.7, torch.tensor([2]), criterion=cross_entropy)
    leaf = x.clone().requires_grad_(True)
    slopes = torch.autograd.grad(cross_entropy(net(leaf), y), list(net.parameters()), create_graph=True)
    product = sum((g * d).sum() for g, d in zip(slopes, direction, strict=True))
    return [d.float() for d in direction], torch.autograd.grad(product, leaf)[0], [g.detach() for g in slopes]


@pytest.mark.parametrize("backend", QUICK)
@pytest.mark.parametrize("name", NETS)
def test_each_backend_agrees_with_float64_double_backward(name, backend):
    direction, wanted, slopes = exact(name)
    net, (x, y) = NETS[name](torch.float32), images(name)
    found = Derivatives(net, x, y, criterion=cross_entropy, backend=backend)
    assert (found.backend, found.note) == (backend, "")
    slope = found.mixed(x, y, direction)
    assert float(cosine([slope.double()], [wanted])) > 0.9999
    certain = wanted.abs() > 1e-3 * wanted.abs().max()
    assert float((slope.sign() == wanted.sign())[certain].double().mean()) > (0.99 if backend not in EXACT else 0.999)
    assert float(cosine([g.double() for g in found.gradient(x, y)], slopes)) > 1 - 1e-9
    if backend in EXACT:
        assert relative(slope.double(), wanted) < 1e-4


@pytest.mark.parametrize("engine", ["eager", "aot_eager"])
def test_compiled_gradients_agree_with_float64_double_backward(monkeypatch, engine):
    monkeypatch.setattr(compiling, "ENGINE", engine)
    direction, wanted, _ = exact("every kink and batch norm", 6)
    net, (x, y) = network(torch.float32), images("every kink and batch norm", 6)
    found = Derivatives(net, x, y, criterion=cross_entropy, backend="compiled")
    assert (found.backend, found.note) == ("compiled", "")
    assert relative(found.mixed(x, y, direction).double(), wanted) < 1e-4


def test_what_does_not_compile_is_computed_exactly_otherwise_and_says_so(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiling, "ENGINE", broken)
    net, (x, y) = network(torch.float32), rows(6, torch.float32)
    found = Derivatives(net, x, y, criterion=cross_entropy, backend="compiled")
    assert found.backend == "reverse-over-forward"
    assert found.note.startswith("compiled cannot be used with this network (")
    assert "no compiler here" in found.note


def test_norms_go_into_their_convolutions_and_only_into_theirs():
    counts = {}
    for name in NETS:
        found = Derivatives(NETS[name](torch.float32), *images(name), criterion=cross_entropy, backend="auto")
        counts[name] = len(found._passes.folds.norms)
    expected = {"every kink and batch norm": 1, "convnet": 5, "resnet": 20, "dropout, off": 2}
    assert counts == dict.fromkeys(NETS, 0) | expected | {"activations read as they lie": 1}


def test_a_smoothed_difference_is_a_plain_one_and_not_the_published_gradient():
    name = "convnet"
    direction, wanted, _ = exact(name)
    net, (x, y) = NETS[name](torch.float64), images(name, dtype=torch.float64)
    found = mixed_partial(net.float(), x.float(), y, direction, criterion=cross_entropy, backend="smoothed")
    step = SMOOTHED_STEP / float(sum(d.double().square().sum() for d in direction).sqrt())
    slopes = []
    for share in (0.0, step):
        moved = copy.deepcopy(net).double()
        for p, d in zip(moved.parameters(), direction, strict=True):
            p.data += share * d.double()
        leaf = x.clone().requires_grad_(True)
        slopes.append(torch.autograd.grad(cross_entropy(moved(leaf), y), leaf)[0])
    assert float(cosine([found.double()], [(slopes[1] - slopes[0]) / step])) > 0.999
    assert float(cosine([found.double()], [wanted])) < 0.999


class Wild(nn.Module):
    """So curved that a parameter step of 1e-4 leaves the tangent far behind."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(128, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.second(torch.sin(1e4 * self.first(x.flatten(1))))


class OneWay(torch.autograd.Function):
    """An operation of a user's without forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].cos()


class Own(Wild):
    def forward(self, x):
        return self.second(OneWay.apply(1e4 * self.first(x.flatten(1))))


def backend_of(asked, net, dtype=torch.float32, **more):
    x, y = rows(8, dtype)
    return Derivatives(net, x, y, criterion=cross_entropy, backend=asked, **more)


@pytest.mark.parametrize(("kind", "wanted"), [(Wild, "reverse-over-forward"), (Own, "double")])
def test_auto_falls_back_to_exact_backends_where_the_difference_is_wrong(kind, wanted):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind()
    found = backend_of("auto", net)
    assert found.backend == wanted
    assert "gated-difference cannot be used with this network (cosine 0." in found.note
    assert backend_of("gated-difference", net).backend == "gated-difference"  # asked for by name: obeyed
    direction = parameter_gradient(net, *rows(8, torch.float32), criterion=cross_entropy)
    reference = mixed_partial(net, *rows(8, torch.float32), direction, criterion=cross_entropy)
    assert relative(found.mixed(*rows(8, torch.float32), direction), reference) < 1e-3


class Largest(nn.Module):
    """A global max pool written by hand."""

    def forward(self, x):
        return x.amax((2, 3))


UNCOVERED = {
    "prelu_kernel": [nn.Conv2d(2, 4, 3), nn.PReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(4, 3)],
    "amax": [nn.Conv2d(2, 4, 3), nn.ReLU(), Largest(), nn.Linear(4, 3)],
    "adaptive_max_pool2d": [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)],
}


@pytest.mark.parametrize("kink", UNCOVERED)
def test_auto_takes_no_difference_over_kinks_that_no_gate_holds(kink):
    """Few rows seldom show it: a step of the difference flips one kink in thousands, and that one decides."""
    net, (x, y) = sequential(torch.float32, *copy.deepcopy(UNCOVERED[kink])), images("", 300)
    found = Derivatives(net, x, y, criterion=cross_entropy)
    assert (found.backend, kink in found.note) == ("reverse-over-forward", True)
    direction = target_gradient(net, torch.float32)
    reference = mixed_partial(net, x, y, direction, criterion=cross_entropy)
    assert float(cosine([found.mixed(x, y, direction)], [reference])) > 0.9999


def test_auto_takes_no_difference_of_a_loss_with_kinks():
    x, y = rows(8, torch.float32)
    found = Derivatives(network(torch.float32), x, y, criterion=CRITERIA["cw"])
    assert found.backend == "reverse-over-forward"
    assert "no gate holds the kinks of amax, clamp_min" in found.note


@pytest.mark.parametrize("name", NETS)
def test_gates_hold_every_kink_of_these_networks(name):
    passes = Passes(NETS[name](torch.float32), criterion=cross_entropy)
    assert mixed.uncovered(passes, *images(name)) == []


def test_auto_uses_the_gated_difference_where_it_is_right():
    net = network(torch.float32)
    assert backend_of("auto", net).backend == "gated-difference"
    assert backend_of("gated", net).backend == "gated-difference"  # its older name
    assert backend_of("auto", net, precision="bf16").backend == "double"
    assert backend_of("auto", net.double(), torch.float64).backend == "double"


def test_crafting_in_bf16_is_near_the_exact_gradient():
    direction, wanted, _ = exact("resnet")
    net, (x, y) = NETS["resnet"](torch.float32), images("resnet")
    for backend in ("double", "reverse-over-forward"):
        rounded = mixed_partial(net, x, y, direction, criterion=cross_entropy, backend=backend, precision="bf16")
        assert rounded.dtype == torch.float32
        assert 0.9 < float(cosine([rounded.double()], [wanted])) < 0.99999
    same = mixed_partial(net, x, y, direction, criterion=cross_entropy, precision="tf32")
    assert torch.equal(same, mixed_partial(net, x, y, direction, criterion=cross_entropy))  # no such thing on a CPU


class Synchronised(TorchDispatchMode):
    """Counts what a GPU would be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", [*QUICK, "smoothed"])
@pytest.mark.parametrize("loss", sorted(OBJECTIVES))
def test_no_number_is_read_on_the_host_within_a_step(loss, backend):
    net, (x, y) = network(torch.float32), rows(5, torch.float32)
    target = target_gradient(net, torch.float32)
    found = Derivatives(net, x, y, criterion=cross_entropy, backend=backend, micro_batch=2)
    with Synchronised() as seen:
        found.matched(x, y, objective=lambda g: OBJECTIVES[loss](g, target), scale=0.2, constant=target)
        assert seen.count == 0
        float(x.sum())
    assert seen.count == 1


def test_the_same_step_twice_is_the_same_bit_for_bit():
    net, (x, y) = NETS["resnet"](torch.float32), images("resnet")
    target = parameter_gradient(net, x[:1], torch.tensor([2]), criterion=cross_entropy)
    for backend in (*QUICK, "smoothed"):
        found = [
            matched(
                net,
                x,
                y,
                objective=lambda g: similarity(g, target),
                criterion=cross_entropy,
                scale=1,
                micro_batch=6,
                backend=backend,
            ).inputs
            for _ in range(2)
        ]
        assert torch.equal(*found)


def test_the_network_is_left_as_it_was():
    net, (x, y) = network(torch.float32), rows(5, torch.float32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    target = target_gradient(net, torch.float32)
    for backend in QUICK:
        matched(net, x, y, objective=lambda g: similarity(g, target), criterion=cross_entropy, scale=1, backend=backend)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_take_no_part():
    net, (x, y) = network(), rows(5)
    for p in net[0].parameters():
        p.requires_grad_(False)
    assert len(parameters_of(net)) == len(list(net.parameters())) - 2
    target = target_gradient(net)
    found = matched(net, x, y, objective=lambda g: similarity(g, target), criterion=cross_entropy, scale=1)
    assert len(found.parameters) == len(target)


def test_what_many_parts_keep_between_the_passes_is_bounded(monkeypatch):
    """Small gates are kept as long as the budget lasts; those of further parts are recorded again."""
    net, (x, y) = network(torch.float32), rows(12, torch.float32)
    target = target_gradient(net, torch.float32)
    settings = {"objective": lambda g: similarity(g, target), "criterion": cross_entropy, "scale": 1}
    settings |= {"micro_batch": 2, "backend": "gated-difference"}
    passes, taken = [], mixed.Recorded.__init__

    def counted(self, *args, **kwargs):
        passes.append(1)
        taken(self, *args, **kwargs)

    monkeypatch.setattr(mixed.Recorded, "__init__", counted)
    all_kept = matched(net, x, y, **settings)
    assert len(passes) == 6 + 1  # one more to try the backend
    monkeypatch.setattr(mixed, "KEPT_BYTES", 3000)
    passes.clear()
    some_kept = matched(net, x, y, **settings)
    assert 6 + 1 < len(passes) < 12 + 1
    monkeypatch.setattr(mixed, "KEPT_BYTES", 0)
    passes.clear()
    none_kept = matched(net, x, y, **settings)
    assert len(passes) == 12 + 1
    for other in (some_kept, none_kept):
        assert relative(other.inputs, all_kept.inputs) < 0.02
