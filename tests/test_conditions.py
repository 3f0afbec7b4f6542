import math

import numpy
import pytest
import torch
from scipy.signal import butter, sosfiltfilt

from digits import conditions


def clip(sample_rate: int = 48_000) -> torch.Tensor:
    time = torch.arange(sample_rate) / sample_rate
    return 0.3 * torch.sin(2 * math.pi * 600 * time) * torch.hann_window(sample_rate)


@pytest.mark.parametrize("snr_db", [20, 10, 5, 0])
def test_white_noise_has_its_snr_below_4_khz(snr_db: int) -> None:
    clean = clip()
    noise = (conditions.apply(clean, 48_000, {"white_noise": {"snr_db": snr_db}}, "x") - clean).double().numpy()
    low_pass = butter(10, 4000, fs=48_000, output="sos")  # measured in the time domain, not as the code does
    measured = 10 * math.log10(clean.double().square().mean().item() / numpy.mean(sosfiltfilt(low_pass, noise) ** 2))
    assert abs(measured - snr_db) < 0.3
    spectrum = numpy.abs(numpy.fft.rfft(noise)) ** 2
    thirds = [part.mean() for part in numpy.array_split(spectrum, 3)]
    assert max(thirds) / min(thirds) < 1.1  # white up to the Nyquist frequency


@pytest.mark.parametrize("rt60_s", [0.3, 1.0])
def test_reverb_decays_by_60_db_in_rt60(rt60_s: float) -> None:
    click = torch.zeros(96_000)
    click[0] = 1.0
    tail = conditions.apply(click, 48_000, {"reverb": {"rt60_s": rt60_s}}, "x").double().numpy()[: int(rt60_s * 48_000)]
    energy = numpy.cumsum(tail[::-1] ** 2)[::-1]  # Schroeder's backward integration
    decay_db = 10 * numpy.log10(energy / energy[0])
    times = numpy.arange(len(decay_db)) / 48_000
    part = (decay_db < -5) & (decay_db > -25)
    slope = numpy.polyfit(times[part], decay_db[part], 1)[0]
    assert abs(-60 / slope - rt60_s) < 0.1 * rt60_s


def test_the_same_key_gives_the_same_noise_and_another_another() -> None:
    effects: conditions.Effects = {"reverb": {"rt60_s": [0.2, 0.9]}, "white_noise": {"snr_db": [0, 20]}}
    first, again, other = (conditions.apply(clip(), 48_000, effects, key) for key in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.allclose(first, other)


def test_no_effects_leave_the_clip_alone() -> None:
    assert torch.equal(conditions.apply(clip(), 48_000, {}, "x"), clip())


def test_unknown_effects_are_named() -> None:
    with pytest.raises(ValueError, match="unknown effect echo; there are white_noise, reverb"):
        conditions.apply(clip(), 48_000, {"echo": {}}, "x")
