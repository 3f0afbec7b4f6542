"""From a recording of one word to a model's input: find the word, cut it out, and centre it in a window of fixed length.

Every path into a model (training, test, file, microphone) goes through :class:`WordWindow`. This module does not need torch.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from digits import audio
from digits.audio import Waveform

LEVEL_HOP_S = 0.010
LEVEL_WINDOW_S = 0.020
LEVEL_BAND_HZ = (200.0, 4000.0)  # above hum and rumble, and up to where FSDD ends, so that 8 and 48 kHz recordings compare
LEVEL_FLOOR_DB = -100.0  # below the 16-bit quantisation floor


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

    sample_rate: int = audio.SAMPLE_RATE
    window_s: float = 1.0
    trim: dict[str, float] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of samples in the window."""
        return round(self.window_s * self.sample_rate)

    def __call__(self, waveform: ArrayLike, sample_rate: int) -> Waveform:
        """Returns the window, shape (length,), float32.

        Raises:
            ValueError: the waveform cannot hold a word (see :func:`digits.audio.check`).
        """
        samples: Waveform = numpy.asarray(waveform, dtype=numpy.float32)
        audio.check(samples, sample_rate)
        samples = samples / numpy.abs(samples).max()  # gain must not matter, and extreme levels would overflow or vanish in powers
        word = trim(samples, sample_rate, **self.trim)
        return fit(audio.resample(word, sample_rate, self.sample_rate), self.length)
