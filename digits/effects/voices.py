"""Voice conversion: other tempi, pitches and vocal tracts."""

import math

import torch
from torch import Tensor

from digits._torchaudio import torchaudio
from digits.effects.scene import Scene, effect, resample

STFT_S, STFT_OVERLAP = 0.032, 4  # long enough to resolve the harmonics of a low voice
ENVELOPE_S = 0.002  # shorter than the period of a child's voice
MAX_GAIN = 4.6  # 40 dB, as a natural logarithm of the amplitude


@effect()
def speed(waveform: Tensor, scene: Scene, factor: float) -> Tensor:
    """Play ``factor`` times as fast (0.1 to 10): tempo, pitch and the resonances of the vocal tract change together."""
    return _speed(waveform, factor)


@effect()
def tempo(waveform: Tensor, scene: Scene, factor: float) -> Tensor:
    """Speak ``factor`` times as fast at the same pitch (phase vocoder)."""
    return _tempo(waveform, scene, factor)


@effect()
def voice(waveform: Tensor, scene: Scene, pitch: float, tract: float) -> Tensor:
    """Another speaker: multiplies the pitch by ``pitch`` and the resonances by ``tract``, at the same tempo.

    From a man to a woman or a child both rise, the pitch more than the resonances of the shorter vocal tract. The waveform is
    played faster and stretched again, which moves both by ``pitch``; then its spectral envelope (the cepstrum below
    :data:`ENVELOPE_S`) is moved the rest of the way.
    """
    raised = _speed(waveform, pitch)
    spectrum = _stft(_tempo(raised, scene, len(raised) / len(waveform)), scene)  # (frequencies, frames)
    cepstrum = torch.fft.irfft((spectrum.abs() + 1e-6).log(), dim=0)
    n_kept = round(ENVELOPE_S * scene.sample_rate)
    cepstrum[n_kept : len(cepstrum) - n_kept + 1] = 0.0
    envelope = torch.fft.rfft(cepstrum, dim=0).real
    position = (torch.arange(len(envelope)) * pitch / tract).clamp(max=len(envelope) - 1.001)
    below = position.long()
    moved = torch.lerp(envelope[below], envelope[below + 1], (position - below)[:, None])
    return _istft(spectrum * (moved - envelope).clamp(-MAX_GAIN, MAX_GAIN).exp(), len(waveform))


def _speed(waveform: Tensor, factor: float) -> Tensor:
    if not 0.1 <= factor <= 10:
        raise ValueError("factor must be 0.1 to 10")
    return resample(waveform, factor, 1.0)


def _tempo(waveform: Tensor, scene: Scene, factor: float) -> Tensor:
    spectrum = _stft(waveform, scene)
    advance = torch.linspace(0, torch.pi * (2 * (len(spectrum) - 1) // STFT_OVERLAP), len(spectrum))[:, None]
    return _istft(torchaudio.functional.phase_vocoder(spectrum, factor, advance), round(len(waveform) / factor))


def _stft(waveform: Tensor, scene: Scene) -> Tensor:
    n_fft = 2 ** round(math.log2(STFT_S * scene.sample_rate))
    return torch.stft(waveform, n_fft, n_fft // STFT_OVERLAP, window=torch.hann_window(n_fft), return_complex=True)


def _istft(spectrum: Tensor, length: int) -> Tensor:
    n_fft = 2 * (len(spectrum) - 1)
    return torch.istft(spectrum, n_fft, n_fft // STFT_OVERLAP, window=torch.hann_window(n_fft), length=length)
