import numpy
import pytest
from support import sine

from digits import audio, word_window


def word_in_noise(noise: float, gap_s: float = 0.0) -> audio.Waveform:
    """0.5 s of nearly nothing, 0.3 s of tone (with a gap in its middle), 0.7 s of nearly nothing, at 8 kHz."""
    half = sine(800, 8000, seconds=0.15)
    clip = numpy.concatenate([numpy.zeros(4000), half, numpy.zeros(round(gap_s * 8000)), half, numpy.zeros(5600)])
    return (clip + noise * numpy.random.default_rng(0).standard_normal(len(clip))).astype(numpy.float32)


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 44_100, 48_000])
def test_level_of_a_sine_is_its_amplitude_at_any_rate(sample_rate: int) -> None:
    levels = word_window.frame_levels(sine(1000, sample_rate, amplitude=0.1), sample_rate)
    assert numpy.abs(levels + 20).max() < 0.05


def test_levels_ignore_hum_dc_and_hiss() -> None:
    outside = sine(50, 48_000) + sine(9000, 48_000) + 0.3
    assert word_window.frame_levels(outside, 48_000).max() < -50


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-2, 5e-2])
@pytest.mark.parametrize("gain", [1.0, 1e-2])
def test_finds_the_word_whatever_floor_and_gain(noise: float, gain: float) -> None:
    first, last = word_window.find_word(word_window.frame_levels(gain * word_in_noise(noise), 8000))
    assert abs(first * word_window.LEVEL_HOP_S - 0.5) <= 0.03
    assert abs(last * word_window.LEVEL_HOP_S - 0.8) <= 0.03


def test_bridges_a_short_gap_and_not_a_long_one() -> None:
    for gap_s, expected_s in ((0.12, 0.42), (0.3, 0.15)):
        first, last = word_window.find_word(word_window.frame_levels(word_in_noise(1e-4, gap_s), 8000))
        assert abs((last - first) * word_window.LEVEL_HOP_S - expected_s) <= 0.04


@pytest.mark.parametrize("sample_rate", [8000, 11_025, 12_345, 22_050, 44_100])
def test_trim_keeps_the_margins_wherever_the_word_is(sample_rate: int) -> None:
    for start_s in (0.5, 29.0):
        sound = 1e-4 * numpy.random.default_rng(0).standard_normal(round(30 * sample_rate))
        start, length = round(start_s * sample_rate), round(0.3 * sample_rate)
        sound[start : start + length] += sine(800, sample_rate, seconds=1)[:length]
        trimmed = word_window.trim(sound.astype(numpy.float32), sample_rate, margin_ms=50)
        active = numpy.flatnonzero(numpy.abs(trimmed) > 0.01)
        margins_s = active[0] / sample_rate, (len(trimmed) - 1 - active[-1]) / sample_rate
        assert all(0.03 <= margin <= 0.08 for margin in margins_s)


@pytest.mark.parametrize("length", [1, 2, 7, 10, 11, 50])
def test_fit_centres_or_crops(length: int) -> None:
    waveform = numpy.arange(1, 11, dtype=numpy.float32)
    fitted = word_window.fit(waveform, length)
    assert len(fitted) == length
    kept = fitted[fitted > 0]
    assert len(kept) == min(length, 10)
    assert (numpy.diff(kept) == 1).all()
    if length >= 10:
        (places,) = numpy.nonzero(fitted)
        before, after = places[0], length - 1 - places[-1]
        assert abs(before - after) <= 1
    else:
        assert abs((kept[0] - 1) - (10 - kept[-1])) <= 1
