"""Background noise. Every function under ``@effect()`` is an effect that configs can name."""

import torch
from torch import Tensor
from torch.nn import functional as F

from digits import audio
from digits.effects.scene import Scene, add, band_power, effect, recording, shape_spectrum, tile


@effect()
def white_noise(waveform: Tensor, scene: Scene, snr_db: float) -> Tensor:
    """Gaussian noise with a flat spectrum."""
    return add(waveform, scene.noise(len(waveform)), scene, snr_db)


@effect()
def pink_noise(waveform: Tensor, scene: Scene, snr_db: float, slope_db: float = -3.0) -> Tensor:
    """Gaussian noise whose power density falls or rises by ``slope_db`` per octave, flat below 20 Hz.

    -3 is pink noise, -6 brown noise, 3 a hiss.
    """
    noise = shape_spectrum(scene.noise(len(waveform)), scene, lambda f: (f.clamp_min(20.0) / 1000) ** (slope_db / 6.0206))
    return add(waveform, noise, scene, snr_db)


@effect()
def hum(waveform: Tensor, scene: Scene, snr_db: float, mains_hz: float = 50.0) -> Tensor:
    """Mains hum: harmonics of ``mains_hz`` up to 2 kHz with amplitude 1 / k at the k-th, in random phases."""
    time_s = torch.arange(len(waveform)) / scene.sample_rate
    order = torch.arange(1, int(2000 / mains_hz) + 1)
    phase = 2 * torch.pi * torch.rand(len(order), generator=scene.generator)
    harmonics = torch.sin(2 * torch.pi * mains_hz * order[:, None] * time_s + phase[:, None]) / order[:, None]
    return add(waveform, harmonics.sum(dim=0), scene, snr_db)


@effect(needs_voices=True)
def babble(waveform: Tensor, scene: Scene, snr_db: float, talkers: int = 8) -> Tensor:
    """``talkers`` other recordings at equal power, each repeated from a random moment on."""
    noise = torch.zeros(len(waveform))
    for _ in range(int(talkers)):
        voice = scene.voice()
        noise += tile(voice / voice.square().mean().sqrt().clamp_min(audio.MIN_PEAK), len(waveform), scene.integer(len(voice)))
    return add(waveform, noise, scene, snr_db)


@effect(reads_files=True)
def recorded_noise(waveform: Tensor, scene: Scene, snr_db: float, root: str | None) -> Tensor:
    """A random stretch of a random recording in the folder ``root``, unless that stretch is silent."""
    noise = recording(root, scene)
    stretch = tile(noise, len(waveform), scene.integer(len(noise)))  # may be silent: short recordings are often padded with zeros
    return add(waveform, stretch, scene, snr_db) if stretch.abs().max() >= audio.MIN_PEAK else waveform


@effect()
def place(waveform: Tensor, scene: Scene, before_s: float, after_s: float, snr_db: float) -> Tensor:
    """Place the clip in a longer recording whose pink background noise lies ``snr_db`` below the clip."""
    length = round((before_s + after_s) * scene.sample_rate) + len(waveform)
    noise = shape_spectrum(scene.noise(length), scene, lambda f: f.clamp_min(20.0).rsqrt())
    wanted = band_power(waveform, scene.sample_rate) / band_power(noise, scene.sample_rate) * 10 ** (-snr_db / 10)
    start = round(before_s * scene.sample_rate)
    return noise * wanted.sqrt() + F.pad(waveform, (start, len(noise) - start - len(waveform)))
