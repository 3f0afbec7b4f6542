"""The LightningModule: network, augmentation, loss, metrics, optimizer and schedule."""

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from digits.augment import Augment
from digits.corpus import N_DIGITS, NO_DIGIT
from digits.model import build


class DigitClassifier(lightning.LightningModule):
    """Trains a network with cross entropy, AdamW and one cycle of the learning rate (arXiv 1708.07120).

    Logs ``train/loss``, ``val/loss``, ``val/acc``, ``val/f1`` and, for each test condition of the data module, ``test/acc`` (clean)
    or ``test/acc_<condition>``.

    Args:
        network: ``name`` and settings for :func:`digits.model.build`.
        augment: arguments of :class:`digits.augment.Augment`.
        learning_rate: the cycle's peak.
        label_smoothing: of the training loss.
        run: facts about this training that its checkpoint should carry (experiment, corpus, seed).
    """

    def __init__(
        self,
        network: dict[str, Any],
        augment: dict[str, int] | None = None,
        learning_rate: float = 6e-3,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.1,
        run: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.network = build(**network)
        self.augment = Augment(**(augment or {}))
        accuracy: dict[str, Metric | MetricCollection] = {
            "acc": MulticlassAccuracy(N_DIGITS, average="micro"),
            "f1": MulticlassF1Score(N_DIGITS),
        }
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.val_metrics = MetricCollection(accuracy, prefix="val/")
        self.test_metrics = nn.ModuleDict()
        self.test_logits: dict[str, list[Tensor]] = {}

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.network(log_mel)

    def on_fit_start(self) -> None:
        labels = self.trainer.datamodule.train_set.tensors[1]  # type: ignore[attr-defined]
        if (labels == NO_DIGIT).any() and self.hparams["network"].get("n_outputs", N_DIGITS) == N_DIGITS:
            raise ValueError("data.train_sets holds sounds that are no digits, which takes model.n_outputs=11")

    def on_train_epoch_start(self) -> None:
        # All randomness of an epoch follows from seed and epoch: a resumed run repeats what an unbroken one would have done.
        torch.manual_seed((self.hparams["run"] or {}).get("seed", 0) * 100_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        log_mel, label = batch
        loss = F.cross_entropy(self(self.augment(log_mel)), label, label_smoothing=self.hparams["label_smoothing"])
        self.train_loss.update(loss.detach(), len(label))
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        log_mel, label = batch
        logits = self(log_mel)
        self.val_loss.update(F.cross_entropy(logits, label), len(label))
        self.val_metrics.update(logits[:, :N_DIGITS], label)

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.val_loss)
        self.log_dict(self.val_metrics)

    def on_test_start(self) -> None:
        conditions = [test_set.condition for test_set in self.trainer.datamodule.test_sets]  # type: ignore[attr-defined]
        self.test_metrics = nn.ModuleDict({name: MulticlassAccuracy(N_DIGITS, average="micro") for name in conditions})
        self.test_metrics.to(self.device)
        self.test_logits = {name: [] for name in conditions}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        log_mel, label = batch
        condition, metric = list(self.test_metrics.items())[dataloader_idx]
        logits = self(log_mel)
        self.test_logits[condition].append(logits.cpu())
        metric(logits[:, :N_DIGITS], label)  # of ten; to know other sounds is another question
        name = "test/acc" if condition == "clean" else f"test/acc_{condition}"
        self.log(name, metric, on_step=False, on_epoch=True, add_dataloader_idx=False)  # type: ignore[arg-type]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for schedule in checkpoint.get("lr_schedulers", []):  # its length is this run's, which may have more epochs
            for name in ("total_steps", "_schedule_phases"):
                schedule.pop(name, None)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        hparams = self.hparams
        optimizer = torch.optim.AdamW(self.parameters(), hparams["learning_rate"], weight_decay=hparams["weight_decay"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, hparams["learning_rate"], total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
