"""What a recording holds: one word if it is short, else whatever the microphone's loop hears in it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from digits.audio import Waveform
from digits.live.listener import Listener, listen
from digits.live.segmenter import Segmenter, Word
from digits.recognition.recognizer import Prediction, Recognizer

ONE_WORD_S = 2.5  # a longer recording may hold several words, and is searched for them; FSDD's longest clip lasts 2.3 s


@dataclass(frozen=True)
class Sound:
    """A sound in a recording.

    Args:
        waveform: shape (samples,), at the recording's rate.
        prediction: None for a sound that cannot be one word.
        reason: why it, or the prediction, is rejected; None if it is a digit.
        start_s, end_s: None if the recording is short enough to be one word.
    """

    waveform: Waveform
    prediction: Prediction | None
    reason: str | None
    start_s: float | None = None
    end_s: float | None = None

    def facts(self) -> dict[str, Any]:
        """All but the waveform, ready for JSON."""
        guess = asdict(self.prediction) if self.prediction else {"digit": None, "probability": None, "probabilities": None}
        times = {} if self.start_s is None else {"start_s": self.start_s, "end_s": self.end_s}
        return {**guess, "reason": self.reason, "accepted": self.reason is None, **times}


def sounds_in(recognizer: Recognizer, blocks: Iterator[Waveform], sample_rate: int) -> Iterator[Sound]:
    """The sounds in a recording, given as :func:`digits.audio.stream` returns it.

    Raises:
        ValueError: the recording is damaged, or holds no sound.
    """
    first = next(blocks)
    if len(first) <= ONE_WORD_S * sample_rate:
        for _ in blocks:  # none is left, but the file may turn out to be damaged
            pass
        prediction = recognizer(first, sample_rate)
        yield Sound(first, prediction, prediction.reason)
        return
    words: deque[Word] = deque()
    listener = Listener(Segmenter(sample_rate), recognizer, record=lambda word, _: words.append(word))
    for heard in listen(chain([first], blocks), listener):
        yield Sound(words.popleft().waveform, heard.prediction, heard.reason, heard.start_s, heard.end_s)
