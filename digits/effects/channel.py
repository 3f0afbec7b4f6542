"""What lies between a voice and its samples: microphones, levels, clipping, telephones, codecs, lost packets."""

import io

import soundfile
import torch
from torch import Tensor

from digits import audio
from digits._torchaudio import torchaudio
from digits.effects.scene import Scene, effect, octave_gain_db, resample, shape_spectrum


@effect()
def band(waveform: Tensor, scene: Scene, low_hz: float, high_hz: float, order: float = 4) -> Tensor:
    """Band pass with a Butterworth magnitude: -3 dB at both edges, ``order`` * 6 dB per octave outside."""
    return shape_spectrum(
        waveform,
        scene,
        lambda f: ((1 + (low_hz / f.clamp_min(1e-3)) ** (2 * order)) * (1 + (f / high_hz) ** (2 * order))).rsqrt(),
    )


@effect()
def equalizer(waveform: Tensor, scene: Scene, range_db: float) -> Tensor:
    """A microphone's colouration: random gains within +-``range_db`` at each octave from 62.5 Hz to 16 kHz, linear between."""
    octaves = (2 * torch.rand(9, generator=scene.generator) - 1) * range_db
    return shape_spectrum(waveform, scene, lambda f: torch.pow(10.0, octave_gain_db(f, octaves) / 20))


@effect()
def clipping(waveform: Tensor, scene: Scene, drive_db: float) -> Tensor:
    """Amplify until the peak would be ``drive_db`` above full scale, and clip."""
    return (waveform / waveform.abs().max() * 10 ** (drive_db / 20)).clamp(-1, 1)


@effect()
def level(waveform: Tensor, scene: Scene, peak_db: float) -> Tensor:
    """Scale to a peak of ``peak_db`` relative to full scale, then round to 16-bit samples."""
    scaled = waveform / waveform.abs().max() * 10 ** (peak_db / 20)
    return (scaled * 32767).round() / 32767


@effect()
def dc_offset(waveform: Tensor, scene: Scene, offset: float) -> Tensor:
    """Add a constant of ``offset`` times the clip's peak."""
    return waveform + offset * waveform.abs().max()


@effect()
def mu_law(waveform: Tensor, scene: Scene) -> Tensor:
    """Telephone coding: 8 kHz, 8-bit mu-law (the curve of G.711), at a peak of half of full scale."""
    narrow = resample(waveform, scene.sample_rate, 8000)
    narrow = (0.5 * narrow / narrow.abs().max()).clamp(-1, 1)
    coded = torchaudio.functional.mu_law_encoding(narrow, 256)
    return resample(torchaudio.functional.mu_law_decoding(coded, 256), 8000, scene.sample_rate)


@effect()
def codec(waveform: Tensor, scene: Scene, format: str, compression: float) -> Tensor:
    """Encode as ``MP3`` or ``OGG`` (Vorbis) at 16 kHz and decode; ``compression`` 0 (largest file) to 1 (smallest)."""
    file = io.BytesIO()
    narrow = resample(waveform, scene.sample_rate, 16_000)
    narrow = 0.5 * narrow / narrow.abs().max()
    subtype = {"MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}[format]
    soundfile.write(file, narrow.numpy(), 16_000, format=format, subtype=subtype, compression_level=compression)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return torch.from_numpy(audio.resample(decoded, 16_000, scene.sample_rate))


@effect()
def drop_packets(waveform: Tensor, scene: Scene, fraction: float, block_ms: float = 20.0) -> Tensor:
    """Lost packets: a random ``fraction`` of the blocks becomes zero."""
    block = round(block_ms / 1000 * scene.sample_rate)
    lost = torch.rand(-(-len(waveform) // block), generator=scene.generator) < fraction
    return waveform.masked_fill(lost.repeat_interleave(block)[: len(waveform)], 0.0)
