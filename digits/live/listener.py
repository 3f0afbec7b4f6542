"""From a stream of sound to what was heard in it, whether the blocks come from a microphone, a file or elsewhere.

It prints nothing and needs neither torch nor Hydra.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from digits.audio import Waveform
from digits.live.isolation import Answer, Isolation
from digits.live.segmenter import Segmenter, Word
from digits.recognition.recognizer import Prediction, Recognizer, denoise

SILENCE_S = 3.0  # no real microphone delivers nothing but zeros for so long
LEVEL_HZ = 10  # how often a watcher is told the level


@dataclass(frozen=True)
class Heard:
    """A sound in the stream and what became of it.

    Args:
        start_s, end_s: in seconds of the stream.
        digit, probability: the best guess; None for a sound that cannot be one word.
        accepted: whether it was recognised as a digit.
        reason: why not, if it was rejected: ``too short``, ``too long``, ``no digit``, ``not sure`` or ``in speech``.
        latency_ms: from the end of the sound to its answer; mostly the quiet that confirms that it ended, and whatever sound was
            still waiting to be heard. After a refused sound, it can take a quarter of a second more, or until the next sound has
            ended (:class:`digits.live.isolation.Isolation`).
        computing_ms: the part of ``latency_ms`` spent computing.
        overruns: blocks of the stream lost so far.
        prediction: all that the recogniser said; None for a sound that cannot be one word.
    """

    start_s: float
    end_s: float
    digit: int | None
    probability: float | None
    accepted: bool
    reason: str | None
    latency_ms: float
    computing_ms: float
    overruns: int = 0
    prediction: Prediction | None = None


class Watcher(Protocol):
    """Receives updates from :func:`listen` while sound comes in."""

    def level(self, level_db: float, floor_db: float, threshold_db: float, overruns: int) -> None:
        """:data:`LEVEL_HZ` times a second: level, noise floor, level at which a word begins, and blocks lost so far."""

    def only_zeros(self) -> None:
        """Once, when nothing but zeros has come for :data:`SILENCE_S`."""


class Listener:
    """Segmenter and recogniser together: takes blocks of sound, returns what was heard.

    Args:
        segmenter: cuts the stream into words.
        recognizer: judges each of them.
        denoise: clean each word with noisereduce first.
        isolated: reject digits in the middle of other speech (:class:`digits.live.isolation.Isolation`).
        record: called with each sound and what became of it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        recognizer: Recognizer,
        denoise: bool = False,
        record: Callable[[Word, Heard], None] | None = None,
        isolated: bool = True,
    ) -> None:
        self.segmenter, self.recognizer, self.denoise, self.record = segmenter, recognizer, denoise, record
        self.isolation = Isolation() if isolated else None

    def hear(self, block: Waveform, backlog_s: float = 0.0) -> list[Heard]:
        """The sounds whose answers are certain after the next block, shape (samples,), which has been waiting for ``backlog_s``."""
        answers = [self._judge(word, backlog_s) for word in self.segmenter.feed(block)]
        return self._tell(answers, self.segmenter.quiet_until_s)

    def finish(self) -> list[Heard]:
        """The sounds still going on or waiting for an answer when the stream ends."""
        return self._tell([self._judge(word) for word in self.segmenter.flush()], math.inf)

    def _judge(self, word: Word, backlog_s: float = 0.0) -> Answer:
        started = time.perf_counter()
        prediction = None
        if word.reason is None:
            waveform = denoise(word.waveform, word.sample_rate, word.noise) if self.denoise else word.waveform
            prediction = self.recognizer(waveform, word.sample_rate)
        computing_s = time.perf_counter() - started
        reason = prediction.reason if prediction else word.reason
        return Answer(word, prediction, reason, word.decided_s, computing_s, backlog_s)

    def _tell(self, answers: list[Answer], quiet_until_s: float) -> list[Heard]:
        if self.isolation:
            answers = [settled for answer in answers for settled in self.isolation.add(answer)]
            answers += self.isolation.settled(quiet_until_s)
        sounds = [_heard(answer) for answer in answers]
        if self.record:
            for answer, heard in zip(answers, sounds, strict=True):
                self.record(answer.word, heard)
        return sounds


def _heard(answer: Answer) -> Heard:
    word, prediction = answer.word, answer.prediction
    return Heard(
        start_s=round(word.start_s, 3),
        end_s=round(word.end_s, 3),
        digit=prediction.digit if prediction else None,
        probability=round(prediction.probability, 4) if prediction else None,
        accepted=answer.reason is None,
        reason=answer.reason,
        latency_ms=round(1000 * (answer.settled_s - word.end_s + answer.backlog_s + answer.computing_s), 1),
        computing_ms=round(1000 * answer.computing_s, 1),
        prediction=prediction,
    )


def listen(
    blocks: Iterable[Waveform], listener: Listener, watcher: Watcher | None = None, seconds: float | None = None
) -> Iterator[Heard]:
    """Yield each sound as it ends, until the blocks end or ``seconds`` of sound have passed; microphone and file use it alike.

    Args:
        blocks: of samples, shape (samples,) each, at the segmenter's sample rate. Its attributes, if it has them: ``overruns``
            counts lost blocks, ``backlog_s`` is how long the latest block waited.
        listener: hears them.
        watcher: is told the level.
        seconds: stop after this many seconds of sound.
    """
    meter, overruns = Meter(listener.segmenter, watcher), 0
    for block in blocks:
        overruns = getattr(blocks, "overruns", 0)
        for heard in listener.hear(block, getattr(blocks, "backlog_s", 0.0)):
            yield replace(heard, overruns=overruns)
        meter.read(block, overruns)
        if seconds is not None and meter.samples >= seconds * listener.segmenter.sample_rate:
            break
    yield from (replace(heard, overruns=overruns) for heard in listener.finish())


class Meter:
    """Tells a watcher the level of a stream while its blocks come in.

    Args:
        segmenter: has heard each block before the meter reads it.
        watcher: may be None.
    """

    def __init__(self, segmenter: Segmenter, watcher: Watcher | None) -> None:
        self.segmenter, self.watcher = segmenter, watcher
        self.samples = self._zeros = 0

    def read(self, block: Waveform, overruns: int = 0) -> None:
        """Take the next block, shape (samples,)."""
        rate, step = self.segmenter.sample_rate, self.segmenter.sample_rate // LEVEL_HZ
        before, self.samples = self.samples, self.samples + len(block)
        self._zeros = 0 if block.any() else self._zeros + len(block)
        if self.watcher is None:
            return
        if 0 <= self._zeros - SILENCE_S * rate < len(block):
            self.watcher.only_zeros()
        if self.samples // step > before // step:
            self.watcher.level(self.segmenter.level_db, self.segmenter.floor_db, self.segmenter.threshold_db, overruns)

    @property
    def zeros_s(self) -> float:
        """How long nothing but zeros has come."""
        return self._zeros / self.segmenter.sample_rate
