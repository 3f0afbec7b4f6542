"""Corpora of synthetic speech: the ten digits, or other words, spoken by espeak-ng in many accents, voices, rates and pitches.

The engine's output depends on what it has said before, but a fresh process that says the same words in the same order gives the
same bytes. So a corpus is always generated as a whole, in a process of its own (``python -m digits.corpora.espeak NAME FOLDER``),
and kept in the user's cache folder.
"""

import ctypes
import hashlib
import importlib.util
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from digits.corpora.corpus import WORDS, Corpus, cache_folder
from digits.corpora.folder import read_folder

SAMPLE_RATE = 22_050  # Hz, espeak-ng's own
SEED = 0
RATES_WPM = (110, 230)
PITCHES = (15, 85)  # of 0-99, relative to each variant's own pitch
OTHER_WORDS = tuple((Path(__file__).parent / "other_words.txt").read_text().split())  # none sounds like a digit to a person
VALIDATION_STEP = 10  # every tenth of these words is kept out of training
PAIRS = 0.25  # share of utterances with two words
ONSETS = "b bl br ch d dr f fl fr g gl gr h j k kl kr l m n p pl pr r s sh sk sl sn sp st str sw t th tr tw v w y z"
VOWELS = "a ai ay ee e er i oo o oa ou u ar or igh oi"
CODAS = "b ch d f g k ks l ld lf lt m mp n nd ng nt p r rd rk rn s sh sk sp st t th ts v z"


@dataclass(frozen=True)
class Recipe:
    """What a corpus holds.

    Args:
        voices: espeak-ng's names, accent + variant of the vocal tract.
        takes: recordings per voice and digit, or per voice where there are ``others``.
        others: words to say instead of digits.
        invented: share of the others that are made-up words.
    """

    voices: tuple[str, ...]
    takes: int
    others: tuple[str, ...] = ()
    invented: float = 0.0


# Breathy variants (f2, f3, f5, Alicia, sandro, victor, whispers) are left out: their breath noise differs between processes.
_SPEAKERS = (
    "en-us+m1",
    "en-us+f1",
    "en-us+m7",
    "en-us-nyc+m3",
    "en-us-nyc+f4",
    "en-gb-x-rp+m2",
    "en-gb-x-rp+f1",
    "en-gb-scotland+m4",
    "en-gb-x-gbclan+m5",
    "en-gb-x-gbclan+f4",
    "en-gb-x-gbcwmd+m6",
    "en-029+m8",
)
_ACCENTS = ("en", "en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_VARIANTS = (
    "Alex Andrea Andy Annie Denis Diogo Gene Gene2 Hugo Jacky Lee Marco Mario Michael Mike Nguyen adam anika antonio aunty",
    "belinda benjamin boris caleb david ed edward f1 f4 grandma grandpa ian iven iven2 iven3 john klatt klatt3 linda m1 m2",
    "m3 m4 m5 m6 m7 m8 marcelo max michel miguel norbert pablo paul pedro quincy rob robert shelby steph steph2 steph3",
    "travis zac",
)
_VOICES = tuple(f"{accent}+{variant}" for variant in " ".join(_VARIANTS).split() for accent in _ACCENTS)
RECIPES = {
    "espeak": Recipe(_SPEAKERS, takes=50),  # as many takes as FSDD has, so that the same splits apply
    "espeak-voices": Recipe(_VOICES, takes=2),
    "espeak-words": Recipe(
        _VOICES, takes=16, others=tuple(word for n, word in enumerate(OTHER_WORDS) if n % VALIDATION_STEP), invented=0.3
    ),
    "espeak-words-validation": Recipe(  # without "boat", which happens to be among training's made-up words
        _SPEAKERS, takes=80, others=tuple(word for word in OTHER_WORDS[::VALIDATION_STEP] if word != "boat")
    ),
}

INSTALL = "synthetic voices need espeak-ng: pip install '.[espeak]'"

_OUTPUT_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def load(name: str = "espeak") -> Corpus:
    """A corpus of synthetic speech, generated on first use (a few seconds).

    Args:
        name: ``espeak``, a stand-in for FSDD; ``espeak-voices``, digits in 512 voices to train on beside real ones;
            ``espeak-words``, the same voices with words other than digits; ``espeak-words-validation``, 12 of those voices with
            words that no training hears.

    Raises:
        ValueError: an unknown name, espeakng-loader is not installed, or the synthesiser failed.
    """
    if name not in RECIPES:
        raise ValueError(f"a corpus of synthetic speech must be one of {', '.join(RECIPES)}, got {name}")
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ValueError(INSTALL)
    code = Path(__file__).read_bytes() + repr((RECIPES[name], version("espeakng-loader"))).encode()
    folder = cache_folder() / f"{name}-{hashlib.sha256(code).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".espeak-") as scratch:
            clips = Path(scratch) / "clips"
            command = [sys.executable, "-m", "digits.corpora.espeak", name, str(clips)]
            child = subprocess.run(command, capture_output=True, text=True, check=False)
            if child.returncode:
                raise ValueError(f"espeak-ng failed: {child.stderr.strip().splitlines()[-1:]}")
            try:
                clips.rename(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
    return read_folder(folder, name, others=bool(RECIPES[name].others))


class Synthesizer:
    """espeak-ng's library. Its state is global, so use one per process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data_path, _DO_NOT_EXIT)
        assert rate == SAMPLE_RATE, rate
        self._samples = bytearray()
        self._callback = _CALLBACK(self._collect)  # kept alive for as long as the library may call it
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: object, count: int, events: object) -> int:
        if samples and count:
            self._samples += ctypes.string_at(samples, 2 * count)  # type: ignore[arg-type]
        return 0

    def say(self, text: str, voice: str, rate_wpm: int, pitch: int) -> bytes:
        """Speak a text.

        Args:
            text: what to say.
            voice: accent + variant, like ``en-us+f1``.
            rate_wpm: words per minute.
            pitch: 0 to 99.

        Returns:
            Little-endian 16-bit samples at :data:`SAMPLE_RATE`.

        Raises:
            ValueError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        self._library.espeak_SetParameter(_RATE, rate_wpm, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._samples.clear()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
        return bytes(self._samples)


def generate(recipe: Recipe, folder: Path) -> None:
    """Write a corpus as 16-bit wav files into a new folder."""
    import numpy
    import soundfile

    folder.mkdir()
    synthesizer = Synthesizer()
    for name, text, voice, rate_wpm, pitch in utterances(recipe):
        samples = synthesizer.say(text, voice, rate_wpm, pitch)
        soundfile.write(folder / name, numpy.frombuffer(samples, dtype="<i2"), SAMPLE_RATE)


def utterances(recipe: Recipe) -> Iterator[tuple[str, str, str, int, int]]:
    """The files of a corpus: name, text, voice, rate and pitch."""
    draw = random.Random(SEED)
    for voice in recipe.voices:
        for name, text in _texts(recipe, draw):
            speaker = voice.replace("+", "-")
            yield name.format(speaker=speaker), text, voice, draw.randint(*RATES_WPM), draw.randint(*PITCHES)


def _texts(recipe: Recipe, draw: random.Random) -> Iterator[tuple[str, str]]:
    """What one voice says: name of the file and text."""
    if recipe.others:
        for take in range(recipe.takes):
            kind = draw.random()
            text = _invent(draw) if kind < recipe.invented else " ".join(draw.choices(recipe.others, k=1 + (kind > 1 - PAIRS)))
            yield f"none_{{speaker}}_{take}.wav", text
        return
    for digit, word in enumerate(WORDS):
        for take in range(recipe.takes):
            yield f"{digit}_{{speaker}}_{take}.wav", word


def _invent(draw: random.Random) -> str:
    """A made-up word of one or two syllables; it is rarely a digit by chance."""
    onsets, vowels, codas = ONSETS.split(), VOWELS.split(), CODAS.split()
    n_syllables = draw.choice((1, 1, 2))
    return "".join(draw.choice(onsets) + draw.choice(vowels) + draw.choice(codas) for _ in range(n_syllables))


if __name__ == "__main__":
    generate(RECIPES[sys.argv[1]], Path(sys.argv[2]))
