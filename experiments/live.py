"""What the microphone's loop finds in streams: ``python experiments/live.py MODEL... --noises FOLDER --out experiments/live``.

Digits spoken with pauses, in quiet and in recorded noise; noise alone; words that are not digits; other speech. Every stream goes
block by block through the segmenter and the recogniser of ``digits.mic``. The models are checkpoints of ``experiment=live``; each
hears the FSDD clips of its own test part, with the calibration of the pretrained model, which comes from the same recipe.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy
import torch

from digits import audio, checkpoint, conditions, corpus, espeak, fsdd, weights
from digits.audio import Waveform
from digits.corpus import Clip, read_folder
from digits.mic import Listener
from digits.microphone import read_blocks
from digits.recognizer import PRETRAINED, Recognizer
from digits.screen import Heard
from digits.segmenter import Segmenter
from experiments.compare import mean_std

RATE = audio.SAMPLE_RATE
PAUSE_S = (0.6, 1.4)
SHORT_GAP_S = 0.15  # of connected digits, three a group
SNRS_DB = (20, 10, 5)
QUIET_DB = 50  # a quiet room's SNR
MIXTURES = 9  # times that the noises are heard again, each with another one
WORDS = {kind: Path(__file__).parent / "live" / f"{kind}_words.txt" for kind in ("other", "near")}
THRESHOLDS = (*numpy.linspace(0.02, 0.98, 49).round(2).tolist(), 0.99, 0.995, 0.999)

Word = tuple[Waveform, int | None]  # and its digit, None for another word


@dataclass(frozen=True)
class Stream:
    """Sound at 48 kHz and what is said in it: (start, end) in seconds and the digit, None for another word."""

    name: str
    waveform: Waveform
    spoken: list[tuple[float, float, int | None]]

    @property
    def hours(self) -> float:
        return len(self.waveform) / RATE / 3600


@dataclass(frozen=True)
class Score:
    """What became of a stream at a threshold; every field from ``spoken`` to ``taken_for_digits`` counts events."""

    model: str
    stream: str
    threshold: float
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
    name: str,
    words: Sequence[Word],
    noise: numpy.ndarray | None,
    snr_db: float,
    seed: int,
    group: int = 1,
    gap_s: float = SHORT_GAP_S,
) -> Stream:
    """Words with pauses over a background ``snr_db`` below their mean power, both below 4 kHz; in groups with short gaps."""
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
    return float(conditions.band_power(torch.from_numpy(waveform), RATE))


def hear(recognizer: Recognizer, stream: Stream, denoise: bool = False) -> list[Heard]:
    """Feed a stream in blocks of 100 ms; their size changes nothing but the time it takes."""
    listener = Listener(Segmenter(RATE), recognizer, denoise)
    return [event for block in read_blocks(stream.waveform, RATE // 10) for event in listener.hear(block)] + listener.finish()


def score(model: str, stream: Stream, events: Sequence[Heard], threshold: float) -> Score:
    """What is heard belongs to the word that it overlaps most; accepted is what reaches the threshold."""
    of_word: dict[int, list[Heard]] = {index: [] for index in range(len(stream.spoken))}
    false = 0
    for event in events:
        overlaps = [min(event.end_s, end) - max(event.start_s, start) for start, end, _ in stream.spoken] or [0.0]
        best = int(numpy.argmax(overlaps))
        if overlaps[best] > 0:
            of_word[best].append(event)
        else:
            false += _accepted(event, threshold)
    counts = dict.fromkeys(("right", "wrong", "refused", "missed", "taken_for_digits"), 0)
    for index, (_, _, digit) in enumerate(stream.spoken):
        accepted = [event for event in of_word[index] if _accepted(event, threshold)]
        if digit is None:
            counts["taken_for_digits"] += bool(accepted)
            continue
        false += max(0, len(accepted) - 1)
        of_heard = "refused" if of_word[index] else "missed"
        counts[("right" if accepted[0].digit == digit else "wrong") if accepted else of_heard] += 1
    digits = sum(digit is not None for *_, digit in stream.spoken)
    judged = [event for event in events if event.digit is not None]
    return Score(
        model=model,
        stream=stream.name,
        threshold=threshold,
        hours=stream.hours,
        spoken=digits,
        false=false,
        other_words=len(stream.spoken) - digits,
        latency_ms=statistics.median(event.latency_ms for event in judged) if judged else 0.0,
        computing_ms=statistics.median(event.computing_ms for event in judged) if judged else 0.0,
        **counts,
    )


def _accepted(event: Heard, threshold: float) -> bool:
    return event.probability is not None and event.probability >= threshold


def load(clips: Sequence[Clip]) -> list[Word]:
    return [(audio.resample(*audio.read(clip.path), RATE), clip.digit) for clip in clips]


def test_clips(model: str) -> list[Clip]:
    """The FSDD clips that a checkpoint's training left for its test."""
    settings = checkpoint.read(model)["datamodule_hyper_parameters"]
    clips = fsdd.load().clips
    return [clips[i] for i in corpus.divide(clips, settings["split"], settings["fold"], settings["test_speakers"]).test]


def synthetic_words(kind: str) -> list[Word]:
    """Words that no training has heard, each by two of the voices."""
    synthesizer, voices = espeak.Synthesizer(), espeak.RECIPES["espeak"].voices
    found: list[Word] = []
    for index, word in enumerate(2 * WORDS[kind].read_text().split()):
        samples = numpy.frombuffer(synthesizer.say(word, voices[index % len(voices)], 150, 50), dtype="<i2")
        found.append((audio.resample((samples / 32768).astype(numpy.float32), espeak.SAMPLE_RATE, RATE), None))
    return found


def recordings(folder: Path) -> list[Waveform]:
    """All recordings below a folder, each at the same power below 4 kHz: -40 dB re full scale."""
    found = [audio.resample(*audio.read(path), RATE) for path in audio.find_files(folder)]
    return [(0.01 / numpy.sqrt(_power(sound)) * sound).astype(numpy.float32) for sound in found]


def mixtures(noises: Sequence[Waveform]) -> Waveform:
    """Each noise alone, then :data:`MIXTURES` times with another one, up to 20 dB weaker, from a random moment on."""
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


def other_streams(noises: Sequence[Waveform], voices: Path | None) -> Iterator[Stream]:
    """Sound without digits; ``voices`` is a folder of ``experiments/other_speech.sh``."""
    for kind in WORDS:
        yield words_in_noise(f"{kind} words, espeak", synthetic_words(kind), None, QUIET_DB, 1)
        if voices:
            words: list[Word] = [(sound, None) for sound in recordings(voices / kind)]
            yield words_in_noise(f"{kind} words, flite", words, None, QUIET_DB, 1)
    if voices:
        read = numpy.concatenate(recordings(voices / "speech"))
        room = 0.01 * 10 ** (-QUIET_DB / 20) * numpy.random.default_rng(0).standard_normal(len(read))
        yield Stream("other speech, flite", (read + room).astype(numpy.float32), [])
    yield Stream("noise", mixtures(noises), [])


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


def plot_trade_off(scores: Sequence[Score], chosen: float, path: Path) -> None:
    """Detection error trade-off: digits lost against other sounds accepted, over the thresholds; the chosen one as a dot."""

    def mean(stream: str, threshold: float, share: Callable[[Score], float]) -> float:
        return statistics.fmean(share(score) for score in scores if (score.stream, score.threshold) == (stream, threshold))

    def lost(score: Score) -> float:
        return 100 * (1 - score.right / score.spoken)

    def taken(score: Score) -> float:
        return 100 * score.taken_for_digits / score.other_words

    def false(score: Score) -> float:
        return score.false / score.hours

    names = list(dict.fromkeys(score.stream for score in scores))
    thresholds = sorted({score.threshold for score in scores})
    panels = (
        (taken, "other words accepted, %", [name for name in names if " words, " in name]),
        (false, "false digits an hour", [name for name in names if name == "noise" or name.startswith("other speech")]),
    )
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for axis, (share, label, others) in zip(axes, panels, strict=True):
        for colour, other in zip(("#2f6f9f", "#5b9f5b", "#b0563f", "#8a6bb0"), others, strict=False):
            for digits, style in (("quiet", "-"), ("10 dB", "--")):
                points = [(mean(other, t, share), mean(f"FSDD, {digits}", t, lost)) for t in thresholds]
                shown = [(x, y) for x, y in points if x > 0]
                axis.plot(*zip(*shown, strict=True), style, color=colour, label=f"{other}; digits: {digits}")
                axis.plot(mean(other, chosen, share), mean(f"FSDD, {digits}", chosen, lost), "o", color=colour)
        axis.set(xlabel=label, xscale="log", yscale="log", ylim=(0.3, 100))
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes[0].set_ylabel("digits not found and right, %")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(scores: Sequence[Score], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(one) for one in scores)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the microphone's loop finds in streams.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints of experiment=live")
    parser.add_argument("--noises", type=Path, required=True, help="folder of recorded noises")
    parser.add_argument("--strangers", type=Path, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--voices", type=Path, help="folder of other words and speech, of experiments/other_speech.sh")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    calibration = weights.load(PRETRAINED).calibration
    noises = recordings(options.noises)
    background = numpy.concatenate(noises)
    shared = list(other_streams(noises, options.voices))
    if options.strangers:
        shared += digit_streams("strangers", load(read_folder(options.strangers, "strangers").clips), background)
    scores, trade_off = [], []
    for model in options.models:
        recognizer = replace(weights.load(model), calibration=calibration).recognizer()
        clips = test_clips(model)
        spoken = load([clips[i] for i in numpy.random.default_rng(0).permutation(len(clips))])
        for stream in (*digit_streams("FSDD", spoken, background), *connected_streams("FSDD", spoken), *shared):
            events = hear(recognizer, stream)
            trade_off += [score(model, stream, events, threshold) for threshold in {*THRESHOLDS, calibration.threshold}]
            scores.append(score(model, stream, events, calibration.threshold))
            if stream.name in [f"{source}, {kind}" for source in ("FSDD", "strangers") for kind in ("quiet", "10 dB")]:
                cleaned = replace(stream, name=f"{stream.name}, denoised")
                scores.append(score(model, cleaned, hear(recognizer, stream, denoise=True), calibration.threshold))
        print(table([one for one in scores if one.model == model]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write(scores, options.out / "results.csv")
    write(trade_off, options.out / "thresholds.csv")
    plot_trade_off(trade_off, calibration.threshold, options.out / "trade_off.png")
    latency, computing = (statistics.median(getattr(one, name) for one in scores) for name in ("latency_ms", "computing_ms"))
    medians = f"latency {latency:.0f} ms, computing {computing:.1f} ms (medians)"
    text = f"{table(scores)}\n\nThreshold {calibration.threshold}; {medians}.\n"
    (options.out / "report.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
