"""Corpora of synthetic speech: the ten digits, or other words, spoken by the neural voices of Kokoro-82M and by mixtures of them.

The model garbles a short word said alone, because its decoder normalises over the whole utterance. So a voice says a list of ten
words, each in quotation marks, between which it pauses, and the list is cut at the pauses. A word takes about half a second to
compute, each corpus half an hour; an interrupted synthesis continues. ``python -m digits.corpora.kokoro`` makes both.
"""

import hashlib
import importlib.util
import io
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import numpy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from digits import word_window
from digits.audio import Waveform
from digits.corpora.corpus import NONE, WORDS, Corpus, cache_folder
from digits.corpora.folder import read_folder
from digits.corpora.kokoro_model import ACCENTED, ENGLISH, SAMPLE_RATE, Model, Speller, Voice
from digits.files import write_whole

VERSION = 1  # raise it when a change to the code changes the recordings; they take too long to be made anew after every edit
SEED = 0
SPEEDS = (0.8, 1.25)
LIST = 10  # words
MIN_DIP_DB = 10.0  # where the level between two words is not this far below a word's peak, they run into each other
HOP = SAMPLE_RATE // 100
MARGIN_MS, FADE_MS = 100.0, 10.0
RANGE_DB = 40.0  # a word ends this far below its peak; these voices have hardly any noise
OTHER_WORDS = tuple((Path(__file__).parent / "kokoro_words.txt").read_text().split())  # mostly near digits; none of live's

PACKAGES = ("espeakng_loader", "filelock", "onnxruntime", "platformdirs", "tqdm")
INSTALL = "neural voices need onnxruntime and espeak-ng: pip install '.[kokoro]'"


@dataclass(frozen=True)
class Recipe:
    """What a corpus holds.

    Args:
        voices: how many, the model's own 54 first.
        takes: recordings per voice and digit, or per word where there are ``others``.
        others: words to say instead of digits.
    """

    voices: int
    takes: int
    others: tuple[str, ...] = ()


RECIPES = {"kokoro": Recipe(voices=200, takes=2), "kokoro-words": Recipe(voices=200, takes=2, others=OTHER_WORDS)}


@dataclass(frozen=True)
class Utterance:
    """A list of words, and the name of the file that each becomes."""

    voice: Voice
    speed: float
    words: tuple[str, ...]
    files: tuple[str, ...]


def load(name: str = "kokoro") -> Corpus:
    """A corpus of synthetic speech, generated on first use (half an hour).

    Args:
        name: ``kokoro``, digits in 200 voices; ``kokoro-words``, the same voices with words other than digits.

    Raises:
        ValueError: an unknown name, a package is not installed, or the model is another version.
        FileNotFoundError: the model is not on this machine.
    """
    if name not in RECIPES:
        raise ValueError(f"a corpus of neural voices must be one of {', '.join(RECIPES)}, got {name}")
    key = hashlib.sha256(repr((VERSION, RECIPES[name])).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    if not folder.is_dir():
        if not all(importlib.util.find_spec(package) for package in PACKAGES):
            raise ValueError(INSTALL)
        from filelock import FileLock

        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished, lock = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("part", "lock"))
        with FileLock(lock):
            if not folder.is_dir():  # no other process was faster
                generate(RECIPES[name], unfinished)
                unfinished.rename(folder)
            lock.unlink(missing_ok=True)  # whoever still waits for it finds the folder
    return read_folder(folder, name, others=bool(RECIPES[name].others))


def generate(recipe: Recipe, folder: Path) -> None:
    """Write a corpus as 16-bit FLAC files, continuing what the folder already holds.

    A word that runs into a neighbour or that the voice garbles is left out.

    Raises:
        ValueError, FileNotFoundError: as :class:`digits.corpora.kokoro_model.Model`.
    """
    import soundfile
    from tqdm import tqdm

    plan, model, speller = list(utterances(recipe)), Model(), Speller()
    folder.mkdir(exist_ok=True)
    written = {path.name for path in folder.iterdir()}
    first = max((n for n, utterance in enumerate(plan) if written.intersection(utterance.files)), default=0)  # perhaps unfinished
    for utterance in tqdm(plan[first:], initial=first, total=len(plan), unit="list", desc=folder.name, disable=None):
        sounds = [speller(word, utterance.voice.accent) for word in utterance.words]
        waveforms = cut(*model.say(sounds, utterance.voice, utterance.speed))
        for word, file, waveform in zip(utterance.words, utterance.files, waveforms, strict=True):
            if waveform is not None and not utterance.voice.garbles(word):
                content = io.BytesIO()
                soundfile.write(content, waveform.clip(-1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
                write_whole(folder / file, content.getvalue())


def voices(count: int) -> list[Voice]:
    """The model's own voices, then mixtures of two or three, in which an English one is three times as likely as another."""
    draw = random.Random(SEED)
    mixtures: list[tuple[tuple[str, float], ...]] = [((name, 1.0),) for name in ENGLISH + ACCENTED]
    while len(mixtures) < count:
        names = list(dict.fromkeys(draw.sample(3 * ENGLISH + ACCENTED, 9)))[: draw.choice((2, 3))]
        parts = sorted((draw.uniform(0.2, 1) for _ in names), reverse=True)
        mixtures.append(tuple((name, round(part / sum(parts), 3)) for name, part in zip(names, parts, strict=True)))
    return [
        Voice(f"{n:03d}-{'-'.join(name.replace('_', '-') for name, _ in weights)}", weights)
        for n, weights in enumerate(mixtures[:count])
    ]


def utterances(recipe: Recipe) -> Iterator[Utterance]:
    """All lists of a corpus, in the order of synthesis."""
    draw, speakers = random.Random(SEED), voices(recipe.voices)
    for voice, words, files in (_other_lists if recipe.others else _digit_lists)(recipe, speakers, draw):
        yield Utterance(voice, round(draw.uniform(*SPEEDS), 3), words, files)


_Lists = Iterator[tuple[Voice, tuple[str, ...], tuple[str, ...]]]


def _digit_lists(recipe: Recipe, speakers: Sequence[Voice], draw: random.Random) -> _Lists:
    for voice in speakers:
        for take in range(recipe.takes):
            digits = draw.sample(range(len(WORDS)), len(WORDS))
            yield voice, tuple(WORDS[digit] for digit in digits), tuple(f"{digit}_{voice.name}_{take}.flac" for digit in digits)


def _other_lists(recipe: Recipe, speakers: Sequence[Voice], draw: random.Random) -> _Lists:
    turns, said = cycle(draw.sample(speakers, len(speakers))), Counter[Voice]()
    for _ in range(recipe.takes):
        others = draw.sample(recipe.others, len(recipe.others))
        for first in range(0, len(others), LIST):
            words, voice = tuple(others[first : first + LIST]), next(turns)
            yield voice, words, tuple(f"{NONE}_{voice.name}_{said[voice] + n}.flac" for n in range(len(words)))
            said[voice] += len(words)


def cut(waveform: Waveform, spans: Sequence[tuple[int, int]]) -> list[Waveform | None]:
    """Cut a list into its words, where the level between them is lowest.

    Args:
        waveform: shape (samples,), at 24 kHz.
        spans: where the words are, see :meth:`digits.corpora.kokoro_model.Model.say`.

    Returns:
        Each word with :data:`MARGIN_MS` of silence before and after it, or None if it runs into a neighbour.
    """
    levels = _levels(waveform)
    dips = [_dip(levels, end // HOP, start // HOP) for (_, end), (start, _) in pairwise(spans)]
    words: list[Waveform | None] = []
    for n, (first, last) in enumerate(pairwise([0, *(dip + 1 for dip in dips), len(levels)])):
        beside = levels[dips[max(0, n - 1) : n + 1]]
        runs_on = len(beside) and levels[first:last].max() - beside.max() < MIN_DIP_DB
        words.append(None if runs_on else _trim(waveform[first * HOP : last * HOP]))
    return words


def _levels(waveform: Waveform) -> NDArray[numpy.float64]:
    """Level of each 20 ms, every 10 ms, dB, with the treble raised.

    In the band of :func:`digits.word_window.frame_levels` a word's /s/ or /f/ is so weak that words would be cut there.
    """
    frames = sliding_window_view(numpy.diff(waveform, prepend=waveform[:1]), 2 * HOP)[::HOP]
    return 10 * numpy.log10((frames.astype(numpy.float64) ** 2).mean(axis=1) + 1e-9)


def _dip(levels: NDArray[numpy.float64], end: int, start: int) -> int:
    """The quietest frame from a word's end to 0.1 s before the next one's start, where its first consonant may be heard already."""
    return min(range(end - 2, max(end + 3, start - 10)), key=lambda frame: float(levels[frame]))


def _trim(word: Waveform) -> Waveform:
    fade, margin = (round(ms / 1000 * SAMPLE_RATE) for ms in (FADE_MS, MARGIN_MS))
    ramp = numpy.linspace(0, 1, fade, dtype=numpy.float32)
    faded = numpy.concatenate([word[:fade] * ramp, word[fade:-fade], word[-fade:] * ramp[::-1]])
    return word_window.trim(numpy.pad(faded, margin), SAMPLE_RATE, MARGIN_MS, ratio=0, range_db=RANGE_DB)


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or RECIPES:
            load(name)
    except (ValueError, OSError) as error:
        sys.exit(f"digits.corpora.kokoro: {error}")
