"""Each noise's level and spectrum against a computation of another kind: in the time domain, by Welch's method."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import soundfile
import torch
from scipy.signal import welch
from signals import RATE, clip, corrupt, power_below_4_khz, rms

from digits import effects


@pytest.fixture
def noise_root(tmp_path: Path) -> Path:
    noise = numpy.random.default_rng(0).standard_normal(32_000) * 0.1
    soundfile.write(tmp_path / "rain.wav", noise, 16_000)
    return tmp_path


@pytest.mark.parametrize("effect", ["white_noise", "pink_noise", "hum", "babble", "recorded_noise"])
@pytest.mark.parametrize("snr_db", [20, 10, 5, 0])
def test_noise_has_its_snr_below_4_khz(effect: str, snr_db: int, noise_root: Path) -> None:
    more: dict[str, Any] = {"root": str(noise_root)} if effect == "recorded_noise" else {}
    noise = corrupt(clip(), effect, snr_db=snr_db, **more) - clip()
    measured = 10 * math.log10(power_below_4_khz(clip()) / power_below_4_khz(noise))
    assert abs(measured - snr_db) < 0.3


@pytest.mark.parametrize(
    ("effect", "slope_db", "expected"), [("white_noise", None, 0), ("pink_noise", None, -3), ("pink_noise", -6, -6)]
)
def test_noise_has_its_slope(effect: str, slope_db: float | None, expected: float) -> None:
    more: dict[str, Any] = {} if slope_db is None else {"slope_db": slope_db}
    noise = corrupt(clip().repeat(8), effect, snr_db=0, **more) - clip().repeat(8)
    frequencies, density = welch(noise.double().numpy(), RATE, nperseg=8192)
    part = (frequencies > 100) & (frequencies < 12_000)
    slope = numpy.polyfit(numpy.log2(frequencies[part]), 10 * numpy.log10(density[part]), 1)[0]
    assert abs(slope - expected) < 0.2


def test_hum_is_the_mains_and_its_harmonics() -> None:
    noise = corrupt(clip(), "hum", snr_db=0, mains_hz=60) - clip()
    spectrum = numpy.abs(numpy.fft.rfft(noise.double().numpy()))  # one second: a bin a hertz
    assert numpy.allclose(spectrum[[120, 180, 600]] / spectrum[60], [1 / 2, 1 / 3, 1 / 10], rtol=0.01)
    harmonics = numpy.zeros(len(spectrum), dtype=bool)
    harmonics[60:2001:60] = True
    assert numpy.sum(spectrum[~harmonics] ** 2) < 1e-4 * numpy.sum(spectrum**2)


def test_babble_without_other_recordings_is_an_error() -> None:
    with pytest.raises(ValueError, match="no other recordings to take a voice from"):
        effects.apply(clip(), RATE, {"babble": {"snr_db": 5}}, "x")


def test_place_puts_the_clip_into_its_noise() -> None:
    placed = corrupt(clip(), "place", before_s=0.5, after_s=0.25, snr_db=20)
    assert len(placed) == round(1.75 * RATE)
    noise = placed - torch.cat([torch.zeros(RATE // 2), clip(), torch.zeros(RATE // 4)])
    assert abs(10 * math.log10(power_below_4_khz(clip()) / power_below_4_khz(noise)) - 20) < 0.3
    assert rms(noise[: RATE // 4]) == pytest.approx(rms(noise[-RATE // 4 :]), rel=0.5)


def test_recorded_noise_needs_a_folder_with_recordings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"noise_root=FOLDER"):
        corrupt(clip(), "recorded_noise", snr_db=5, root=None)
    with pytest.raises(ValueError, match="/nowhere: no such folder"):
        corrupt(clip(), "recorded_noise", snr_db=5, root="/nowhere")
    with pytest.raises(ValueError, match="no recordings in this folder"):
        corrupt(clip(), "recorded_noise", snr_db=5, root=str(tmp_path))


def test_where_recorded_noise_lies_changes_nothing(noise_root: Path) -> None:
    there = noise_root.with_name("elsewhere") / "rain"
    shutil.copytree(noise_root, there)
    here, elsewhere = (corrupt(clip(), "recorded_noise", snr_db=5, root=str(root)) for root in (noise_root, there))
    assert torch.equal(here, elsewhere)
    assert not torch.equal(here, corrupt(clip(), "recorded_noise", key="y", snr_db=5, root=str(noise_root)))


def test_a_silent_stretch_of_recorded_noise_adds_nothing(tmp_path: Path) -> None:
    half_silent = numpy.zeros(20 * RATE)
    half_silent[: 10 * RATE] = 0.1 * numpy.sin(numpy.arange(10 * RATE))
    soundfile.write(tmp_path / "half_silent.wav", half_silent, RATE)
    noisy = [corrupt(clip(), "recorded_noise", key=str(key), snr_db=5, root=str(tmp_path)) for key in range(20)]
    assert all(sound.isfinite().all() for sound in noisy)
    assert {torch.equal(sound, clip()) for sound in noisy} == {True, False}
