"""Records a corpus by asking for one digit after another."""

import random
from collections.abc import Callable

from digits.corpora.corpus import WORDS
from digits.live.listener import Heard
from digits.live.recorder import Recorder
from digits.live.segmenter import TOO_LONG, TOO_SHORT, Word


class Prompt:
    """Asks for the ten digits in random order, several times, and saves each answer as what was asked for.

    What the recogniser takes an answer for does not matter. If the sound is too short or too long for one word, the same digit is
    asked for again. A :class:`~digits.live.listener.Listener` takes a prompt where it takes a
    :class:`~digits.live.recorder.Recorder`.

    Args:
        recorder: saves the answers.
        rounds: how often each digit is asked for.
        say: called with each question.
    """

    def __init__(self, recorder: Recorder, rounds: int, say: Callable[[str], None]) -> None:
        self.recorder, self.say = recorder, say
        self.n_words, self.n_saved = rounds * len(WORDS), 0
        self._digits = [digit for _ in range(rounds) for digit in random.sample(range(len(WORDS)), len(WORDS))]
        self._complaint = ""

    @property
    def done(self) -> bool:
        """Whether every answer has been saved, or none can be saved any more."""
        return self.recorder.broken or self.n_saved == self.n_words

    def ask(self) -> None:
        """Ask for the next digit, or for the same one again."""
        self.say(f"{self._complaint}say {WORDS[self._digits[self.n_saved]]} ({self.n_saved + 1} of {self.n_words})")

    def __call__(self, word: Word, heard: Heard) -> None:
        """Save an answer."""
        self._complaint = f"that was {heard.reason}; again, " if heard.reason in (TOO_SHORT, TOO_LONG) else ""
        if not self.done and not self._complaint:
            self.recorder.save(word, str(self._digits[self.n_saved]))
            self.n_saved += not self.recorder.broken
