"""Records a corpus by asking for one digit after another."""

import math
import random
from collections.abc import Callable, Iterable, Iterator

import numpy

from digits.corpora.corpus import WORDS
from digits.live.listener import Heard
from digits.live.recorder import Recorder
from digits.live.segmenter import TOO_LONG, TOO_SHORT, Word
from digits.word_window import frame_levels

CLIPPED_AT, CLIPPED_SAMPLES = 0.999, 3  # of full scale, and how many samples at it are no accident
MIN_SNR_DB = 15.0  # of a word's loudest frame, to the quiet around it
EDGE_FRAMES, EDGE_DB = 3, 12.0  # a word that starts or ends less than this below its peak lacks a part


class Prompt:
    """Asks for the ten digits in random order, several times, and saves each answer as what was asked for.

    What the recogniser takes an answer for does not matter. If there is something wrong with the recording, the same digit is asked
    for again. A :class:`~digits.live.listener.Listener` takes a prompt where it takes a :class:`~digits.live.recorder.Recorder`.

    Args:
        recorder: saves the answers.
        rounds: how often each digit is asked for.
        ask: called with each question.
    """

    def __init__(self, recorder: Recorder, rounds: int, ask: Callable[[str], None]) -> None:
        self.recorder = recorder
        self.n_words, self.n_saved = rounds * len(WORDS), 0
        self._ask = ask
        self._digits = [digit for _ in range(rounds) for digit in random.sample(range(len(WORDS)), len(WORDS))]
        self._complaint, self._asked_s = "", math.inf

    @property
    def complete(self) -> bool:
        """Whether every answer has been saved."""
        return self.n_saved == self.n_words

    @property
    def done(self) -> bool:
        """Whether every answer has been saved, or none can be saved any more."""
        return self.recorder.broken or self.complete

    def ask(self, at_s: float = 0.0) -> None:
        """Ask for the next digit, or for the same one again.

        Args:
            at_s: the time, in seconds of the stream; what was said before is no answer.
        """
        self._asked_s = at_s
        complaint = f"{self._complaint}; again, " if self._complaint else ""
        self._ask(f"{complaint}say {WORDS[self._digits[self.n_saved]]} ({self.n_saved + 1} of {self.n_words})")

    def answers(self, sounds: Iterable[Heard]) -> Iterator[Heard]:
        """Ask, and pass each sound on, until all answers are there or the sounds end."""
        self.ask()
        for heard in sounds:
            yield heard
            if self.done:
                return
            self.ask(heard.end_s)

    def __call__(self, word: Word, heard: Heard) -> None:
        """Save an answer, or keep what is wrong with it for the next question."""
        if self.done or word.start_s < self._asked_s:
            return
        self._asked_s = math.inf  # until the next question
        self._complaint = what_is_wrong(word)
        if not self._complaint:
            self.recorder.save(word, str(self._digits[self.n_saved]))
            self.n_saved += not self.recorder.broken


def what_is_wrong(word: Word) -> str:
    """Why a sound is no good recording of a word, and what to do about it; empty if it is one."""
    if word.reason in (TOO_SHORT, TOO_LONG):
        return f"that was {word.reason}"
    if (numpy.abs(word.waveform) >= CLIPPED_AT).sum() >= CLIPPED_SAMPLES:
        return "that was too loud, and clipped: move away from the microphone, or turn it down"
    levels = frame_levels(word.waveform, word.sample_rate)
    background = word.noise if len(word.noise) else word.waveform
    quiet = frame_levels(background, word.sample_rate)
    if len(quiet) and levels.max() - numpy.quantile(quiet, 0.1) < MIN_SNR_DB:
        return "that was too quiet for the noise around it: come closer"
    if max(levels[:EDGE_FRAMES].mean(), levels[-EDGE_FRAMES:].mean()) > levels.max() - EDGE_DB:
        return "that was cut off: leave a short pause before and after it"
    return ""
