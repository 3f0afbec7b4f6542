import base64
import io
from pathlib import Path

import numpy
import pytest
import soundfile
from clients import RATE, blocks, samples, sentence

from digits.live.listener import Listener, listen
from digits.live.prompt import Prompt
from digits.live.recorder import Recorder
from digits.live.segmenter import Segmenter
from digits.recognition.recognizer import Recognizer
from digits.web.stream import MAX_RATE_HZ, Message, Stream


@pytest.fixture
def recognizer(exported_model: Path) -> Recognizer:
    return Recognizer.load(exported_model)


def fed(stream: Stream, content: bytes, seconds: float = 0.1) -> list[Message]:
    messages = [message for block in blocks(content, stream.sample_rate, seconds) for message in stream.feed(block)]
    return messages + stream.finish()


def of_type(messages: list[Message], name: str) -> list[Message]:
    return [message for message in messages if message["type"] == name]


@pytest.mark.parametrize("seconds", [0.02, 0.1234, 1.0])
def test_a_stream_hears_what_the_microphone_s_loop_hears(recognizer: Recognizer, seconds: float) -> None:
    content = samples(sentence([7, 0, 4]))
    heard = of_type(fed(Stream(recognizer, RATE), content, seconds), "heard")
    sound = numpy.frombuffer(content, dtype="<i2").astype(numpy.float32) / numpy.float32(32768)
    expected = list(listen([sound], Listener(Segmenter(RATE), recognizer)))
    assert [(m["start_s"], m["end_s"], m["digit"], m["probability"], m["reason"]) for m in heard] == [
        (h.start_s, h.end_s, h.digit, h.probability, h.reason) for h in expected
    ]
    assert [m["digit"] for m in heard] == [7, 0, 4]
    assert all(m["probabilities"] == h.prediction.probabilities for m, h in zip(heard, expected, strict=True) if h.prediction)


def test_the_level_is_told_ten_times_a_second_and_silence_once(recognizer: Recognizer) -> None:
    messages = fed(Stream(recognizer, RATE), samples(numpy.zeros(5 * RATE)))
    assert len(of_type(messages, "level")) == 50
    assert len(of_type(messages, "only_zeros")) == 1


def test_details_are_the_recording_and_what_the_network_saw(recognizer: Recognizer) -> None:
    (heard,) = of_type(fed(Stream(recognizer, RATE, details=True), samples(sentence([5]))), "heard")
    waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(heard["wav"])), dtype="float32")
    assert rate == RATE
    picture = heard["log_mel"]
    levels = numpy.frombuffer(base64.b64decode(picture["levels"]), dtype=numpy.uint8)
    levels = levels.reshape(picture["bands"], picture["frames"])
    seen = recognizer.model.outputs(recognizer.window(waveform, rate)[None])  # type: ignore[attr-defined]
    (log_mel,) = seen["log_mel"][0]
    assert log_mel.shape == levels.shape
    expected = 255 * (1 + (log_mel - log_mel.max()) / 60)
    assert numpy.abs(levels - expected.clip(0, 255)).max() <= 2  # the recording has 16 bits
    assert levels.max() == 255


def test_a_sound_that_is_no_word_has_no_picture(recognizer: Recognizer) -> None:
    sound = numpy.zeros(2 * RATE)
    sound[RATE : RATE + 20] = 0.9
    (heard,) = of_type(fed(Stream(recognizer, RATE, details=True), samples(sound + 1e-4 * sentence([])[0])), "heard")
    assert heard["reason"] == "too short"
    assert heard["digit"] is heard["probabilities"] is None
    assert "wav" in heard


@pytest.mark.parametrize("content", [b"", b"x", b"xyz", bytes(2 * RATE + 2)])
def test_what_is_not_whole_samples_or_too_many_is_refused(recognizer: Recognizer, content: bytes) -> None:
    with pytest.raises(ValueError, match=rf"a message must hold 16-bit samples, at most 1 s of them; got {len(content)} bytes"):
        Stream(recognizer, RATE).feed(content)


@pytest.mark.parametrize("rate", [0, 3999, MAX_RATE_HZ + 1])
def test_impossible_sample_rates_are_refused(recognizer: Recognizer, rate: int) -> None:
    with pytest.raises(ValueError, match=f"sample_rate must be 4000 to 192000 Hz, got {rate}"):
        Stream(recognizer, rate)


@pytest.mark.parametrize(("late_s", "drift"), [(0.3, 0.0), (0.0, 5e-4)])
def test_time_that_blocks_have_waited_counts_and_a_slow_clock_does_not(recognizer: Recognizer, late_s: float, drift: float) -> None:
    def latencies(late_s: float, drift: float) -> list[float]:
        now = 0.0
        stream, messages = Stream(recognizer, RATE, clock=lambda: now), []
        for number, block in enumerate(blocks(samples(sentence([1, 1, 1])))):
            now = 0.1 * number * (1 + drift) + (late_s if number > 15 else 0)
            messages += stream.feed(block)
        return [message["latency_ms"] - message["computing_ms"] for message in of_type(messages, "heard")]

    punctual, late = latencies(0, 0), latencies(late_s, drift)
    assert [after - before for before, after in zip(punctual, late, strict=True)] == pytest.approx([0, *2 * [1000 * late_s]], abs=2)


def test_a_prompt_asks_until_every_digit_is_recorded(recognizer: Recognizer, tmp_path: Path) -> None:
    stream = Stream(recognizer, RATE)
    stream.prompt = Prompt(Recorder(tmp_path / "ann", "ann", stream.say), 1, stream.ask)
    stream.prompt.ask()
    messages = fed(stream, samples(sentence([6] * 10)))
    questions = [message["text"] for message in of_type(messages, "ask")]
    assert len(questions) == 10
    assert questions[-1].endswith("(10 of 10)")
    assert stream.prompt.done
    assert len(list((tmp_path / "ann").iterdir())) == 10


def test_a_gap_in_the_sound_does_not_make_all_later_answers_late(recognizer: Recognizer) -> None:
    now, messages = 0.0, []
    stream = Stream(recognizer, RATE, clock=lambda: now)
    for number, block in enumerate(blocks(samples(sentence([1, 1, 1])))):
        now = 0.1 * number + (30 if number > 15 else 0)
        messages += stream.feed(block)
    assert all(message["latency_ms"] < 1000 for message in of_type(messages, "heard"))
