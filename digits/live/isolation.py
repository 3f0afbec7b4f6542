"""Tells digits that stand alone, or in a row, from those that speech happens to contain."""

import math
from collections import deque
from dataclasses import dataclass, replace

from digits.live.segmenter import TOO_LONG, Word
from digits.recognition.recognizer import NO_DIGIT, Prediction

BEFORE_S, AFTER_S = 0.8, 0.25  # experiments/live
IN_SPEECH = "in speech"
OTHER_SPEECH = (NO_DIGIT, TOO_LONG)


@dataclass(frozen=True)
class Answer:
    """A sound, what the recogniser says of it, and whether that counts.

    Args:
        prediction: None for a sound that cannot be one word.
        reason: why it is no digit; None if it is one.
        settled_s: when this was certain, in seconds of the stream.
        computing_s: time that the recogniser took.
        backlog_s: how long the sound had been waiting when it was cut out.
    """

    word: Word
    prediction: Prediction | None
    reason: str | None
    settled_s: float
    computing_s: float = 0.0
    backlog_s: float = 0.0


class Isolation:
    """Rejects digits next to other speech: a digit inside a sentence is no command.

    Other speech is a sound that was refused as "no digit" or "too long", and that ends less than :data:`BEFORE_S` before the digit or
    begins less than :data:`AFTER_S` after it. So an answer waits until it is clear what follows. Other digits are no other speech:
    those said in a row pass.
    """

    def __init__(self) -> None:
        self._waiting: deque[Answer] = deque()
        self._speech_end_s = -math.inf

    def add(self, answer: Answer) -> None:
        """Take the answer to the next sound of the stream."""
        word = answer.word
        is_speech = answer.reason in OTHER_SPEECH
        for index, earlier in enumerate(self._waiting):
            if earlier.reason is None and word.start_s - earlier.word.end_s < AFTER_S:
                reason = IN_SPEECH if is_speech else None
                self._waiting[index] = replace(earlier, reason=reason, settled_s=max(earlier.settled_s, answer.settled_s))
        if answer.reason is None:
            if word.start_s - self._speech_end_s < BEFORE_S:
                answer = replace(answer, reason=IN_SPEECH)
            else:
                answer = replace(answer, settled_s=max(answer.settled_s, word.end_s + AFTER_S))
        if is_speech:
            self._speech_end_s = word.end_s
        self._waiting.append(answer)

    def settled(self, quiet_until_s: float) -> list[Answer]:
        """The answers that nothing can change any more, in order.

        Args:
            quiet_until_s: no sound that has not been added begins before this, in seconds of the stream.
        """
        found = []
        while self._waiting and (self._waiting[0].reason or quiet_until_s >= self._waiting[0].word.end_s + AFTER_S):
            found.append(self._waiting.popleft())
        return found
