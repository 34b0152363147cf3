"""EPIC as a callback of Lightning; needs the ``lightning`` extra.

::

    epic = EPICCallback(EPIC(), data=rows, labels=labels, epochs=40)    # rows: (x, y) without random augmentation
    loader = DataLoader(train, batch_size=128, sampler=epic.sampler)
    Trainer(max_epochs=40, callbacks=[epic]).fit(module, loader)

All epochs keep their number of steps (see :class:`~mithridate.integrations.sampler.GuardedSampler`). The state is in
Lightning's checkpoints; a training resumed from one equals one that never stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mithridate.defenses.epic import EPIC
from mithridate.errors import ConfigError, MissingExtraError
from mithridate.integrations.loop import Guard
from mithridate.integrations.sampler import GuardedSampler, unweighted

try:
    from lightning.pytorch import Callback, LightningModule, Trainer  # type: ignore[import-not-found, unused-ignore]
except ImportError as error:
    raise MissingExtraError("EPICCallback", "lightning") from error


class EPICCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Keeps rows out of a Lightning training that EPIC finds isolated. Make a new one for each training."""

    def __init__(
        self,
        defense: EPIC,
        *,
        data: Dataset[Any] | DataLoader[Any],
        labels: Tensor | Sequence[int],
        epochs: int,
        last_drop: int | None = None,
        ids: Tensor | Sequence[int] | None = None,
        head: str | None = None,
        seed: int = 0,
    ) -> None:
        """Guard the rows of ``data``, as :class:`~mithridate.integrations.loop.Guard` does.

        ``module(x)`` must return logits. ``seed`` decides the order of the rows.
        """
        super().__init__()
        self.guard = Guard(
            unweighted(defense, type(self).__name__), labels, epochs=epochs, last_drop=last_drop, ids=ids, head=head
        )
        self.data = data
        # workers read ahead: in the first epoch after a resumption before any hook is called
        self.sampler = GuardedSampler(self.guard, seed=seed, before=self._update)
        self._training: tuple[Trainer, LightningModule] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take note of the training. Raises :class:`ConfigError` for several processes."""
        if stage == "fit":
            if trainer.world_size > 1:
                raise ConfigError(
                    f"EPICCallback works in one process, but this trainer has {trainer.world_size}: set devices=1"
                )
            self._training = (trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises :class:`ConfigError` where the loader does not draw from the sampler."""
        loader = trainer.train_dataloader
        if not isinstance(loader, DataLoader) or loader.sampler is not self.sampler:
            raise ConfigError(
                "EPICCallback keeps rows out by its sampler, but the training loader does not draw from that: make it "
                "with  DataLoader(..., sampler=callback.sampler)"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold a round, where one is due."""
        self._update()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Raises :class:`ConfigError` where a resumed training would see rows drawn for another epoch."""
        if self.sampler.epoch != trainer.current_epoch:
            raise ConfigError(
                f"workers have read the rows of epoch {self.sampler.epoch} for epoch {trainer.current_epoch}, as "
                "Lightning lets them after a checkpoint from inside an epoch: resume from one saved at the end of an "
                "epoch, or with num_workers=0"
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the training; what was dropped stays in ``guard``."""
        self._training = None

    def state_dict(self) -> dict[str, Any]:
        """The state of the guard."""
        return dict(self.guard.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self.guard.load_state_dict(state_dict)

    def _update(self) -> None:
        if self._training is not None:
            trainer, module = self._training
            # equals current_epoch, but for the first reading after a resumption, when that is yet to be corrected
            epoch = trainer.fit_loop.epoch_progress.current.processed
            self.guard.update(epoch, module, self.data)
