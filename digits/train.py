"""Train, test and record one run (``python -m digits.train``), or many (``-m``, ``+sweep=``)."""

import logging
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from digits import entry, results, resume
from digits.calibration import probabilities
from digits.classifier import DigitClassifier
from digits.dashboard import EpochLines
from digits.data import DigitsDataModule

log = logging.getLogger(__name__)

QUIET = (  # hints of Lightning's for larger data than ours, which lives in memory
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*multiple `ModelCheckpoint` callbacks.*",  # the first is the one for the best, as it should be
    ".*The dirpath has changed.*",  # an evaluation in a folder of its own
)


@hydra.main(version_base="1.3", config_path=entry.CONF, config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One job; returns its best validation accuracy, for sweepers that optimise."""
    if cfg.resume and (metrics := resume.finished(cfg)):
        log.info("%s: finished before, kept", cfg.run_dir)
        return metrics["val/acc"]
    try:
        return train(cfg)["val/acc"]
    except BaseException as error:  # a sweep goes on with its other runs; this one's end stays readable beside them
        run_dir = Path(cfg.run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "error.txt").write_text(f"{traceback.format_exc()}\n{entry.explain(error) or type(error).__name__}\n")
        if isinstance(error, Exception):
            log.error("%s: failed: %s", run_dir, entry.explain(error))
        raise


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build, fit, validate and test on the best checkpoint; writes ``metrics.json`` last and returns its content.

    Raises:
        ValueError, OSError: a setting, a file of the corpus or a checkpoint that cannot be used, named in the message.
    """
    quieten()
    if cfg.fit and cfg.data.split == "test_only":
        raise ValueError("data.split=test_only leaves nothing to train on: it goes with fit=false ckpt_path=.../best.ckpt")
    ckpt_path = resume.begin(cfg)
    run_dir = Path(cfg.run_dir)
    log.info("%s on %s, seed %d -> %s", cfg.name, cfg.data.source, cfg.seed, run_dir)

    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    in_terminal = sys.stdout.isatty()
    data: DigitsDataModule = instantiate(cfg.data)
    classifier: DigitClassifier = instantiate(cfg.classifier)
    trainer: lightning.Trainer = instantiate(cfg.trainer, enable_progress_bar=in_terminal)
    if not in_terminal:
        trainer.callbacks.append(EpochLines())  # type: ignore[attr-defined]
    data.setup("fit")
    hparams = _hparams(cfg, data)
    for logger in trainer.loggers:
        logger.log_hyperparams(hparams)

    started = time.perf_counter()
    if cfg.fit:
        _fit(trainer, classifier, data, ckpt_path)
    training: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in classifier.network.parameters()),
        "epochs": trainer.current_epoch if cfg.fit else 0,
        "train_s": round(time.perf_counter() - started, 2) if cfg.fit and ckpt_path is None else None,  # of a whole training
        "complete": all(cfg.trainer[f"limit_{part}_batches"] == 1.0 for part in ("train", "val", "test")),
    }
    scores = _evaluate(trainer, classifier, data, "best" if cfg.fit else ckpt_path)
    predictions = _predictions(data, classifier)
    metrics = _metrics(cfg, data, scores, predictions) | training
    for logger in trainer.loggers:
        shown = {name: value for name, value in metrics.items() if name.startswith(("val/acc", "test/acc")) and value is not None}
        logger.log_hyperparams(hparams, shown, step=trainer.global_step)
        logger.finalize("success")
    results.write_predictions(run_dir / "predictions.csv", predictions)
    results.write_json(run_dir / "metrics.json", metrics)
    if metrics["test/total"]:
        log.info("  test/acc %.4f (%d/%d)", metrics["test/acc"], metrics["test/correct"], metrics["test/total"])
    return metrics


def _fit(trainer: lightning.Trainer, classifier: DigitClassifier, data: DigitsDataModule, ckpt_path: str | None) -> None:
    try:
        trainer.fit(classifier, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def quieten() -> None:
    """Silence what Lightning says of every run; its other warnings stay."""
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def _evaluate(
    trainer: lightning.Trainer, classifier: DigitClassifier, data: DigitsDataModule, ckpt_path: str | None
) -> dict[str, float]:
    scores: dict[str, float] = {}
    if data.parts.val:
        scores |= trainer.validate(classifier, data, ckpt_path=ckpt_path, weights_only=True, verbose=False)[0]
    if data.parts.test:
        for condition_scores in trainer.test(classifier, data, ckpt_path=ckpt_path, weights_only=True, verbose=False):
            scores |= condition_scores
    return scores


def _predictions(data: DigitsDataModule, classifier: DigitClassifier) -> list[dict[str, Any]]:
    rows = []
    for condition, batches in classifier.test_logits.items():
        logits = torch.cat(batches)
        confidence, predicted = probabilities(logits).max(dim=1)
        answers = zip(predicted.tolist(), confidence.tolist(), logits.tolist(), strict=True)
        for clip, (digit, probability, scores) in zip(data.test_clips, answers, strict=False):
            row = {"condition": condition, "clip": clip.name, "speaker": clip.speaker, "digit": clip.digit}
            rows.append(row | {"predicted": digit, "probability": round(probability, 4), "logits": scores})
    return rows


def _metrics(
    cfg: DictConfig, data: DigitsDataModule, scores: dict[str, float], predictions: list[dict[str, Any]]
) -> dict[str, Any]:
    clean = [row["predicted"] == row["digit"] for row in predictions if row["condition"] == "clean"]
    return {
        "experiment": cfg.name,
        "corpus": data.corpus.name,
        "split": data.split,
        "seed": cfg.seed,
        "val/acc": scores.get("val/acc"),
        "test/acc": sum(clean) / len(clean) if clean else None,
        "test/correct": sum(clean),
        "test/total": len(clean),
        **{name: value for name, value in scores.items() if name.startswith("test/acc_")},
        **_battery(scores),
        "trained_on": cfg.classifier.run.corpus,
        "settings": results.config_digest(cfg, without_seed=True),
        "ckpt_path": None if cfg.fit else str(cfg.ckpt_path),
        **results.identity(cfg),
        **results.environment(),
    }


def _battery(scores: dict[str, float]) -> dict[str, float]:
    """Mean and worst accuracy over all conditions, the clean one among them, where there are several."""
    accuracies = [value for name, value in scores.items() if name.startswith("test/acc")]
    return {"test/mean": sum(accuracies) / len(accuracies), "test/worst": min(accuracies)} if len(accuracies) > 1 else {}


def _hparams(cfg: DictConfig, data: DigitsDataModule) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return {
        "experiment": cfg.name,
        "corpus": data.corpus.name,
        "split": data.split,
        "seed": cfg.seed,
        "max_epochs": cfg.trainer.max_epochs,
        **{f"model/{name}": str(value) for name, value in settings["model"].items()},
        **{f"augment/{name}": value for name, value in settings["augment"].items()},
        **{name: settings["classifier"][name] for name in ("learning_rate", "weight_decay", "label_smoothing")},
    }


if __name__ == "__main__":
    entry.run(main, "digits.train")
