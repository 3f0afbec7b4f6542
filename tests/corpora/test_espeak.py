import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from digits.corpora import corpus, espeak
from digits.corpora.folder import read_folder

pytestmark = pytest.mark.espeak


def generate(folder: Path) -> str:
    code = f"""
import pathlib
from digits.corpora import espeak
espeak.generate(espeak.Recipe(espeak.RECIPES["espeak"].voices, takes=2), pathlib.Path({str(folder)!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_the_same_voices_to_the_byte_every_time(tmp_path: Path) -> None:
    assert generate(tmp_path / "a") == generate(tmp_path / "b")


def test_every_voice_says_every_digit(tmp_path: Path) -> None:
    generate(tmp_path / "a")
    clips = read_folder(tmp_path / "a", "espeak").clips
    assert len(clips) == len(espeak.RECIPES["espeak"].voices) * 10 * 2
    assert len({clip.speaker for clip in clips}) == len(espeak.RECIPES["espeak"].voices)
    from digits import audio, word_window

    for clip in clips[::7]:
        waveform, sample_rate = audio.read(clip.path)
        assert sample_rate == espeak.SAMPLE_RATE
        assert 0.15 < len(word_window.trim(waveform, sample_rate)) / sample_rate < 1.2


def test_other_words_are_pairs_inventions_and_no_digits() -> None:
    recipe = espeak.RECIPES["espeak-words"]
    said = list(espeak.utterances(recipe))
    words = [word for _, text, *_ in said for word in text.split()]
    assert len({name for name, *_ in said}) == len(said) == 512 * 16
    assert 0.2 < len(words) / len(said) - 1 < 0.3
    assert 0.2 < sum(word not in espeak.OTHER_WORDS for word in words) / len(said) < 0.4
    like_digits = {*espeak.WORDS, "oh", "won", "too", "to", "for", "ate"}
    assert not like_digits & set(espeak.OTHER_WORDS)
    assert sum(word in like_digits for word in words) <= 2  # of 10,000: an invention is a digit by chance


def test_the_words_that_a_threshold_is_chosen_on_are_not_those_of_training() -> None:
    training, validation = (
        {word for _, text, *_ in espeak.utterances(espeak.RECIPES[name]) for word in text.split()}
        for name in ("espeak-words", "espeak-words-validation")
    )
    assert len(validation) > 50
    assert not training & validation


def test_a_corpus_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path))
    clips = espeak.load("espeak-words-validation").clips
    assert {clip.digit for clip in clips} == {corpus.NO_DIGIT}
    (folder,) = tmp_path.glob("espeak-*")
    assert len(clips) == len(list(folder.iterdir())) == 12 * 80
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("generated again"))
    assert espeak.load("espeak-words-validation").clips == clips


def test_missing_engine_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[espeak\]'"):
        espeak.load()


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(
        ValueError, match="must be one of espeak, espeak-voices, espeak-words, espeak-words-validation, got festival"
    ):
        espeak.load("festival")
