"""Other sounds, in place of a digit or behind it: parts of words, words run together, knocks, breath, tones.

They stand in for what a microphone hears between digits.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from digits import audio, word_window
from digits.effects.scene import Scene, add, effect, octave_gain_db

REPLACED_S = (0.3, 1.2)  # length of a sound that takes the place of a recording


@effect()
def fragment(waveform: Tensor, scene: Scene, share: float) -> Tensor:
    """A stretch of ``share`` of the word, from anywhere in it, with its ends faded over 5 ms."""
    word = _word(waveform, scene)
    length = max(round(share * len(word)), round(2 * audio.MIN_DURATION_S * scene.sample_rate))
    start = scene.integer(max(1, len(word) - length))
    return _fade(word[start : start + length], round(0.005 * scene.sample_rate))


@effect(needs_voices=True)
def pair(waveform: Tensor, scene: Scene, gap_s: float) -> Tensor:
    """The word followed by another recording's word at the same power, ``gap_s`` apart."""
    first, other = _word(waveform, scene), _word(scene.voice(), scene)
    other = other * (first.square().mean() / other.square().mean()).sqrt()
    return torch.cat([first, torch.zeros(round(gap_s * scene.sample_rate)), other])


@effect()
def bursts(waveform: Tensor, scene: Scene, number: float, snr_db: float | None = None) -> Tensor:
    """``number`` bursts of noise (knocks, clicks, coughs, breath, wind), at ``snr_db``, or in place of the recording (None)."""
    return _add_or_replace(waveform, scene, _bursts, number, snr_db)


@effect()
def tones(waveform: Tensor, scene: Scene, number: float, snr_db: float | None = None) -> Tensor:
    """``number`` tones (beeps, notes, bells, birds), at ``snr_db``, or in place of the recording (None)."""
    return _add_or_replace(waveform, scene, _tones, number, snr_db)


def _add_or_replace(
    waveform: Tensor, scene: Scene, make: Callable[[Scene, int, float], Tensor], number: float, snr_db: float | None
) -> Tensor:
    if number < 1:
        raise ValueError("number must be at least 1")
    if snr_db is not None:
        return add(waveform, make(scene, len(waveform), number), scene, snr_db)
    return make(scene, round(scene.uniform(*REPLACED_S) * scene.sample_rate), number)


def _bursts(scene: Scene, length: int, number: float) -> Tensor:
    """Bursts of noise, shape (length,), each with its own spectrum, attack and decay."""
    sound = torch.zeros(length)
    for _ in range(round(number)):
        sound += _colour(scene.noise(length), scene) * _swell(length, scene) * 10 ** (-scene.uniform(0, 20) / 20)
    return sound


def _tones(scene: Scene, length: int, number: float) -> Tensor:
    """Tones with harmonics that glide and swell, shape (length,)."""
    time_s = torch.arange(length) / scene.sample_rate
    sound = torch.zeros(length)
    for _ in range(round(number)):
        pitch_hz = 80.0 * 2 ** scene.uniform(0, 5)  # 80 to 2560 Hz
        glide = 2 ** (scene.uniform(-1, 1) * scene.uniform(0, 1) * time_s / time_s[-1])
        phase = 2 * torch.pi * (pitch_hz * glide).cumsum(dim=0) / scene.sample_rate
        orders = torch.arange(1, max(2, 1 + int(min(scene.uniform(1, 20), 4000 / pitch_hz))))
        amplitudes = orders.float() ** -scene.uniform(0.5, 3)
        sound += (torch.sin(phase * orders[:, None]) * amplitudes[:, None]).sum(dim=0) * _swell(length, scene)
    return sound


def _word(waveform: Tensor, scene: Scene) -> Tensor:
    return torch.from_numpy(word_window.trim(waveform.numpy(), scene.sample_rate, margin_ms=0.0))


def _colour(noise: Tensor, scene: Scene) -> Tensor:
    """Filter by 20 ms of taps: random gains within +-20 dB at each octave, and a resonance of up to 25 dB."""
    n_taps = scene.sample_rate // 50
    frequencies = torch.fft.rfftfreq(n_taps, 1 / scene.sample_rate)
    octaves = 40 * torch.rand(9, generator=scene.generator) - 20
    gain_db = octave_gain_db(frequencies, octaves)
    resonance_hz = 200 * 2 ** scene.uniform(0, 4.3)  # up to 4 kHz
    gain_db += scene.uniform(0, 25) * torch.exp(-((torch.log2(frequencies.clamp_min(20) / resonance_hz) / 0.3) ** 2))
    taps = torch.fft.irfft(10 ** (gain_db / 20), n=n_taps).roll(n_taps // 2) * torch.hann_window(n_taps)
    n_fft = len(noise) + n_taps
    return torch.fft.irfft(torch.fft.rfft(noise, n=n_fft) * torch.fft.rfft(taps, n=n_fft), n=n_fft)[: len(noise)]


def _swell(length: int, scene: Scene) -> Tensor:
    """An envelope with its peak of 1 at a random moment; it rises by 60 dB in 10 to 300 ms and falls in 10 ms to 1 s."""
    time_s = torch.arange(length) / scene.sample_rate
    peak_s = scene.uniform(0, length / scene.sample_rate)
    rise_s, fall_s = 0.01 * 100 ** scene.uniform(0, 0.75), 0.01 * 100 ** scene.uniform(0, 1)
    return torch.where(time_s < peak_s, 10 ** (-3 * (peak_s - time_s) / rise_s), 10 ** (-3 * (time_s - peak_s) / fall_s))


def _fade(waveform: Tensor, length: int) -> Tensor:
    ramp = torch.ones(len(waveform))
    length = min(length, len(waveform) // 2)
    ramp[:length] = torch.linspace(0, 1, length)
    return waveform * ramp * ramp.flip(0)
