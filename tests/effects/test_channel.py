"""Microphones, levels, telephones and codecs, measured on sines and clicks."""

import math

import numpy
import pytest
import torch
from signals import RATE, click, clip, corrupt, rms, sine, word


@pytest.mark.parametrize(("low_hz", "high_hz", "order"), [(300, 3400, 8), (500, 7000, 4)])
def test_band_is_3_db_down_at_its_edges(low_hz: float, high_hz: float, order: int) -> None:
    def gain_db(hz: float) -> float:
        middle = slice(RATE // 4, 3 * RATE // 4)
        filtered = corrupt(sine(hz), "band", low_hz=low_hz, high_hz=high_hz, order=order)
        return 20 * math.log10(rms(filtered[middle]) / rms(sine(hz)[middle]))

    assert abs(gain_db(low_hz) + 3) < 0.1
    assert abs(gain_db(high_hz) + 3) < 0.1
    assert abs(gain_db(math.sqrt(low_hz * high_hz))) < 0.1
    assert abs(gain_db(low_hz / 2) + 6.02 * order) < 0.5


def test_equalizer_stays_within_its_range_and_uses_it() -> None:
    middle = click(RATE // 2)  # the filter has no delay: half of its answer comes before
    gains = [20 * torch.log10(torch.fft.rfft(corrupt(middle, "equalizer", key, range_db=12)).abs()[100:8000]) for key in "abcdef"]
    assert max(float(gain.max()) for gain in gains) < 12.5
    assert max(float(gain.max() - gain.min()) for gain in gains) > 12


@pytest.mark.parametrize("drive_db", [10, 20])
def test_clipping_flattens_what_is_above_full_scale(drive_db: float) -> None:
    clipped = corrupt(sine(100), "clipping", drive_db=drive_db)
    share = float((clipped.abs() >= 1).float().mean())
    assert abs(share - (1 - 2 / math.pi * math.asin(10 ** (-drive_db / 20)))) < 0.01
    assert float(clipped.abs().max()) == 1


@pytest.mark.parametrize("peak_db", [-40, -20, 0])
def test_level_is_the_peak_in_16_bits(peak_db: float) -> None:
    levelled = corrupt(clip(), "level", peak_db=peak_db)
    assert abs(20 * math.log10(float(levelled.abs().max())) - peak_db) < 0.05
    steps = levelled.double() * 32767
    assert float((steps - steps.round()).abs().max()) < 1e-3


def test_dc_offset_is_a_constant() -> None:
    assert torch.allclose(corrupt(clip(), "dc_offset", offset=0.5) - clip(), torch.tensor(0.15), atol=1e-4)


def test_mu_law_keeps_4_khz_and_about_38_db() -> None:
    tone = 0.5 * sine(500)
    coded = corrupt(tone, "mu_law")
    middle = slice(RATE // 4, 3 * RATE // 4)
    assert 34 < 20 * math.log10(rms(tone[middle]) / rms(coded[middle] - tone[middle])) < 42  # G.711: about 38 dB over a wide range
    assert rms(corrupt(sine(6000) + sine(500), "mu_law")[middle]) < 1.05 * rms(corrupt(sine(500), "mu_law")[middle])


@pytest.mark.parametrize("file_format", ["MP3", "OGG"])
def test_codecs_lose_more_when_asked_for_smaller_files(file_format: str) -> None:
    def distance(compression: float) -> float:
        decoded = corrupt(word(), "codec", format=file_format, compression=compression)[: len(word())]
        lags = numpy.correlate(decoded.numpy(), word()[: len(decoded)].numpy(), "full")  # a codec may delay
        return 1 - lags.max() / math.sqrt(float(decoded.square().sum() * word().square().sum()))

    assert distance(0.0) < distance(0.99) < 0.3


@pytest.mark.parametrize("fraction", [0.05, 0.15])
def test_drop_packets_loses_whole_blocks(fraction: float) -> None:
    long = torch.ones(60 * RATE)
    blocks = corrupt(long, "drop_packets", fraction=fraction).unfold(0, 960, 960).mean(dim=1)
    assert set(blocks.tolist()) == {0.0, 1.0}
    assert abs(float((blocks == 0).float().mean()) - fraction) < 0.02
