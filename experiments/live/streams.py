"""The streams of the live study: words with pauses over noise, connected digits, other words, speech, noise alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch

from digits import audio
from digits.audio import Waveform
from digits.corpora import espeak
from digits.corpora.corpus import Clip
from digits.effects.scene import band_power

RATE = audio.SAMPLE_RATE
PAUSE_S = (0.6, 1.4)
SHORT_GAP_S = 0.15  # between connected digits, three in a group
SNRS_DB = (20, 10, 5)
QUIET_DB = 50  # SNR of a quiet room
SENTENCE_PAUSE_S = 0.5  # between recordings of speech
MIXTURES = 9  # how often each noise is heard again with another one mixed in
WORDS = {kind: Path(__file__).parent / f"{kind}_words.txt" for kind in ("other", "near")}

Word = tuple[Waveform, int | None]  # with its digit, None for any other word


@dataclass(frozen=True)
class Stream:
    """Sound at 48 kHz and what is said in it: start and end in seconds, and the digit, None for any other word."""

    name: str
    waveform: Waveform
    spoken: list[tuple[float, float, int | None]]

    @property
    def hours(self) -> float:
        return len(self.waveform) / RATE / 3600


def words_in_noise(
    name: str,
    words: Sequence[Word],
    noise: numpy.ndarray | None,
    snr_db: float,
    seed: int,
    group: int = 1,
    gap_s: float = SHORT_GAP_S,
) -> Stream:
    """Words with pauses between them, or between groups of them, over a background ``snr_db`` below the words' mean power.

    Both powers are measured below 4 kHz. Without ``noise`` the background is white.
    """
    random = numpy.random.default_rng(seed)
    parts, spoken, position = [_silence(1.0)], [], RATE
    for index, (word, digit) in enumerate(words):
        spoken.append((position / RATE, (position + len(word)) / RATE, digit))
        gap = _silence(gap_s if (index + 1) % group else random.uniform(*PAUSE_S))
        parts += [0.1 * word / numpy.sqrt(numpy.mean(word**2)), gap]
        position += len(word) + len(gap)
    waveform = numpy.concatenate(parts)
    background = random.standard_normal(len(waveform)) if noise is None else numpy.resize(noise, len(waveform))
    gain = numpy.sqrt(_power(numpy.concatenate(parts[1::2])) / _power(background) * 10 ** (-snr_db / 10))
    mixed = waveform + gain * background
    return Stream(name, (mixed / max(1.0, numpy.abs(mixed).max())).astype(numpy.float32), spoken)


def _silence(seconds: float) -> Waveform:
    return numpy.zeros(round(seconds * RATE), dtype=numpy.float32)


def _power(waveform: numpy.ndarray) -> float:
    return float(band_power(torch.from_numpy(waveform), RATE))


def load(clips: Sequence[Clip]) -> list[Word]:
    return [(audio.resample(*audio.read(clip.path), RATE), clip.digit) for clip in clips]


def synthetic_words(kind: str) -> list[Word]:
    """Words that no training has heard, each in two of the voices."""
    synthesizer, voices = espeak.Synthesizer(), espeak.RECIPES["espeak"].voices
    found: list[Word] = []
    for index, word in enumerate(2 * WORDS[kind].read_text().split()):
        samples = numpy.frombuffer(synthesizer.say(word, voices[index % len(voices)], 150, 50), dtype="<i2")
        found.append((audio.resample((samples / 32768).astype(numpy.float32), espeak.SAMPLE_RATE, RATE), None))
    return found


def recordings(folder: Path) -> list[Waveform]:
    """All recordings in a folder, scaled to the same power below 4 kHz, -40 dB relative to full scale."""
    found = [audio.resample(*audio.read(path), RATE) for path in audio.find_files(folder)]
    return [(0.01 / numpy.sqrt(_power(sound)) * sound).astype(numpy.float32) for sound in found]


def mixtures(noises: Sequence[Waveform]) -> Waveform:
    """Each noise alone, then :data:`MIXTURES` times with another one up to 20 dB weaker, from a random moment on."""
    random, mixed = numpy.random.default_rng(0), list(noises)
    for _ in range(MIXTURES):
        for noise in noises:
            other = noises[int(random.integers(len(noises)))]
            weaker = 10 ** (-random.uniform(0, 20) / 20) * numpy.resize(numpy.roll(other, random.integers(len(other))), len(noise))
            mixed.append((noise + weaker).astype(numpy.float32))
    return numpy.concatenate(mixed)


def digit_streams(source: str, words: Sequence[Word], background: Waveform) -> Iterator[Stream]:
    yield words_in_noise(f"{source}, quiet", words, None, QUIET_DB, 1)
    for snr_db in SNRS_DB:
        yield words_in_noise(f"{source}, {snr_db} dB", words, numpy.roll(background, snr_db * RATE), snr_db, 1)


def connected_streams(source: str, words: Sequence[Word]) -> Iterator[Stream]:
    yield words_in_noise(f"{source}, groups of three, gaps of 150 ms", words, None, QUIET_DB, 1, group=3)
    yield words_in_noise(f"{source}, groups of three, no gaps", words, None, QUIET_DB, 1, group=3, gap_s=0.0)


def speech_stream(name: str, sentences: Sequence[Waveform], pause_s: float = 0.0) -> Stream:
    """Speech without digits, with pauses between the recordings, in a quiet room."""
    pause = _silence(pause_s)
    speech = numpy.concatenate([part for sentence in sentences for part in (sentence, pause)])
    room = 0.01 * 10 ** (-QUIET_DB / 20) * numpy.random.default_rng(0).standard_normal(len(speech))
    return Stream(name, (speech + room).astype(numpy.float32), [])


def other_streams(
    noises: Sequence[Waveform], voices: Path | None = None, words: Path | None = None, speech: Path | None = None
) -> Iterator[Stream]:
    """Sound without digits.

    Args:
        noises: recorded ones.
        voices: a folder made by ``experiments/voices/other_speech.sh``.
        words, speech: folders of people's recordings, of single words and of sentences.
    """
    for kind in WORDS:
        yield words_in_noise(f"{kind} words, espeak", synthetic_words(kind), None, QUIET_DB, 1)
        if voices:
            yield _other_words(f"{kind} words, flite", voices / kind)
    if words:
        yield _other_words("other words, people", words)
    if voices:
        yield speech_stream("other speech, flite", recordings(voices / "speech"))
    if speech:
        yield speech_stream("other speech, people", recordings(speech), SENTENCE_PAUSE_S)
    yield Stream("noise", mixtures(noises), [])


def _other_words(name: str, folder: Path) -> Stream:
    return words_in_noise(name, [(sound, None) for sound in recordings(folder)], None, QUIET_DB, 1)
