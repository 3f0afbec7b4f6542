"""Waveforms: read an audio file, resample, find the word, fit it to a fixed window.

A waveform is a one-dimensional float32 array of samples in [-1, 1]. Every path into a model (training, test, file, microphone)
goes through :class:`WordWindow`. This module does not need torch.
"""

import io
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy
import soundfile
import soxr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

Waveform = NDArray[numpy.float32]  # (samples,)

SAMPLE_RATE = 48_000  # Hz; what microphones and browsers deliver
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 768_000  # no speech below this range, no sound card above it
MIN_PEAK = 1e-6  # of full scale, -120 dB: no microphone is that quiet
MIN_DURATION_S = 0.02  # one level frame; anything shorter cannot hold a word

LEVEL_HOP_S = 0.010
LEVEL_WINDOW_S = 0.020
LEVEL_BAND_HZ = (200.0, 4000.0)  # above hum and rumble, and up to where FSDD ends, so that 8 and 48 kHz recordings compare
LEVEL_FLOOR_DB = -100.0  # below the 16-bit quantisation floor

FILE_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read(path: str | Path, content: bytes | None = None) -> tuple[Waveform, int]:
    """Read an audio file in any format libsndfile supports and mix it down to mono.

    Args:
        path: the file.
        content: the file's bytes, if they do not come from disk; ``path`` then only names them in error messages.

    Returns:
        The waveform, shape (samples,), and its sample rate in Hz.

    Raises:
        ValueError: the file is not readable audio, is truncated or empty, or contains NaN or infinite samples.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if content is None and not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path if content is None else io.BytesIO(content)) as file:
            log = file.extra_info
            samples = file.read(dtype="float32", always_2d=True)
            expected, sample_rate = file.frames, file.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: not readable as audio ({str(error).rsplit(': ', 1)[-1].strip()})") from error
    if _is_cut_off(log) or len(samples) < expected:
        raise ValueError(f"{path}: the file is truncated: it holds less audio than its header says")
    waveform = samples.mean(axis=1)
    try:
        check(waveform, sample_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return waveform, sample_rate


def find_files(folder: Path) -> list[Path]:
    """All recordings in a folder and its subfolders, sorted by path; hidden files are skipped."""
    return sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in FILE_SUFFIXES)


def _is_cut_off(log: str) -> bool:
    """Whether libsndfile had to shorten the data chunk, unless the header only says that the length was unknown."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match is None:
        return False
    claimed, found = int(match[1]), int(match[2])
    return found < claimed < 0x7FFF_0000  # programs that write to a pipe put 0x7FFF.... or 0xFFFF.... in the header


def check(waveform: Waveform, sample_rate: float) -> None:
    """Check that a waveform can hold a word.

    Raises:
        ValueError: it is not one-dimensional, is shorter than :data:`MIN_DURATION_S`, is silent, or has NaN or infinite samples;
            or the sample rate is outside [:data:`MIN_RATE_HZ`, :data:`MAX_RATE_HZ`].
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must have shape (samples,), got {waveform.shape}")
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        raise ValueError(f"sample_rate must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {sample_rate}")
    if len(waveform) < MIN_DURATION_S * sample_rate:
        raise ValueError(
            f"too short to hold a word: {len(waveform)} samples at {sample_rate} Hz, "
            f"at least {MIN_DURATION_S * 1000:.0f} ms are needed"
        )
    if not numpy.isfinite(waveform).all():
        raise ValueError("some samples are NaN or infinite")
    if numpy.abs(waveform).max() < MIN_PEAK:
        raise ValueError(f"only silence: no sample is larger than {MIN_PEAK}")


def resample(waveform: Waveform, sample_rate: float, new_sample_rate: float) -> Waveform:
    """Band-limited resampling between any two rates, by soxr."""
    if sample_rate == new_sample_rate:
        return waveform
    return soxr.resample(waveform, sample_rate, new_sample_rate)


def frame_levels(waveform: Waveform, sample_rate: int) -> NDArray[numpy.float64]:
    """Level of each 20 ms frame, every 10 ms, within :data:`LEVEL_BAND_HZ`.

    Returns:
        Shape (frames,), dB relative to a full-scale sine; frame i covers samples [i * hop, i * hop + window).
    """
    hop, window = round(LEVEL_HOP_S * sample_rate), round(LEVEL_WINDOW_S * sample_rate)
    if len(waveform) < window:
        return numpy.empty(0)
    taper, band = _level_taper_and_band(window, sample_rate)
    spectrum = numpy.fft.rfft(sliding_window_view(waveform, window)[::hop] * taper)[:, band[0] : band[1]]
    # A full-scale sine at a bin's centre has |X| = sum(taper) / 2 and, by Parseval, band power sum(taper ** 2) * window / 4.
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1) * 4 / (window * numpy.sum(taper**2))
    return 10 * numpy.log10(numpy.maximum(power, 10 ** (LEVEL_FLOOR_DB / 10)))


@lru_cache(maxsize=16)
def _level_taper_and_band(window: int, sample_rate: int) -> tuple[NDArray[numpy.float64], tuple[int, int]]:
    low, high = (round(edge * window / sample_rate) for edge in LEVEL_BAND_HZ)
    return numpy.hanning(window + 1)[:-1], (low, high + 1)


def find_word(
    levels: NDArray[numpy.float64], ratio: float = 0.3, range_db: float = 35.0, bridge_ms: float = 150.0
) -> tuple[int, int]:
    """Find the word in a recording of one word.

    Starts at the loudest frame and extends in both directions while frames stay above a threshold, bridging short gaps such as
    the closure of the /k/ in "six". The threshold lies ``ratio`` of the way from the recording's noise floor (10th percentile)
    to its peak, but never more than ``range_db`` below the peak. conf/data/default.yaml sets these values for training, and every
    model carries those it was trained with.

    Args:
        levels: result of :func:`frame_levels`, shape (frames,), dB; at least one frame.
        ratio: position of the threshold between floor and peak, 0 to 1.
        range_db: largest distance of the threshold from the peak.
        bridge_ms: longest gap inside a word.

    Returns:
        The word's first frame and the frame after its last.
    """
    peak, floor = levels.max(), numpy.quantile(levels, 0.1)
    threshold = max(floor + ratio * (peak - floor), peak - range_db)
    (active,) = numpy.nonzero(levels >= threshold)
    (gaps,) = numpy.nonzero(numpy.diff(active) > 1 + bridge_ms / 1000 / LEVEL_HOP_S)
    loudest = levels.argmax()
    for run in numpy.split(active, gaps + 1):
        if run[0] <= loudest <= run[-1]:
            return int(run[0]), int(run[-1]) + 1
    raise AssertionError("the loudest frame is above the threshold")


def trim(waveform: Waveform, sample_rate: int, margin_ms: float = 50.0, **find: float) -> Waveform:
    """Cut a recording to its word plus ``margin_ms`` on either side; ``find`` holds arguments of :func:`find_word`."""
    first, last = find_word(frame_levels(waveform, sample_rate), **find)
    hop, window, margin = (round(s * sample_rate) for s in (LEVEL_HOP_S, LEVEL_WINDOW_S, margin_ms / 1000))
    return waveform[max(0, first * hop - margin) : (last - 1) * hop + window + margin]


def fit(waveform: Waveform, length: int) -> Waveform:
    """Centre a waveform in ``length`` samples by padding with zeros, or cutting, on both sides equally."""
    surplus = len(waveform) - length
    if surplus >= 0:
        return waveform[surplus // 2 : surplus // 2 + length]
    return numpy.pad(waveform, (-surplus // 2, -surplus - (-surplus // 2)))


@dataclass(frozen=True)
class WordWindow:
    """Turns a recording of one word, at any rate and level, into a model's input: trimmed, resampled and centred in a window.

    Args:
        sample_rate: of the window, Hz.
        window_s: length of the window in seconds.
        trim: arguments of :func:`trim`.
    """

    sample_rate: int = SAMPLE_RATE
    window_s: float = 1.0
    trim: dict[str, float] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of samples in the window."""
        return round(self.window_s * self.sample_rate)

    def __call__(self, waveform: ArrayLike, sample_rate: int) -> Waveform:
        """Returns the window, shape (length,), float32.

        Raises:
            ValueError: the waveform cannot hold a word (see :func:`check`).
        """
        samples: Waveform = numpy.asarray(waveform, dtype=numpy.float32)
        check(samples, sample_rate)
        samples = samples / numpy.abs(samples).max()  # gain must not matter, and extreme levels would overflow or vanish in powers
        word = trim(samples, sample_rate, **self.trim)
        return fit(resample(word, sample_rate, self.sample_rate), self.length)
