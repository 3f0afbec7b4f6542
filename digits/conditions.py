"""Test conditions: seeded corruptions of waveforms, applied before the front end sees them.

A condition is a dictionary of effects and their arguments, in order, as a config writes it: ``{reverb: {rt60_s: 0.6}, white_noise:
{snr_db: 10}}``; an empty one leaves the clip clean. An argument given as ``[low, high]`` is drawn uniformly, for each clip anew,
and an effect with ``p`` is applied with that probability. Training uses the same effects to make copies of its clips.
"""

import io
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import soundfile
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from digits import audio, sounds
from digits._torchaudio import torchaudio

SPEECH_BAND_HZ = 4000.0  # all of FSDD lies below; SNR is measured there, or noise that no front end hears would count

REPLACED_S = (0.3, 1.2)  # length of a sound in place of a recording

Effects = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Scene:
    """What an effect may use beside the waveform: its rate in Hz, randomness, other recordings at that rate (babble, pairs)."""

    sample_rate: int
    generator: torch.Generator
    voices: Sequence[Tensor] = ()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def integer(self, high: int) -> int:
        """0 to ``high`` - 1."""
        return int(torch.randint(high, (), generator=self.generator))

    def noise(self, length: int) -> Tensor:
        return torch.randn(length, generator=self.generator)


def apply(waveform: Tensor, sample_rate: int, effects: Effects, key: str, voices: Sequence[Tensor] = ()) -> Tensor:
    """Corrupt one clip, the same way whenever the effects and ``key`` (the clip's name, with a seed) are the same.

    Args:
        voices: other recordings, shape (samples,) each at ``sample_rate``, for ``babble`` and ``pair``.

    Raises:
        ValueError: an effect or an argument that does not exist, or a value that cannot be used.
    """
    seed = zlib.crc32(json.dumps([key, effects], sort_keys=True).encode())
    scene = Scene(sample_rate, torch.Generator().manual_seed(seed), voices)
    for name, arguments in effects.items():
        if name not in EFFECTS:
            raise ValueError(f"unknown effect {name}; there are {', '.join(EFFECTS)}")
        try:
            if "p" in arguments and scene.uniform(0, 1) >= arguments["p"]:
                continue
            drawn = {argument: _draw(value, scene) for argument, value in arguments.items() if argument != "p"}
            waveform = EFFECTS[name](waveform, scene, **drawn)
        except (TypeError, ValueError, KeyError, ArithmeticError, RuntimeError) as error:
            raise ValueError(f"effect {name} with {arguments}: {error}") from error
    return waveform


def _draw(value: Any, scene: Scene) -> Any:
    return scene.uniform(*value) if isinstance(value, list | tuple) else value


def band_power(waveform: Tensor, sample_rate: int, f_max: float = SPEECH_BAND_HZ) -> Tensor:
    """Mean power below ``f_max`` Hz, by Parseval's theorem; shape ()."""
    n_fft = next_fast_len(len(waveform), real=True)  # zero-padded: an odd length can take ten times as long
    power = torch.fft.rfft(waveform.float(), n=n_fft).abs().square()[: int(f_max * n_fft / sample_rate) + 1]
    return (2 * power.sum() - power[0]) / (n_fft * len(waveform))  # all but the constant stand for two frequencies


def _add(waveform: Tensor, noise: Tensor, scene: Scene, snr_db: float) -> Tensor:
    """Add noise at a signal-to-noise ratio measured below :data:`SPEECH_BAND_HZ`, over the whole clip."""
    in_band = band_power(waveform, scene.sample_rate) / band_power(noise, scene.sample_rate)
    full_band = waveform.double().square().mean() / noise.double().square().mean()
    full_band_snr_db = snr_db + 10 * torch.log10(full_band / in_band)  # which is what add_noise takes
    return torchaudio.functional.add_noise(waveform, noise, full_band_snr_db.float())


def _shape(waveform: Tensor, scene: Scene, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Multiply the spectrum by a gain, a function of the frequencies in Hz; without delay."""
    n_fft = next_fast_len(len(waveform) + scene.sample_rate // 20, real=True)  # 50 ms of zeros: what rings on does not come round
    frequencies = torch.fft.rfftfreq(n_fft, 1 / scene.sample_rate)
    return torch.fft.irfft(torch.fft.rfft(waveform, n=n_fft) * gain(frequencies), n=n_fft)[: len(waveform)]


def _resample(waveform: Tensor, sample_rate: float, new_sample_rate: float) -> Tensor:
    return torch.from_numpy(audio.resample(waveform.numpy(), sample_rate, new_sample_rate))


def _tile(waveform: Tensor, length: int, start: int) -> Tensor:
    """``length`` samples of an endless repetition, from ``start`` on."""
    return waveform[(start + torch.arange(length)) % len(waveform)]


# ---- noise


def white_noise(waveform: Tensor, scene: Scene, snr_db: float) -> Tensor:
    """Gaussian noise with a flat spectrum."""
    return _add(waveform, scene.noise(len(waveform)), scene, snr_db)


def pink_noise(waveform: Tensor, scene: Scene, snr_db: float, slope_db: float = -3.0) -> Tensor:
    """Gaussian noise whose power density changes by ``slope_db`` an octave, flat below 20 Hz: -3 is pink, -6 brown, 3 a hiss."""
    noise = _shape(scene.noise(len(waveform)), scene, lambda f: (f.clamp_min(20.0) / 1000) ** (slope_db / 6.0206))
    return _add(waveform, noise, scene, snr_db)


def hum(waveform: Tensor, scene: Scene, snr_db: float, mains_hz: float = 50.0) -> Tensor:
    """Mains hum: harmonics of ``mains_hz`` up to 2 kHz, amplitude 1 / k at the k-th, in random phases."""
    time_s = torch.arange(len(waveform)) / scene.sample_rate
    order = torch.arange(1, int(2000 / mains_hz) + 1)
    phase = 2 * torch.pi * torch.rand(len(order), generator=scene.generator)
    harmonics = torch.sin(2 * torch.pi * mains_hz * order[:, None] * time_s + phase[:, None]) / order[:, None]
    return _add(waveform, harmonics.sum(dim=0), scene, snr_db)


def babble(waveform: Tensor, scene: Scene, snr_db: float, talkers: int = 8) -> Tensor:
    """``talkers`` other recordings at equal power, each repeated from a random moment on."""
    if not scene.voices:
        raise ValueError("there are no other recordings to mix babble from")
    noise = torch.zeros(len(waveform))
    for _ in range(int(talkers)):
        voice = scene.voices[scene.integer(len(scene.voices))]
        noise += _tile(voice / voice.square().mean().sqrt().clamp_min(audio.MIN_PEAK), len(waveform), scene.integer(len(voice)))
    return _add(waveform, noise, scene, snr_db)


def recorded_noise(waveform: Tensor, scene: Scene, snr_db: float, root: str | None) -> Tensor:
    """A random stretch of a random recording below the folder ``root``."""
    noise = _recording(_pick(root, scene), scene.sample_rate)
    return _add(waveform, _tile(noise, len(waveform), scene.integer(len(noise))), scene, snr_db)


def bursts(waveform: Tensor, scene: Scene, number: float, snr_db: float | None = None) -> Tensor:
    """``number`` knocks, coughs or breaths (:func:`digits.sounds.bursts`) at ``snr_db``, or in place of the recording (None)."""
    return _add_or_replace(waveform, scene, sounds.bursts, number, snr_db)


def tones(waveform: Tensor, scene: Scene, number: float, snr_db: float | None = None) -> Tensor:
    """``number`` beeps, notes or bells (:func:`digits.sounds.tones`) at ``snr_db``, or in place of the recording (None)."""
    return _add_or_replace(waveform, scene, sounds.tones, number, snr_db)


def _add_or_replace(
    waveform: Tensor, scene: Scene, make: Callable[[Scene, int, float], Tensor], number: float, snr_db: float | None
) -> Tensor:
    if number < 1:
        raise ValueError("number must be at least 1")
    if snr_db is not None:
        return _add(waveform, make(scene, len(waveform), number), scene, snr_db)
    return make(scene, round(scene.uniform(*REPLACED_S) * scene.sample_rate), number)


# ---- rooms


def reverb(waveform: Tensor, scene: Scene, rt60_s: float, drr_db: float | None = None) -> Tensor:
    """Convolve with noise that decays by 60 dB in ``rt60_s`` seconds (Polack's model), at the clip's power.

    Args:
        drr_db: power of the direct sound over that of the noise behind it; None leaves the direct sound out, as far behind a
            room's critical distance.
    """
    time_s = torch.arange(round(rt60_s * scene.sample_rate)) / scene.sample_rate
    impulse_response = scene.noise(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    if drr_db is not None:
        impulse_response = impulse_response / impulse_response.square().sum().sqrt() * 10 ** (-drr_db / 20)
        impulse_response[0] = 1.0
    return _convolve(waveform, impulse_response)


def recorded_room(waveform: Tensor, scene: Scene, root: str | None) -> Tensor:
    """Convolve with a random impulse response below the folder ``root``, at the clip's power."""
    impulse_response = _recording(_pick(root, scene), scene.sample_rate)
    return _convolve(waveform, impulse_response[int(impulse_response.abs().argmax()) :])


def _convolve(waveform: Tensor, impulse_response: Tensor) -> Tensor:
    length = len(waveform) + len(impulse_response) - 1
    padding = next_fast_len(length, real=True) - length
    wet = torchaudio.functional.fftconvolve(waveform, F.pad(impulse_response, (0, padding)))[:length]
    return wet * (waveform.square().mean() / wet[: len(waveform)].square().mean()).sqrt()


# ---- channel


def band(waveform: Tensor, scene: Scene, low_hz: float, high_hz: float, order: float = 4) -> Tensor:
    """Band pass with Butterworth's magnitude: -3 dB at both edges, ``order`` * 6 dB an octave outside."""
    return _shape(
        waveform,
        scene,
        lambda f: ((1 + (low_hz / f.clamp_min(1e-3)) ** (2 * order)) * (1 + (f / high_hz) ** (2 * order))).rsqrt(),
    )


def equalizer(waveform: Tensor, scene: Scene, range_db: float) -> Tensor:
    """A microphone's colouration: gains within +-``range_db``, drawn for each octave from 62.5 Hz to 16 kHz, linear between."""
    octaves = (2 * torch.rand(9, generator=scene.generator) - 1) * range_db
    return _shape(waveform, scene, lambda f: torch.pow(10.0, sounds.octave_gain_db(f, octaves) / 20))


def clipping(waveform: Tensor, scene: Scene, drive_db: float) -> Tensor:
    """An input turned up until the peak would be ``drive_db`` over full scale."""
    return (waveform / waveform.abs().max() * 10 ** (drive_db / 20)).clamp(-1, 1)


def level(waveform: Tensor, scene: Scene, peak_db: float) -> Tensor:
    """A peak of ``peak_db`` re full scale, then 16-bit samples."""
    scaled = waveform / waveform.abs().max() * 10 ** (peak_db / 20)
    return (scaled * 32767).round() / 32767


def dc_offset(waveform: Tensor, scene: Scene, offset: float) -> Tensor:
    """Add a constant of ``offset`` times the clip's peak."""
    return waveform + offset * waveform.abs().max()


def mu_law(waveform: Tensor, scene: Scene) -> Tensor:
    """A telephone's coding: 8 kHz, 8 bits of mu-law (G.711's curve) at a peak of half of full scale."""
    narrow = _resample(waveform, scene.sample_rate, 8000)
    narrow = (0.5 * narrow / narrow.abs().max()).clamp(-1, 1)
    coded = torchaudio.functional.mu_law_encoding(narrow, 256)
    return _resample(torchaudio.functional.mu_law_decoding(coded, 256), 8000, scene.sample_rate)


def codec(waveform: Tensor, scene: Scene, format: str, compression: float) -> Tensor:
    """Write as ``MP3`` or ``OGG`` (Vorbis) at 16 kHz and read it back; ``compression`` 0 (largest file) to 1 (smallest)."""
    file = io.BytesIO()
    narrow = _resample(waveform, scene.sample_rate, 16_000)
    narrow = 0.5 * narrow / narrow.abs().max()
    subtype = {"MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}[format]
    soundfile.write(file, narrow.numpy(), 16_000, format=format, subtype=subtype, compression_level=compression)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return torch.from_numpy(audio.resample(decoded, 16_000, scene.sample_rate))


def dropout(waveform: Tensor, scene: Scene, fraction: float, block_ms: float = 20.0) -> Tensor:
    """Lost packets: a ``fraction`` of the blocks becomes zero."""
    block = round(block_ms / 1000 * scene.sample_rate)
    lost = torch.rand(-(-len(waveform) // block), generator=scene.generator) < fraction
    return waveform.masked_fill(lost.repeat_interleave(block)[: len(waveform)], 0.0)


# ---- time


def place(waveform: Tensor, scene: Scene, before_s: float, after_s: float, snr_db: float) -> Tensor:
    """Put the clip into a longer recording whose pink background noise lies ``snr_db`` below the clip."""
    noise = _shape(scene.noise(round((before_s + after_s) * scene.sample_rate) + len(waveform)), scene, _pink)
    wanted = band_power(waveform, scene.sample_rate) / band_power(noise, scene.sample_rate) * 10 ** (-snr_db / 10)
    start = round(before_s * scene.sample_rate)
    return noise * wanted.sqrt() + F.pad(waveform, (start, len(noise) - start - len(waveform)))


def _pink(frequencies: Tensor) -> Tensor:
    return frequencies.clamp_min(20.0).rsqrt()


def speed(waveform: Tensor, scene: Scene, factor: float) -> Tensor:
    """Play ``factor`` times as fast: tempo, pitch and the vocal tract's resonances change together."""
    if not 0.1 <= factor <= 10:
        raise ValueError("factor must be 0.1 to 10")
    return _resample(waveform, factor, 1.0)


def tempo(waveform: Tensor, scene: Scene, factor: float) -> Tensor:
    """Speak ``factor`` times as fast at the same pitch (phase vocoder)."""
    spectrum = _stft(waveform, scene)
    advance = torch.linspace(0, torch.pi * (2 * (len(spectrum) - 1) // STFT_OVERLAP), len(spectrum))[:, None]
    return _istft(torchaudio.functional.phase_vocoder(spectrum, factor, advance), round(len(waveform) / factor))


def voice(waveform: Tensor, scene: Scene, pitch: float, tract: float) -> Tensor:
    """Another speaker: the pitch times ``pitch`` and the resonances times ``tract``, at the same tempo.

    From a man to a woman or a child both rise, the pitch more than the resonances of the shorter vocal tract. The waveform is
    played faster and stretched again, which moves both alike; then its spectral envelope (the cepstrum below
    :data:`ENVELOPE_S`) is moved on.
    """
    raised = speed(waveform, scene, pitch)
    spectrum = _stft(tempo(raised, scene, len(raised) / len(waveform)), scene)  # (frequencies, frames)
    cepstrum = torch.fft.irfft((spectrum.abs() + 1e-6).log(), dim=0)
    n_kept = round(ENVELOPE_S * scene.sample_rate)
    cepstrum[n_kept : len(cepstrum) - n_kept + 1] = 0.0
    envelope = torch.fft.rfft(cepstrum, dim=0).real
    position = (torch.arange(len(envelope)) * pitch / tract).clamp(max=len(envelope) - 1.001)
    below = position.long()
    moved = torch.lerp(envelope[below], envelope[below + 1], (position - below)[:, None])
    return _istft(spectrum * (moved - envelope).clamp(-MAX_GAIN, MAX_GAIN).exp(), len(waveform))


STFT_S, STFT_OVERLAP = 0.032, 4  # long enough to resolve a man's harmonics
ENVELOPE_S = 0.002  # shorter than the period of a child's voice
MAX_GAIN = 4.6  # 40 dB, as a natural logarithm of the amplitude


def _stft(waveform: Tensor, scene: Scene) -> Tensor:
    n_fft = 2 ** round(math.log2(STFT_S * scene.sample_rate))
    return torch.stft(waveform, n_fft, n_fft // STFT_OVERLAP, window=torch.hann_window(n_fft), return_complex=True)


def _istft(spectrum: Tensor, length: int) -> Tensor:
    n_fft = 2 * (len(spectrum) - 1)
    return torch.istft(spectrum, n_fft, n_fft // STFT_OVERLAP, window=torch.hann_window(n_fft), length=length)


def _pick(root: str | None, scene: Scene) -> Path:
    if root is None:
        raise ValueError("its folder is not set (noise_root=FOLDER for noises, room_root=FOLDER for rooms)")
    paths = _recordings(root)
    return paths[scene.integer(len(paths))]


@lru_cache
def _recordings(root: str) -> list[Path]:
    if not Path(root).is_dir():
        raise ValueError(f"{root}: no such folder")
    paths = audio.find_files(Path(root))
    if not paths:
        raise ValueError(f"{root}: no recording in this folder ({', '.join(audio.FILE_SUFFIXES)})")
    return paths


@lru_cache
def _recording(path: Path, sample_rate: int) -> Tensor:
    return torch.from_numpy(audio.resample(*audio.read(path), sample_rate))


EFFECTS: dict[str, Callable[..., Tensor]] = {
    effect.__name__: effect
    for effect in (
        white_noise,
        pink_noise,
        hum,
        babble,
        recorded_noise,
        reverb,
        recorded_room,
        band,
        equalizer,
        clipping,
        level,
        dc_offset,
        mu_law,
        codec,
        dropout,
        place,
        speed,
        tempo,
        voice,
        sounds.fragment,
        sounds.pair,
        bursts,
        tones,
    )
}
