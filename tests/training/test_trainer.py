"""What people set on Lightning's Trainer: several processes, other loggers, its debugging switches."""

import csv
import json
from pathlib import Path

import lightning
import pytest
import torch
from support import shell, tiny_run, write_corpus

from digits.train import train
from digits.training import runs
from digits.training.batches import EVAL_BATCH
from digits.training.classifier import DigitClassifier
from digits.training.datamodule import DigitsDataModule


def test_two_processes_give_the_figures_of_one_on_more_clips_than_a_batch(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", takes=40)
    settings = ["data=folder", f"data.root={corpus}", "data.split=speaker", "data.test_speakers=[bob]", "export=false"]
    settings += ["conditions=clean", "trainer.max_epochs=1", "data.batch_size=20", "trainer.accelerator=cpu"]
    two = tmp_path / "two"
    done = shell("train", *settings, "trainer.devices=2", "+trainer.strategy=ddp", f"hydra.run.dir={two}")
    assert done.returncode == 0, done.stderr
    metrics = runs.read_json(two / "metrics.json")
    assert metrics["test/total"] == 400 > EVAL_BATCH
    one = train(tiny_run(corpus, tmp_path / "one", "fit=false", "conditions=clean", f"ckpt_path={two / 'best.ckpt'}"))
    figures = [name for name in one if name.startswith(("test/", "val/"))]
    assert {name: one[name] for name in figures} == {name: metrics[name] for name in figures}
    assert (tmp_path / "one" / "predictions.csv").read_text() == (two / "predictions.csv").read_text()
    assert torch.load(two / "last.ckpt", weights_only=True)["global_step"] == 18 / 2  # each has its share of the batches


@pytest.mark.parametrize("logger", ["false", "[{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: FOLDER}]"])
def test_any_logger_or_none_keeps_the_run(tiny_corpus: Path, tmp_path: Path, logger: str) -> None:
    logger = logger.replace("FOLDER", str(tmp_path / "csv"))
    short = ("trainer=smoke", "data.batch_size=10", "conditions=clean")
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *short, f"trainer.logger={logger}"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/correct"] == metrics["test/correct"]
    if logger != "false":
        (logged,) = (tmp_path / "csv").rglob("metrics.csv")
        rows = list(csv.DictReader(logged.open()))
        assert any(row["test/acc"] and float(row["test/acc"]) == pytest.approx(metrics["test/acc"]) for row in rows)


def test_a_logger_that_fails_does_not_cost_the_results(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "digits.training.metrics.tell_loggers", lambda *_: (_ for _ in ()).throw(OSError("the logger's server is down"))
    )
    with pytest.raises(OSError, match="server is down"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "data.batch_size=10", "conditions=clean"))
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert len(runs.read_predictions(tmp_path / "run")) == 100


def test_fast_dev_run_goes_through_and_counts_as_incomplete(tiny_corpus: Path, tmp_path: Path) -> None:
    short = ("data.batch_size=10", "conditions=clean", "+trainer.fast_dev_run=true")
    assert not train(tiny_run(tiny_corpus, tmp_path / "run", *short))["complete"]


class Batches(lightning.Callback):
    """Labels of each epoch's batches."""

    def __init__(self) -> None:
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(self, trainer: object, pl_module: object, batch: tuple[torch.Tensor, ...], batch_idx: int) -> None:
        self.epochs[-1] += batch[1].tolist()


@pytest.mark.parametrize("overfit_batches", [0, 2])
def test_the_trainer_reshuffles_every_epoch_but_overfits_the_same_batches(tiny_corpus: Path, overfit_batches: int) -> None:
    data, batches = DigitsDataModule("folder", str(tiny_corpus), batch_size=10), Batches()
    classifier = DigitClassifier({"name": "DigitCNN", "channels": [2, 2, 2]})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[batches],
        overfit_batches=overfit_batches,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **quiet,  # type: ignore[arg-type]
    )
    trainer.fit(classifier, data)
    assert [len(labels) for labels in batches.epochs] == 3 * [10 * overfit_batches or 40]
    different = {tuple(labels) for labels in batches.epochs}
    assert len(different) == (1 if overfit_batches else 3)


def test_overfitting_goes_through_and_counts_as_incomplete(tiny_corpus: Path, tmp_path: Path) -> None:
    short = ("trainer.max_epochs=2", "data.batch_size=10", "conditions=clean", "+trainer.overfit_batches=1")
    assert not train(tiny_run(tiny_corpus, tmp_path / "run", *short))["complete"]


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_training_without_training_or_validation_batches_is_refused(tiny_corpus: Path, tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.limit_{part}_batches=0 leaves nothing to .*: give a number of batches"):
        train(tiny_run(tiny_corpus, tmp_path / "run", f"trainer.limit_{part}_batches=0"))
