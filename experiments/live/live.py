"""What the microphone's loop finds in streams: ``python experiments/live/live.py MODEL... --noises FOLDER --out experiments/live``.

Digits spoken with pauses, in quiet and in recorded noise; noise alone; words other than digits; other speech. Every stream goes
block by block through the segmenter and the recogniser of ``digits mic``. The models are checkpoints of one recipe. Each hears the
FSDD clips of its own test part, with the calibration of a model of that recipe.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy
import torch

from digits.corpora import corpus, fsdd
from digits.corpora.corpus import Clip
from digits.corpora.folder import read_folder
from digits.live.listener import Heard, Listener
from digits.live.microphone import read_blocks
from digits.live.segmenter import Segmenter
from digits.recognition import torch_models
from digits.recognition.calibration import Calibration
from digits.recognition.model_files import PRETRAINED
from digits.recognition.recognizer import Recognizer
from experiments import tables
from experiments.live import thresholds
from experiments.live.streams import RATE, Stream, connected_streams, digit_streams, load, other_streams, recordings
from experiments.tables import percent

DENOISED = [f"{source}, {kind}" for source in ("FSDD", "unseen speakers") for kind in ("quiet", "10 dB")]


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
    rejected: int  # heard, but not accepted
    missed: int  # not heard at all
    false: int  # digits where nothing was said, or a second one in a word
    other_words: int
    taken_for_digits: int
    latency_ms: float  # median
    computing_ms: float  # median


def hear(recognizer: Recognizer, stream: Stream, denoise: bool = False, isolated: bool = True) -> list[Heard]:
    """Feed a stream in blocks of 100 ms; the size only changes how long it takes."""
    listener = Listener(Segmenter(RATE), recognizer, denoise, isolated=isolated)
    return [event for block in read_blocks(stream.waveform, RATE // 10) for event in listener.hear(block)] + listener.finish()


def score(model: str, stream: Stream, events: Sequence[Heard], threshold: float) -> Score:
    """Count events: each belongs to the word that it overlaps most, and is accepted if it reaches the threshold.

    One pass of a recogniser without a threshold serves them all, because what is "in speech" does not depend on it.
    """
    of_word: dict[int, list[Heard]] = {index: [] for index in range(len(stream.spoken))}
    false = 0
    for event in events:
        overlaps = [min(event.end_s, end) - max(event.start_s, start) for start, end, _ in stream.spoken] or [0.0]
        best = int(numpy.argmax(overlaps))
        if overlaps[best] > 0:
            of_word[best].append(event)
        else:
            false += _accepted(event, threshold)
    counts = dict.fromkeys(("right", "wrong", "rejected", "missed", "taken_for_digits"), 0)
    for index, (_, _, digit) in enumerate(stream.spoken):
        accepted = [event for event in of_word[index] if _accepted(event, threshold)]
        if digit is None:
            counts["taken_for_digits"] += bool(accepted)
            continue
        false += max(0, len(accepted) - 1)
        otherwise = "rejected" if of_word[index] else "missed"
        counts[("right" if accepted[0].digit == digit else "wrong") if accepted else otherwise] += 1
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
    return event.accepted and event.probability is not None and event.probability >= threshold


def test_clips(model: str) -> list[Clip]:
    """The FSDD clips of a checkpoint's test part."""
    settings = torch_models.read_checkpoint(model)["datamodule_hyper_parameters"]
    clips = fsdd.load().clips
    return [clips[i] for i in corpus.divide(clips, settings["split"], settings["fold"], settings["test_speakers"]).test]


def table(scores: Sequence[Score]) -> str:
    header = [
        "stream",
        "digits",
        "found and right, %",
        "wrong, %",
        "rejected, %",
        "not heard, %",
        "false per hour",
        "other words accepted, %",
    ]
    rows = []
    for name in dict.fromkeys(score.stream for score in scores):
        own = [score for score in scores if score.stream == name]
        digits, words = own[0].spoken, own[0].other_words
        shares = [
            percent([getattr(score, part) / digits for score in own] if digits else [], 1)
            for part in ("right", "wrong", "rejected", "missed")
        ]
        false = f"{statistics.fmean(score.false / score.hours for score in own):.1f}"
        other = percent([score.taken_for_digits / words for score in own] if words else [], 1)
        rows.append([name, str(digits or "-"), *shares, false, other])
    return tables.table(header, rows)


def measure(
    model: str, calibration: Calibration, shared: Sequence[Stream], background: numpy.ndarray
) -> Iterator[tuple[Score, bool]]:
    """Scores of one model at every threshold, and whether it is the model's own."""
    trained = replace(torch_models.load(model), calibration=calibration)
    recognizer = Recognizer(trained.window, trained)
    clips = test_clips(model)
    spoken = load([clips[i] for i in numpy.random.default_rng(0).permutation(len(clips))])
    for stream in (*digit_streams("FSDD", spoken, background), *connected_streams("FSDD", spoken), *shared):
        events = hear(recognizer, stream)
        for threshold in {*thresholds.THRESHOLDS, calibration.threshold}:
            yield score(model, stream, events, threshold), threshold == calibration.threshold
        if stream.name in DENOISED:
            cleaned = replace(stream, name=f"{stream.name}, denoised")
            yield score(model, cleaned, hear(recognizer, stream, denoise=True), calibration.threshold), True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the microphone's loop finds in streams.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints of digits train")
    parser.add_argument(
        "--calibrated", default=PRETRAINED, help="a calibrated model of the same recipe; default: the pretrained one"
    )
    parser.add_argument("--noises", type=Path, required=True, help="folder of recorded noises")
    parser.add_argument("--unseen", type=Path, help="folder of other people's digits, {digit}_{speaker}_{n}.wav")
    parser.add_argument("--voices", type=Path, help="folder of other words and speech, of experiments/voices/other_speech.sh")
    parser.add_argument("--words", type=Path, help="folder of people's recordings of other words")
    parser.add_argument("--speech", type=Path, help="folder of people's recordings of speech without digits")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    noises = recordings(options.noises)
    background = numpy.concatenate(noises)
    shared = list(other_streams(noises, options.voices, options.words, options.speech))
    if options.unseen:
        shared += digit_streams("unseen speakers", load(read_folder(options.unseen, "unseen").clips), background)
    calibration = torch_models.load(options.calibrated).calibration
    found = [scored for model in options.models for scored in measure(model, calibration, shared, background)]
    options.out.mkdir(parents=True, exist_ok=True)
    tables.write_csv(options.out / "results.csv", [one for one, is_own in found if is_own])
    thresholds.write_csv(options.out / "thresholds.csv", [asdict(one) for one, _ in found if ", denoised" not in one.stream])
    write_report(options.out)
    return 0


def write_report(out: Path) -> None:
    """Tables and picture from ``results.csv`` and ``thresholds.csv``."""
    scores = tables.read_csv(out / "results.csv", Score)
    chosen, choices = scores[0].threshold, thresholds.read_csv(out / "thresholds.csv")
    latency, computing = (statistics.median(getattr(one, name) for one in scores) for name in ("latency_ms", "computing_ms"))
    medians = f"Threshold {chosen}; latency {latency:.0f} ms, computing {computing:.1f} ms (medians)."
    sections = {"Streams": f"{table(scores)}\n\n{medians}", "Thresholds": thresholds.table(choices, chosen)}
    tables.write_report(out / "report.md", "Streams", sections)
    thresholds.figure(choices, chosen).savefig(out / "trade_off.png", dpi=110)
    print(table(scores))


if __name__ == "__main__":
    sys.exit(main())
