import logging
from pathlib import Path

import numpy
import pytest
from support import tiny_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from digits import audio
from digits.recognition import onnx_export, torch_models
from digits.recognition.recognizer import Recognizer
from digits.train import train
from digits.training import runs


def test_tensorboard_shows_scalars_figures_and_hparams(tiny_checkpoint: Path) -> None:
    accumulators, hparams = [], set()
    for path in tiny_checkpoint.parent.glob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(path))
        accumulator.Reload()
        accumulators.append(accumulator.Tags())
        hparams |= set(accumulator.summary_metadata)
        if "accuracy/val" in accumulator.Tags()["scalars"]:
            assert min(event.step for event in accumulator.Scalars("accuracy/val")) > 0
    scalars = {tag for tags in accumulators for tag in tags["scalars"]}
    images = {tag for tags in accumulators for tag in tags["images"]}
    assert {"accuracy/val", "accuracy/val_f1", "loss/train", "loss/val", "test/acc"} <= scalars
    assert sorted({tag.split("/")[0] for tag in scalars}) == ["accuracy", "loss", "test", "train"]  # as the page shows them
    assert {"test/confusion", "view/augmentation"} <= images
    assert "_hparams_/session_start_info" in hparams
    assert {path.name for path in tiny_checkpoint.parent.glob("*.png")} == {"learning_curve.png", "confusion.png"}


def test_misclassified_clips_can_be_heard(tiny_corpus: Path, tmp_path: Path) -> None:
    metrics = train(
        tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "data.batch_size=10", "trainer.limit_test_batches=1.0")
    )
    assert metrics["test/correct"] < metrics["test/total"]
    sounds = set()
    for path in (tmp_path / "run").glob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(path))
        accumulator.Reload()
        sounds |= set(accumulator.Tags()["audio"])
    assert sounds
    assert all("_heard_as_" in tag for tag in sounds)


def test_a_complete_training_leaves_a_model_that_needs_no_torch(tiny_corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "outputs" / "run"
    long = ("trainer.max_epochs=8", "data.batch_size=20", "classifier.learning_rate=0.01")
    train(tiny_run(tiny_corpus, run_dir, *long, "export=true"))
    assert runs.find_best(tmp_path / "outputs", ["tiny"]) == run_dir / "best.onnx"
    checkpoint, exported = Recognizer.load(run_dir / "best.ckpt"), Recognizer.load(run_dir / "best.onnx")
    for clip in sorted(tiny_corpus.iterdir())[::29]:
        one, other = checkpoint(*audio.read(clip)), exported(*audio.read(clip))
        numpy.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-4)
    raw, best = (torch_models.load(run_dir / name) for name in ("last.ckpt", "best.ckpt"))
    assert (raw.calibration.temperature, raw.threshold) == (1.0, 0.0)
    assert best.calibration.temperature != 1.0
    assert best.threshold == checkpoint.threshold == exported.threshold > 0


def test_a_model_is_not_calibrated_on_clips_it_was_trained_on(tiny_corpus: Path, tmp_path: Path) -> None:
    everything = ("trainer.max_epochs=1", "data.batch_size=20", "data.split=all", "export=true")
    train(tiny_run(tiny_corpus, tmp_path / "run", *everything))
    assert torch_models.load(tmp_path / "run" / "best.ckpt").calibration.threshold == 0.0
    assert (tmp_path / "run" / "best.onnx").is_file()


@pytest.mark.parametrize("cut_short", ["export=false", "trainer=smoke", "trainer.limit_train_batches=1"])
def test_no_model_is_exported_where_none_is_wanted(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_short: str
) -> None:
    def export(*_: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(onnx_export, "export", export)
    short = ("trainer.max_epochs=1", "data.batch_size=20")
    train(tiny_run(tiny_corpus, tmp_path / "run", *short, "export=true", cut_short))
    assert (tmp_path / "run" / "best.ckpt").is_file()
    assert not (tmp_path / "run" / "best.onnx").exists()
    assert runs.find_best(tmp_path, ["tiny"]) == (tmp_path / "run" / "best.ckpt" if cut_short == "export=false" else None)


def test_a_model_that_cannot_be_exported_costs_a_line_and_not_the_run(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def export(*_: object) -> None:
        raise ValueError("they differ")

    monkeypatch.setattr(onnx_export, "export", export)
    short = ("trainer.max_epochs=1", "data.batch_size=20")
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *short, "export=true"))
    assert metrics["complete"]
    assert f"{tmp_path / 'run'}: no best.onnx: they differ" in caplog.text
    assert f"{tmp_path / 'run'}: not calibrated: no threshold keeps the risk at 0.02" in caplog.text  # after one epoch


def test_a_log_has_a_line_for_the_last_epoch(tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "data.batch_size=10", "conditions=clean"))
    (line,) = (record.getMessage() for record in caplog.records if "epoch" in record.getMessage())
    assert line.startswith("  epoch 1/1 val/loss ")
    assert " val/acc " in line
