import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy
import pytest
import torch

from digits import audio, calibration, checkpoint, weights
from digits.calibration import Calibration
from digits.corpus import read_folder
from digits.recognizer import PRETRAINED_PATH, Recognizer


def test_a_plain_file_hears_what_its_checkpoint_does(plain_model: Path, tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    """Parity: the same logits to the bit, and probabilities by its temperature."""
    before, after = Recognizer.load(tiny_checkpoint), Recognizer.load(plain_model)
    for clip in sorted(tiny_corpus.iterdir())[::17]:
        sound = audio.read(clip)
        one, other = before(*sound), after(*sound)
        cooled = torch.tensor(one.probabilities).log() / 1.5
        assert one.digit == other.digit
        torch.testing.assert_close(torch.tensor(other.probabilities), cooled.softmax(dim=0), atol=1e-5, rtol=0)
        assert other.accepted == (other.probability >= 0.4)
        assert one.accepted


def test_it_holds_no_pickle_and_says_what_it_is(plain_model: Path, tiny_checkpoint: Path) -> None:
    with numpy.load(plain_model, allow_pickle=False) as archive:
        settings = json.loads(str(archive["settings"]))
        assert all(archive[name].dtype == numpy.float32 for name in archive.files if name != "settings")
    assert settings["about"]["experiment"] == "tiny"
    assert settings["network"]["name"] == "DigitCNN"
    assert settings["front_end"] == checkpoint.read(tiny_checkpoint)["datamodule_hyper_parameters"]["front_end"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "pickle", "format", "network"])
def test_damaged_and_foreign_files_are_refused_in_one_sentence(plain_model: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.npz"
    content = plain_model.read_bytes()
    with numpy.load(plain_model) as archive:
        arrays = {name: archive[name] for name in archive.files}
    settings = json.loads(str(arrays["settings"]))
    if damage in ("format", "network", "pickle"):
        if damage == "format":
            settings["format"] = 99
        elif damage == "network":
            settings["network"]["channels"] = [8, 16, 32]
        changed = numpy.array(json.dumps(settings)) if damage != "pickle" else numpy.array([{}], dtype=object)
        numpy.savez(path, **(arrays | {"settings": changed}))
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 255
        path.write_bytes({"cut": content[:5000], "flip": bytes(flipped), "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(ValueError, match=r"bad\.npz: not a model that digits\.weights wrote"):
        weights.read(path)


def test_calibration_comes_from_held_out_clips(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = weights.held_out(tiny_checkpoint.parent)
    assert logits.shape == (100, 10)
    assert weights.main([str(tiny_checkpoint), str(tmp_path / "out.npz"), "--held-out", str(tiny_checkpoint.parent)]) == 0
    calibrated = weights.calibrate(logits, labels)
    assert f"temperature {calibrated.temperature}, not sure below {calibrated.threshold}" in capsys.readouterr().out
    assert weights.read(tmp_path / "out.npz").calibration == calibrated


def test_the_threshold_also_keeps_other_words_out() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(500) % 10
    logits = torch.randn(500, 11, generator=generator) + 4 * torch.nn.functional.one_hot(labels, 11)
    others = torch.randn(500, 11, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 11)
    alone, together = weights.calibrate(logits, labels), weights.calibrate(logits, labels, others)
    assert alone.temperature == together.temperature
    accepted = calibration.probabilities(others, together.temperature).amax(dim=1) >= together.threshold
    assert 0.04 <= accepted.float().mean() <= weights.MAX_FALSE
    assert together.threshold > alone.threshold
    assert weights.calibrate(logits, labels, others + 20 * torch.eye(11)[10]) == alone


def test_a_part_of_the_clips_does_not_calibrate_and_a_file_says_what_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_checkpoint.parent, run)
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"complete": False}))
    with pytest.raises(ValueError, match="run: heard only a part of its clips"):
        weights.held_out(tmp_path)
    with pytest.raises(ValueError, match=r"out: the file's name must end in \.npz"):
        weights.write(tmp_path / "out", tiny_checkpoint, Calibration())


def test_without_held_out_runs_nothing_is_written(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert weights.main([str(tiny_checkpoint), str(tmp_path / "out.npz"), "--held-out", str(tmp_path / "empty")]) == 1
    assert "no finished run with test clips below it" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_the_pretrained_model_is_the_one_of_its_card() -> None:
    for path in (PRETRAINED_PATH, weights.PLAIN_PRETRAINED_PATH):
        content = path.read_bytes()
        assert len(content) <= 1_500_000
        assert hashlib.sha256(content).hexdigest() in (path.parent / "README.md").read_text()
    trained = weights.load("pretrained")
    assert sum(parameter.numel() for parameter in trained.network.parameters()) <= 300_000
    assert trained.calibration.temperature != 1
    assert trained.calibration.threshold == Recognizer.load("pretrained").threshold > 0


@pytest.mark.fsdd
def test_the_pretrained_model_knows_what_it_was_trained_on() -> None:
    """Not an accuracy: that the file, its front end and its calibration belong together."""
    recognizer = Recognizer.load("pretrained")
    clips = read_folder(Path(os.environ["FSDD_ROOT"]), "fsdd").clips[::60]
    predictions = [recognizer(*audio.read(clip.path)) for clip in clips]
    assert sum(prediction.digit == clip.digit for prediction, clip in zip(predictions, clips, strict=True)) >= 49  # of 50
    assert sum(prediction.accepted for prediction in predictions) >= 45
