from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support import spoken

from digits import audio
from digits.corpora import espeak
from digits.effects.scene import band_power
from digits.live.isolation import IN_SPEECH
from digits.recognition.recognizer import Recognizer
from experiments.live import live, streams, thresholds


def words(digits: list[int]) -> list[streams.Word]:
    return [(audio.resample(spoken(digit, 0, 50), 8000, streams.RATE), digit) for digit in digits]


def test_a_stream_has_its_words_where_it_says_and_its_snr() -> None:
    spoken_words = words([3, 1, 4])
    clean = streams.words_in_noise("clean", spoken_words, None, 200, 1)
    noisy = streams.words_in_noise("noisy", spoken_words, numpy.random.default_rng(0).standard_normal(streams.RATE), 10, 1)
    noise = noisy.waveform - clean.waveform
    speech = []
    for (start, end, digit), (word, expected) in zip(clean.spoken, spoken_words, strict=True):
        found = clean.waveform[round(start * streams.RATE) : round(end * streams.RATE)]
        assert digit == expected
        assert numpy.corrcoef(found, word)[0, 1] > 0.999
        speech.append(found)
    assert min(later[0] - earlier[1] for earlier, later in zip(clean.spoken, clean.spoken[1:], strict=False)) >= 0.6
    powers = [band_power(torch.from_numpy(part), streams.RATE) for part in (numpy.concatenate(speech), noise)]
    assert 10 * torch.log10(powers[0] / powers[1]) == pytest.approx(10, abs=0.1)


def test_connected_digits_come_in_groups() -> None:
    stream = streams.words_in_noise("groups", words([3, 1, 4, 1, 5, 9]), None, 50, 1, group=3)
    gaps = [later[0] - earlier[1] for earlier, later in zip(stream.spoken, stream.spoken[1:], strict=False)]
    assert [gap < 0.16 for gap in gaps] == [True, True, False, True, True]


def test_every_event_is_counted_once(tiny_checkpoint: Path) -> None:
    recognizer = Recognizer.load(tiny_checkpoint, 0)
    digits = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    stream = streams.words_in_noise("quiet", words(digits), None, 50, 1)
    events = live.hear(recognizer, stream)
    score = live.score("tiny", stream, events, 0.0)
    assert (score.spoken, score.missed, score.rejected, score.false) == (10, 0, 0, 0)
    assert score.right >= 9
    assert score.right + score.wrong == 10
    others = streams.Stream("others", stream.waveform, [(start, end, None) for start, end, _ in stream.spoken])
    assert live.score("tiny", others, events, 0.0).taken_for_digits == 10
    nothing = streams.Stream("nothing said", stream.waveform, [])
    assert live.score("tiny", nothing, events, 0.0).false == 10
    silence = streams.Stream("silence", 0 * stream.waveform, stream.spoken)
    assert live.score("tiny", silence, live.hear(recognizer, silence), 0.0).missed == 10
    shifted = streams.Stream("said otherwise", stream.waveform, [(s, e, (d or 0) + 10) for s, e, d in stream.spoken])
    assert live.score("tiny", shifted, events, 0.0).wrong == 10
    rejected = live.score("tiny", stream, events, 1.1)
    assert (rejected.right, rejected.rejected, rejected.false) == (0, 10, 0)
    in_speech = [replace(event, accepted=False, reason=IN_SPEECH) for event in events]
    assert live.score("tiny", stream, in_speech, 0.0).rejected == 10


def test_no_training_hears_the_test_words() -> None:
    heard = {word for _, text, *_ in espeak.utterances(espeak.RECIPES["espeak-words"]) for word in text.split()}
    assert len(heard) > 2000
    for path in streams.WORDS.values():
        assert not set(path.read_text().split()) & {*heard, *espeak.OTHER_WORDS}


def test_mixtures_hear_each_noise_alone_and_then_with_others() -> None:
    noises = [numpy.full(1000, 1.0, dtype=numpy.float32), numpy.full(500, 2.0, dtype=numpy.float32)]
    mixed = streams.mixtures(noises)
    assert len(mixed) == 1500 * (1 + streams.MIXTURES)
    numpy.testing.assert_array_equal(mixed[:1500], numpy.concatenate(noises))
    assert (mixed[1500:] > 1).all()


def test_thresholds_are_averaged_over_models_and_read_back(tmp_path: Path) -> None:
    def score(model: str, stream: str, threshold: float, **counts: int) -> dict[str, Any]:
        nothing = dict.fromkeys(("spoken", "right", "false", "other_words", "taken_for_digits"), 0)
        return {"model": model, "stream": stream, "threshold": threshold, "hours": 0.5, **nothing, **counts}

    scores = [
        score(model, stream, threshold, **counts)
        for model, right, taken in (("a", 90, 4), ("b", 80, 2))
        for threshold in (*thresholds.SHOWN, 0.8)
        for stream, counts in (
            ("FSDD, quiet", {"spoken": 100, "right": right}),
            ("FSDD, 10 dB", {"spoken": 100, "right": right - 10}),
            ("other words, espeak", {"other_words": 40, "taken_for_digits": taken}),
            ("noise", {"false": 1 if model == "a" else 2}),
            ("not shown", {"spoken": 1}),
        )
    ]
    thresholds.write_csv(tmp_path / "thresholds.csv", scores)
    choices = thresholds.read_csv(tmp_path / "thresholds.csv")
    assert len(choices) == 4 * (len(thresholds.SHOWN) + 1)
    assert choices["FSDD, quiet", 0.8].right == 0.85
    assert choices["other words, espeak", 0.8].taken == 0.075
    assert choices["noise", 0.8].false_per_hour == 3.0
    assert "| **0.8** | 85.0 | 75.0 | 7.5 | 3.0 |" in thresholds.table(choices, 0.8)
    thresholds.figure(choices, 0.8).savefig(tmp_path / "trade_off.png")


def test_the_committed_report_follows_from_the_committed_counts(tmp_path: Path) -> None:
    for name in ("results.csv", "thresholds.csv"):
        (tmp_path / name).write_bytes((Path(live.__file__).parent / name).read_bytes())
    live.write_report(tmp_path)
    assert (tmp_path / "report.md").read_text() == (Path(live.__file__).parent / "report.md").read_text()
