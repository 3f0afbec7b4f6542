import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from digits import calibrate
from digits.recognition import calibration, model_files, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer
from digits.training import runs


def test_calibration_comes_from_held_out_clips(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = calibrate.held_out(tiny_checkpoint.parent)
    assert logits.shape == (100, 10)
    assert calibrate.main([str(tiny_checkpoint), str(tmp_path / "out.npz"), "--held-out", str(tiny_checkpoint.parent)]) == 0
    calibrated = calibration.calibrate(logits, labels)
    assert f"temperature {calibrated.temperature}, not sure below {calibrated.threshold}" in capsys.readouterr().out
    assert torch_models.read_plain(tmp_path / "out.npz").calibration == calibrated


def test_the_threshold_also_keeps_other_words_out() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(500) % 10
    logits = torch.randn(500, 11, generator=generator) + 4 * torch.nn.functional.one_hot(labels, 11)
    others = torch.randn(500, 11, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 11)
    alone, together = calibration.calibrate(logits, labels), calibration.calibrate(logits, labels, others)
    assert alone.temperature == together.temperature
    accepted = calibration.probabilities(others, together.temperature).amax(dim=1) >= together.threshold
    assert 0.04 <= accepted.float().mean() <= calibration.MAX_FALSE
    assert together.threshold > alone.threshold
    assert calibration.calibrate(logits, labels, others + 20 * torch.eye(11)[10]) == alone


def test_a_part_of_the_clips_does_not_calibrate_and_a_file_says_what_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_checkpoint.parent, run)
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"complete": False}))
    with pytest.raises(ValueError, match="run: was tested on a part of its clips only"):
        calibrate.held_out(tmp_path)
    with pytest.raises(ValueError, match=r"out: the file's name must end in \.npz"):
        torch_models.write_plain(tmp_path / "out", tiny_checkpoint, Calibration(), None)


def test_without_held_out_runs_nothing_is_written(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert calibrate.main([str(tiny_checkpoint), str(tmp_path / "out.npz"), "--held-out", str(tmp_path / "empty")]) == 1
    assert "no finished run with test clips in it" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_runs_of_two_kinds_of_models_do_not_calibrate_together(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("ten", "eleven"):
        shutil.copytree(tiny_checkpoint.parent, tmp_path / name)
    path = tmp_path / "eleven" / "predictions.csv"
    rows = runs.read_predictions(path.parent)
    runs.write_predictions(path, [row | {"logits": [*row["logits"], 0.0]} for row in rows])
    with pytest.raises(ValueError, match=r'with and without a "no digit" output'):
        calibrate.held_out(tmp_path)


def test_the_pretrained_model_is_the_one_of_its_card() -> None:
    for path in (model_files.PRETRAINED_PATH, torch_models.PLAIN_PRETRAINED_PATH):
        content = path.read_bytes()
        assert len(content) <= 1_500_000
        assert hashlib.sha256(content).hexdigest() in (path.parent / "README.md").read_text()
    trained = torch_models.load("pretrained")
    assert sum(parameter.numel() for parameter in trained.network.parameters()) <= 300_000
    assert trained.calibration.temperature != 1
    assert trained.calibration.threshold == Recognizer.load("pretrained").threshold > 0
