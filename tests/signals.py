"""Sounds that effects are measured on, and measures of another kind than the effects' own."""

import math
from typing import Any

import numpy
import torch
from scipy.signal import butter, sosfiltfilt
from support import spoken

from digits import audio, effects

RATE = 48_000


def clip(sample_rate: int = RATE) -> torch.Tensor:
    time = torch.arange(sample_rate) / sample_rate
    return 0.3 * torch.sin(2 * math.pi * 600 * time) * torch.hann_window(sample_rate)


def sine(hz: float, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE)) / RATE)


def word(digit: int = 3) -> torch.Tensor:
    return torch.from_numpy(audio.resample(spoken(digit, 0, 0), 8000, RATE))


def corrupt(waveform: torch.Tensor, effect: str, key: str = "x", **arguments: Any) -> torch.Tensor:
    return effects.apply(waveform, RATE, {effect: arguments}, key, voices=[word(digit) for digit in range(10)])


def click(position: int = 0, length: int = RATE) -> torch.Tensor:
    """A single sample: what comes out is a filter's impulse response."""
    waveform = torch.zeros(length)
    waveform[position] = 1.0
    return waveform


def power_below_4_khz(samples: torch.Tensor) -> float:
    low_pass = butter(10, 4000, fs=RATE, output="sos")
    return float(numpy.mean(sosfiltfilt(low_pass, samples.double().numpy()) ** 2))


def rms(samples: torch.Tensor) -> float:
    return float(samples.double().square().mean().sqrt())
