"""The fast victims' network: what its whitening does to patches, what it begins as, and which images it takes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mithridate.dataset import Space
from mithridate.errors import ConfigError, ModelError
from mithridate.models.fastnet import FastNet, ShiftNorm, patch_moments, whitening
from mithridate.seeding import Seed

CIFAR = Space(shape=(3, 32, 32), num_classes=10, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
SMALL = Space(shape=(3, 12, 9), num_classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))


def built(architecture=None, space=SMALL, seed=0):
    with Seed(seed).scope():
        return (architecture or FastNet(widths=(6, 8))).build(space)


def images(rows=40, space=SMALL, seed=0):
    """Smooth images: neighbours resemble each other, as they do in photographs."""
    noise = torch.rand(rows, space.shape[0], 4, 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=space.shape[1:], mode="bilinear")


def test_whitened_patches_are_uncorrelated_and_of_one_size():
    model, inputs = built(), images()
    with torch.no_grad():
        model.prepare(inputs)
        found = model.whiten(model.normalise(inputs))
    values = found.transpose(0, 1).flatten(1).double()
    half = len(values) // 2
    assert torch.equal(values[half:], -values[:half])
    squares = values[:half] @ values[:half].T / values.shape[1]
    strength = torch.linalg.eigvalsh(second_moment(model.normalise(inputs))).flip(0)
    torch.testing.assert_close(squares, torch.diag(strength / (strength + 5e-4)), atol=1e-4, rtol=0)
    assert float(squares[0, 0]) == pytest.approx(1, abs=1e-3)


def second_moment(inputs):
    """Of all 2 x 2 patches, one after the other."""
    height, width = inputs.shape[2:]
    patches = [
        inputs[:, :, y : y + 2, x : x + 2].flatten(1).double() for y in range(height - 1) for x in range(width - 1)
    ]
    joined = torch.cat(patches)
    return joined.T @ joined / len(joined)


def test_moments_are_those_of_every_patch_one_by_one():
    inputs = images(3)
    moments = patch_moments(inputs)
    assert moments[-1].tolist() == [3 * 11 * 8] * 12
    torch.testing.assert_close(moments[:-1] / moments[-1, 0], second_moment(inputs))


def test_the_whitening_is_not_trained_and_does_not_depend_on_how_images_are_split():
    one, two = built(), built()
    inputs = images(300)
    with torch.no_grad():
        one.prepare(inputs)
    whole = whitening(patch_moments(two.normalise(inputs)), channels=3)
    torch.testing.assert_close(one.whiten.weight, whole, atol=1e-3, rtol=1e-3)
    assert not any(each is one.whiten.weight for each in one.parameters())
    assert "whiten.weight" in one.state_dict()


def test_patches_without_contrast_give_a_finite_whitening():
    found = whitening(patch_moments(torch.zeros(2, 1, 8, 8)), channels=1)
    assert bool(torch.isfinite(found).all())


def test_first_filters_hand_on_what_they_get_and_the_others_are_random():
    layer = built(FastNet(widths=(30,))).body[1]
    inputs = torch.randn(2, 24, 5, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(layer(inputs)[:, :24], inputs)
    assert float(layer.weight[24:].detach().std()) > 0


def test_batch_norm_follows_the_newest_batch_and_has_a_shift_alone():
    norms = [each for each in built().modules() if isinstance(each, ShiftNorm)]
    assert len(norms) == 4
    norm = norms[0]
    assert [name for name, _ in norm.named_parameters()] == ["bias"]
    inputs = torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(1)) + 5
    norm.train()(inputs)
    torch.testing.assert_close(norm.running_mean, 0.4 * inputs.mean((0, 2, 3)))


def test_a_trained_network_sees_an_image_and_its_mirror_image_alike():
    inputs = images(4)
    model = built().eval()
    torch.testing.assert_close(model(inputs), model(inputs.flip(3)))
    plain = built(FastNet(widths=(6, 8), flip_average=False)).eval()
    mean = (plain(inputs) + plain(inputs.flip(3))) / 2
    torch.testing.assert_close(model(inputs), mean)
    assert not torch.allclose(plain(inputs), plain(inputs.flip(3)))
    assert torch.equal(model.train()(inputs), plain.train()(inputs))


def test_gradients_can_be_differentiated_again_as_attacks_do():
    model, inputs = built().eval(), images(3).requires_grad_(True)
    loss = functional.cross_entropy(model(inputs), torch.tensor([0, 1, 2]))
    slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (again,) = torch.autograd.grad(sum(each.square().sum() for each in slopes), inputs)
    assert float(again.abs().sum()) > 0


@pytest.mark.parametrize("side", [8, 9, 17, 28])
def test_takes_any_image_from_eight_pixels_on(side):
    space = Space(shape=(1, side, side), num_classes=3)
    model = built(FastNet(widths=(4, 5, 6, 7)), space).eval()
    inputs = images(3, space)
    assert model.features(inputs).shape == (3, 7)
    assert torch.equal(model.head(model.features(inputs)), model(inputs))


def test_has_the_size_of_the_papers_network():
    model = FastNet().build(CIFAR)
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert sum(each.numel() for each in model.parameters()) == convolutions + 2 * (64 + 256 + 256) + 24 + 2560


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [((5,), "needs images of shape"), ((3, 7, 32), "at least 8 x 8, but these are 7 x 32; enlarge the images")],
)
def test_refuses_other_inputs_with_a_sentence(shape, sentence):
    with pytest.raises(ModelError, match=sentence):
        FastNet().build(Space(shape=shape, num_classes=2))


@pytest.mark.parametrize("widths", [(), (8, 0)])
def test_refuses_blocks_without_channels(widths):
    with pytest.raises(ConfigError, match="widths must name one or more blocks"):
        FastNet(widths=widths)
