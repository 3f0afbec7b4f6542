"""Lightning callbacks: what TensorBoard shows beside the scalars, and lines for a log instead of a progress bar."""

import logging
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from digits import audio, figures
from digits.corpus import N_DIGITS

log = logging.getLogger(__name__)


class Dashboard(lightning.Callback):
    """Log-mels before and after augmentation, and of the clean test the confusion matrix and the misclassified clips as audio.

    Args:
        n_log_mels: clips in the first figure.
        n_misclassified: at most so many clips as audio.
    """

    def __init__(self, n_log_mels: int = 4, n_misclassified: int = 20) -> None:
        self.n_log_mels = n_log_mels
        self.n_misclassified = n_misclassified

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        log_mel, label = (tensor[:: len(tensor) // self.n_log_mels][: self.n_log_mels] for tensor in _train_tensors(trainer))
        with torch.random.fork_rng():
            augmented = pl_module.augment(log_mel.to(pl_module.device)).cpu()
        for logger in _boards(trainer):
            logger.experiment.add_figure("log_mel/augmentation", figures.before_and_after(log_mel, augmented, label))

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if "clean" not in pl_module.test_logits:
            return
        if len(pl_module.test_metrics) > 1:
            accuracies = {name: float(metric.compute()) for name, metric in pl_module.test_metrics.items()}
            for logger in _boards(trainer):
                logger.experiment.add_figure("test/conditions", figures.condition_bars(accuracies))
        predicted = torch.cat(pl_module.test_logits["clean"])[:, :N_DIGITS].argmax(dim=1)
        labels = data.test_labels[: len(predicted)]
        wrong = (predicted != labels).nonzero().flatten().tolist()
        for logger in _boards(trainer):
            title = f"clean test clips, {len(labels) - len(wrong)}/{len(labels)} right"
            logger.experiment.add_figure("test/confusion", figures.confusion(labels.tolist(), predicted.tolist(), title))
            for index in wrong[: self.n_misclassified]:
                clip = data.test_clips[index]
                waveform, sample_rate = audio.read(clip.path)
                tag = f"misclassified/{clip.name}_heard_as_{predicted[index]}"
                logger.experiment.add_audio(tag, waveform, sample_rate=sample_rate)


class EpochLines(lightning.Callback):
    """One line every few epochs and for the last: what a log shows instead of a progress bar."""

    def __init__(self, every: int = 5) -> None:
        self.every = every

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        epoch, metrics = trainer.current_epoch + 1, trainer.callback_metrics
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            values = " ".join(f"{name} {metrics[name]:.4f}" for name in ("val/loss", "val/acc") if name in metrics)
            log.info("  epoch %d/%s %s", epoch, trainer.max_epochs, values)


def _train_tensors(trainer: lightning.Trainer) -> tuple[torch.Tensor, ...]:
    return trainer.datamodule.train_set.tensors  # type: ignore[attr-defined]


def _boards(trainer: lightning.Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
