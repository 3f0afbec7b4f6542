"""From a stream of sound to what was heard in it, whether the blocks come from a microphone, a file or elsewhere.

It prints nothing and needs neither torch nor Hydra.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from digits.audio import Waveform
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
        reason: why not, if it was rejected: ``too short``, ``too long``, ``no digit`` or ``not sure``.
        latency_ms: from the end of the sound to its answer; mostly the quiet that confirms the end, and whatever sound was still
            waiting to be heard.
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
        record: called with each sound and what became of it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        recognizer: Recognizer,
        denoise: bool = False,
        record: Callable[[Word, Heard], None] | None = None,
    ) -> None:
        self.segmenter, self.recognizer, self.denoise, self.record = segmenter, recognizer, denoise, record

    def hear(self, block: Waveform, backlog_s: float = 0.0) -> list[Heard]:
        """The sounds that end in the next block, shape (samples,), which has been waiting for ``backlog_s``."""
        return [self._judge(word, backlog_s) for word in self.segmenter.feed(block)]

    def finish(self) -> list[Heard]:
        """The sounds still going on when the stream ends."""
        return [self._judge(word) for word in self.segmenter.flush()]

    def _judge(self, word: Word, backlog_s: float = 0.0) -> Heard:
        started = time.perf_counter()
        prediction = None
        if word.reason is None:
            waveform = denoise(word.waveform, word.sample_rate, word.noise) if self.denoise else word.waveform
            prediction = self.recognizer(waveform, word.sample_rate)
        computing_s = time.perf_counter() - started
        heard = Heard(
            start_s=round(word.start_s, 3),
            end_s=round(word.end_s, 3),
            digit=prediction.digit if prediction else None,
            probability=round(prediction.probability, 4) if prediction else None,
            accepted=prediction is not None and prediction.accepted,
            reason=prediction.reason if prediction else word.reason,
            latency_ms=round(1000 * (word.decided_s - word.end_s + backlog_s + computing_s), 1),
            computing_ms=round(1000 * computing_s, 1),
            prediction=prediction,
        )
        if self.record:
            self.record(word, heard)
        return heard


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
    segmenter = listener.segmenter
    samples = silent = overruns = 0
    for block in blocks:
        overruns = getattr(blocks, "overruns", 0)
        for heard in listener.hear(block, getattr(blocks, "backlog_s", 0.0)):
            yield replace(heard, overruns=overruns)
        samples += len(block)
        silent = 0 if block.any() else silent + len(block)
        if watcher and 0 <= silent - SILENCE_S * segmenter.sample_rate < len(block):
            watcher.only_zeros()
        if watcher and _passes_a_mark(samples, len(block), segmenter.sample_rate // LEVEL_HZ):
            watcher.level(segmenter.level_db, segmenter.floor_db, segmenter.threshold_db, overruns)
        if seconds is not None and samples >= seconds * segmenter.sample_rate:
            break
    yield from (replace(heard, overruns=overruns) for heard in listener.finish())


def _passes_a_mark(samples: int, of_block: int, step: int) -> bool:
    return samples // step > (samples - of_block) // step
