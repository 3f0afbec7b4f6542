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
    settings += ["conditions=clean", "trainer.max_epochs=1", "data.batch_size=20"]
    two = tmp_path / "two"
    done = shell("train", *settings, "trainer=ddp_sim", f"hydra.run.dir={two}")
    assert done.returncode == 0, done.stderr
    metrics = runs.read_json(two / "metrics.json")
    assert metrics["test/total"] == 400 > EVAL_BATCH
    one = train(tiny_run(corpus, tmp_path / "one", "fit=false", "conditions=clean", f"ckpt_path={two / 'best.ckpt'}"))
    figures = [name for name in one if name.startswith(("test/", "val/"))]
    assert {name: one[name] for name in figures} == {name: metrics[name] for name in figures}
    assert (tmp_path / "one" / "predictions.csv").read_text() == (two / "predictions.csv").read_text()
    assert torch.load(two / "last.ckpt", weights_only=True)["global_step"] == 18 / 2  # each has its share of the batches


@pytest.mark.parametrize("logger", ["none", "csv", "many"])
def test_any_logger_or_none_keeps_the_run(tiny_corpus: Path, tmp_path: Path, logger: str) -> None:
    short = ("trainer=smoke", "data.batch_size=10", "conditions=clean")
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *short, f"logger={logger}"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test/correct"] == metrics["test/correct"]
    tables = list((tmp_path / "run").rglob("metrics.csv"))
    assert len(tables) == (logger != "none")
    assert any((tmp_path / "run").glob("events.out.tfevents.*")) == (logger == "many")
    for table in tables:
        rows = list(csv.DictReader(table.open()))
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
    short = ("data.batch_size=10", "conditions=clean", "trainer.fast_dev_run=true")
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
    short = ("trainer.max_epochs=2", "data.batch_size=10", "conditions=clean", "trainer.overfit_batches=1")
    assert not train(tiny_run(tiny_corpus, tmp_path / "run", *short))["complete"]


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_training_without_training_or_validation_batches_is_refused(tiny_corpus: Path, tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.limit_{part}_batches=0 leaves nothing to .*: give a number of batches"):
        train(tiny_run(tiny_corpus, tmp_path / "run", f"trainer.limit_{part}_batches=0"))


@pytest.mark.parametrize("name", ["default", "fdr", "limit", "overfit", "profiler"])
def test_debug_settings_go_through(tiny_corpus: Path, tmp_path: Path, name: str) -> None:
    train(tiny_run(tiny_corpus, tmp_path / "run", f"debug={name}", "data.batch_size=4", "max_epochs=1"))
    assert (tmp_path / "run" / "fit-profile.txt").is_file() == (name == "profiler")
    assert (tmp_path / "run" / "last.ckpt").is_file() == (name != "fdr")


def test_the_flags_of_a_trainer_need_no_plus(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = ["trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0"]
    flags += ["trainer.deterministic=true", "trainer.enable_progress_bar=false"]
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *flags, "max_epochs=2", "data.batch_size=10"))
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    n_batches = metrics["train_clips"] // 10
    assert checkpoint["global_step"] == 2 * -(-n_batches // 2)
    assert metrics["complete"]


def test_a_callback_is_added_to_those_of_every_run(tiny_corpus: Path, tmp_path: Path) -> None:
    never_better = ["+callbacks=early_stopping", "callbacks.early_stopping.min_delta=100", "callbacks.early_stopping.patience=1"]
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *never_better, "max_epochs=9", "data.batch_size=10"))
    assert metrics["epochs"] == 2
    assert (tmp_path / "run" / "predictions.csv").is_file()


def test_a_network_can_be_compiled(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    train(tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "data.batch_size=10", "classifier.compile=true"))
    assert compiled == ["DigitCNN"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("+trainer.barebones=true", "there is no setting trainer.barebones: it trains without checkpoints"),
        ("+data.num_workers=4", "there is no setting data.num_workers: log-mels are mapped into memory"),
        ("+data.pin_memory=true", "there is no setting data.pin_memory: batches are too small"),
        ("+trainer.logger=false", "there is no setting trainer.logger: loggers are a group of their own: logger=csv"),
        ("+trainer.callbacks=[]", r"there is no setting trainer.callbacks: .*\+callbacks=early_stopping"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_reason(tiny_corpus: Path, tmp_path: Path, wrong: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        train(tiny_run(tiny_corpus, tmp_path / "run", wrong))
    assert not (tmp_path / "run" / "best.ckpt").exists()
