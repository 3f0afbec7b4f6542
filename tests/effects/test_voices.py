"""Pitch, tempo and resonances, measured on spectra."""

import math

import numpy
import pytest
import torch
from scipy.signal import welch
from signals import RATE, clip, corrupt, sine


def test_speed_changes_pitch_and_tempo_and_tempo_the_tempo_alone() -> None:
    for factor in (0.75, 1.25):
        fast, stretched = corrupt(sine(500), "speed", factor=factor), corrupt(sine(500), "tempo", factor=factor)
        for changed, hz in ((fast, 500 * factor), (stretched, 500)):
            assert abs(len(changed) - RATE / factor) < 10
            assert abs(float(torch.fft.rfft(changed).abs().argmax()) * RATE / len(changed) - hz) < 2


@pytest.mark.parametrize(("pitch", "tract"), [(1.5, 1.2), (2.0, 1.3), (0.85, 0.9)])
def test_voice_moves_pitch_and_resonances_apart(pitch: float, tract: float) -> None:
    """A pulse train of 100 Hz through a resonance at 1,500 Hz: its harmonics' spacing and their strongest region."""
    length = 2 * RATE
    pulses = torch.zeros(length)
    pulses[:: RATE // 100] = 1.0
    time = torch.arange(RATE // 20) / RATE
    resonance = torch.exp(-2 * math.pi * 150 * time) * torch.sin(2 * math.pi * 1500 * time)
    vowel = torch.nn.functional.conv1d(pulses[None, None], resonance.flip(0)[None, None], padding=len(time) - 1)[0, 0, :length]
    changed = corrupt(vowel, "voice", pitch=pitch, tract=tract)
    assert len(changed) == length
    frequencies, power = welch(changed.numpy(), RATE, nperseg=RATE // 4)
    within = (frequencies > 500) & (frequencies < 3500)
    centre = float((frequencies[within] * power[within]).sum() / power[within].sum())
    _, before = welch(vowel.numpy(), RATE, nperseg=RATE // 4)
    assert abs(centre / float((frequencies[within] * before[within]).sum() / before[within].sum()) - tract) < 0.08
    spectrum = numpy.abs(numpy.fft.rfft(numpy.log(power[: round(4000 / 4)])))  # of a comb: its peak is the spacing
    spacing = 4000 / (numpy.argmax(spectrum[12:80]) + 12)
    assert abs(spacing / (100 * pitch) - 1) < 0.06


@pytest.mark.parametrize("factor", [0.01, 11])
def test_speed_has_its_limits(factor: float) -> None:
    with pytest.raises(ValueError, match=r"effect speed with .*: factor must be 0\.1 to 10"):
        corrupt(clip(), "speed", factor=factor)
