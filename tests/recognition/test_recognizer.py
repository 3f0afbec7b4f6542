import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import soundfile
import torch
from numpy.typing import ArrayLike
from scipy.signal import resample_poly
from support import spoken

from digits import audio
from digits.corpora.folder import read_folder
from digits.recognition import torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.recognizer import NO_DIGIT, NOT_SURE, Recognizer, _threshold, denoise
from digits.training.log_mels import log_mels
from digits.training.render import Render
from digits.word_window import WordWindow


def test_recognizer_agrees_with_the_test_loop(tiny_checkpoint: Path, tiny_corpus: Path) -> None:
    """Parity of training and serving: the same probabilities for a file as in the run's predictions.csv."""
    recognizer = Recognizer.load(tiny_checkpoint)
    with (tiny_checkpoint.parent / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "clean"]
    for row in rows[::9]:
        prediction = recognizer(*audio.read(tiny_corpus / row["clip"]))
        assert prediction.digit == int(row["predicted"])
        assert abs(prediction.probability - float(row["probability"])) < 1e-3
        assert abs(sum(prediction.probabilities) - 1) < 1e-5


def test_rate_format_channels_and_level_do_not_matter(tiny_checkpoint: Path, tmp_path: Path) -> None:
    clip = spoken(4, 0, 2)
    at_48k = resample_poly(clip, 6, 1)
    variants = {
        "plain.wav": (clip, 8000),
        "high.flac": (at_48k, 48_000),
        "stereo.wav": (numpy.stack([clip, clip], axis=1), 8000),
        "quiet.flac": (0.05 * at_48k, 48_000),
        "small.ogg": (at_48k, 48_000),
        "small.mp3": (at_48k, 48_000),
        "odd.wav": (resample_poly(clip, 441, 80), 44_100),
    }
    recognizer = Recognizer.load(tiny_checkpoint)
    heard = {}
    for name, (samples, sample_rate) in variants.items():
        soundfile.write(tmp_path / name, samples, sample_rate)
        heard[name] = recognizer(*audio.read(tmp_path / name)).digit
    assert heard == dict.fromkeys(variants, 4)


@pytest.mark.parametrize("convert", [numpy.float64, numpy.float32, torch.from_numpy, list])
def test_a_waveform_may_be_any_array(tiny_checkpoint: Path, convert: Callable[[numpy.ndarray], ArrayLike]) -> None:
    recognizer, clip = Recognizer.load(tiny_checkpoint), spoken(4, 0, 2)
    assert recognizer(convert(clip), 8000) == recognizer(clip, 8000)


@pytest.mark.parametrize(
    ("probability", "lacking", "threshold", "reason"),
    [(0.8, 0.1, 0.0, None), (0.8, 0.1, 0.8, None), (0.8, 0.1, 0.9, NOT_SURE), (0.3, 0.6, 0.0, NO_DIGIT), (0.3, 0.6, 0.9, NO_DIGIT)],
)
def test_a_digit_is_accepted_from_the_threshold_on_unless_it_is_rather_none(
    probability: float, lacking: float, threshold: float, reason: str | None
) -> None:
    probabilities = numpy.full((1, 10), (1 - lacking - probability) / 9)
    probabilities[0, 4] = probability
    prediction = Recognizer(WordWindow(), lambda windows: probabilities, threshold)(spoken(4, 0, 2), 8000)
    assert (prediction.digit, prediction.reason, prediction.accepted) == (4, reason, reason is None)


def test_a_threshold_of_ones_own_takes_the_place_of_the_model_s(plain_model: Path) -> None:
    assert Recognizer.load(plain_model).threshold == 0.4
    for threshold in (0, 0.97, 1):
        assert Recognizer.load(plain_model, threshold).threshold == threshold


def test_named_thresholds_change_the_odds_of_the_model_s_own(plain_model: Path) -> None:
    odds = {name: (t := Recognizer.load(plain_model, name).threshold) / (1 - t) for name in ("strict", "balanced", "eager")}
    assert odds == pytest.approx({"strict": 4 * 0.4 / 0.6, "balanced": 0.4 / 0.6, "eager": 0.4 / 0.6 / 4})
    for own in (0.0, 1.0):
        assert {_threshold(own, name) for name in ("strict", "balanced", "eager")} == {own}


@pytest.mark.parametrize("name", ["strict", "eager"])
def test_a_model_without_a_threshold_has_nothing_to_be_strict_about(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    torch_models.write_plain(tmp_path / "raw.npz", tiny_checkpoint, Calibration(), None)
    assert Recognizer.load(tmp_path / "raw.npz", "balanced").threshold == 0
    with pytest.raises(ValueError, match=rf"raw\.npz: not calibrated, so threshold={name} would change nothing; give a number"):
        Recognizer.load(tmp_path / "raw.npz", name)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), True, "high"])
def test_a_threshold_is_a_number_from_0_to_1(plain_model: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match=f"threshold must be strict, balanced, eager or a number from 0 to 1, got {threshold}"):
        Recognizer.load(plain_model, threshold)
    with pytest.raises(ValueError, match=rf"threshold must lie in \[0, 1\], got {threshold}"):
        Recognizer(WordWindow(), lambda windows: windows, threshold)


def test_denoise_takes_noise_away() -> None:
    sound = (0.02 * numpy.random.default_rng(0).standard_normal(16_000)).astype(numpy.float32)
    time = numpy.arange(4000) / 16_000
    sound[6000:10_000] += sum(0.05 * numpy.sin(2 * numpy.pi * 120 * harmonic * time) for harmonic in range(1, 60))
    cleaned = denoise(sound, 16_000, sound[:5000])
    assert cleaned.shape == sound.shape
    assert cleaned.dtype == numpy.float32
    before, after = ((x[6500:9500] ** 2).mean() / (x[:5000] ** 2).mean() for x in (sound, cleaned))
    assert after > 10 * before  # word over noise


@pytest.mark.xdist_group("fsdd")
@pytest.mark.fsdd
def test_cached_test_clips_give_the_recognizer_s_answers(fsdd_checkpoint: Path) -> None:
    recognizer = Recognizer.load(fsdd_checkpoint)
    clips = [clip for clip in read_folder(Path(os.environ["FSDD_ROOT"]), "fsdd").clips if clip.take < 5]
    (log_mel,) = log_mels([Render(clips, {})])
    with torch.inference_mode():
        batch = torch_models.load(fsdd_checkpoint).network(log_mel.all()).softmax(dim=1)
    right = 0
    for index in range(0, 300, 7):
        prediction = recognizer(*audio.read(clips[index].path))
        assert abs(prediction.probability - batch[index].max().item()) < 1e-3
        right += prediction.digit == clips[index].digit
    assert right >= 41  # of 43


@pytest.mark.fsdd
def test_the_pretrained_model_knows_what_it_was_trained_on() -> None:
    """Not an accuracy: that the file, its front end and its calibration belong together."""
    recognizer = Recognizer.load("pretrained")
    clips = read_folder(Path(os.environ["FSDD_ROOT"]), "fsdd").clips[::60]
    predictions = [recognizer(*audio.read(clip.path)) for clip in clips]
    assert sum(prediction.digit == clip.digit for prediction, clip in zip(predictions, clips, strict=True)) >= 49  # of 50
    assert sum(prediction.accepted for prediction in predictions) >= 45
