"""The neural voices of Kokoro-82M (Apache-2.0, https://github.com/hexgrad/kokoro), and how it spells English words."""

import ctypes
import hashlib
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from digits.audio import Waveform
from digits.corpora import espeak
from digits.corpora.corpus import WORDS, cache_folder

SAMPLE_RATE = 24_000  # Hz
FRAME = 600  # samples; the model decides how many frames each sound lasts
MODEL, STYLES = "kokoro-v1.0.int8.onnx", "voices-v1.0.bin"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
RELEASE = "https://github.com/thewh1teagle/kokoro-onnx/releases/tag/model-files-v1.0"
DURATIONS = "/encoder/Cast_output_0"  # inside the model: frames per token
START, PAUSE, END = '"', '." "', '."'  # quotation marks part the words of a list more clearly than commas

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").with_stem("kokoro").read_text(encoding="utf-8"))
ENGLISH, ACCENTED = (tuple(_TABLES["voices"][kind].split()) for kind in ("english", "accented"))
TOKENS: dict[str, int] = {sound: token for group in _TABLES["tokens"].values() for sound, token in group.items()}
STRESS, WEAKER_STRESS = "\u02c8", "\u02cc"
US, GB = "en-us", "en-gb-x-rp"  # espeak-ng's names
_IPA, _TIE = 0x02, 0x80  # of espeak-ng's phoneme mode


@dataclass(frozen=True)
class Voice:
    """A weighted mean of the model's own voices. ``name`` is the speaker's; the first of ``weights`` decides on the accent."""

    name: str
    weights: tuple[tuple[str, float], ...]

    @property
    def accent(self) -> str:
        """:data:`US` or :data:`GB`."""
        return GB if self.weights[0][0].startswith("b") else US

    def garbles(self, word: str) -> bool:
        """Whether it is one of the model's own voices that is known not to say this word clearly."""
        return len(self.weights) == 1 and word in _TABLES["garbled"].get(self.weights[0][0], "").split()


class Speller(espeak.Synthesizer):
    """Spells English words in the model's alphabet, by the rules of espeak-ng."""

    def __call__(self, word: str, accent: str) -> str:
        """The sounds of a word, all of which are in :data:`TOKENS`."""
        if word in WORDS:
            return str(_TABLES["digits"][accent].split()[WORDS.index(word)])
        sounds = self._ipa(word, accent)
        for replacement in (_TABLES["spelling"]["all"] + " " + _TABLES["spelling"][accent]).split():
            old, new = replacement.split("=")
            sounds = sounds.replace(old, new)
        sounds = "".join(sound for sound in sounds if sound in TOKENS)
        if STRESS not in sounds:  # in a list, a little word such as "her" is stressed too
            sounds = re.sub(
                f"[{''.join(_TABLES['tokens']['vowels'])}]", rf"{STRESS}\g<0>", sounds.replace(WEAKER_STRESS, ""), count=1
            )
        return sounds

    def _ipa(self, word: str, accent: str) -> str:
        if self._library.espeak_SetVoiceByName(accent.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {accent}")
        to_phonemes = self._library.espeak_TextToPhonemes
        to_phonemes.restype = ctypes.c_char_p
        text = ctypes.c_char_p(word.encode())
        return str(to_phonemes(ctypes.byref(text), espeak._UTF8, _IPA | _TIE | ord("^") << 8).decode())


class Model:
    """The model, run by onnxruntime on one thread.

    Raises:
        FileNotFoundError: it is neither in the folder that ``KOKORO_ROOT`` names nor in the cache.
        ValueError: it is another version.
    """

    def __init__(self) -> None:
        import onnxruntime

        self.root = Path(os.environ.get("KOKORO_ROOT") or cache_folder() / "kokoro-model")
        has_styles = (self.root / STYLES).is_file() or (self.root / "voices").is_dir()
        if not ((self.root / MODEL).is_file() and has_styles):
            raise FileNotFoundError(
                f"neural voices need the files {MODEL} and {STYLES}: download them from {RELEASE} into {self.root}, "
                "or into a folder that KOKORO_ROOT names"
            )
        graph = (self.root / MODEL).read_bytes()
        if hashlib.sha256(graph).hexdigest() != MODEL_SHA256:
            raise ValueError(f"{self.root / MODEL}: not the file of that name from {RELEASE}")
        # Protobuf merges what is appended to a file: here, one more entry in the list of the graph's outputs.
        graph += _field(7, _field(12, _field(1, DURATIONS.encode())))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def style(self, name: str) -> NDArray[numpy.float32]:
        """One of the model's own voices, shape (510, 256): a row for each number of sounds in an utterance, from 1 on."""
        file = self.root / "voices" / f"{name}.bin"  # as in the npm package kokoro-js
        style: Any = numpy.fromfile(file, dtype="<f4") if file.is_file() else numpy.load(self.root / STYLES)[name]
        return style.reshape(-1, 256)

    def say(self, words: Sequence[str], voice: Voice, speed: float) -> tuple[Waveform, list[tuple[int, int]]]:
        """Speak a list.

        Args:
            words: in the model's alphabet; with what stands between them, at most 510 sounds.
            voice: who speaks.
            speed: 1 is the voice's own.

        Returns:
            The waveform, shape (samples,), and each word's first sample and the one after its last. These are inexact:
            consonants at a word's start come up to 0.1 s earlier.
        """
        sounds = START + PAUSE.join(words) + END
        style = sum(weight * self.style(name)[len(sounds) - 1] for name, weight in voice.weights)
        inputs = {
            "tokens": numpy.array([[0, *(TOKENS[sound] for sound in sounds), 0]], dtype=numpy.int64),
            "style": numpy.array([style], dtype=numpy.float32),
            "speed": numpy.array([speed], dtype=numpy.float32),
        }
        waveform, durations = self._session.run(["audio", DURATIONS], inputs)
        starts = [0, *(FRAME * durations.ravel().cumsum())]  # of each token, and the end
        spans, token = [], 1 + len(START)
        for word in words:
            spans.append((int(starts[token]), int(starts[token + len(word)])))
            token += len(word) + len(PAUSE)
        return waveform.ravel(), spans


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message, up to 127 bytes long."""
    return bytes([number << 3 | 2, len(content)]) + content
