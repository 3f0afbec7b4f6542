"""What the microphone's loop finds in streams: ``python experiments/live.py MODEL... --noises FOLDER --out experiments/live``.

Digits spoken with pauses, in quiet and in recorded noise; noise alone; words that are not digits. Every stream goes block by block
through the segmenter and the recogniser of ``digits.mic``. Checkpoints (of the official split) take the calibration of the
pretrained model, which comes from the same recipe.
"""

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy
import soundfile
import torch
from torch import Tensor

from digits import audio, conditions, espeak, fsdd
from digits.corpus import Clip, read_folder
from digits.mic import Heard, Listener
from digits.microphone import read_blocks
from digits.recognizer import PRETRAINED, Recognizer
from digits.segmenter import Segmenter
from experiments.compare import mean_std

RATE = audio.SAMPLE_RATE
PAUSE_S = (0.6, 1.4)
SHORT_GAP_S = 0.15  # of connected digits, three a group
SNRS_DB = (20, 10, 5)
QUIET_DB = 50  # a quiet room's SNR
OTHER_WORDS = """
yes no on off up down left right stop go hello thanks please music light door water paper window table house tree bird cat dog happy
sheila marvin follow learn visual backward forward bed wow the and because would people number letter again answer morning evening
monday sunday winter summer apple orange banana pepper salt coffee sugar bottle kitchen garden street city river mountain doctor
teacher student computer keyboard telephone television radio picture family mother father sister brother friend yellow purple silver
circle corner simple open close begin finish hundred dozen double
"""


@dataclass(frozen=True)
class Stream:
    """Sound at 48 kHz and what is said in it: (start, end) in seconds and the digit, None for another word."""

    name: str
    waveform: Tensor
    spoken: list[tuple[float, float, int | None]]


@dataclass(frozen=True)
class Score:
    """What became of a stream; every field but the first three counts events."""

    model: str
    stream: str
    hours: float
    spoken: int
    right: int  # accepted, and the digit
    wrong: int  # accepted, and another digit
    refused: int  # heard and not accepted
    missed: int  # not heard at all
    false: int  # digits where nothing was said, or a second one in a word
    other_words: int
    taken_for_digits: int
    latency_ms: float  # median
    computing_ms: float  # median


def words_in_noise(
    name: str, clips: Sequence[tuple[Tensor, int | None]], noise: Tensor | None, snr_db: float, seed: int, group: int = 1
) -> Stream:
    """Words with pauses over a background ``snr_db`` below their mean power, both below 4 kHz; in groups with short gaps."""
    random = numpy.random.default_rng(seed)
    parts, spoken, position = [torch.zeros(RATE)], [], RATE
    for index, (word, digit) in enumerate(clips):
        spoken.append((position / RATE, (position + len(word)) / RATE, digit))
        gap = SHORT_GAP_S if (index + 1) % group else random.uniform(*PAUSE_S)
        parts += [0.1 * word / word.square().mean().sqrt(), torch.zeros(round(gap * RATE))]
        position += len(word) + round(gap * RATE)
    waveform = torch.cat(parts)
    background = (
        torch.from_numpy(random.standard_normal(len(waveform))).float()
        if noise is None
        else noise.repeat(1 + len(waveform) // len(noise))[: len(waveform)]
    )
    speech = conditions.band_power(torch.cat(parts[1::2]), RATE)
    gain = (speech / conditions.band_power(background, RATE) * 10 ** (-snr_db / 10)).sqrt()
    mixed = waveform + gain * background
    return Stream(name, mixed / mixed.abs().max().clamp_min(1.0), spoken)


def score(model: str, recognizer: Recognizer, stream: Stream, denoise: bool) -> Score:
    """Feed a stream in blocks of 10 ms; what is heard belongs to the word that it overlaps most."""
    listener = Listener(Segmenter(RATE), recognizer, denoise)
    events = [event for block in read_blocks(stream.waveform, RATE // 100) for event in listener.hear(block)] + listener.finish()
    of_word: dict[int, list[Heard]] = {index: [] for index in range(len(stream.spoken))}
    false = 0
    for event in events:
        overlaps = [min(event.end_s, end) - max(event.start_s, start) for start, end, _ in stream.spoken] or [0.0]
        best = int(numpy.argmax(overlaps))
        if overlaps[best] > 0:
            of_word[best].append(event)
        else:
            false += event.accepted
    counts = dict.fromkeys(("right", "wrong", "refused", "missed", "taken_for_digits"), 0)
    for index, (_, _, digit) in enumerate(stream.spoken):
        accepted = [event for event in of_word[index] if event.accepted]
        if digit is None:
            counts["taken_for_digits"] += bool(accepted)
            continue
        false += max(0, len(accepted) - 1)
        kind = (
            "right"
            if accepted and accepted[0].digit == digit
            else "wrong"
            if accepted
            else "refused"
            if of_word[index]
            else "missed"
        )
        counts[kind] += 1
    digits = sum(digit is not None for *_, digit in stream.spoken)
    judged = [event for event in events if event.digit is not None]
    return Score(
        model=model,
        stream=stream.name + (", denoised" if denoise else ""),
        hours=len(stream.waveform) / RATE / 3600,
        spoken=digits,
        false=false,
        other_words=len(stream.spoken) - digits,
        latency_ms=statistics.median(event.latency_ms for event in judged) if judged else 0.0,
        computing_ms=statistics.median(event.computing_ms for event in judged) if judged else 0.0,
        **counts,
    )


def load(clips: Sequence[Clip]) -> list[tuple[Tensor, int | None]]:
    return [(audio.resample(*audio.read(clip.path), RATE), clip.digit) for clip in clips]


def other_words() -> list[tuple[Tensor, int | None]]:
    """Words that are not digits, by synthetic voices in turn."""
    synthesizer = espeak.Synthesizer()
    voices = espeak.RECIPES["espeak"].voices
    found: list[tuple[Tensor, int | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, word in enumerate(2 * OTHER_WORDS.split()):
            samples = synthesizer.say(word, voices[index % len(voices)], 150, 50)
            path = Path(folder) / f"{index}.wav"
            soundfile.write(path, numpy.frombuffer(samples, dtype="<i2"), espeak.SAMPLE_RATE)
            found.append((audio.resample(*audio.read(path), RATE), None))
    return found


def noises(folder: Path) -> list[Tensor]:
    """All recordings below a folder, each at the same power below 4 kHz: -40 dB re full scale."""
    recordings = [audio.resample(*audio.read(path), RATE) for path in audio.find_files(folder)]
    return [0.01 * noise / conditions.band_power(noise, RATE).sqrt() for noise in recordings]


def streams(noise: Tensor, strangers: Path | None) -> Iterator[Stream]:
    takes = [clip for clip in fsdd.load().clips if clip.take < 5]
    order = numpy.random.default_rng(0).permutation(len(takes))
    spoken = load([takes[i] for i in order])
    sources = [("FSDD", spoken)]
    if strangers:
        sources.append(("strangers", load(read_folder(strangers, "strangers").clips)))
    for source, words in sources:
        yield words_in_noise(f"{source}, quiet", words, None, QUIET_DB, 1)
        for snr_db in SNRS_DB:
            yield words_in_noise(f"{source}, {snr_db} dB", words, noise.roll(snr_db * RATE), snr_db, 1)
    yield words_in_noise("FSDD, groups of three, gaps of 150 ms", spoken, None, QUIET_DB, 1, group=3)
    yield words_in_noise("other words, quiet", other_words(), None, QUIET_DB, 1)
    yield Stream("noise alone", noise, [])


def table(scores: Sequence[Score]) -> str:
    lines = [
        "| stream | digits | found and right, % | wrong, % | refused, % | not heard, % | false an hour | other words accepted, % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(score.stream for score in scores):
        own = [score for score in scores if score.stream == name]
        shares = [
            _percent([getattr(score, part) / score.spoken for score in own]) if own[0].spoken else "-"
            for part in ("right", "wrong", "refused", "missed")
        ]
        false = f"{statistics.fmean(score.false / score.hours for score in own):.1f}"
        other = _percent([score.taken_for_digits / score.other_words for score in own]) if own[0].other_words else "-"
        lines.append(f"| {name} | {own[0].spoken or '-'} | {' | '.join(shares)} | {false} | {other} |")
    return "\n".join(lines)


def _percent(values: Sequence[float]) -> str:
    mean, std = mean_std(values)
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if len(values) > 1 else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the microphone's loop finds in streams.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints of the official split")
    parser.add_argument("--noises", type=Path, required=True, help="folder of recorded noises")
    parser.add_argument("--strangers", type=Path, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    calibration = Recognizer.load(PRETRAINED).calibration
    recognizers = [Recognizer.load(model) for model in options.models]
    scores = []
    for stream in streams(torch.cat(noises(options.noises)), options.strangers):
        for model, recognizer in zip(options.models, recognizers, strict=True):
            if Path(model).suffix == ".ckpt":
                recognizer.calibration = calibration
            for denoise in (False, True):
                scores.append(score(model, recognizer, stream, denoise))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(one) for one in scores)
    (options.out / "report.md").write_text(f"{table(scores)}\n")
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
