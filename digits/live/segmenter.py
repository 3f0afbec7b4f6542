"""Finds words in a stream, block by block. Each word it cuts out goes through the front end like any recording of one word."""

import bisect
from collections import deque
from dataclasses import dataclass

import numpy

from digits import word_window
from digits.audio import Waveform

SMOOTHING = 3  # level frames; evens out the pulses of a low voice
NOISE_S = 0.5
QUIETEST_DB = -75.0  # lower bound of the floor: after digital silence, the faintest dither would count as a word


@dataclass(frozen=True)
class Word:
    """A stretch of sound that may be a word, unless ``reason`` says why not; times are in seconds of the stream."""

    start_s: float
    end_s: float
    decided_s: float  # when its end was certain
    waveform: Waveform  # (samples,), the sound with some silence around it
    noise: Waveform  # (samples,), up to NOISE_S of the latest background noise; empty if there was none
    sample_rate: int
    reason: str | None = None  # TOO_SHORT or TOO_LONG


TOO_SHORT, TOO_LONG = "too short", "too long"


class Segmenter:
    """A word begins when the level rises above the noise floor and ends when it has stayed low for ``hang_ms``.

    The floor is a quantile of the levels of the last ``floor_s`` seconds. The lowest level would not do: in noise that comes and
    goes it lies so far below the rest that no word would end. Levels are those of :func:`digits.word_window.frame_levels` and are
    judged frame by frame, so the result does not depend on how the stream is cut into blocks. The defaults of onset, release,
    ratio, hang and quantile were chosen on recorded noise and connected digits (experiments/live), the range is that of
    :func:`digits.word_window.find_word`. The others are round numbers: 99 % of FSDD's clips last less than 0.92 s.

    Args:
        sample_rate: of the stream, Hz.
        onset_db: a word begins this far above the floor.
        release_db: a word ends when it falls below this far above the floor.
        ratio: a word also ends below this share of the way from the floor to its peak (see :func:`digits.word_window.find_word`).
        range_db: a word also ends this far below its loudest frame, which matters in reverberant rooms.
        hang_ms: quiet that ends a word; longer than the closure of the /k/ in "six".
        min_ms: shorter sounds are clicks, and are rejected.
        max_ms: longer sounds cannot be single words, and are rejected.
        margin_ms: sound kept before and after the word.
        floor_s: memory of the noise floor.
        floor_quantile: quantile of the levels in that memory; below the share of time between words.
        warm_up_ms: sound needed before the floor is first judged.

    Raises:
        ValueError: settings that contradict each other.
    """

    def __init__(
        self,
        sample_rate: int,
        onset_db: float = 10.0,
        release_db: float = 6.0,
        ratio: float = 0.4,
        range_db: float = 35.0,
        hang_ms: float = 140.0,
        min_ms: float = 80.0,
        max_ms: float = 1500.0,
        margin_ms: float = 150.0,
        floor_s: float = 2.0,
        floor_quantile: float = 0.4,
        warm_up_ms: float = 300.0,
    ) -> None:
        if release_db > onset_db:
            raise ValueError(f"segmenter.release_db must be at most onset_db = {onset_db}, got {release_db}")
        if floor_s < word_window.LEVEL_HOP_S:
            raise ValueError(f"segmenter.floor_s must be at least {word_window.LEVEL_HOP_S}, got {floor_s}")
        if max_ms <= min_ms:
            raise ValueError(f"segmenter.max_ms must be above min_ms = {min_ms}, got {max_ms}")
        if not 0 <= floor_quantile <= 1:
            raise ValueError(f"segmenter.floor_quantile must lie in [0, 1], got {floor_quantile}")
        self.sample_rate = sample_rate
        self.onset_db, self.release_db, self.ratio, self.range_db = onset_db, release_db, ratio, range_db
        self.floor_quantile = floor_quantile
        self.hang, self.min_length, self.max_length, self.margin, self.warm_up = (
            round(ms / 1000 / word_window.LEVEL_HOP_S) for ms in (hang_ms, min_ms, max_ms, margin_ms, warm_up_ms)
        )
        self.hop, self.window = round(word_window.LEVEL_HOP_S * sample_rate), round(word_window.LEVEL_WINDOW_S * sample_rate)
        self._floor_frames = round(floor_s / word_window.LEVEL_HOP_S)
        self.reset()

    def reset(self) -> None:
        """Forget the stream and start again at second 0."""
        self._buffer, self._length = numpy.empty(0, dtype=numpy.float32), 0
        self._first_sample = 0  # position in the stream of _samples[0]
        self._levelled = self._judged = 0  # frames
        self._recent: deque[float] = deque(maxlen=SMOOTHING)
        self._pending: list[float] = []  # smoothed levels not judged yet
        self._history: deque[float] = deque(maxlen=self._floor_frames)
        self._sorted: list[float] = []  # the history by level
        self._noise: deque[Waveform] = deque(maxlen=round(NOISE_S / word_window.LEVEL_HOP_S))
        self._onset: int | None = None  # frame at which the current word began
        self._last_active = self._previous_end = 0
        self._peak_db = self._word_floor_db = QUIETEST_DB
        self._overlong = False  # a sound that was rejected as too long still goes on

    @property
    def _samples(self) -> Waveform:
        return self._buffer[: self._length]

    @property
    def quiet_until_s(self) -> float:
        """No sound that has not been returned yet begins before this, in seconds of the stream."""
        return (self._judged if self._onset is None else self._onset) * self.hop / self.sample_rate

    @property
    def level_db(self) -> float:
        """The latest level."""
        return self._recent[-1] if self._recent else word_window.LEVEL_FLOOR_DB

    @property
    def threshold_db(self) -> float:
        """The level at which a word begins."""
        return self.floor_db + self.onset_db

    @property
    def floor_db(self) -> float:
        """The current noise floor."""
        if not self._sorted:
            return QUIETEST_DB
        return max(QUIETEST_DB, self._sorted[int(self.floor_quantile * (len(self._sorted) - 1))])

    def feed(self, block: Waveform) -> list[Word]:
        """Take the next samples, shape (samples,), and return the words that end in them."""
        self._append(block)
        words = []
        for level in word_window.frame_levels(
            self._samples[self._levelled * self.hop - self._first_sample :], self.sample_rate
        ).tolist():
            self._recent.append(level)
            self._pending.append(sum(self._recent) / len(self._recent))
            self._levelled += 1
            if self._levelled >= self.warm_up:
                words += self._judge_pending()
        self._forget()
        return words

    def flush(self) -> list[Word]:
        """Return the words still going on when the stream ends."""
        words = self._judge_pending()
        return words if self._onset is None else words + self._finish()

    def _judge_pending(self) -> list[Word]:
        if self._judged == 0:  # the floor of the whole warm-up applies from its first frame on
            for level in self._pending:
                self._remember(level)
        words = [word for level in self._pending for word in self._judge(level)]
        self._pending.clear()
        return words

    def _judge(self, level: float) -> list[Word]:
        frame, self._judged = self._judged, self._judged + 1
        self._remember(level)
        if self._onset is None:
            self._overlong &= level >= self.floor_db + self.release_db
            if level >= self.threshold_db and not self._overlong:
                self._onset, self._last_active, self._peak_db = frame, frame, level
                self._word_floor_db = self.floor_db  # held: a long word would raise the floor to its own level
            elif level < self.floor_db + self.release_db:
                start = frame * self.hop - self._first_sample
                self._noise.append(self._samples[start : start + self.hop].copy())
            return []
        self._peak_db = max(self._peak_db, level)
        above_floor = max(self.release_db, self.ratio * (self._peak_db - self._word_floor_db))
        if level >= max(self._word_floor_db + above_floor, self._peak_db - self.range_db):
            self._last_active = frame
        if frame - self._onset >= self.max_length:
            self._last_active, self._overlong = frame, True
            return self._finish(TOO_LONG)
        return self._finish() if frame - self._last_active >= self.hang else []

    def _remember(self, level: float) -> None:
        if len(self._history) == self._history.maxlen:
            self._sorted.pop(bisect.bisect_left(self._sorted, self._history[0]))
        self._history.append(level)
        bisect.insort(self._sorted, level)

    def _finish(self, reason: str | None = None) -> list[Word]:
        assert self._onset is not None
        onset, end = self._onset, self._last_active + 1
        first = max(onset - self.margin, self._previous_end) * self.hop - self._first_sample
        last = (min(end + self.margin, self._levelled) - 1) * self.hop + self.window - self._first_sample
        self._onset, self._previous_end = None, end
        if end - onset < self.min_length:
            reason = TOO_SHORT
        frame_s = self.hop / self.sample_rate
        waveform = self._samples[max(0, first) : last].copy()
        noise = numpy.concatenate(self._noise) if self._noise else self._samples[:0]
        return [Word(onset * frame_s, end * frame_s, self._levelled * frame_s, waveform, noise, self.sample_rate, reason)]

    def _append(self, block: Waveform) -> None:
        """Into a buffer with room to spare: appending to an array would copy seconds of sound for each block."""
        end = self._length + len(block)
        if end > len(self._buffer):
            self._buffer = numpy.concatenate([self._samples, numpy.empty(end, dtype=numpy.float32)])
        self._buffer[self._length : end], self._length = block, end

    def _forget(self) -> None:
        """Drop samples that no word can need any more; once a second, because each time copies the rest."""
        needed = (self._judged - self.max_length - self.margin - self.hang) * self.hop
        if needed - self._first_sample > self.sample_rate:
            rest = self._samples[needed - self._first_sample :].copy()
            self._buffer[: len(rest)], self._length, self._first_sample = rest, len(rest), needed
