import numpy
import pytest

from digits.audio import Waveform
from digits.live.segmenter import TOO_LONG, TOO_SHORT, Segmenter, Word

RATE = 16_000


def tone(seconds: float, amplitude: float = 0.3) -> Waveform:
    time = numpy.arange(round(seconds * RATE)) / RATE
    return (amplitude * numpy.sin(2 * numpy.pi * 700 * time)).astype(numpy.float32)


def pause(seconds: float) -> Waveform:
    return numpy.zeros(round(seconds * RATE), dtype=numpy.float32)


def stream(*parts: Waveform, noise: float = 1e-4) -> Waveform:
    sound = numpy.concatenate(parts)
    return sound + noise * numpy.random.default_rng(0).standard_normal(len(sound)).astype(numpy.float32)


def segment(sound: Waveform, block_length: int = 160, **settings: float) -> list[Word]:
    """The sounds that may be words."""
    return [word for word in every_sound(sound, block_length, **settings) if word.reason is None]


def every_sound(sound: Waveform, block_length: int = 160, **settings: float) -> list[Word]:
    segmenter = Segmenter(RATE, **settings)
    words = [word for start in range(0, len(sound), block_length) for word in segmenter.feed(sound[start : start + block_length])]
    return words + segmenter.flush()


def test_finds_words_where_they_are() -> None:
    words = segment(stream(pause(0.8), tone(0.4), pause(0.7), tone(0.25), pause(1.0)))
    times = [(word.start_s, word.end_s) for word in words]
    numpy.testing.assert_allclose(times, [(0.8, 1.2), (1.9, 2.15)], atol=0.031)
    for word in words:
        assert word.sample_rate == RATE
        assert abs(len(word.waveform) / RATE - (word.end_s - word.start_s + 0.3)) < 0.03  # margins of 150 ms
        assert abs(word.decided_s - word.end_s - 0.14) < 0.03


@pytest.mark.parametrize("block_length", [1, 7, 160, 441, 5000, 10**6])
def test_does_not_depend_on_the_block_size(block_length: int) -> None:
    sound = stream(pause(0.3), tone(0.3), pause(0.5), tone(0.2), pause(0.1), tone(0.2), pause(3), tone(0.4), noise=3e-3)
    sound = sound[: 3 * RATE] if block_length == 1 else sound
    reference, words = segment(sound, 160), segment(sound, block_length)
    assert [(w.start_s, w.end_s, w.decided_s) for w in words] == [(w.start_s, w.end_s, w.decided_s) for w in reference]
    assert all(numpy.array_equal(one.waveform, other.waveform) for one, other in zip(words, reference, strict=True))
    assert len(words) >= 2


def test_a_closure_inside_a_word_is_bridged_and_a_pause_is_not() -> None:
    assert len(segment(stream(pause(0.5), tone(0.15), pause(0.12), tone(0.15), pause(0.5)))) == 1
    assert len(segment(stream(pause(0.5), tone(0.15), pause(0.35), tone(0.15), pause(0.5)))) == 2


def test_margins_do_not_reach_into_the_word_before() -> None:
    first, second = segment(stream(pause(0.5), tone(0.2), pause(0.25), tone(0.2), pause(0.5)))
    assert len(second.waveform) / RATE < 0.2 + 0.25 + 0.15 + 0.03
    assert first.end_s < second.start_s


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_silence_and_steady_noise_hold_no_word(noise: float, offset: float) -> None:
    assert segment(stream(pause(10), noise=noise) + offset) == []


def test_a_click_is_no_word() -> None:
    click = pause(0.02)
    click[100] = 1.0
    (rejected,) = every_sound(stream(pause(1), click, pause(1)))
    assert rejected.reason == TOO_SHORT
    assert rejected.start_s == pytest.approx(1, abs=0.03)


def test_a_sound_without_end_is_no_word_and_becomes_the_floor() -> None:
    words = segment(stream(pause(1), tone(6, amplitude=0.02), tone(0.3, amplitude=0.3), tone(2, amplitude=0.02)))
    assert [round(word.start_s) for word in words] == [7]


def test_a_sound_without_end_is_rejected_once_when_it_is_too_long() -> None:
    sounds = every_sound(stream(pause(1), tone(6, amplitude=0.02), pause(1)))
    assert [sound.reason for sound in sounds] == [TOO_LONG]
    assert sounds[0].decided_s == pytest.approx(2.5, abs=0.05)
    assert sounds[0].start_s == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("floor", [1e-5, 1e-4, 1e-3, 5e-3])
@pytest.mark.parametrize("amplitude", [0.05, 0.9])
def test_works_at_any_level_above_the_floor(floor: float, amplitude: float) -> None:
    assert len(segment(stream(pause(1), tone(0.3, amplitude), pause(1), noise=floor))) == 1


def test_a_word_at_the_very_start_or_end_is_heard() -> None:
    assert len(segment(stream(tone(0.3) * numpy.hanning(round(0.3 * RATE)).astype(numpy.float32), pause(0.5)))) == 1
    assert len(segment(stream(pause(1), tone(0.3)))) == 1
    assert segment(stream(pause(0.2))) == []
    assert segment(pause(0)) == []


def test_memory_does_not_grow_and_time_does_not_drift() -> None:
    segmenter, found = Segmenter(RATE), []
    minute = stream(*[part for _ in range(20) for part in (pause(2.6), tone(0.4))])
    for _ in range(10):
        for block in minute.reshape(-1, 1600):
            found += segmenter.feed(block)
            assert len(segmenter._samples) < 4 * RATE
    found += segmenter.flush()
    starts = [word.start_s for word in found]
    assert len(starts) == 200
    assert max(abs(start - (3 * index + 2.6)) for index, start in enumerate(starts)) < 0.031


def test_reset_forgets_the_stream() -> None:
    segmenter = Segmenter(RATE)
    sound = stream(pause(0.5), tone(0.3), pause(0.5))
    first = segmenter.feed(sound)
    segmenter.reset()
    second = segmenter.feed(sound)
    assert [(w.start_s, w.end_s) for w in first] == [(w.start_s, w.end_s) for w in second]


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"segmenter\.release_db must be at most onset_db"):
        Segmenter(RATE, onset_db=3, release_db=6)


def test_a_word_ends_in_noise_that_comes_and_goes() -> None:
    sound = stream(pause(3), tone(0.4), pause(2), noise=1e-4)
    gusts = 3e-3 * numpy.random.default_rng(1).standard_normal(len(sound)).astype(numpy.float32)
    gusts[numpy.arange(len(sound)) % RATE <= 0.3 * RATE] = 0

    def around_the_word(**settings: float) -> list[tuple[float, float]]:
        words = [word for word in segment(sound + gusts, 160, **settings) if word.end_s > 3 and word.start_s < 3.4]
        return [(round(word.start_s, 1), round(word.end_s, 1)) for word in words]

    assert around_the_word() == [(3.0, 3.4)]
    assert around_the_word(floor_quantile=0.0, ratio=0.0) != [(3.0, 3.4)]  # as the lowest level would have it


def test_a_word_brings_the_noise_between_the_words() -> None:
    hiss = 0.01 * numpy.random.default_rng(0).standard_normal(3 * RATE).astype(numpy.float32)
    first, second = segment(numpy.concatenate([hiss[:RATE], tone(0.3), hiss[RATE:], tone(0.3), pause(1)]))
    assert len(second.noise) == 0.5 * RATE
    assert numpy.std(second.noise) == pytest.approx(0.01, rel=0.1)
    assert any(numpy.array_equal(second.noise[:160], hiss[i : i + 160]) for i in range(RATE, len(hiss) - 160))
    assert 0 < len(first.noise) <= 0.5 * RATE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floor_quantile": -0.1}, r"segmenter\.floor_quantile must lie in \[0, 1\]"),
        ({"floor_quantile": 1.1}, r"segmenter\.floor_quantile must lie in \[0, 1\]"),
        ({"floor_s": 0}, r"segmenter\.floor_s must be at least 0\.01"),
        ({"max_ms": 50}, r"segmenter\.max_ms must be above min_ms = 80\.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter(RATE, **settings)
