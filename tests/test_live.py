from pathlib import Path

import numpy
import pytest
import torch
from conftest import spoken

from digits import audio, conditions, espeak
from digits.recognizer import Recognizer
from experiments import live


def words(digits: list[int]) -> list[live.Word]:
    return [(audio.resample(spoken(digit, 0, 50), 8000, live.RATE), digit) for digit in digits]


def test_a_stream_has_its_words_where_it_says_and_its_snr() -> None:
    spoken_words = words([3, 1, 4])
    clean = live.words_in_noise("clean", spoken_words, None, 200, 1)
    noisy = live.words_in_noise("noisy", spoken_words, numpy.random.default_rng(0).standard_normal(live.RATE), 10, 1)
    noise = noisy.waveform - clean.waveform
    speech = []
    for (start, end, digit), (word, expected) in zip(clean.spoken, spoken_words, strict=True):
        found = clean.waveform[round(start * live.RATE) : round(end * live.RATE)]
        assert digit == expected
        assert numpy.corrcoef(found, word)[0, 1] > 0.999
        speech.append(found)
    assert min(later[0] - earlier[1] for earlier, later in zip(clean.spoken, clean.spoken[1:], strict=False)) >= 0.6
    powers = [conditions.band_power(torch.from_numpy(part), live.RATE) for part in (numpy.concatenate(speech), noise)]
    assert 10 * torch.log10(powers[0] / powers[1]) == pytest.approx(10, abs=0.1)


def test_connected_digits_come_in_groups() -> None:
    stream = live.words_in_noise("groups", words([3, 1, 4, 1, 5, 9]), None, 50, 1, group=3)
    gaps = [later[0] - earlier[1] for earlier, later in zip(stream.spoken, stream.spoken[1:], strict=False)]
    assert [gap < 0.16 for gap in gaps] == [True, True, False, True, True]


def test_every_event_is_counted_once(tiny_checkpoint: Path) -> None:
    recognizer = Recognizer.load(tiny_checkpoint)
    digits = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    stream = live.words_in_noise("quiet", words(digits), None, 50, 1)
    events = live.hear(recognizer, stream)
    score = live.score("tiny", stream, events, 0.0)
    assert (score.spoken, score.missed, score.refused, score.false) == (10, 0, 0, 0)
    assert score.right >= 9
    assert score.right + score.wrong == 10
    others = live.Stream("others", stream.waveform, [(start, end, None) for start, end, _ in stream.spoken])
    assert live.score("tiny", others, events, 0.0).taken_for_digits == 10
    nothing = live.Stream("nothing said", stream.waveform, [])
    assert live.score("tiny", nothing, events, 0.0).false == 10
    silence = live.Stream("silence", 0 * stream.waveform, stream.spoken)
    assert live.score("tiny", silence, live.hear(recognizer, silence), 0.0).missed == 10
    shifted = live.Stream("said otherwise", stream.waveform, [(s, e, (d or 0) + 10) for s, e, d in stream.spoken])
    assert live.score("tiny", shifted, events, 0.0).wrong == 10
    refused = live.score("tiny", stream, events, 1.1)
    assert (refused.right, refused.refused, refused.false) == (0, 10, 0)


def test_no_training_hears_the_test_words() -> None:
    heard = {word for _, text, *_ in espeak.utterances(espeak.RECIPES["espeak-words"]) for word in text.split()}
    assert len(heard) > 2000
    for path in live.WORDS.values():
        assert not set(path.read_text().split()) & {*heard, *espeak.OTHER_WORDS}


def test_mixtures_hear_each_noise_alone_and_then_with_others() -> None:
    noises = [numpy.full(1000, 1.0, dtype=numpy.float32), numpy.full(500, 2.0, dtype=numpy.float32)]
    mixed = live.mixtures(noises)
    assert len(mixed) == 1500 * (1 + live.MIXTURES)
    numpy.testing.assert_array_equal(mixed[:1500], numpy.concatenate(noises))
    assert (mixed[1500:] > 1).all()
