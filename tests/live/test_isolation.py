from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from support import sequence

from digits.live import microphone
from digits.live.isolation import AFTER_S, GAP_S, IN_SPEECH, Answer, Isolation
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
    settled = [one for answer in answers for one in isolation.add(answer)] + isolation.settled(1e9)
    return [one.reason for one in settled]


@pytest.mark.parametrize("speech", [NO_DIGIT, TOO_LONG])
def test_a_digit_in_the_middle_of_speech_is_rejected(speech: str) -> None:
    before = [answer(1, 2, speech), answer(2.1, 2.5, speech)]
    assert reasons(*before, answer(2.49 + GAP_S, 3.5)) == [speech, speech, IN_SPEECH]
    assert reasons(*before, answer(2.51 + GAP_S, 3.5)) == [speech, speech, None]
    assert reasons(before[0], answer(2.1, 2.5), answer(2.49 + AFTER_S, 3, speech)) == [speech, IN_SPEECH, speech]
    assert reasons(before[0], answer(2.1, 2.5), answer(2.51 + AFTER_S, 3, speech)) == [speech, None, speech]


def test_speech_long_ago_does_not_count() -> None:
    digits = [answer(2.5 + n / 2, 2.9 + n / 2) for n in range(8)]
    assert reasons(answer(1, 2, NO_DIGIT), answer(2.1, 2.3, NO_DIGIT), *digits) == 2 * [NO_DIGIT] + 3 * [IN_SPEECH] + 5 * [None]


def test_one_refused_sound_is_no_speech() -> None:
    assert reasons(answer(1, 2, NO_DIGIT), answer(2.1, 2.5), answer(2.6, 3)) == [NO_DIGIT, None, None]
    assert reasons(answer(1, 2), answer(2.1, 2.5, NO_DIGIT), answer(2.6, 3)) == [None, NO_DIGIT, None]
    assert reasons(answer(1, 2), answer(2.1, 2.5, TOO_LONG)) == [None, TOO_LONG]


@pytest.mark.parametrize("harmless", [None, NOT_SURE, TOO_SHORT])
def test_digits_in_a_row_clicks_and_unclear_digits_are_no_speech(harmless: str | None) -> None:
    row = [answer(1, 1.4), answer(1.55, 1.9, harmless), answer(2.05, 2.3, harmless), answer(2.4, 2.8), answer(2.9, 3.1, harmless)]
    assert reasons(*row) == [None, harmless, harmless, None, harmless]


def test_an_answer_waits_only_where_what_follows_decides() -> None:
    isolation = Isolation()
    (alone,) = isolation.add(answer(1, 1.5))
    assert alone.settled_s == 1.5 + HANG_S
    isolation.add(answer(2, 2.5, NO_DIGIT))
    assert isolation.add(answer(2.6, 3)) == []
    assert isolation.settled(3 + AFTER_S - 0.01) == []
    (settled,) = isolation.settled(3 + AFTER_S)
    assert (settled.settled_s, settled.reason) == (3 + AFTER_S, None)


def test_what_follows_settles_an_answer_in_order() -> None:
    isolation = Isolation()
    isolation.add(answer(1, 1.5, NO_DIGIT))
    assert isolation.add(answer(1.6, 2)) == []
    following = replace(answer(2.1, 2.2, TOO_SHORT), computing_s=0.003, backlog_s=0.5)
    first, second = isolation.add(following)
    assert (first.reason, first.settled_s, first.computing_s, first.backlog_s) == (None, 2.2 + HANG_S, 0.003, 0.5)
    assert second == following


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
    path = sequence(tmp_path / "words.wav", [3, 8, 1, 5, 7], gap_s=0.15)
    loaded = Recognizer.load(tiny_checkpoint)
    alone = heard(path, Picky(loaded, set()).recognizer(), True, block_ms)
    assert [one.accepted for one in alone] == 5 * [True]
    assert alone[-1].latency_ms < 1000 * HANG_S + 50  # nobody waits who is not next to speech
    assert [one.reason for one in heard(path, Picky(loaded, {1}).recognizer(), True, block_ms)] == [
        None,
        NO_DIGIT,
        None,
        None,
        None,
    ]
    spoken = heard(path, Picky(loaded, {1, 2}).recognizer(), True, block_ms)
    assert [one.reason for one in spoken] == [None, NO_DIGIT, NO_DIGIT, IN_SPEECH, IN_SPEECH]
    assert [one.reason for one in heard(path, Picky(loaded, {1, 2}).recognizer(), False, block_ms)] == [
        None,
        *2 * [NO_DIGIT],
        None,
        None,
    ]


def test_a_digit_between_two_refused_sounds_waits_for_the_second(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded, gaps = Recognizer.load(tiny_checkpoint), {}
    for gap_s in (0.05, 0.3):
        path = sequence(tmp_path / "words.wav", [3, 8, 1, 5, 7], gap_s=gap_s)
        _, _, digit, following, _ = heard(path, Picky(loaded, {1, 3}).recognizer(), True)
        gaps[digit.reason] = following.start_s - digit.end_s
        assert digit.latency_ms > 1000 * min(AFTER_S, gaps[digit.reason])
    assert gaps[IN_SPEECH] < AFTER_S < gaps[None]
