import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import tiny_run

from digits import audio, calibrate
from digits.corpora import espeak
from digits.corpora.corpus import NO_DIGIT, Clip, Corpus
from digits.recognition import calibration, model_files, torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import Recognizer
from digits.train import train
from digits.training import runs


def test_calibration_comes_from_held_out_clips(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = calibrate.held_out(tiny_checkpoint.parent)
    assert found.logits.shape == (100, 10)
    assert found.others == []
    assert calibrate.main([str(tiny_checkpoint), str(tmp_path / "out.npz"), "--held-out", str(tiny_checkpoint.parent)]) == 0
    calibrated = calibration.calibrate(found.logits, found.labels)
    assert f"temperature {calibrated.temperature}, not sure below {calibrated.threshold}" in capsys.readouterr().out
    assert torch_models.read_plain(tmp_path / "out.npz").calibration == calibrated


def scores(labels: torch.Tensor, strength: float, seed: int = 0) -> torch.Tensor:
    """Logits that favour these labels, (clips, 11)."""
    noise = torch.randn(len(labels), 11, generator=torch.Generator().manual_seed(seed))
    return noise + strength * torch.nn.functional.one_hot(labels, 11)


def test_the_threshold_keeps_other_words_out_of_every_corpus() -> None:
    labels, nothing = torch.arange(500) % 10, torch.full((500,), 10)
    logits, corpora = scores(labels, 4), [scores(labels[:200], 2), scores(nothing, 5)]
    together = calibration.calibrate(logits, labels, corpora)
    accepted = [calibration.probabilities(others, together.temperature).amax(dim=1) >= together.threshold for others in corpora]
    assert 0.02 <= accepted[0].float().mean() <= calibration.MAX_FALSE
    assert accepted[1].float().mean() <= calibration.MAX_FALSE
    assert together.threshold > calibration.calibrate(logits, labels, corpora[1:]).threshold


@pytest.mark.parametrize(("n", "allowed"), [(5, 0), (33, 0), (34, 1), (133, 3), (960, 28)])
def test_no_sound_too_many_passes(n: int, allowed: int) -> None:
    labels = torch.arange(500) % 10
    digits = scores(labels, 8)
    digits[0] = 0  # an unsure answer that is right, so that the digits themselves need no threshold
    for seed in range(10):
        others = scores(torch.arange(n) % 10, 3, seed)
        found = calibration.calibrate(digits, labels, [others])
        confidence = calibration.probabilities(others, found.temperature).amax(dim=1)
        assert int((confidence >= found.threshold).sum()) <= allowed
        assert int((confidence >= found.threshold - 0.0002).sum()) > allowed


def test_what_a_run_kept_apart_of_other_corpora_calibrates_it(
    tiny_corpus: Path, tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_apart = [replace(clip, digit=NO_DIGIT if i % 3 else clip.digit, fold=i % 4) for i, clip in enumerate(clips)]
    corpora = {"espeak-words": kept_apart, calibrate.OTHERS: [replace(clip, digit=NO_DIGIT) for clip in clips[:7]]}
    monkeypatch.setattr(espeak, "load", lambda name: Corpus(name, corpora[name]))
    train(
        tiny_run(
            tiny_corpus,
            tmp_path / "run",
            "model.n_outputs=11",
            "trainer.max_epochs=8",
            "data.batch_size=20",
            "classifier.learning_rate=0.01",
            "export=true",
            "data.val_sources=[espeak-words]",
        )
    )
    held_out = [clip for clip in kept_apart if clip.fold < 2]
    words = [clip for clip in held_out if clip.digit == NO_DIGIT]
    found = calibrate.held_out(tmp_path)
    assert found.labels[100:].tolist() == [clip.digit for clip in held_out if clip.digit != NO_DIGIT]
    assert [len(others) for others in found.others] == [len(words)]
    best = Recognizer.load(tmp_path / "run" / "best.ckpt")
    assert 0 < best.threshold < 1
    assert not any(best(*audio.read(word.path)).accepted for word in words if word.fold == 1)

    corpora["espeak-words"] = [clip for clip in kept_apart if clip.digit != NO_DIGIT]
    assert [len(others) for others in calibrate.held_out(tmp_path).others] == [7]


def test_digits_and_other_sounds_are_calibrated_together() -> None:
    labels, nothing = torch.arange(500) % 10, torch.full((500,), 10)
    logits, others = scores(labels, 3), scores(nothing, 3)
    temperature = calibration.calibrate(2 * logits, labels, [2 * others]).temperature
    both = torch.cat([logits, others]) * 2 / temperature
    truth = torch.cat([labels, nothing])
    losses = [float(torch.nn.functional.cross_entropy(both * factor, truth)) for factor in (0.9, 1, 1.1)]
    assert min(losses) == losses[1]
    assert temperature != calibration.calibrate(2 * logits, labels).temperature


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
