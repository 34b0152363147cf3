"""Which network a scan uses: names, weights, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.errors import ConfigError, MithridateError, ModelError
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.scan.network import learner, probe, weights
from mithridate.scan.probing import Frozen, Trained
from mithridate.testing import toy

DATA = toy(120, seed=1)


def architecture(name: str | None) -> object:
    found = probe(DATA, name)
    assert isinstance(found, Trained)
    return found.learner.model  # type: ignore[attr-defined]


def test_a_name_is_a_network_to_be_trained() -> None:
    assert architecture(None) == SmallConvNet()
    assert architecture("linear") == Linear()
    tiny = probe(toy(120, seed=1, side=4), None)
    assert isinstance(tiny, Trained)
    assert tiny.learner.model == MLP()  # type: ignore[attr-defined]


@pytest.mark.parametrize("rows", [100, 300, 1000, 5000, 50_000])
def test_small_data_are_passed_over_more_often(rows: int) -> None:
    labels = torch.zeros(rows, dtype=torch.int64)
    inputs = torch.zeros(1, dtype=torch.uint8).expand(rows, 1, 8, 8)
    found = learner(replace(DATA, inputs=inputs, labels=labels, ids=torch.arange(rows)), Linear())
    assert found.epochs * rows / found.batch_size >= 240
    assert 8 <= found.epochs <= 40
    assert 8 <= found.batch_size <= 64


def test_only_colour_images_are_mirrored() -> None:
    assert not learner(DATA, Linear()).augmentation.flip  # type: ignore[union-attr]
    colour = replace(
        DATA, inputs=DATA.inputs.expand(-1, 3, -1, -1), space=replace(DATA.space, shape=(3, 8, 8), mean=(), std=())
    )
    assert learner(colour, Linear()).augmentation.flip  # type: ignore[union-attr]


def saved(path: Path, model: MLP | SmallConvNet, **about: str) -> Path:
    save_file(model.build(DATA.space).state_dict(), path, metadata=about)
    return path


def test_weights_are_recognised_by_their_names_and_shapes(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.safetensors", MLP())
    found = probe(DATA, str(path))
    assert isinstance(found, Frozen)
    again = MLP().build(DATA.space)
    again.load_state_dict(found.model.state_dict())
    images = DATA.all_inputs()
    assert torch.equal(found.model(images), again.eval()(images))
    assert not found.model.training


def test_other_settings_stand_in_the_metadata(tmp_path: Path) -> None:
    settings = json.dumps({"name": "mlp", "hidden": [7]})
    with pytest.raises(ModelError, match="holds none of our networks"):
        weights(saved(tmp_path / "plain.safetensors", MLP(hidden=(7,))), DATA.space)
    found = weights(saved(tmp_path / "told.safetensors", MLP(hidden=(7,)), architecture=settings), DATA.space)
    assert found.features(DATA.all_inputs()).shape == (120, 7)


def test_our_own_checkpoints_are_read(tmp_path: Path) -> None:
    model = SmallConvNet().build(DATA.space)
    whole = Checkpoint(tensors={"order": torch.zeros(3)}).joined(model=Checkpoint(tensors=model.state_dict()))
    checkpoint.write(whole, tmp_path / "state.safetensors")
    found = weights(tmp_path / "state.safetensors", DATA.space)
    assert torch.equal(found(DATA.all_inputs()), model.eval()(DATA.all_inputs()))


def refused(model: str) -> str:
    with pytest.raises(MithridateError) as error:
        probe(DATA, model)
    return str(error.value)


def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    other = MLP().build(replace(DATA.space, num_classes=5))
    save_file(other.state_dict(), tmp_path / "five.safetensors")
    assert "is a network for 5 classes, but these data have 3: " in refused(str(tmp_path / "five.safetensors"))
    torch.save(MLP().build(DATA.space).state_dict(), tmp_path / "weights.pt")
    assert "is a pickle, which can run any program" in refused(str(tmp_path / "weights.pt"))
    (tmp_path / "broken.safetensors").write_bytes(b"no such thing")
    assert "is damaged or no safetensors file" in refused(str(tmp_path / "broken.safetensors"))
    save_file({"fc.weight": torch.zeros(3, 4)}, tmp_path / "foreign.safetensors")
    assert "(its tensors: fc.weight, ...)" in refused(str(tmp_path / "foreign.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"architecture": "{"})
    assert "its metadata 'architecture' is no JSON" in refused(str(tmp_path / "odd.safetensors"))
    assert "there is no file 'nowhere.safetensors'" in refused("nowhere.safetensors")
    assert "there is no network called 'resnet', and no file; did you mean 'resnet18'?" in refused("resnet")


def test_a_network_too_large_for_the_images_is_refused_before_training() -> None:
    with pytest.raises(MithridateError):
        probe(toy(120, seed=1, side=2), "convnet")


def test_a_setting_that_is_missing_is_told() -> None:
    with pytest.raises(ConfigError, match="factory"):
        probe(DATA, "wrapped")
