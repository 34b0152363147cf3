"""EPIC as a callback of the Hugging Face Trainer, in real trainings: the rows they see, and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from mithridate.errors import ConfigError, DataError, FormatError
from mithridate.integrations.loop import Guard
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from tests.integrations.plain import BOLD, EPOCHS, Net, Rows, removed, same_weights

transformers = pytest.importorskip("transformers", reason="the 'transformers' extra is not installed")
pytest.importorskip("accelerate", reason="the trainer needs accelerate")

pytestmark = [  # what the trainer and its dependencies warn of everybody
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Mappings(Dataset):
    """The rows as the trainer wants them, with their numbers, which the network writes down."""

    def __init__(self):
        self.rows = Rows()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        x, y = self.rows[index]
        return {"x": x, "labels": y, "number": index}


class Network(torch.nn.Module):
    """Returns what transformers' networks return: a mapping with loss and logits."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = Net(), []

    def forward(self, x, labels=None, number=None):
        logits = self.net(x)
        if not self.training or labels is None:
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)
        self.seen.append(number.tolist())
        loss = functional.cross_entropy(logits, labels)
        return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)


class Stop(transformers.TrainerCallback):
    """Ends a training after some steps, as an interruption would."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **given):
        if state.global_step >= self.steps:
            control.should_training_stop = control.should_save = True


def callback(epic=BOLD, **changes):
    from mithridate.integrations.transformers import EPICTrainerCallback

    return EPICTrainerCallback(epic, **{"labels": Rows().y, "seed": 3, **changes})


def trained(folder, own, *more, resume=None, model=None, data=None, **changes):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=16, dataloader_drop_last=True,
        learning_rate=0.05, optim="sgd", lr_scheduler_type="cosine", report_to=[], use_cpu=True, disable_tqdm=True,
        **{"save_strategy": "no", "logging_strategy": "no", **changes},
    )  # fmt: skip
    model = model or Network()
    with Seed(0).scope():
        trainer = transformers.Trainer(
            model, arguments, train_dataset=data or Mappings(), callbacks=[own, *more],
            data_collator=transformers.default_data_collator,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
    return model


def epochs(model):
    """The rows of each epoch, from batches of four an epoch."""
    return [list(chain(*model.seen[k : k + 4])) for k in range(0, len(model.seen), 4)]


def test_dropped_rows_are_not_seen_again(tmp_path):
    own = callback()
    seen = epochs(trained(tmp_path, own))
    assert len(seen) == EPOCHS
    assert len(own.guard.removals) >= 3
    gone = set()
    for epoch, rows in enumerate(seen):
        gone |= {i for each in own.guard.removals if each.epoch == epoch for i in each.ids.tolist()}
        assert set(rows).isdisjoint(gone)
        assert len(rows) == 64
    assert len(gone) > 3


def test_drops_what_a_guard_drops_on_the_same_network(tmp_path):
    own = callback()
    one_epoch = trained(tmp_path, callback(), Stop(4)).net
    trained(tmp_path, own)
    guard = Guard(BOLD, Rows().y, epochs=EPOCHS)
    guard.update(1, one_epoch, Rows())
    assert removed(own.guard)[0] == removed(guard)[0]
    assert removed(guard)


@pytest.mark.parametrize("steps", [4, 10, 12, 20], ids="after {} steps".format)
def test_resuming_equals_not_stopping(steps, tmp_path):
    """At the end of an epoch of four steps, and inside one."""
    epic = replace(BOLD, ground_set="active")
    own, again = callback(epic), callback(epic)
    whole = trained(tmp_path / "whole", own)
    trained(tmp_path, callback(epic), Stop(steps), save_strategy="steps", save_steps=1000)
    rest = trained(tmp_path, again, resume=str(tmp_path / f"checkpoint-{steps}"))
    assert removed(again.guard) == removed(own.guard)
    assert rest.seen == whole.seen[steps:]
    assert same_weights(rest, whole)
    assert len(own.guard.removals) >= 3


def test_callbacks_may_be_restored_by_the_trainer_too(tmp_path):
    own, again = callback(), callback()
    trained(tmp_path / "whole", own)
    trained(tmp_path, callback(), Stop(12), save_strategy="steps", save_steps=1000)
    trained(tmp_path, again, resume=str(tmp_path / "checkpoint-12"), restore_callback_states_from_checkpoint=True)
    assert removed(again.guard) == removed(own.guard)


def test_a_second_training_starts_afresh(tmp_path):
    own = callback()
    trained(tmp_path, own)
    first = removed(own.guard)
    trained(tmp_path, own)
    assert removed(own.guard) == first


def test_a_checkpoint_of_other_rows_is_refused(tmp_path):
    trained(tmp_path, callback(), Stop(12), save_strategy="steps", save_steps=1000)
    with pytest.raises(FormatError, match="belongs to other rows"):
        trained(tmp_path, callback(ids=torch.arange(67) + 5), resume=str(tmp_path / "checkpoint-12"))


def test_a_checkpoint_is_small(tmp_path):
    trained(tmp_path, callback(), Stop(12), save_strategy="steps", save_steps=1000)
    kept = json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())["stateful_callbacks"]
    assert len(json.dumps(kept["mithridate-epic"])) < 500


def test_rows_without_augmentation_may_be_handed_over(tmp_path):
    class Augmented(Mappings):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            return {**row, "x": row["x"] + 0.1 * torch.randn(2)}

    with pytest.raises(DataError, match="without random augmentation"):
        trained(tmp_path, callback(), data=Augmented())
    own = callback(data=Mappings())
    trained(tmp_path, own, data=Augmented())
    assert own.guard.removals


def test_a_round_leaves_randomness_alone(tmp_path):
    own, model = callback(), Network()
    trained(tmp_path, own, Stop(4), model=model)
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    state = transformers.TrainerState(epoch=1.0)
    loader = torch.utils.data.DataLoader(Mappings(), collate_fn=transformers.default_data_collator)
    with undisturbed("the callback"):
        own.on_epoch_begin(args, state, None, model=model.train(), train_dataloader=loader)
    assert model.training
    assert removed(own.guard)


def test_settings_that_the_trainer_cannot_follow_are_refused():
    with pytest.raises(ConfigError, match="EPICTrainerCallback cannot weight the trainer's loss"):
        callback(replace(BOLD, weighted=True))
    with pytest.raises(ConfigError, match="set use_bias=True"):
        callback(replace(BOLD, use_bias=False))


def test_labels_of_other_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="30 labels, but the data have 67 rows"):
        trained(tmp_path, callback(labels=Rows().y[:30]))
    with pytest.raises(DataError, match="do not belong to the labels"):
        trained(tmp_path, callback(labels=Rows().y.flip(0)))
