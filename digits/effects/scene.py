"""What every effect is built from: the scene it works in, levels, filters and recordings from disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from digits import audio
from digits._torchaudio import torchaudio

SPEECH_BAND_HZ = 4000.0  # all of FSDD lies below this; SNR ignores noise above it, which no front end hears


@dataclass(frozen=True)
class Scene:
    """What an effect may use besides the waveform.

    Args:
        sample_rate: of the waveform, Hz.
        generator: the only source of randomness.
        voices: other recordings at that rate, shape (samples,) each; only effects that need them have any.
    """

    sample_rate: int
    generator: torch.Generator
    voices: Sequence[Tensor] = ()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def integer(self, high: int) -> int:
        """0 to ``high`` - 1."""
        return int(torch.randint(high, (), generator=self.generator))

    def noise(self, length: int) -> Tensor:
        """White Gaussian noise, shape (length,)."""
        return torch.randn(length, generator=self.generator)

    def voice(self) -> Tensor:
        """One of the other recordings.

        Raises:
            ValueError: there are none.
        """
        if not self.voices:
            raise ValueError("there are no other recordings to take a voice from")
        return self.voices[self.integer(len(self.voices))]


@dataclass(frozen=True)
class Effect:
    """A function (waveform, scene, **arguments) -> waveform, and what it needs; made by :func:`effect`."""

    function: Callable[..., Tensor]
    needs_voices: bool
    reads_files: bool

    def __call__(self, waveform: Tensor, scene: Scene, **arguments: Any) -> Tensor:
        return self.function(waveform, scene, **arguments)


def effect(needs_voices: bool = False, reads_files: bool = False) -> Callable[[Callable[..., Tensor]], Effect]:
    """Turn a function into an effect that configs can name.

    Args:
        needs_voices: it uses :attr:`Scene.voices`.
        reads_files: it uses the user's own files, which may change between runs, so its result is never cached.
    """
    return lambda function: Effect(function, needs_voices, reads_files)


def band_power(waveform: Tensor, sample_rate: int, f_max: float = SPEECH_BAND_HZ) -> Tensor:
    """Mean power below ``f_max`` Hz, by Parseval's theorem; shape ()."""
    n_fft = next_fast_len(len(waveform), real=True)  # zero-padded: an awkward length can take ten times as long
    power = torch.fft.rfft(waveform.float(), n=n_fft).abs().square()[: int(f_max * n_fft / sample_rate) + 1]
    return (2 * power.sum() - power[0]) / (n_fft * len(waveform))  # every bin but the constant stands for two frequencies


def add(waveform: Tensor, noise: Tensor, scene: Scene, snr_db: float) -> Tensor:
    """Add noise at a signal-to-noise ratio measured below :data:`SPEECH_BAND_HZ`, over the whole clip."""
    in_band = band_power(waveform, scene.sample_rate) / band_power(noise, scene.sample_rate)
    full_band = waveform.double().square().mean() / noise.double().square().mean()
    full_band_snr_db = snr_db + 10 * torch.log10(full_band / in_band)  # what add_noise takes
    return torchaudio.functional.add_noise(waveform, noise, full_band_snr_db.float())


def shape_spectrum(waveform: Tensor, scene: Scene, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Multiply the spectrum by a gain, a function of the frequencies in Hz; adds no delay."""
    # 50 ms of zeros, so that what rings on after the end does not wrap around to the beginning.
    n_fft = next_fast_len(len(waveform) + scene.sample_rate // 20, real=True)
    frequencies = torch.fft.rfftfreq(n_fft, 1 / scene.sample_rate)
    return torch.fft.irfft(torch.fft.rfft(waveform, n=n_fft) * gain(frequencies), n=n_fft)[: len(waveform)]


def octave_gain_db(frequencies: Tensor, octaves: Tensor) -> Tensor:
    """Gains in dB at frequencies in Hz, interpolated between those at the nine octaves from 62.5 Hz to 16 kHz."""
    position = torch.log2(frequencies.clamp(62.5, 15_999) / 62.5)
    below = position.long()
    return torch.lerp(octaves[below], octaves[below + 1], position - below)


def convolve(waveform: Tensor, impulse_response: Tensor) -> Tensor:
    """Convolve with an impulse response and restore the clip's power; the tail makes the result longer."""
    length = len(waveform) + len(impulse_response) - 1
    padding = next_fast_len(length, real=True) - length
    wet = torchaudio.functional.fftconvolve(waveform, F.pad(impulse_response, (0, padding)))[:length]
    return wet * (waveform.square().mean() / wet[: len(waveform)].square().mean()).sqrt()


def resample(waveform: Tensor, sample_rate: float, new_sample_rate: float) -> Tensor:
    """:func:`digits.audio.resample` for tensors."""
    return torch.from_numpy(audio.resample(waveform.numpy(), sample_rate, new_sample_rate))


def tile(waveform: Tensor, length: int, start: int) -> Tensor:
    """``length`` samples of an endless repetition, beginning at ``start``."""
    return waveform[(start + torch.arange(length)) % len(waveform)]


def recording(root: str | None, scene: Scene) -> Tensor:
    """A random recording from the folder ``root``, resampled to the scene's rate.

    Raises:
        ValueError: no folder is set, it does not exist, or holds no recordings.
    """
    if root is None:
        raise ValueError("its folder is not set (noise_root=FOLDER for noises, room_root=FOLDER for rooms)")
    paths = _list(root)
    return _read(paths[scene.integer(len(paths))], scene.sample_rate)


@lru_cache
def _list(root: str) -> list[Path]:
    if not Path(root).is_dir():
        raise ValueError(f"{root}: no such folder")
    paths = audio.find_files(Path(root))
    if not paths:
        raise ValueError(f"{root}: no recordings in this folder ({', '.join(audio.FILE_SUFFIXES)})")
    return paths


@lru_cache
def _read(path: Path, sample_rate: int) -> Tensor:
    return torch.from_numpy(audio.resample(*audio.read(path), sample_rate))
