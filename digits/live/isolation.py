"""Tells digits that stand alone, or in a row, from those that speech happens to contain."""

import math
from dataclasses import dataclass, replace

from digits.live.segmenter import TOO_LONG, Word
from digits.recognition.recognizer import NO_DIGIT, Prediction

REFUSED = 2  # sounds, for speech; a single one is often a cough, or a digit that was not understood
GAP_S, REACH_S = 0.5, 2.0  # before a digit
AFTER_S = 0.25
IN_SPEECH = "in speech"
OTHER_SPEECH = (NO_DIGIT, TOO_LONG)


@dataclass(frozen=True)
class Answer:
    """A sound, what the recogniser says of it, and whether that counts.

    Args:
        prediction: None for a sound that cannot be one word.
        reason: why it is no digit; None if it is one.
        settled_s: when this was certain, in seconds of the stream.
        computing_s: time that the recogniser took, also for the sound that settled this one.
        backlog_s: how long the sound that settled it (mostly itself) had been waiting when it was cut out.
    """

    word: Word
    prediction: Prediction | None
    reason: str | None
    settled_s: float
    computing_s: float = 0.0
    backlog_s: float = 0.0

    def settle(self, following: "Answer", reason: str | None) -> "Answer":
        """This answer, made certain by the next one."""
        computing_s = self.computing_s + following.computing_s
        return replace(self, reason=reason, settled_s=following.settled_s, computing_s=computing_s, backlog_s=following.backlog_s)


class Isolation:
    """Rejects digits in the middle of other speech: a digit inside a sentence is no command.

    Other speech shows in sounds that were refused as "no digit" or "too long". A digit is rejected if :data:`REFUSED` of them are
    around it: within :data:`REACH_S` before it, with no gap of :data:`GAP_S` between any sounds from there to the digit, and as the
    next sound, less than :data:`AFTER_S` after it. Only after a single refused sound does that next sound decide: the answer waits
    until it has ended, or for :data:`AFTER_S` of quiet. Other digits are no other speech: those said in a row pass.
    experiments/public chose the figures.
    """

    def __init__(self) -> None:
        self._waiting: Answer | None = None
        self._refused_s: list[float] = []  # ends of the refused sounds, in the run of sounds that goes on
        self._end_s = -math.inf

    def add(self, answer: Answer) -> list[Answer]:
        """Take the answer to the next sound of the stream, and return those that nothing can change any more, in order."""
        word, is_speech = answer.word, answer.reason in OTHER_SPEECH
        settled = self.settled(word.start_s)
        if self._waiting:
            settled.append(self._waiting.settle(answer, IN_SPEECH if is_speech else None))
            self._waiting = None
        runs_on = word.start_s - self._end_s < GAP_S
        self._refused_s = [end_s for end_s in self._refused_s if runs_on and word.start_s - end_s < REACH_S]
        self._end_s = word.end_s
        if answer.reason is None and len(self._refused_s) >= REFUSED:
            answer = replace(answer, reason=IN_SPEECH)
        if answer.reason is None and len(self._refused_s) == REFUSED - 1:
            self._waiting = answer
            return settled
        if is_speech:
            self._refused_s.append(word.end_s)
        return [*settled, answer]

    def settled(self, quiet_until_s: float) -> list[Answer]:
        """The answer that waited, if nothing can change it any more.

        Args:
            quiet_until_s: no sound that has not been added begins before this, in seconds of the stream.
        """
        if self._waiting is None or quiet_until_s < (certain_s := self._waiting.word.end_s + AFTER_S):
            return []
        answer, self._waiting = replace(self._waiting, settled_s=max(self._waiting.settled_s, certain_s)), None
        return [answer]
