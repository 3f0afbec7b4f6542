"""Waveforms: read any file, resample, find the word, fit it to one window.

A waveform is a one-dimensional float32 tensor of samples in [-1, 1]. Every path into a model (training, test, file,
microphone) goes through these functions and :class:`digits.features.FrontEnd`, and no other.
"""

import re
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from digits._torchaudio import torchaudio

SAMPLE_RATE = 48_000  # Hz; what microphones and browsers deliver
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 768_000  # below, no speech; above, no sound card
MIN_PEAK = 1e-6  # of full scale, -120 dB: no microphone is that quiet
MIN_DURATION_S = 0.02  # one level frame; anything shorter cannot hold a word

LEVEL_HOP_S = 0.010
LEVEL_WINDOW_S = 0.020
LEVEL_BAND_HZ = (200.0, 4000.0)  # above mains hum and rumble; FSDD ends at 4 kHz, so both worlds are judged alike
LEVEL_FLOOR_DB = -100.0  # below the 16-bit quantisation floor

FILE_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read an audio file of any format that libsndfile knows, mixed down to mono.

    Returns:
        The waveform, shape (samples,), and its sample rate in Hz.

    Raises:
        ValueError: the file is not readable audio, is cut off, or holds no samples or NaN or infinite ones.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            log = file.extra_info
            samples = file.read(dtype="float32", always_2d=True)
            expected, sample_rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: not readable as audio ({str(error).rsplit(': ', 1)[-1].strip()})") from error
    if _is_cut_off(log) or len(samples) < expected:
        raise ValueError(f"{path}: the file is cut off: it holds less audio than its header says")
    waveform = torch.from_numpy(samples).mean(dim=1)
    try:
        check(waveform, sample_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return waveform, sample_rate


def find_files(folder: Path) -> list[Path]:
    """All recordings below a folder, nested ones included, hidden ones not, in order."""
    return sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in FILE_SUFFIXES)


def _is_cut_off(log: str) -> bool:
    """Whether libsndfile had to correct the length of the data chunk, other than that of a stream of unknown length."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match is None:
        return False
    claimed, found = int(match[1]), int(match[2])
    return found < claimed < 0x7FFF_0000  # programs that write to a pipe put 0x7FFF.... or 0xFFFF.... there


def check(waveform: Tensor, sample_rate: int) -> None:
    """Refuse what no word can be in.

    Raises:
        ValueError: not one-dimensional, shorter than :data:`MIN_DURATION_S`, NaN or infinite samples, or silence.
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must have shape (samples,), got {tuple(waveform.shape)}")
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise ValueError(f"sample_rate must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {sample_rate}")
    if len(waveform) < MIN_DURATION_S * sample_rate:
        raise ValueError(
            f"too short to hold a word: {len(waveform)} samples at {sample_rate} Hz, "
            f"at least {MIN_DURATION_S * 1000:.0f} ms are needed"
        )
    if not torch.isfinite(waveform).all():
        raise ValueError("some samples are NaN or infinite")
    if waveform.abs().max() < MIN_PEAK:
        raise ValueError(f"only silence: no sample is larger than {MIN_PEAK}")


@lru_cache(maxsize=16)
def _resampler(orig_freq: int, new_freq: int) -> torch.nn.Module:
    return torchaudio.transforms.Resample(orig_freq, new_freq)


def resample(waveform: Tensor, sample_rate: int, new_sample_rate: int) -> Tensor:
    """Band-limited resampling, shape (..., samples), with the polyphase kernel cached for each pair of rates.

    The kernel grows with the reduced ratio's terms (gigabytes for 44,101 Hz), so a ratio with terms above 1000 is replaced by its
    nearest with smaller ones; that shifts pitch and tempo by less than one part in a thousand.
    """
    if sample_rate == new_sample_rate:
        return waveform
    ratio = Fraction(new_sample_rate, sample_rate).limit_denominator(1000)
    return _resampler(ratio.denominator, ratio.numerator)(waveform)


def frame_levels(waveform: Tensor, sample_rate: int) -> Tensor:
    """Level of each 20 ms frame, every 10 ms, within :data:`LEVEL_BAND_HZ`.

    Returns:
        Shape (frames,), float64, dB relative to a full-scale sine; frame i covers samples [i * hop, i * hop + window).
    """
    hop, window = round(LEVEL_HOP_S * sample_rate), round(LEVEL_WINDOW_S * sample_rate)
    if len(waveform) < window:
        return torch.empty(0, dtype=torch.float64)
    taper, band = _level_taper_and_band(window, sample_rate)
    spectrum = torch.fft.rfft(waveform.unfold(0, window, hop).double() * taper)[:, band[0] : band[1]]
    # A full-scale sine at a bin's centre has |X| = sum(taper) / 2 and, by Parseval, band power sum(taper ** 2) * window / 4.
    power = spectrum.abs().square().sum(dim=1) * 4 / (window * taper.square().sum())
    return (10 * torch.log10(power)).clamp_min(LEVEL_FLOOR_DB)


@lru_cache(maxsize=16)
def _level_taper_and_band(window: int, sample_rate: int) -> tuple[Tensor, tuple[int, int]]:
    low, high = (round(edge * window / sample_rate) for edge in LEVEL_BAND_HZ)
    return torch.hann_window(window, dtype=torch.float64), (low, high + 1)


def find_word(levels: Tensor, ratio: float = 0.3, range_db: float = 35.0, bridge_ms: float = 150.0) -> tuple[int, int]:
    """Find the word in a recording that holds one.

    Grows from the loudest frame for as long as frames lie above a threshold, bridging short gaps (the closure of the /k/ in "six").
    The threshold is ``ratio`` of the way from the recording's own noise floor (10th percentile) up to its peak, and at least
    ``range_db`` below the peak.

    Args:
        levels: :func:`frame_levels`, shape (frames,), dB; at least one frame.

    Returns:
        The word's first frame and the one after its last.
    """
    peak, floor = levels.max(), torch.quantile(levels, 0.1)
    threshold = torch.maximum(floor + ratio * (peak - floor), peak - range_db)
    active = (levels >= threshold).nonzero().flatten()
    splits = (active.diff() > 1 + bridge_ms / 1000 / LEVEL_HOP_S).nonzero().flatten() + 1
    loudest = int(levels.argmax())
    for run in torch.tensor_split(active, splits.tolist()):
        if run[0] <= loudest <= run[-1]:
            return int(run[0]), int(run[-1]) + 1
    raise AssertionError("the loudest frame is above the threshold")


def trim(waveform: Tensor, sample_rate: int, margin_ms: float = 50.0, **find: float) -> Tensor:
    """Cut a recording to its word and ``margin_ms`` on either side; ``find`` goes to :func:`find_word`."""
    first, last = find_word(frame_levels(waveform, sample_rate), **find)
    hop, window = LEVEL_HOP_S * sample_rate, LEVEL_WINDOW_S * sample_rate
    margin = margin_ms / 1000 * sample_rate
    start = max(0, round(first * hop - margin))
    return waveform[start : round((last - 1) * hop + window + margin)]


def fit(waveform: Tensor, length: int) -> Tensor:
    """Centre a waveform in ``length`` samples: zeros are added, or samples cut, on both sides alike."""
    surplus = len(waveform) - length
    if surplus >= 0:
        return waveform[surplus // 2 : surplus // 2 + length]
    return torch.nn.functional.pad(waveform, (-surplus // 2, -surplus - (-surplus // 2)))
