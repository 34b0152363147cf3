"""Any module can be wrapped: its parts make the whole, all derivatives pass, and mistakes are sentences."""

from __future__ import annotations

import pickle
import threading

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.models.wrapped import Wrapped, wrap
from mithridate.seeding import Seed

GREY = Space(shape=(1, 12, 12), num_classes=4, mean=(0.3,), std=(0.4,))
TABLE = Space(shape=(5,), num_classes=3, bounds=(-float("inf"), float("inf")))


class GroupNet(nn.Module):
    """GroupNorm, GELU and a head of two layers called by keyword."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 3, stride=2)
        self.norm = nn.GroupNorm(2, 6)
        self.classifier = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Dropout(0.5), nn.Linear(5, num_classes))

    def forward(self, x):
        pooled = functional.gelu(self.norm(self.convolution(x))).mean((2, 3))
        return self.classifier(input=pooled)


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.lstm = nn.LSTM(12, 7, batch_first=True)
        self.fc = nn.Linear(7, num_classes)

    def forward(self, x):
        states, _ = self.lstm(x.squeeze(1))
        return self.fc(states[:, -1])


class Attentive(nn.Module):
    """Self-attention over the rows of an image, layer norm, and a head that is not called fc."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.norm = nn.LayerNorm(12)
        self.out = nn.ModuleDict({"logits": nn.Linear(12, num_classes)})

    def forward(self, x):
        rows = x.squeeze(1)
        mixed, _ = self.attention(rows, rows, rows, need_weights=False)
        return self.out["logits"](self.norm(rows + mixed).mean(1))


class Counting(nn.Module):
    """Counts its forwards, and has a head with running statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Flatten()
        self.fc = nn.Sequential(nn.Linear(144, 4), nn.BatchNorm1d(4))

    def forward(self, x):
        try:
            return self.fc(self.body(x))
        except Exception:  # a module may do this; the way out of the forward must not be caught by it
            return torch.zeros(len(x), 4)


class Softmaxed(Recurrent):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Broken(Recurrent):
    def forward(self, x):
        return super().forward(x.flatten(1))


class Forgetful(Recurrent):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(7, 4)


class Unpooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.fc(x).mean((2, 3))


class Pair(Recurrent):
    def forward(self, x):
        return super().forward(x), None


def deaf():
    """A factory that takes no num_classes."""
    return GroupNet(4)


def passing(**options):
    """A factory that passes its options on, as torchvision's do."""
    return Recurrent(**options)


def failing():
    raise ValueError("the weights are lost\nsecond line")


def returns_nothing():
    return None


CASES = [(GroupNet, "classifier"), (GroupNet, "classifier.3"), (Recurrent, "fc"), (Attentive, "out.logits")]
every_case = pytest.mark.parametrize(("kind", "head"), CASES, ids=lambda each: getattr(each, "__name__", each))


def images(rows=3, space=GREY):
    return torch.rand(rows, *space.shape, generator=torch.Generator().manual_seed(0))


def made(kind, seed=0):
    with Seed(seed).scope():
        return kind().eval()


@every_case
def test_head_of_features_is_what_the_module_returns(kind, head):
    module = made(kind)
    model = wrap(module, head, space=GREY)
    features = model.features(images())
    assert features.ndim == 2
    assert torch.equal(model.head(features), module(images()))
    assert torch.equal(model(images()), module(images()))
    assert [id(each) for each in model.head_parameters()] == [
        id(each) for each in module.get_submodule(head).parameters()
    ]


@every_case
def test_double_backward_passes_through(kind, head):
    """d<v, dL/dw>/dx of the wrapped module equals that of the module itself, and is not zero."""
    module = made(kind).double()
    model = wrap(module, head)

    def mixed(network):
        inputs = images().double().requires_grad_()
        loss = functional.cross_entropy(network(inputs), torch.tensor([0, 1, 2]))
        gradients = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in gradients), inputs)[0]

    found = mixed(model)
    with sdpa_kernel(SDPBackend.MATH):  # left to itself, torch's attention has no second derivative
        expected = mixed(module)
    assert torch.allclose(found, expected, atol=1e-12)
    assert found.abs().max() > 0


@every_case
def test_works_under_functional_call(kind, head):
    module = made(kind)
    model = wrap(module, head)
    doubled = {name: 2 * each for name, each in module.named_parameters()}
    expected = functional_call(module, doubled, (images(),))
    found = functional_call(model, {f"module.{name}": each for name, each in doubled.items()}, (images(),))
    assert torch.equal(found, expected)
    assert not torch.equal(found, module(images()))


def test_inputs_arrive_in_natural_units_unless_normalised():
    module = made(Recurrent)
    normalised = wrap(module, space=GREY, normalise=True)
    assert torch.allclose(normalised(images()), module((images() - 0.3) / 0.4), atol=1e-6)
    assert torch.equal(wrap(module, space=GREY)(images()), module(images()))


def test_no_hook_stays_behind_even_after_an_exception():
    module = made(Recurrent)
    model = wrap(module)
    model(images())
    with pytest.raises(RuntimeError):
        model(torch.rand(2, 1, 12, 5))
    assert not any(each._forward_pre_hooks for each in module.modules())


def test_the_head_runs_once_a_forward():
    module = Counting().train()
    wrap(module)(images(rows=8))
    assert int(module.fc[1].num_batches_tracked) == 1


def test_a_module_that_catches_exceptions_is_cut_all_the_same():
    module = Counting().eval()
    assert torch.equal(wrap(module, space=GREY)(images()), module(images()))


def test_threads_do_not_stop_each_other():
    """One thread waits inside the module, its hook set, while another uses the same head."""
    inside, go_on, found = threading.Event(), threading.Event(), {}

    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            if len(x) == 2:
                inside.set()
                go_on.wait(10)
            return self.fc(x)

    model = wrap(Waiting().eval())
    slow = threading.Thread(target=lambda: found.update(slow=model.features(torch.ones(2, 5))))
    slow.start()
    assert inside.wait(10)
    found["fast"], found["logits"] = model.features(torch.zeros(3, 5)), model(torch.zeros(3, 5))
    go_on.set()
    slow.join()
    assert torch.equal(found["fast"], torch.zeros(3, 5))
    assert torch.equal(found["logits"], model.head(torch.zeros(3, 5)))
    assert torch.equal(found["slow"], torch.ones(2, 5))


def test_checking_changes_neither_modes_nor_statistics_nor_randomness():
    module = GroupNet().train()
    module.norm.eval()
    statistics = Counting().train()
    modes, state = [each.training for each in module.modules()], torch.get_rng_state()
    wrap(module, "classifier", space=GREY)
    wrap(statistics, space=GREY)
    assert [each.training for each in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert int(statistics.fc[1].num_batches_tracked) == 0


def test_tables_with_open_bounds_are_checked_too():
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    assert wrap(module, "2", space=TABLE)(torch.ones(2, 5)).shape == (2, 3)


def test_a_wrapped_module_pickles():
    model = wrap(made(Recurrent))
    assert torch.equal(pickle.loads(pickle.dumps(model))(images()), model(images()))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler's own, at any break of a graph
def test_a_compiled_wrapped_module_gives_the_same():
    model = wrap(made(GroupNet), "classifier")
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    for rows in (3, 5):
        assert torch.allclose(compiled(images(rows)), model(images(rows)), atol=1e-6)


@pytest.mark.parametrize(
    ("module", "head", "sentence"),
    [
        (GroupNet(), "clasifier", r"GroupNet has no part 'clasifier' to be its head: did you mean 'classifier'\?"),
        (Recurrent(), "xyz", r"no part 'xyz' to be its head: allowed: fc, lstm"),
        (nn.Flatten(), "fc", "no part 'fc' to be its head: it has no parts with parameters"),
        (Softmaxed(), "fc", "the output of Softmaxed is not that of its part 'fc': something comes after it"),
        (GroupNet(), "classifier.0", "is not that of its part 'classifier.0'"),
        (Broken(), "fc", r"Broken does not work on inputs of shape \(1, 12, 12\): \w+Error: "),
        (Forgetful(), "spare", "the forward of Forgetful never calls its part 'spare'; name another head"),
        (Unpooled(), "fc", r"is given a tensor of shape \(2, 1, 12, 12\), but features must be one row an input"),
        (Recurrent(5), "fc", r"a logit for each of 4 classes, \(N, 4\), but 2 inputs .* give \(2, 5\)"),
        (Pair(), "fc", "Pair must return a tensor of logits, but returns a tuple"),
        ("resnet18", "fc", "only a torch.nn.Module can be wrapped, but this is a str"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_module_that_does_not_fit_is_refused_with_a_sentence(module, head, sentence):
    with pytest.raises(ModelError, match=sentence):
        wrap(module, head, space=GREY)


def test_normalising_needs_the_space():
    with pytest.raises(ModelError, match="needs the space"):
        wrap(Recurrent(), normalise=True)


@pytest.mark.parametrize(
    ("factory", "head"),
    [
        ("tests.models.test_wrapped:Recurrent", "fc"),
        ("tests.models.test_wrapped:passing", "fc"),
        (Recurrent, "fc"),
        (passing, "fc"),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_a_factory_is_told_the_number_of_classes(factory, head):
    space = Space(shape=(1, 12, 12), num_classes=6)
    assert Wrapped(factory=factory, head=head).build(space)(images()).shape == (3, 6)


def test_a_factory_that_takes_no_arguments_is_given_none():
    assert Wrapped(factory=deaf, head="classifier").build(GREY)(images()).shape == (3, 4)


def test_same_seed_same_weights_and_another_seed_others():
    def weights(seed):
        with Seed(seed).scope():
            return Wrapped(factory=Recurrent).build(GREY).state_dict()

    assert all(torch.equal(a, b) for a, b in zip(weights(1).values(), weights(1).values(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights(1).values(), weights(2).values(), strict=True))


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (
            "no_such_package.nets:make",
            "'no_such_package.nets:make' cannot be imported: ModuleNotFoundError: .*PYTHONPATH",
        ),
        ("tests.models.test_wrapped:Recurent", r"has no 'Recurent': did you mean 'Recurrent'\?"),
        ("tests.models.test_wrapped:GREY", "must be a function or class, but is a Space"),
        ("tests.models.test_wrapped:failing", "failing' failed: ValueError: the weights are lost$"),
        ("tests.models.test_wrapped:returns_nothing", "must return a torch.nn.Module, but returned a NoneType"),
        (failing, "the factory 'failing' failed"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_factory_that_cannot_be_used_is_refused_with_a_sentence(factory, sentence):
    with pytest.raises(ModelError, match=sentence):
        Wrapped(factory=factory).build(GREY)


@pytest.mark.parametrize(
    "factory",
    ["", "package.module", ":function", "package.module:", lambda: Recurrent()],
    ids=["empty", "no-function", "no-module", "no-name", "lambda"],
)
def test_a_factory_without_a_name_is_refused(factory):
    with pytest.raises(ConfigError, match=r"package\.module:function|at the top of a module"):
        Wrapped(factory=factory)
