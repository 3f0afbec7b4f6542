from pathlib import Path

import numpy
import pytest
from support import sequence

from digits.live import microphone
from digits.live.isolation import AFTER_S, BEFORE_S, IN_SPEECH, Answer, Isolation
from digits.live.listener import Heard, Listener, listen
from digits.live.segmenter import TOO_LONG, TOO_SHORT, Segmenter, Word
from digits.recognition.recognizer import NO_DIGIT, NOT_SURE, Recognizer

HANG_S = 0.14


def answer(start_s: float, end_s: float, reason: str | None = None) -> Answer:
    nothing = numpy.zeros(0, numpy.float32)
    return Answer(Word(start_s, end_s, end_s + HANG_S, nothing, nothing, 48000), None, reason, end_s + HANG_S)


def reasons(*answers: Answer) -> list[str | None]:
    """What becomes of sounds that nothing follows."""
    isolation = Isolation()
    for one in answers:
        isolation.add(one)
    return [one.reason for one in isolation.settled(1e9)]


@pytest.mark.parametrize("speech", [NO_DIGIT, TOO_LONG])
def test_a_digit_close_to_speech_is_rejected(speech: str) -> None:
    before, after = BEFORE_S - 0.01, AFTER_S - 0.01
    assert reasons(answer(1, 2, speech), answer(2 + before, 3.5)) == [speech, IN_SPEECH]
    assert reasons(answer(1, 2), answer(2 + after, 3, speech)) == [IN_SPEECH, speech]
    assert reasons(answer(1, 2, speech), answer(2 + BEFORE_S + 0.01, 3.5)) == [speech, None]
    assert reasons(answer(1, 2), answer(2 + AFTER_S + 0.01, 3, speech)) == [None, speech]


@pytest.mark.parametrize("harmless", [None, NOT_SURE, TOO_SHORT])
def test_digits_in_a_row_clicks_and_unclear_digits_are_no_speech(harmless: str | None) -> None:
    assert reasons(answer(1, 1.4), answer(1.55, 1.9, harmless), answer(2.05, 2.5)) == [None, harmless, None]


def test_a_digit_rejected_in_speech_is_no_speech_itself() -> None:
    assert reasons(answer(1, 2, NO_DIGIT), answer(2.2, 2.6), answer(2.9, 3.4)) == [NO_DIGIT, IN_SPEECH, None]


def test_an_answer_waits_for_what_follows_and_no_longer() -> None:
    isolation = Isolation()
    isolation.add(answer(1, 1.5))
    assert isolation.settled(1.5 + AFTER_S - 0.01) == []
    (settled,) = isolation.settled(1.5 + AFTER_S)
    assert settled.settled_s == 1.5 + AFTER_S
    isolation.add(answer(2, 2.5, NO_DIGIT))
    (settled,) = isolation.settled(2.5)
    assert settled.settled_s == 2.5 + HANG_S


def test_order_is_kept() -> None:
    isolation = Isolation()
    isolation.add(answer(1, 1.5))
    isolation.add(answer(1.6, 1.7, TOO_SHORT))
    assert isolation.settled(1.7) == []
    assert [one.reason for one in isolation.settled(1.8)] == [None, TOO_SHORT]


def heard(path: Path, recognizer: Recognizer, isolated: bool, block_ms: float = 10) -> list[Heard]:
    blocks, sample_rate = microphone.read_file(path, block_ms)
    return list(listen(blocks, Listener(Segmenter(sample_rate), recognizer, isolated=isolated)))


class Picky:
    """Answers digit 3 to every sound but those whose turn it is to be refused."""

    def __init__(self, recognizer: Recognizer, refused: set[int]) -> None:
        self.window, self.refused, self.turn = recognizer.window, refused, -1

    def model(self, windows: numpy.ndarray) -> numpy.ndarray:
        self.turn += 1
        probabilities = numpy.full((1, 10), 0.01 if self.turn in self.refused else 0.0, numpy.float32)
        probabilities[0, 3] = 0.05 if self.turn in self.refused else 0.9
        return probabilities

    def recognizer(self) -> Recognizer:
        return Recognizer(self.window, self.model, threshold=0.5)


@pytest.mark.parametrize("block_ms", [10, 7.3, 100_000])
def test_in_a_stream(tiny_checkpoint: Path, tmp_path: Path, block_ms: float) -> None:
    path = sequence(tmp_path / "words.wav", [3, 8, 1, 5], gap_s=0.15)
    loaded = Recognizer.load(tiny_checkpoint)
    alone = heard(path, Picky(loaded, set()).recognizer(), True, block_ms)
    assert [one.accepted for one in alone] == 4 * [True]
    assert 1000 * AFTER_S <= alone[-1].latency_ms < 1000 * AFTER_S + 50
    spoken = heard(path, Picky(loaded, {1}).recognizer(), True, block_ms)
    assert [one.reason for one in spoken] == [None if spoken[1].start_s - spoken[0].end_s >= AFTER_S else IN_SPEECH, NO_DIGIT, IN_SPEECH, None]
    assert [one.reason for one in heard(path, Picky(loaded, {1}).recognizer(), False, block_ms)] == [None, NO_DIGIT, None, None]
