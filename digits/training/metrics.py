"""What a run measures: evaluation, ``metrics.json``, and what the loggers are told at the end."""

from typing import TYPE_CHECKING, Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from digits.corpora import catalog
from digits.corpora.corpus import N_DIGITS
from digits.training import runs

if TYPE_CHECKING:
    from digits.training.classifier import DigitClassifier
    from digits.training.datamodule import DigitsDataModule
    from digits.training.resume import Plan


def measure(plan: "Plan", trainer: lightning.Trainer, classifier: "DigitClassifier", data: "DigitsDataModule") -> dict[str, Any]:
    """Validate, test, and collect what ``metrics.json`` holds."""
    cfg, epochs = plan.cfg, trainer.current_epoch if plan.cfg.fit else 0
    ckpt_path = "best" if cfg.fit else plan.ckpt_path
    if cfg.fit and trainer.fast_dev_run:  # type: ignore[attr-defined]  # it keeps no checkpoint
        ckpt_path = None
    scores = _evaluate(trainer, classifier, data, ckpt_path)
    return {
        "experiment": cfg.name,
        "corpus": data.corpus.name,
        "split": data.split,
        "seed": cfg.seed,
        **{name: scores.get(name) for name in ("val/loss", "val/acc")},
        **_counts(classifier, data),
        "train_clips": data.n_train_clips if cfg.fit else None,
        "n_outputs": cfg.model.get("n_outputs", N_DIGITS),
        **{name: value for name, value in scores.items() if name.startswith("test/acc_")},
        **_battery(scores),
        "trained_on": cfg.classifier.corpus,
        "is_synthetic": cfg.classifier.corpus in catalog.CORPORA and catalog.get(cfg.classifier.corpus).is_synthetic,
        "settings": runs.config_digest(cfg, without_seed=True),
        "ckpt_path": plan.evaluated,
        "parameters": sum(parameter.numel() for parameter in classifier.network.parameters()),
        "epochs": epochs,
        "complete": runs.is_complete(trainer),
        **runs.identity(cfg, data.recordings),
        **runs.environment(),
    }


def _evaluate(
    trainer: lightning.Trainer, classifier: "DigitClassifier", data: "DigitsDataModule", ckpt_path: str | None
) -> dict[str, float]:
    scores: dict[str, float] = {}
    if data.parts.val:
        scores |= trainer.validate(classifier, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)[0]
    if data.parts.test:
        for condition_scores in trainer.test(classifier, data, ckpt_path=ckpt_path, weights_only=True, verbose=False):
            scores |= condition_scores
    return scores


def _counts(classifier: "DigitClassifier", data: "DigitsDataModule") -> dict[str, Any]:
    """Digits recognised in the clean test and, if there are other sounds in it, how many were taken for digits."""
    labels, predicted = answers(classifier, data)
    correct = int((predicted["clean"] == labels).sum()) if "clean" in predicted else 0
    counts = {"test/acc": correct / len(labels) if len(labels) else None, "test/correct": correct, "test/total": len(labels)}
    if len(labels) < (n_tested := len(classifier.test_logits.get("clean", ()))):
        others = classifier.test_logits["clean"][data.test_labels[:n_tested] == N_DIGITS]
        counts |= {"test/others": len(others), "test/others_taken": int((others.argmax(dim=1) < N_DIGITS).sum())}
    return counts


def answers(classifier: "DigitClassifier", data: "DigitsDataModule") -> tuple[Tensor, dict[str, Tensor]]:
    """Labels of the digits tested and, for each condition, what they were recognised as, (clips,) each."""
    n_tested = min(map(len, classifier.test_logits.values()), default=0)  # limit_test_batches leaves the others out
    labels = data.test_labels[:n_tested]
    is_digit = labels < N_DIGITS
    predicted = {name: logits[is_digit, :N_DIGITS].argmax(dim=1) for name, logits in classifier.test_logits.items()}
    return labels[is_digit], predicted


def _battery(scores: dict[str, float]) -> dict[str, float]:
    """Mean and worst accuracy over all conditions, clean included, where there are several."""
    accuracies = [value for name, value in scores.items() if name.startswith("test/acc")]
    return {"test/mean": sum(accuracies) / len(accuracies), "test/worst": min(accuracies)} if len(accuracies) > 1 else {}


def tell_loggers(trainer: lightning.Trainer, hparams: dict[str, Any], metrics: dict[str, Any]) -> None:
    """The final scores, beside the hyperparameters where a logger has a place for both."""
    shown = {name: value for name, value in metrics.items() if name.startswith(("val/acc", "test/acc")) and value is not None}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            tested = {name: value for name, value in shown.items() if name.startswith("test/")}
            logger.log_hyperparams(hparams, tested, step=trainer.global_step)
        else:
            logger.log_metrics(shown, step=trainer.global_step)
        logger.finalize("success")


def hparams(cfg: DictConfig, data: "DigitsDataModule") -> dict[str, Any]:
    """For TensorBoard, whose table sorts by name and first shows five: the prefix ``with/`` puts all others after those."""
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    return {
        "experiment": cfg.name,
        "corpus": data.corpus.name,
        "split": data.split,
        "seed": cfg.seed,
        "max_epochs": cfg.trainer.max_epochs,
        **{f"with/model/{name}": str(value) for name, value in resolved["model"].items()},
        **{f"with/augment/{name}": value for name, value in resolved["augment"].items()},
        **{f"with/{name}": resolved["classifier"][name] for name in ("learning_rate", "weight_decay", "label_smoothing")},
    }
