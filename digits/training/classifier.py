"""The LightningModule: network, augmentation, loss, metrics, optimizer and schedule."""

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from digits import networks
from digits.corpora.corpus import N_DIGITS, NO_DIGIT
from digits.training.batches import SEED_STEP
from digits.training.spec_augment import SpecAugment


class DigitClassifier(lightning.LightningModule):
    """Trains a network with cross entropy, AdamW and a one-cycle learning rate schedule (arXiv 1708.07120).

    Logs ``train/loss``, ``train/learning_rate``, ``val/loss``, ``val/acc``, ``val/f1`` and, for each test condition, ``test/acc``
    (clean) or ``test/acc_<condition>``. Accuracy is that of digits over the ten digit outputs; a "no digit" output is ignored. If
    there are other sounds to validate on, the loss includes them, and ``val/others`` is the share of them taken for digits.

    Args:
        network: ``name`` and settings for :func:`digits.networks.build`.
        augment: arguments of :class:`digits.training.spec_augment.SpecAugment`.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW.
        label_smoothing: of the training loss.
        conditions: names of the test loaders, in their order.
        seed: of the augmentation and dropout.
        experiment: name of the experiment, kept in the checkpoint.
        corpus: name of the training corpus, kept in the checkpoint.
        compile: whether ``torch.compile`` makes one program of the network.
    """

    def __init__(
        self,
        network: dict[str, Any],
        augment: dict[str, int] | None = None,
        learning_rate: float = 6e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.1,
        conditions: Sequence[str] = ("clean",),
        seed: int = 0,
        experiment: str = "",
        corpus: str = "",
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.network = networks.build(**network)
        if compile:
            self.network.compile()  # in place: the checkpoint's names stay
        self.augment = SpecAugment(**(augment or {}))
        accuracy: dict[str, Metric | MetricCollection] = {
            "acc": MulticlassAccuracy(N_DIGITS, average="micro"),
            "f1": MulticlassF1Score(N_DIGITS),
        }
        # A look for NaNs in every step would make a GPU wait; val/loss shows them.
        self.train_loss, self.val_loss, self.val_others = (MeanMetric(nan_strategy="disable") for _ in range(3))
        self.val_metrics = MetricCollection(accuracy, prefix="val/")
        self.test_metrics = nn.ModuleList(MulticlassAccuracy(N_DIGITS, average="micro") for _ in conditions)
        self._test_batches: list[list[Tensor]] = [[] for _ in conditions]

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.network(log_mel)

    @property
    def test_logits(self) -> dict[str, Tensor]:
        """Condition -> logits of the test clips, (clips, n_outputs), after a test."""
        conditions = zip(self.hparams["conditions"], self._test_batches, strict=True)
        return {name: torch.cat(batches) for name, batches in conditions if batches}

    def on_fit_start(self) -> None:
        labels = self.trainer.datamodule.train_set.labels  # type: ignore[attr-defined]
        if (labels == NO_DIGIT).any() and self.hparams["network"].get("n_outputs", N_DIGITS) == N_DIGITS:
            raise ValueError("the training set holds sounds other than digits, which needs model.n_outputs=11")

    def on_train_epoch_start(self) -> None:
        # All randomness of an epoch follows from seed and epoch: a resumed run repeats what an unbroken one would have done.
        torch.manual_seed(self.hparams["seed"] * SEED_STEP + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        log_mel, label = batch
        loss = F.cross_entropy(self(self.augment(log_mel)), label, label_smoothing=self.hparams["label_smoothing"])
        self.train_loss.update(loss.detach(), len(label))
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.train_loss)
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        log_mel, label = batch
        logits = self(log_mel)
        has_output, is_digit = label < logits.shape[1], label < N_DIGITS
        if has_output.any():
            self.val_loss.update(F.cross_entropy(logits[has_output], label[has_output]), int(has_output.sum()))
        if is_digit.any():
            self.val_metrics.update(logits[is_digit, :N_DIGITS], label[is_digit])
        if not is_digit.all():
            self.val_others.update((logits[~is_digit].argmax(dim=1) < N_DIGITS).float())

    def on_validation_epoch_end(self) -> None:
        if not (loss := self.val_loss.compute()).isfinite():
            raise ValueError(
                f"diverged: val/loss is {loss.item()} in epoch {self.current_epoch + 1}; try a smaller classifier.learning_rate"
            )
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log_dict(self.val_metrics, prog_bar=True)
        if self.val_others.update_called:
            self.log("val/others", self.val_others)

    def on_test_start(self) -> None:
        self._test_batches = [[] for _ in self.hparams["conditions"]]

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        log_mel, label = batch
        condition, metric = self.hparams["conditions"][dataloader_idx], self.test_metrics[dataloader_idx]
        logits = self(log_mel)
        self._test_batches[dataloader_idx].append(logits.cpu())
        is_digit = label < N_DIGITS
        if is_digit.any():
            metric(logits[is_digit, :N_DIGITS], label[is_digit])
        name = "test/acc" if condition == "clean" else f"test/acc_{condition}"
        self.log(name, metric, on_step=False, on_epoch=True, add_dataloader_idx=False)  # type: ignore[arg-type]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for schedule in checkpoint.get("lr_schedulers", []):  # its length is this run's, which may have more epochs
            for name in ("total_steps", "_schedule_phases"):
                schedule.pop(name, None)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        hparams, clips_gradients = self.hparams, bool(self.trainer.gradient_clip_val)  # which mixed precision cannot, if fused
        optimizer = torch.optim.AdamW(
            self.parameters(), hparams["learning_rate"], weight_decay=hparams["weight_decay"], fused=not clips_gradients
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, hparams["learning_rate"], total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
