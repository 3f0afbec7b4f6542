import numpy
import pytest
import torch

from digits import audio
from digits.features import FrontEnd, LogMel


def mel(hertz: numpy.ndarray) -> numpy.ndarray:
    return 2595 * numpy.log10(1 + hertz / 700)


def reference_log_mel(waveform: numpy.ndarray, sample_rate: int) -> numpy.ndarray:
    """HTK log-mel from a plain STFT, written from the definitions."""
    n_fft, win_length, hop_length, n_mels, f_min, f_max, top_db = 1536, 1200, 480, 40, 60.0, 4000.0, 60.0
    taper = numpy.zeros(n_fft)
    start = (n_fft - win_length) // 2
    taper[start : start + win_length] = 0.5 - 0.5 * numpy.cos(2 * numpy.pi * numpy.arange(win_length) / win_length)
    padded = numpy.pad(waveform, n_fft // 2, mode="reflect")
    frames = [padded[i : i + n_fft] * taper for i in range(0, len(padded) - n_fft + 1, hop_length)]
    power = numpy.abs(numpy.fft.rfft(frames)) ** 2  # (frames, bins)
    bins = numpy.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    edges = 700 * (10 ** (numpy.linspace(mel(numpy.array(f_min)), mel(numpy.array(f_max)), n_mels + 2) / 2595) - 1)
    bands = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        bands.append(numpy.clip(numpy.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, None))
    decibel = 10 * numpy.log10(numpy.maximum(numpy.array(bands) @ power.T, 1e-10))
    return numpy.maximum(decibel, decibel.max() - top_db)


def test_log_mel_is_its_definition() -> None:
    waveform = torch.randn(48_000, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 0.5, 48_000)
    ours = LogMel()(waveform[None])
    assert ours.shape == (1, 1, 40, 101)
    reference = reference_log_mel(waveform.double().numpy(), 48_000)
    assert numpy.abs(ours[0, 0].numpy() - reference).max() < 2e-3


def test_a_clip_does_not_depend_on_its_batch() -> None:
    quiet, loud = 0.001 * torch.randn(48_000), torch.randn(48_000)
    alone, together = LogMel()(quiet[None]), LogMel()(torch.stack([quiet, loud]))
    torch.testing.assert_close(alone[0], together[0], atol=1e-3, rtol=0)


def test_no_mel_band_is_empty() -> None:
    assert (LogMel().filters.sum(dim=0) > 0).all()


def test_gain_only_shifts_decibels() -> None:
    waveform = torch.randn(48_000)
    difference = LogMel()(waveform[None]) - LogMel()(0.1 * waveform[None])
    torch.testing.assert_close(difference, torch.full_like(difference, 20.0), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"f_max": 30_000.0}, "f_max"),
        ({"f_min": 5000.0}, "f_min"),
        ({"f_min": 3990.0}, "f_min and f_max must have a frequency of the transform between them"),
        ({"win_length": 4000}, "win_length"),
        ({"top_db": 0.0}, "top_db"),
    ],
)
def test_refuses_impossible_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(**settings)  # type: ignore[arg-type]


def test_the_same_sound_at_any_rate_gives_the_same_image() -> None:
    def word(sample_rate: int) -> audio.Waveform:
        time = numpy.arange(round(0.8 * sample_rate)) / sample_rate
        return numpy.sin(2 * numpy.pi * (500 + 900 * time) * time) * numpy.exp(-(((time - 0.4) / 0.1) ** 2))

    front_end = FrontEnd()
    reference = front_end([(word(48_000), 48_000)])
    for sample_rate in (8000, 16_000, 22_050, 44_100):
        image = front_end([(word(sample_rate), sample_rate)])
        loud = reference > reference.max() - 30  # below, the resampling filters' own skirts show
        assert (image - reference)[loud].abs().mean() < 0.5


@pytest.mark.parametrize("samples", [[], [0.1, 0.2, 0.3], [0.0] * 5000, [float("nan")] * 5000])
def test_front_end_refuses_what_holds_no_word(samples: list[float]) -> None:
    with pytest.raises(ValueError, match=r"too short|silence|NaN"):
        FrontEnd()([(numpy.array(samples, dtype=numpy.float32), 8000)])


@pytest.mark.parametrize("gain", [1e-5, 1e-3, 1.0, 1e6, 1e18])
def test_gain_changes_nothing(gain: float) -> None:
    waveform = (numpy.random.default_rng(0).standard_normal(8000) * numpy.hanning(8000)).astype(numpy.float32)
    torch.testing.assert_close(FrontEnd()([(gain * waveform, 8000)]), FrontEnd()([(waveform, 8000)]), atol=0.02, rtol=0)
