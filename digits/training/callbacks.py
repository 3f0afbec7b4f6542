"""Lightning callbacks: what TensorBoard shows besides scalars, lines for a log, and the files a run leaves."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from digits import audio
from digits.corpora.corpus import N_DIGITS
from digits.files import write_whole
from digits.recognition import calibration, onnx_export, torch_models
from digits.recognition.calibration import probabilities
from digits.training import figures, metrics, runs
from digits.training.batches import Labelled

log = logging.getLogger(__name__)

N_CHECKED = 20  # recordings that an exported model is compared on


class Board(TensorBoardLogger):
    """Lightning's TensorBoard logger with names that put accuracies and losses first on the page, and without the "epoch" curve."""

    NAMES = {"val/acc": "accuracy/val", "val/f1": "accuracy/val_f1", "train/loss": "loss/train", "val/loss": "loss/val"}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        super().log_metrics({self.NAMES.get(name, name): value for name, value in metrics.items() if name != "epoch"}, step)


class Dashboard(lightning.Callback):
    """Log-mels before and after augmentation, accuracy under each condition, and the clean test's confusions and errors as audio.

    The test writes an event file of its own, which a resumed run replaces, so that only the current model's errors are shown.

    Args:
        n_log_mels: clips in the first figure.
        n_misclassified: at most so many clips as audio.
    """

    def __init__(self, n_log_mels: int = 4, n_misclassified: int = 20) -> None:
        self.n_log_mels = n_log_mels
        self.n_misclassified = n_misclassified

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        train_set = trainer.datamodule.train_set  # type: ignore[attr-defined]
        shown = range(0, len(train_set), max(1, len(train_set) // self.n_log_mels))[: self.n_log_mels]
        log_mel, label = train_set.__getitems__(list(shown))
        with torch.random.fork_rng():
            augmented = pl_module.augment(log_mel.to(pl_module.device)).cpu()
        for logger in _boards(trainer):
            logger.experiment.add_figure("view/augmentation", figures.before_and_after(log_mel, augmented, label))

    def on_test_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        for logger in _boards(trainer):
            logger.experiment.close()
            logger._experiment = SummaryWriter(logger.log_dir, filename_suffix=runs.OF_TEST)  # Lightning has no way to change it

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        labels, predicted = metrics.answers(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        for logger in _boards(trainer) if "clean" in predicted else []:
            if len(predicted) > 1:
                accuracies = {name: float((digits == labels).float().mean()) for name, digits in predicted.items()}
                logger.experiment.add_figure("test/conditions", figures.condition_bars(accuracies))
            logger.experiment.add_figure("test/confusion", _confusion(labels, predicted["clean"]))
            digits = [clip for clip in trainer.datamodule.test_clips if clip.digit < N_DIGITS]  # type: ignore[attr-defined]
            self._add_errors(logger.experiment, digits, labels, predicted["clean"])

    def _add_errors(self, board: Any, clips: list[Any], labels: Tensor, predicted: Tensor) -> None:
        for index in (predicted != labels).nonzero().flatten().tolist()[: self.n_misclassified]:
            waveform, sample_rate = audio.read(clips[index].path)
            tag = f"view/misclassified_{clips[index].name}_heard_as_{predicted[index]}"
            board.add_audio(tag, waveform, sample_rate=sample_rate)


class EpochLines(lightning.Callback):
    """Logs one line every few epochs and after the last, unless a progress bar is shown."""

    def __init__(self, every: int = 5) -> None:
        self.every = every

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        epoch, scores = trainer.current_epoch + 1, trainer.callback_metrics
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            values = " ".join(f"{name} {scores[name]:.4f}" for name in ("val/loss", "val/acc") if name in scores)
            log.info("  epoch %d/%s %s", epoch, trainer.max_epochs, values)


class Pictures(lightning.Callback):
    """Draws ``learning_curve.png``, also of the epochs before a run was resumed, and ``confusion.png`` of the clean test.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        measured = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.epochs = [*self.epochs, measured | {"train/loss": float(pl_module.train_loss.compute())}]

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and self.epochs:
            figures.learning_curve(self.epochs).savefig(self.folder / "learning_curve.png", dpi=100)

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        labels, predicted = metrics.answers(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        if trainer.is_global_zero and "clean" in predicted:
            _confusion(labels, predicted["clean"]).savefig(self.folder / "confusion.png", dpi=100)


class Predictions(lightning.Callback):
    """Writes ``predictions.csv``: one row per test clip and condition.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_test_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            clips = trainer.datamodule.test_clips  # type: ignore[attr-defined]
            rows = [row for name, logits in pl_module.test_logits.items() for row in self._rows(name, clips, logits)]
            runs.write_predictions(self.folder / runs.PREDICTIONS, rows)

    def _rows(self, condition: str, clips: list[Any], logits: Tensor) -> list[dict[str, Any]]:
        confidence, predicted = probabilities(logits).max(dim=1)
        heard = clips[: len(logits)]  # limit_test_batches leaves the others out
        answers = zip(heard, predicted.tolist(), confidence.tolist(), logits.tolist(), strict=True)
        return [
            {
                "condition": condition,
                "clip": clip.name,
                "speaker": clip.speaker,
                "digit": clip.digit,
                "predicted": digit,
                "probability": round(probability, 4),
                "logits": scores,
            }
            for clip, digit, probability, scores in answers
        ]


class ExportBest(lightning.Callback):
    """Prepares a run's best model for listening, after training.

    Calibrates ``best.ckpt`` on the validation clips (unless it was trained on them too) and writes ``best.onnx`` beside it, so that
    ``digits mic`` and ``predict`` need no torch. That file is checked on validation recordings first, and left out where the export
    packages are missing. Nothing happens after a training that was cut short on purpose (``limit_train_batches``,
    ``fast_dev_run``).

    Args:
        folder: the run's.
        enabled: false turns it off.
    """

    def __init__(self, folder: str, enabled: bool = True) -> None:
        self.folder, self.enabled = Path(folder), enabled

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        best = self.folder / "best.ckpt"
        wanted = self.enabled and trainer.is_global_zero and runs.is_complete(trainer)
        if not (wanted and best.is_file()):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data.split != "all":
            try:
                _calibrate(best, data.val_set)
            except (ValueError, OSError) as error:
                log.warning("%s: not calibrated: %s", self.folder, error)
        if onnx_export.can_export():
            try:
                _export(best, [data.corpus.clips[i] for i in data.parts.val])
            except (ValueError, OSError) as error:
                log.warning("%s: no best.onnx: %s", self.folder, error)


def _calibrate(best: Path, val_set: Labelled) -> None:
    network, labels = torch_models.load(best).network, val_set.labels
    with torch.inference_mode():
        logits = torch.cat([network(log_mel) for log_mel, _ in val_set.in_order()])
    is_digit, has_output = labels < N_DIGITS, logits.shape[1] > N_DIGITS
    others = [logits[~is_digit]] if has_output and not is_digit.all() else []
    torch_models.store_calibration(best, calibration.calibrate_on_few(logits[is_digit], labels[is_digit], others))


def _export(best: Path, clips: list[Any]) -> None:
    recordings = [audio.read(clip.path) for clip in clips[:: max(1, len(clips) // N_CHECKED)]]
    content, _ = onnx_export.export(torch_models.load(best), str(best), runs.git_commit(), recordings)
    write_whole(best.with_suffix(".onnx"), content)


def _confusion(labels: Tensor, predicted: Tensor) -> Figure:
    title = f"clean test clips, {int((predicted == labels).sum())}/{len(labels)} right"
    return figures.confusion(labels.tolist(), predicted.tolist(), title)


def _boards(trainer: lightning.Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
