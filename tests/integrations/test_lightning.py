"""EPIC as a Lightning callback, in real trainings: which rows they see, and that resuming equals not stopping."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from mithridate.errors import ConfigError
from mithridate.integrations.loop import Guard
from mithridate.seeding import Seed
from tests.integrations.plain import BOLD, EPOCHS, Net, Rows, removed, same_weights

pl = pytest.importorskip("lightning.pytorch", reason="the 'lightning' extra is not installed")

pytestmark = [  # what Lightning and its dependencies warn of everybody
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Numbered(Rows):
    """Rows with their numbers, which the module writes down."""

    def __getitem__(self, index):
        return (*super().__getitem__(index), index)


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()
        self.seen, self.validated = {}, []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        torch.manual_seed(self.global_step)  # dropout
        x, y, number = batch
        self.seen.setdefault(self.current_epoch, []).extend(number.tolist())
        return functional.cross_entropy(self(x), y)

    def validation_step(self, batch, index):
        self.validated.append(self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)


class Stop(pl.Callback):
    """Ends a training before its time, as an interruption would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epoch


def callback(epic=BOLD, **changes):
    from mithridate.integrations.lightning import EPICCallback

    rows = Rows()
    return EPICCallback(epic, **{"data": rows, "labels": rows.y, "epochs": EPOCHS, "seed": 3, **changes})


def loader(sampler, workers=0):
    return DataLoader(Numbered(), batch_size=16, sampler=sampler, drop_last=True, num_workers=workers)


def trainer(folder, *callbacks, epochs=EPOCHS, **changes):
    return pl.Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", devices=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks), num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **changes},
    )  # fmt: skip


def fitted(folder, *more, resume=None, workers=0, epic=BOLD, **changes):
    module, own = Module(), callback(epic)
    with Seed(0).scope():
        trainer(folder, own, *more, **changes).fit(
            module, loader(own.sampler, workers), DataLoader(Numbered(), batch_size=67), ckpt_path=resume
        )
    return module, own.guard


def test_dropped_rows_are_not_seen_again(tmp_path):
    module, guard = fitted(tmp_path)
    assert len(guard.removals) >= 3
    gone = set()
    for epoch in range(EPOCHS):
        gone |= {i for each in guard.removals if each.epoch == epoch for i in each.ids.tolist()}
        assert set(module.seen[epoch]).isdisjoint(gone)
        assert len(module.seen[epoch]) == 64  # four batches, the last rows dropped, as ever
    assert len(gone) > 3


def test_drops_what_a_guard_drops_on_the_same_network(tmp_path):
    """The first round, on the network after one epoch."""
    module, _ = fitted(tmp_path, epochs=1)
    rows, guard = Rows(), Guard(BOLD, Rows().y, epochs=EPOCHS)
    guard.update(1, module, rows)
    _, whole = fitted(tmp_path)
    assert removed(whole)[0] == removed(guard)[0]


@pytest.mark.parametrize(
    ("stop", "workers"), [(1, 0), (3, 0), (5, 0), (3, 1)], ids=["after 1", "after 3", "after 5", "after 3, a worker"]
)
@pytest.mark.parametrize("saved", ["after the epoch", "on validation"])
def test_resuming_equals_not_stopping(stop, saved, workers, tmp_path):
    """Also with workers, which read ahead before any hook is called."""
    own = replace(BOLD, ground_set="active")
    whole, guard = fitted(tmp_path / "whole", epic=own)
    keeping = pl.callbacks.ModelCheckpoint(
        dirpath=tmp_path, filename="state", save_on_train_epoch_end=saved == "after the epoch"
    )
    half, _ = fitted(tmp_path, Stop(stop), keeping, epic=own, enable_checkpointing=True)
    assert max(half.seen) == stop - 1
    rest, again = fitted(tmp_path, epic=own, workers=workers, resume=tmp_path / "state.ckpt")
    assert removed(again) == removed(guard)
    assert rest.seen == {epoch: rows for epoch, rows in whole.seen.items() if epoch >= stop}
    assert same_weights(rest, whole)
    assert len(guard.removals) >= 3


@pytest.mark.parametrize("workers", [0, 1], ids=["no workers", "a worker"])
def test_a_checkpoint_from_the_last_step_of_an_epoch_resumes_rightly_or_is_refused(workers, tmp_path):
    """There Lightning lets workers read the rows of the epoch before; that must not pass unseen."""
    whole, guard = fitted(tmp_path / "whole")
    keeping = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="state", every_n_train_steps=12)
    fitted(tmp_path, Stop(3), keeping, enable_checkpointing=True)
    if workers:
        with pytest.raises(ConfigError, match=r"have read the rows of epoch 2 for epoch 3.* with num_workers=0"):
            fitted(tmp_path, workers=workers, resume=tmp_path / "state.ckpt")
        return
    rest, again = fitted(tmp_path, resume=tmp_path / "state.ckpt")
    assert removed(again) == removed(guard)
    assert same_weights(rest, whole)


def test_validation_goes_on_although_rows_are_gone(tmp_path):
    """Lightning validates after as many steps as the first epoch had; shorter epochs would end it silently."""
    module, guard = fitted(tmp_path)
    assert int(guard.active.sum()) < 64  # a batch fewer, if epochs shrank
    assert module.validated == list(range(EPOCHS))


def test_a_loader_with_another_sampler_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"DataLoader\(\.\.\., sampler=callback\.sampler\)"):
        trainer(tmp_path, callback()).fit(Module(), loader(None))


def test_a_callback_serves_one_training(tmp_path):
    own = callback()
    trainer(tmp_path, own).fit(Module(), loader(own.sampler))
    with pytest.raises(ConfigError, match="a guard belongs to one training"):
        trainer(tmp_path, own).fit(Module(), loader(own.sampler))


def test_weights_are_refused():
    with pytest.raises(ConfigError, match="EPICCallback cannot weight the trainer's loss"):
        callback(replace(BOLD, weighted=True))


def test_a_bias_is_taken_off_by_the_name_of_the_head(tmp_path):
    own = callback(replace(BOLD, use_bias=False), head="net.fc")
    trainer(tmp_path, own).fit(Module(), loader(own.sampler))
    assert own.guard.removals
