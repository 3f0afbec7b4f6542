from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from support import sine, spoken

from digits.audio import Waveform
from digits.live.listener import Heard
from digits.live.prompt import Prompt, what_is_wrong
from digits.live.recorder import Recorder
from digits.live.segmenter import TOO_LONG, TOO_SHORT, Word

RATE = 8000


def word(waveform: Waveform | None = None, noise: Waveform | None = None, reason: str | None = None) -> Word:
    said = spoken(3, 0, 0) if waveform is None else waveform
    return Word(1.0, 1.5, 1.6, said, hiss(1e-4) if noise is None else noise, RATE, reason)


def hiss(amplitude: float) -> Waveform:
    return numpy.float32(amplitude) * numpy.random.default_rng(0).standard_normal(RATE // 2, dtype=numpy.float32)


def faint(said: Waveform) -> Waveform:
    return said * numpy.float32(0.004)


def loud(said: Waveform) -> Waveform:
    return numpy.clip(20 * said, -1, 1)


def begun_too_early(said: Waveform) -> Waveform:
    return said[len(said) // 3 :]


def ended_too_soon(said: Waveform) -> Waveform:
    return said[: len(said) // 2]


def test_a_good_recording_has_nothing_wrong() -> None:
    for digit in range(10):
        assert what_is_wrong(word(spoken(digit, 0, 0))) == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (faint, "that was too quiet for the noise around it: come closer"),
        (loud, "that was too loud, and clipped: move away from the microphone, or turn it down"),
        (begun_too_early, "that was cut off: leave a short pause before and after it"),
        (ended_too_soon, "that was cut off: leave a short pause before and after it"),
    ],
)
def test_what_is_wrong_with_a_recording_is_said(change: Callable[[Waveform], Waveform], complaint: str) -> None:
    assert what_is_wrong(word(change(spoken(3, 0, 0)), hiss(1e-3))) == complaint


@pytest.mark.parametrize("reason", [TOO_SHORT, TOO_LONG])
def test_what_cannot_be_a_word_is_asked_for_again(tmp_path: Path, reason: str) -> None:
    questions: list[str] = []
    prompt = Prompt(Recorder(tmp_path / "ann", "ann", print), 1, questions.append)
    heard = Heard(1.0, 1.5, None, None, False, reason, 100.0, 0.0)
    prompt.ask()
    prompt(word(sine(500, RATE), reason=reason), heard)
    prompt.ask()
    assert questions[1] == f"that was {reason}; again, {questions[0]}"
    prompt(word(), heard)
    prompt.ask()
    assert questions[2].endswith("(2 of 10)")
    assert [path.name for path in (tmp_path / "ann").iterdir()] == [f"{prompt._digits[0]}_ann_0.wav"]


def test_what_was_said_before_the_question_is_no_answer(tmp_path: Path) -> None:
    prompt = Prompt(Recorder(tmp_path / "ann", "ann", print), 1, lambda _: None)
    heard = Heard(1.0, 1.5, None, None, False, None, 100.0, 0.0)
    prompt(word(), heard)  # nothing has been asked yet
    prompt.ask(at_s=1.2)
    prompt(word(), heard)  # it began at 1.0 s
    assert prompt.n_saved == 0
    prompt.ask(at_s=0.5)
    prompt(word(), heard)
    prompt(word(), heard)  # a second word before the next question
    assert prompt.n_saved == 1
