from pathlib import Path

import pytest
import torch
from conftest import spoken

from digits import audio, conditions
from digits.recognizer import Recognizer
from experiments import live


def words(digits: list[int]) -> list[tuple[torch.Tensor, int | None]]:
    return [(audio.resample(torch.from_numpy(spoken(digit, 0, 50)), 8000, live.RATE), digit) for digit in digits]


def test_a_stream_has_its_words_where_it_says_and_its_snr() -> None:
    spoken_words = words([3, 1, 4])
    clean = live.words_in_noise("clean", spoken_words, None, 200, 1)
    noisy = live.words_in_noise("noisy", spoken_words, torch.randn(live.RATE), 10, 1)
    noise = noisy.waveform - clean.waveform
    speech = []
    for (start, end, digit), (word, expected) in zip(clean.spoken, spoken_words, strict=True):
        found = clean.waveform[round(start * live.RATE) : round(end * live.RATE)]
        assert digit == expected
        assert torch.corrcoef(torch.stack([found, word]))[0, 1] > 0.999
        speech.append(found)
    assert min(later[0] - earlier[1] for earlier, later in zip(clean.spoken, clean.spoken[1:], strict=False)) >= 0.6
    powers = [conditions.band_power(part, live.RATE) for part in (torch.cat(speech), noise)]
    assert 10 * torch.log10(powers[0] / powers[1]) == pytest.approx(10, abs=0.1)


def test_connected_digits_come_in_groups() -> None:
    stream = live.words_in_noise("groups", words([3, 1, 4, 1, 5, 9]), None, 50, 1, group=3)
    gaps = [later[0] - earlier[1] for earlier, later in zip(stream.spoken, stream.spoken[1:], strict=False)]
    assert [gap < 0.16 for gap in gaps] == [True, True, False, True, True]


def test_every_event_is_counted_once(tiny_checkpoint: Path) -> None:
    recognizer = Recognizer.load(tiny_checkpoint)
    digits = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    stream = live.words_in_noise("quiet", words(digits), None, 50, 1)
    score = live.score("tiny", recognizer, stream, denoise=False)
    assert (score.spoken, score.missed, score.refused, score.false) == (10, 0, 0, 0)
    assert score.right >= 9
    assert score.right + score.wrong == 10
    others = live.Stream("others", stream.waveform, [(start, end, None) for start, end, _ in stream.spoken])
    assert live.score("tiny", recognizer, others, denoise=False).taken_for_digits == 10
    nothing = live.Stream("nothing said", stream.waveform, [])
    assert live.score("tiny", recognizer, nothing, denoise=False).false == 10
    silence = live.Stream("silence", 0 * stream.waveform, stream.spoken)
    assert live.score("tiny", recognizer, silence, denoise=False).missed == 10
    shifted = live.Stream("said otherwise", stream.waveform, [(s, e, (d or 0) + 10) for s, e, d in stream.spoken])
    assert live.score("tiny", recognizer, shifted, denoise=False).wrong == 10
