"""Test conditions: seeded corruptions of waveforms, applied before the front end sees them.

A condition is a dictionary of effects and their arguments, in order, as a config writes it: ``{reverb: {rt60_s: 0.6}, white_noise:
{snr_db: 10}}``; an empty one leaves the clip clean. An argument given as ``[low, high]`` is drawn uniformly, for each clip anew.
"""

import json
import zlib
from collections.abc import Callable, Mapping

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from digits._torchaudio import torchaudio

SPEECH_BAND_HZ = 4000.0  # all of FSDD lies below; SNR is measured there, or noise that no front end hears would count

Effects = Mapping[str, Mapping[str, float | list[float]]]


def apply(waveform: Tensor, sample_rate: int, effects: Effects, key: str) -> Tensor:
    """Corrupt one clip, the same way whenever the effects and ``key`` (the clip's name, with a seed) are the same.

    Raises:
        ValueError: an effect that does not exist.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(json.dumps([key, effects], sort_keys=True).encode()))
    for name, arguments in effects.items():
        if name not in EFFECTS:
            raise ValueError(f"unknown effect {name}; there are {', '.join(EFFECTS)}")
        try:
            drawn = {argument: _draw(value, generator) for argument, value in arguments.items()}
            waveform = EFFECTS[name](waveform, sample_rate, generator=generator, **drawn)
        except (TypeError, ValueError) as error:
            raise ValueError(f"effect {name} with {dict(arguments)}: {error}") from error
    return waveform


def _draw(value: float | list[float], generator: torch.Generator) -> float:
    if isinstance(value, int | float):
        return value
    low, high = value
    return low + (high - low) * torch.rand((), generator=generator).item()


def band_power(waveform: Tensor, sample_rate: int, f_max: float = SPEECH_BAND_HZ) -> Tensor:
    """Mean power below ``f_max`` Hz, by Parseval's theorem; shape ()."""
    n_fft = next_fast_len(len(waveform), real=True)  # zero-padded: an odd length can take ten times as long
    power = torch.fft.rfft(waveform.float(), n=n_fft).abs().square()[: int(f_max * n_fft / sample_rate) + 1]
    return (2 * power.sum() - power[0]) / (n_fft * len(waveform))  # all but the constant stand for two frequencies


def white_noise(waveform: Tensor, sample_rate: int, snr_db: float, generator: torch.Generator) -> Tensor:
    """Add white Gaussian noise at a signal-to-noise ratio measured below :data:`SPEECH_BAND_HZ`, over the whole clip."""
    noise = torch.randn(waveform.shape, generator=generator)
    in_band = band_power(waveform, sample_rate) / band_power(noise, sample_rate)
    full_band = waveform.double().square().mean() / noise.double().square().mean()
    full_band_snr_db = snr_db + 10 * torch.log10(full_band / in_band)  # which is what add_noise takes
    return torchaudio.functional.add_noise(waveform, noise, full_band_snr_db.float())


def reverb(waveform: Tensor, sample_rate: int, rt60_s: float, generator: torch.Generator) -> Tensor:
    """Convolve with noise that decays by 60 dB in ``rt60_s`` seconds (Polack's model), at the clip's power."""
    time_s = torch.arange(round(rt60_s * sample_rate)) / sample_rate
    impulse_response = torch.randn(len(time_s), generator=generator) * 10 ** (-3 * time_s / rt60_s)
    length = len(waveform) + len(impulse_response) - 1
    padding = next_fast_len(length, real=True) - length
    wet = torchaudio.functional.fftconvolve(waveform, torch.nn.functional.pad(impulse_response, (0, padding)))[:length]
    return wet * (waveform.square().mean() / wet[: len(waveform)].square().mean()).sqrt()


EFFECTS: dict[str, Callable[..., Tensor]] = {"white_noise": white_noise, "reverb": reverb}
